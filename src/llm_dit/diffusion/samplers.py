"""Samplers: pure functions over (velocity, x, sigmas). They know nothing of models, prompts or guidance.

All follow dx/dsigma = velocity(x, sigma) along sigmas, which fall strictly from at most 1, mostly to 0, on the straight
path x = (1 - sigma) x0 + sigma noise. x: float32 [batch, ...]. on_step(i, x) after each step. docs/samplers.md has the
formulae. The multistep ones work on the data prediction x0 = x - sigma v and measure a step in lambda =
log((1 - sigma) / sigma), half the log signal-to-noise ratio, which is infinite at both ends of a run: a step from 1
and one to 0 are of order 1, which is Euler's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Velocity = Callable[["torch.Tensor", float], "torch.Tensor"]
OnStep = Callable[[int, "torch.Tensor"], None]
Noise = Callable[[], "torch.Tensor"]


def sample_euler(
    velocity: Velocity, x: torch.Tensor, sigmas: Sequence[float], on_step: OnStep | None = None
) -> torch.Tensor:
    """Euler's method, order 1. Equal to diffusers' FlowMatchEulerDiscreteScheduler, bit for bit."""
    for i, length in enumerate(_lengths(sigmas, x)):
        x = x + length * velocity(x, sigmas[i])
        if on_step:
            on_step(i, x)
    return x


def sample_heun(
    velocity: Velocity, x: torch.Tensor, sigmas: Sequence[float], on_step: OnStep | None = None
) -> torch.Tensor:
    """Heun's method, order 2 (Karras et al. 2022, algorithm 1, without its noise): the mean of the slopes at both ends.

    Two velocities a step, one in a last step to 0, which is Euler's: 2 N - 1 for N steps.
    Equal to diffusers' FlowMatchHeunDiscreteScheduler on the same sigmas.
    """
    for i, length in enumerate(_lengths(sigmas, x)):
        slope = velocity(x, sigmas[i])
        if sigmas[i + 1] > 0:
            slope = 0.5 * (slope + velocity(x + length * slope, sigmas[i + 1]))
        x = x + length * slope
        if on_step:
            on_step(i, x)
    return x


def sample_dpm_solver(
    velocity: Velocity, x: torch.Tensor, sigmas: Sequence[float], on_step: OnStep | None = None
) -> torch.Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2), order 2 at one velocity a step.

    Equal to diffusers' DPMSolverMultistepScheduler (dpmsolver++, midpoint, flow_prediction) on the same sigmas. Its own
    table of flow sigmas starts at 0.999 and its times are whole numbers; neither is followed here.
    """
    older = None
    for i in range(len(sigmas) - 1):
        data = x - sigmas[i] * velocity(x, sigmas[i])
        x = _two_step(x, data, older, sigmas, i)
        older = data
        if on_step:
            on_step(i, x)
    return x


def sample_unipc(
    velocity: Velocity, x: torch.Tensor, sigmas: Sequence[float], on_step: OnStep | None = None
) -> torch.Tensor:
    """UniPC of order 2 with B(h) = e^h - 1 (Zhao et al. 2023, bh2): order 3 in lambda at one velocity a step.

    Its predictor is the step of DPM-Solver++(2M). The velocity it leads to then also corrects the step behind it.
    Equal to diffusers' UniPCMultistepScheduler (bh2, flow_prediction) on the same sigmas. diffusers moves a sigma of 1
    to 1 - 1e-6 and rounds its times to whole numbers; neither is followed here.
    """
    known: list[torch.Tensor] = []  # the data predictions so far, newest first
    before = x
    for i in range(len(sigmas) - 1):
        data = x - sigmas[i] * velocity(x, sigmas[i])
        if i > 0:
            x = _correct(before, data, known, sigmas, i)
        before, known = x, [data, *known[:1]]
        x = _two_step(x, data, known[1] if i > 0 else None, sigmas, i)
        if on_step:
            on_step(i, x)
    return x


