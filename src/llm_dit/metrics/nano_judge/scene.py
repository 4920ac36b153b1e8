"""What is to be seen in a picture, and how surely it is what was asked: arithmetic on the network's probabilities.

Drawings are the peaks of the network's centres. Subject, style, relation, count and size follow from the drawings'
places, sides and probabilities alone, so they need no examples of their own. Knows no words: subjects, styles and
colours are numbers here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PEAKS = 8  # at most so many drawings are looked at
LEAST = 0.05  # and none that is less probable
CORE = 0.3  # two peaks nearer than this share of the larger one's side are one drawing
NEAREST = 2.2  # cells; and so are two that are nearer than this
# relation -> unit step from the second drawing to the first in x, in y; y grows downwards
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
SMALL_BELOW, LARGE_ABOVE = 0.55, 0.87  # side of a drawing, as a share of the picture's


@dataclass(frozen=True)
class Drawing:
    """One drawing that was found. x, y, side in shares of the picture.

    there: probability that something is drawn there; subjects [subjects + 1], styles [styles + 1]: of what it is and
    how it is drawn, if it is there.
    """

    x: float
    y: float
    side: float
    there: float
    subjects: np.ndarray
    styles: np.ndarray

    def shows(self, subject: int) -> float:
        """Probability that it is there and shows this subject."""
        return self.there * float(self.subjects[subject])


@dataclass(frozen=True)
class Sight:
    """All that is seen of one picture. style [styles + 1], colour [colours + 1]: probabilities, "none" last."""

    drawings: list[Drawing]
    style: np.ndarray
    colour: np.ndarray


def find_drawings(there: np.ndarray, side: np.ndarray, subjects: np.ndarray, styles: np.ndarray) -> list[Drawing]:
    """The peaks of one picture's cells, the surest first.

    there [rows, columns]: probability of a centre. side, the same shape: log2 of the side. subjects
    [subjects + 1, rows, columns], styles [styles + 1, rows, columns]: probabilities of what is drawn, and how.
    """
    grid, found = len(there), []
    for cell in np.argsort(-there, axis=None, kind="stable"):
        row, column = divmod(int(cell), grid)
        if there[row, column] < LEAST or len(found) == PEAKS:
            break
        x, y, size = (column + 0.5) / grid, (row + 0.5) / grid, float(2 ** np.clip(side[row, column], -3, 0.3))
        if all(np.hypot(x - o.x, y - o.y) > max(NEAREST / grid, CORE * max(size, o.side)) for o in found):
            at = (slice(None), row, column)
            found.append(Drawing(x, y, size, float(there[row, column]), subjects[at], styles[at]))
    return found


def style_of(found: Sequence[Drawing], styles: int) -> np.ndarray:
    """Probabilities [styles + 1] of a picture's style, "none" last: its drawings' mean, if there is one at all."""
    none = np.eye(styles + 1)[-1]
    if not found:
        return none
    there = np.array([d.there for d in found])
    any_there = 1 - float(np.prod(1 - there))
    return any_there * np.average([d.styles for d in found], axis=0, weights=there) + (1 - any_there) * none


def subject_there(found: Sequence[Drawing], subject: int) -> float:
    """Probability that at least one drawing shows the subject."""
    return 1 - float(np.prod([1 - d.shows(subject) for d in found]))


def count_is(found: Sequence[Drawing], subject: int, count: int) -> float:
    """Probability that just `count` drawings (at most PEAKS) show the subject: their sum's distribution, one by one."""
    chances = np.zeros(PEAKS + 1)
    chances[0] = 1
    for d in found:
        p = d.shows(subject)
        chances[1:] = chances[1:] * (1 - p) + chances[:-1] * p
        chances[0] *= 1 - p
    return float(chances[count])


def in_relation(found: Sequence[Drawing], first: int, relation: str, second: int) -> float:
    """Probability that `first` stands in the relation to `second`: of the best two drawings."""
    pairs = ((a, b) for a in found for b in found if a is not b)
    return max((a.shows(first) * b.shows(second) * placed(a, relation, b) for a, b in pairs), default=0.0)


def placed(a: Drawing, relation: str, b: Drawing) -> float:
    """How clearly a lies so from b, 0..1: half where the step between centres is diagonal, or 1/16 of the picture."""
    step = RELATIONS[relation]
    along = (a.x - b.x) * step[0] + (a.y - b.y) * step[1]
    across = abs((a.x - b.x) * step[1]) + abs((a.y - b.y) * step[0])
    return float(1 / (1 + np.exp(-40 * min(along - across, along - 1 / 16))))


def size_is(found: Sequence[Drawing], subject: int, size: str) -> float:
    """How clearly the surest drawing of the subject is small, plain or large, 0..1."""
    if not found:
        return 0.0
    side = max(found, key=lambda d: d.shows(subject)).side
    small, large = (1 / (1 + np.exp(-s)) for s in (30 * (SMALL_BELOW - side), 30 * (side - LARGE_ABOVE)))
    return float({"small": small, "large": large, "plain": 1 - small - large}[size])


def scores(sight: Sight, asked: Mapping[str, Any]) -> dict[str, float | None]:
    """How surely each thing that is asked is there, 0..1, so that their product is the probability of all.

    asked: what Vocabulary.numbers gives. Relation, count and size are given that the subjects are there. None
    where asked is None.
    """
    result: dict[str, float | None] = dict.fromkeys(asked)
    for kind, seen in (("style", sight.style), ("colour", sight.colour)):
        if asked.get(kind) is not None:
            result[kind] = float(seen[asked[kind]])
    subjects, found = asked.get("subject"), sight.drawings
    if subjects is None:
        return result
    there = result["subject"] = float(np.prod([subject_there(found, number) for number in subjects]))
    if asked.get("relation") is not None:
        chance = in_relation(found, subjects[0], asked["relation"], subjects[1])
        result["relation"] = min(1.0, chance / max(there, 1e-6))
    if asked.get("count") is not None:
        result["count"] = min(1.0, count_is(found, subjects[0], asked["count"]) / max(there, 1e-6))
    if asked.get("size") is not None:
        result["size"] = size_is(found, subjects[0], asked["size"])
    return result
