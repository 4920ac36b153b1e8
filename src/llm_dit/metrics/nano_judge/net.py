"""The judge's network: for each cell of a picture whether a drawing is there, how large it is, and what it shows.

One convolutional network gives for each cell of a 16 x 16 grid whether a drawing has its centre there, how large it is,
and which subject it shows in which style, as one choice, because each pair of them is one thing to be recognised; and
for the whole picture the background's colour. scene.py makes drawings of the cells. Knows no prompts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

SIZE = 128  # px, side of what the network sees
GRID = 16  # cells a side


def block(a: int, b: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


def drawing_answers(subjects: int, styles: int) -> int:
    """How many answers there are to what a drawing shows: each subject in each style, any other thing in each style,
    and none of these."""
    return styles * (subjects + 1) + 1


def drawing_number(subject: int, style: int, subjects: int) -> int:
    """The number of an answer. subject = subjects: any other thing."""
    return style * (subjects + 1) + subject


def trusting(logits: torch.Tensor, subjects: int, bonus: float) -> torch.Tensor:
    """Drawing logits [n, answers, ...] with the known subjects' raised by `bonus` against all other answers.

    Training shows far more damaged and foreign things than there are among a model's pictures: a logarithm of odds.
    """
    less = torch.zeros_like(logits)
    less[:, subjects :: subjects + 1] = less[:, -1] = bonus
    return logits - less


def marginals(p: torch.Tensor, subjects: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities [n, answers, ...] -> subjects [n, subjects + 1, ...], styles [n, styles + 1, ...], "none" last."""
    joint, none = p[:, :-1].unflatten(1, (-1, subjects + 1)), p[:, -1:]
    subject, style = joint.sum(1), joint.sum(2)
    return torch.cat([subject[:, :-1], subject[:, -1:] + none], 1), torch.cat([style, none], 1)


class SceneNet(nn.Module):
    """Pictures [n, 3, h, w] in -1..1 -> (centre logits [n, 16, 16], log2 side [n, 16, 16],
    drawing logits [n, drawing_answers, 16, 16], colour logits [n, colours + 1])."""

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
        self.place = nn.Conv2d(128, 2, 1)
        self.drawing = nn.Conv2d(128, drawing_answers(subjects, styles), 1)
        self.colour = nn.Linear(2 * 128 + 2 * 128, colours + 1)
        nn.init.constant_(self.place.bias[:1], -3.0)  # most cells are no centre

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(fine features [n, 128, 16, 16], mean and maximum of coarse and fine ones [n, 512])."""
        if x.shape[-2:] != (SIZE, SIZE):
            x = F.interpolate(x, size=SIZE, mode="area")
        a = self.to_16(self.to_32(x))
        b = self.to_8(a)
        c = self.to_4(b)
        b = self.at_8(b + F.interpolate(self.from_4(c), scale_factor=2.0, mode="nearest"))
        a = self.at_16(a + F.interpolate(self.from_8(b), scale_factor=2.0, mode="nearest"))
        return a, torch.cat([c.mean((2, 3)), c.amax((2, 3)), a.mean((2, 3)), a.amax((2, 3))], 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine, pooled = self.features(x)
        centre, side = self.place(fine).unbind(1)
        return centre, side, self.drawing(fine), self.colour(pooled)
