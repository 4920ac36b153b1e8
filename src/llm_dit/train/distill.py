"""Step distillation: a student that takes few steps of a fixed grid, without guidance, where its guided teacher goes.

For each interval of the grid the student learns the mean velocity over it, (x_next - x) / (sigma_next - sigma), where
x_next is what the frozen teacher with CFG reaches in a few Euler steps from x (progressive distillation, Salimans and
Ho 2022, guidance folded in as by Meng et al. 2023, here in one stage onto the grid that is drawn with). x is a picture
of the data, noised to the interval's start. Nothing adversarial is in it: it is stable, and where student and teacher
agree the student's picture is the teacher's. It cannot be better than the teacher with as many substeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from llm_dit.diffusion.guidance import cfg
from llm_dit.train.forward import TrainingForward, stack_captions
from llm_dit.train.transformer import FlowTraining, Group


class Teacher:
    """A frozen transformer under CFG. empty: the negative caption's embeddings [tokens, features]."""

    def __init__(self, model: Any, guidance_scale: float, empty: torch.Tensor, device: Any, compiled: bool = False):
        self.forward = TrainingForward(model, compiled).eval().requires_grad_(False)
        self.guidance_scale = guidance_scale
        self.texts, self.padding = (x.to(device) for x in stack_captions([empty]))

    def velocity(
        self, x: torch.Tensor, sigma: torch.Tensor, texts: torch.Tensor, padding: torch.Tensor
    ) -> torch.Tensor:
        """Guided velocity at x, sigma [batch]; one forward where captions and the empty one pad alike, else two."""
        if self.guidance_scale == 0:
            return self.forward(x, sigma, texts, padding)
        count = len(x)
        empty, empty_padding = self.texts.to(texts.dtype).expand(count, -1, -1), self.padding.expand(count, -1)
        if empty.shape[1] == texts.shape[1]:
            both = (torch.cat([x, x]), torch.cat([sigma, sigma]), torch.cat([texts, empty]))
            positive, negative = self.forward(*both, torch.cat([padding, empty_padding])).chunk(2)
        else:
            positive = self.forward(x, sigma, texts, padding)
            negative = self.forward(x, sigma, empty, empty_padding)
        return cfg(positive, negative, self.guidance_scale)

    @torch.no_grad()
    def mean_velocity(
        self, x: torch.Tensor, levels: torch.Tensor, texts: torch.Tensor, padding: torch.Tensor
    ) -> torch.Tensor:
        """(x_last - x) / (last - first) by an Euler step for each interval of levels [steps + 1, batch]."""
        there = x
        for sigma, following in pairwise(levels):
            there = there + (following - sigma).view(-1, 1, 1, 1) * self.velocity(there, sigma, texts, padding)
        return (there - x) / (levels[-1] - levels[0]).view(-1, 1, 1, 1)


class Distillation(FlowTraining):
    """The student's loss. grid: its noise levels, falling to 0; substeps: of the teacher in each interval."""

    def __init__(self, *arguments: Any, teacher: Teacher, grid: Sequence[float], substeps: int, **more: Any):
        super().__init__(*arguments, **more)
        self.teacher, self.grid, self.substeps = teacher, torch.tensor(grid, dtype=torch.float32), substeps

    def levels(self, generator: torch.Generator, count: int) -> torch.Tensor:
        return self.grid[torch.randint(len(self.grid) - 1, (count,), generator=generator)]

    def target(self, x: torch.Tensor, clean: torch.Tensor, noise: torch.Tensor, group: Group) -> torch.Tensor:
        grid = self.grid.to(x.device)
        place = (grid[:, None] == group.sigma).int().argmax(0)
        share = torch.linspace(0, 1, self.substeps + 1, device=x.device)[:, None]
        levels = grid[place] + share * (grid[place + 1] - grid[place])
        return self.teacher.mean_velocity(x, levels, group.texts, group.padding)
