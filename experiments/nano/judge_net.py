"""The judge of version 1: which drawings are where in a picture, in which style and on which ground, and its answers.

One convolutional network gives for each cell of a 16 x 16 grid whether a drawing has its centre there, how large it is,
and which subject it shows ("none of these" is the last choice); and for the whole picture style and background
colour, each with "none of these" too. Drawings are the peaks of the centres. Subjects, relation, count and size then
follow by arithmetic on the drawings' probabilities. Knows no prompts: the metric says what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

SIZE = 128  # px, side of what the network sees
GRID = 16  # cells a side
PEAKS = 8  # at most so many drawings are looked at
CORE = 0.3  # two peaks nearer than this share of the larger one's side are one drawing
NEAREST = 2.2  # cells; and so are two that are nearer than this
STEPS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
SMALL_BELOW, LARGE_ABOVE = 0.55, 0.87  # side of a drawing, as a share of the picture's


def block(a: int, b: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


class SceneNet(nn.Module):
    """Pictures [n, 3, h, w] in -1..1 -> (centre logits [n, 16, 16], log2 side [n, 16, 16],
    subject logits [n, subjects + 1, 16, 16], style logits [n, styles + 1], colour logits [n, colours + 1])."""

    def __init__(self, choices: tuple[int, int, int]):
        """choices: how many subjects, styles and colours."""
        super().__init__()
        subjects, styles, colours = choices
        self.to_32 = nn.Sequential(block(3, 24, 2), block(24, 48, 2), block(48, 48))
        self.to_16 = nn.Sequential(block(48, 96, 2), block(96, 96))
        self.to_8 = block(96, 160, 2)
        self.to_4 = nn.Sequential(block(160, 128, 2), block(128, 128))
        self.from_4, self.at_8 = nn.Conv2d(128, 160, 1), block(160, 128)
        self.from_8, self.at_16 = nn.Conv2d(128, 96, 1), block(96, 128)
        self.cells = nn.Conv2d(128, 2 + subjects + 1, 1)
        self.whole = nn.Linear(2 * 128 + 2 * 128, styles + 1 + colours + 1)
        self.choices = choices
        nn.init.constant_(self.cells.bias[:1], -3.0)  # most cells are no centre

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(fine features [n, 128, 16, 16], mean and maximum of coarse and fine ones [n, 512])."""
        a = self.to_16(self.to_32(F.interpolate(x, size=SIZE, mode="area") if x.shape[-1] != SIZE else x))
        b = self.to_8(a)
        c = self.to_4(b)
        b = self.at_8(b + F.interpolate(self.from_4(c), scale_factor=2.0, mode="nearest"))
        a = self.at_16(a + F.interpolate(self.from_8(b), scale_factor=2.0, mode="nearest"))
        return a, torch.cat([c.mean((2, 3)), c.amax((2, 3)), a.mean((2, 3)), a.amax((2, 3))], 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine, pooled = self.features(x)
        cells, whole = self.cells(fine), self.whole(pooled)
        split = self.choices[1] + 1
        return cells[:, 0], cells[:, 1], cells[:, 2:], whole[:, :split], whole[:, split:]


@dataclass(frozen=True)
class Drawing:
    """One drawing that was found. x, y, side in shares of the picture; y grows downwards.

    there: probability that something is drawn there; subjects [subjects + 1]: of what it is, if it is there.
    """

    x: float
    y: float
    side: float
    there: float
    subjects: np.ndarray

    def shows(self, subject: int) -> float:
        """Probability that it is there and shows this subject."""
        return self.there * float(self.subjects[subject])


def drawings(centre: torch.Tensor, side: torch.Tensor, subject: torch.Tensor, temperature: float = 1.0,
             least: float = 0.05) -> list[Drawing]:  # fmt: skip
    """The peaks of one picture's maps (see SceneNet, without the first dimension), the surest first."""
    there = torch.sigmoid(centre.float())
    order, found = there.flatten().argsort(descending=True), []
    for cell in order[: 8 * PEAKS].tolist():
        row, column = divmod(cell, GRID)
        if there[row, column] < least or len(found) == PEAKS:
            break
        one = Drawing(
            (column + 0.5) / GRID,
            (row + 0.5) / GRID,
            float(2 ** side[row, column].clamp(-3, 0.3)),
            float(there[row, column]),
            (subject[:, row, column].float() / temperature).softmax(0).numpy(),
        )
        if all(np.hypot(one.x - o.x, one.y - o.y) > max(NEAREST / GRID, CORE * max(one.side, o.side)) for o in found):
            found.append(one)
    return found


def subject_there(found: list[Drawing], subject: int) -> float:
    """Probability that at least one drawing shows the subject."""
    return 1 - float(np.prod([1 - d.shows(subject) for d in found])) if found else 0.0


def count_is(found: list[Drawing], subject: int, count: int) -> float:
    """Probability that just `count` drawings show the subject (their sum's distribution, one by one)."""
    chances = np.zeros(PEAKS + 2)
    chances[0] = 1
    for d in found:
        p = d.shows(subject)
        chances[1:] = chances[1:] * (1 - p) + chances[:-1] * p
        chances[0] *= 1 - p
    return float(chances[count])


def in_relation(found: list[Drawing], first: int, relation: str, second: int) -> float:
    """Probability that `first` stands in the relation to `second`: of the best two drawings."""
    best = 0.0
    for a in found:
        for b in found:
            if a is not b:
                best = max(best, a.shows(first) * b.shows(second) * placed(a, relation, b))
    return best


def placed(a: Drawing, relation: str, b: Drawing) -> float:
    """How clearly a lies so from b, 0..1: half where the step between centres is diagonal, or shorter than a cell."""
    step = STEPS[relation]
    along = (a.x - b.x) * step[0] + (a.y - b.y) * step[1]
    across = abs((a.x - b.x) * step[1]) + abs((a.y - b.y) * step[0])
    return float(1 / (1 + np.exp(-40 * (min(along - across, along - 1 / GRID)))))


def size_is(found: list[Drawing], subject: int, size: str) -> float:
    """How clearly the surest drawing of the subject is small, plain or large, 0..1."""
    if not found:
        return 0.0
    side = max(found, key=lambda d: d.shows(subject)).side
    small, large = (1 / (1 + np.exp(-s)) for s in (30 * (SMALL_BELOW - side), 30 * (side - LARGE_ABOVE)))
    return float({"small": small, "large": large, "plain": 1 - small - large}[size])


def scene_scores(found: list[Drawing], subjects: list[int], relation: str | None = None, count: int | None = None,
                 size: str | None = None) -> dict[str, float]:  # fmt: skip
    """{subject, and relation, count, size where asked}: each given that the subjects are there, so their product is
    the probability of all."""
    there = float(np.prod([subject_there(found, s) for s in subjects]))
    scores = {"subject": there}
    if relation is not None:
        scores["relation"] = min(1.0, in_relation(found, subjects[0], relation, subjects[1]) / max(there, 1e-6))
    if count is not None:
        scores["count"] = min(1.0, count_is(found, subjects[0], count) / max(there, 1e-6))
    if size is not None:
        scores["size"] = size_is(found, subjects[0], size)
    return scores
