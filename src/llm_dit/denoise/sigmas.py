"""Noise levels of a run. sigma is in [0, 1]: 1 is pure noise, 0 the picture; x = (1 - sigma) x0 + sigma noise."""

from __future__ import annotations


def shift_sigma(sigma: float, shift: float) -> float:
    """Static shift of the flow-matching schedule (Esser et al. 2024, section 5.3.2): s sigma / (1 + (s - 1) sigma)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def flow_sigmas(steps: int, shift: float) -> list[float]:
    """steps + 1 noise levels from 1 down to 0: linspace(1, 1 / steps, steps), shifted, then 0.

    Equal to diffusers >= 0.39 for Z-Image; older recipes with N steps did N - 1 (their last step had length 0).
    """
    return [shift_sigma(1 - i / steps, shift) for i in range(steps)] + [0.0]


def start_at_strength(sigmas: list[float], strength: float) -> list[float]:
    """The tail of a schedule for img2img: the last ceil(steps * strength) steps, as diffusers counts them."""
    steps = len(sigmas) - 1
    first = int(max(steps - min(steps * strength, steps), 0))
    return sigmas[first:]
