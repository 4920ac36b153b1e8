"""An exponential average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


def decay_at(step: int, decay: float) -> float:
    """Share of the average that a step keeps, counted from 1: the decay, but less at first, as in diffusers."""
    return 0.0 if step <= 1 else min(decay, step / (9 + step))


class Average:
    """The average of parameters by name, float32, on their device."""

    def __init__(self, trained: Mapping[str, nn.Parameter], decay: float):
        self.decay = decay
        self.trained = dict(trained)
        self.values = {name: p.detach().float().clone() for name, p in trained.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after a step, counted from 1."""
        params = [p.detach().float() for p in self.trained.values()]
        torch._foreach_lerp_(list(self.values.values()), params, 1 - decay_at(step, self.decay))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the average for its weights; afterwards its own, to the bit."""
        own = {name: p.detach().clone() for name, p in self.trained.items()}
        with torch.no_grad():
            for name, p in self.trained.items():
                p.copy_(self.values[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in self.trained.items():
                    p.copy_(own[name])