def sample_lcm(
    velocity: Velocity, x: torch.Tensor, sigmas: Sequence[float], on_step: OnStep | None = None, *, noise: Noise
) -> torch.Tensor:
    """The sampler of consistency models (Song et al. 2023, algorithm 1; Luo et al. 2023): predict x0, noise it again.

    Stochastic: noise() gives fresh standard normal noise like x, drawn for every step but one to 0. It does not
    converge to the flow's solution; with many steps it samples anew at each.
    Equal to diffusers' FlowMatchLCMScheduler with the same noise.
    """
    for i in range(len(sigmas) - 1):
        x = x - sigmas[i] * velocity(x, sigmas[i])
        if sigmas[i + 1] > 0:
            x = (1.0 - sigmas[i + 1]) * x + sigmas[i + 1] * noise()
        if on_step:
            on_step(i, x)
    return x


SAMPLERS = {
    "flow_euler": sample_euler,
    "flow_heun": sample_heun,
    "dpm_solver": sample_dpm_solver,
    "unipc": sample_unipc,
    "lcm": sample_lcm,
}
STOCHASTIC = ("lcm",)  # those that take noise


def velocities(name: str, steps: int) -> int:
    """How many velocities a sampler asks for in a run of so many steps to 0. Guidance makes forwards of them."""
    return 2 * steps - 1 if name == "flow_heun" else steps


def is_euler(name: str, sigmas: Sequence[float]) -> bool:
    """Whether a sampler other than flow_euler does nothing but Euler's steps on these sigmas: they are too few."""
    if name == "dpm_solver":
        return not any(sigmas[i - 1] < 1 and sigmas[i + 1] > 0 for i in range(1, len(sigmas) - 1))
    # A last step to 0 keeps nothing of x but its data prediction, so unipc's correction before it is lost.
    fewest = {"flow_euler": 0, "unipc": 3}.get(name, 2)
    return len(sigmas) - 1 < fewest and sigmas[-1] == 0


def _lengths(sigmas: Sequence[float], x: torch.Tensor) -> list[float]:
    """The differences between sigmas, rounded as x is: diffusers' bits for float32."""
    import torch

    return torch.tensor(sigmas, dtype=x.dtype).diff().tolist()


def _lambda(sigma: float) -> float:
    """Half the log signal-to-noise ratio at 0 < sigma <= 1; -inf at 1, so that history there weighs nothing."""
    return math.log1p(-sigma) - math.log(sigma) if sigma < 1 else -math.inf


def _two_step(
    x: torch.Tensor, data: torch.Tensor, older: torch.Tensor | None, sigmas: Sequence[float], i: int
) -> torch.Tensor:
    """x at sigmas[i + 1] from the data predictions at sigmas[i] and, where it helps, at sigmas[i - 1]."""
    ratio = sigmas[i + 1] / sigmas[i]
    if older is not None and sigmas[i + 1] > 0:
        step = _lambda(sigmas[i + 1]) - _lambda(sigmas[i])
        step_before = _lambda(sigmas[i]) - _lambda(sigmas[i - 1])
        data = data + step / (2 * step_before) * (data - older)
    return ratio * x + (1 - ratio) * data


def _correct(
    before: torch.Tensor, data: torch.Tensor, known: list[torch.Tensor], sigmas: Sequence[float], i: int
) -> torch.Tensor:
    """x at sigmas[i], corrected (UniC). before: x at sigmas[i - 1]; known: data predictions there and one step back."""
    ratio = sigmas[i] / sigmas[i - 1]
    change = data - known[0]
    if i == 1:
        mean = known[0] + 0.5 * change
    else:
        step = _lambda(sigmas[i]) - _lambda(sigmas[i - 1])
        r = (_lambda(sigmas[i - 2]) - _lambda(sigmas[i - 1])) / step  # below 0
        # Weights that make the step exact for predictions up to quadratic in lambda: rho_old + rho_new = b1 and
        # r rho_old + rho_new = b2, with b_k = k! phi_(k + 1)(-h) / phi_1(-h).
        phi_1 = math.expm1(-step)
        b1 = (-phi_1 / step - 1) / phi_1
        b2 = ((phi_1 / step + 1) / step - 0.5) * 2 / phi_1
        rho_old = (b1 - b2) / (1 - r)
        mean = known[0] + rho_old / r * (known[1] - known[0]) + (b1 - rho_old) * change
    return ratio * before + (1 - ratio) * mean
