"""Batches for the judge's training: pictures, and what is true of them as tensors for the loss."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from common import to_tensor
from judge_icons import KEYS, Icons
from judge_nothing import nothing
from judge_scenes import Told, in_pieces, scene, spoil
from vocabulary import COLOURS

from llm_dit.metrics.nano_judge.net import GRID, drawing_answers, drawing_number

# Of a centre's target: one within about a cell, nothing beyond two.
CENTRE_SPREAD, CENTRE_GAIN = 0.7, 1.7


@dataclass
class Batch:
    """pictures [n, 3, SIZE, SIZE] in -1..1 and what is true of them, as the loss wants it."""

    pictures: torch.Tensor
    told: list[Told]
    centre: torch.Tensor  # [n, GRID, GRID] in 0..1
    centre_weight: torch.Tensor  # the same, 0 where it is left open
    cells: torch.Tensor  # [m, 3]: picture, row, column of the cells where a drawing's centre is
    drawing: torch.Tensor  # [m, answers]: subject and style together
    drawing_weight: torch.Tensor  # [m], 0 where it is left open
    side: torch.Tensor  # [m], log2
    colour: torch.Tensor  # [n, colours + 1]
    colour_weight: torch.Tensor


def targets(pictures: torch.Tensor, told: list[Told]) -> Batch:
    """What is true of the pictures as tensors for the loss."""
    n, subjects, styles = len(told), len(KEYS[0]), len(KEYS[1])
    middle = (torch.arange(GRID) + 0.5) / GRID
    centre, centre_weight = torch.zeros(n, GRID, GRID), torch.ones(n, GRID, GRID)
    cells, drawing, weight, side = [], [torch.zeros(0, drawing_answers(subjects, styles))], [], []
    colour, colour_weight = torch.zeros(n, len(COLOURS) + 1), torch.ones(n)
    for i, about in enumerate(told):
        if about.centres_open:
            centre_weight[i] = 0
        for one in about.seen:
            square = ((middle[None] - one.x) ** 2 + (middle[:, None] - one.y) ** 2) * GRID**2
            here = (CENTRE_GAIN * torch.exp(-square / (2 * CENTRE_SPREAD**2))).clamp(max=1)
            centre[i] = torch.maximum(centre[i], here)
            if one.sure < 0.4:  # whether anything is there is left open
                centre_weight[i][square < 9] = 0
            target = torch.zeros(drawing_answers(subjects, styles))
            sure = one.sure if one.subject >= 0 else 0.0
            style_sure = max(sure, one.style_sure)
            if one.subject >= 0:
                target[drawing_number(one.subject, one.style, subjects)] = sure
            target[drawing_number(subjects, one.style, subjects)] = style_sure - sure
            target[-1] = 1 - style_sure
            near = (square < 1.6).nonzero().tolist()
            cells += [(i, row, column) for row, column in near]
            drawing.append(target.expand(len(near), -1))
            weight += [0.0 if one.open else 1.0] * len(near)
            side += [float(np.log2(one.side))] * len(near)
        colour[i] = torch.from_numpy(about.colours)
        colour_weight[i] = float(not about.colour_open)
    return Batch(
        pictures, told, centre, centre_weight,
        torch.tensor(cells, dtype=torch.long).reshape(-1, 3), torch.cat(drawing),
        torch.tensor(weight), torch.tensor(side), colour, colour_weight,
    )  # fmt: skip


def batch(rng: np.random.Generator, icons: Icons, bank: tuple[np.ndarray, list[Told]], n: int) -> Batch:
    """One batch for training: scenes 54 % (7 in 100 of them in shuffled pieces), bank 38 %, nothing 8 %; all spoilt."""
    drawn_now, banked = int(n * 0.55), int(n * 0.39)
    made = [scene(rng, icons) for _ in range(drawn_now)]
    made = [in_pieces(*m, rng) if rng.random() < 0.07 else m for m in made]
    for i in rng.integers(len(bank[0]), size=banked):
        made.append((bank[0][i], deepcopy(bank[1][i])))
    empty = zip(*nothing(rng, n - len(made)), strict=True)
    made += [(pixels, Told(colours=colours, colour_open=bool(unclear))) for pixels, colours, unclear in empty]
    x = to_tensor(np.stack([m[0] for m in made]))
    told = [m[1] for m in made]
    x = torch.stack([spoil(one, about, rng) for one, about in zip(x, told, strict=True)])
    return targets(x, told)
