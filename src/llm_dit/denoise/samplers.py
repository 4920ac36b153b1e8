"""Samplers: pure functions over (velocity, x, sigmas). They know nothing of models, prompts or guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Velocity = Callable[["torch.Tensor", float], "torch.Tensor"]
OnStep = Callable[[int, "torch.Tensor"], None]


def sample_euler(
    velocity: Velocity, x: torch.Tensor, sigmas: Sequence[float], on_step: OnStep | None = None
) -> torch.Tensor:
    """First-order integration of dx/dsigma = velocity(x, sigma) along sigmas, which fall to 0.

    Equal to diffusers' FlowMatchEulerDiscreteScheduler. x: float32 [batch, ...]. on_step(i, x) after each step.
    """
    for i in range(len(sigmas) - 1):
        x = x + (sigmas[i + 1] - sigmas[i]) * velocity(x, sigmas[i])
        if on_step:
            on_step(i, x)
    return x


SAMPLERS = {"flow_euler": sample_euler}
