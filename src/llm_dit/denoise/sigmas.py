"""Noise levels of a run. sigma is in [0, 1]: 1 is pure noise, 0 the picture; x = (1 - sigma) x0 + sigma noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def shift_sigma(sigma: np.ndarray, shift: np.float32) -> np.ndarray:
    """Static shift of the flow-matching schedule (Esser et al. 2024, section 5.3.2): s sigma / (1 + (s - 1) sigma)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def flow_sigmas(steps: int, shift: float) -> list[float]:
    """steps + 1 noise levels from 1 down to 0: linspace(1, 1 / steps, steps), shifted, then 0.

    Equal to diffusers >= 0.39 for Z-Image; older recipes with N steps did N - 1 (their last step had length 0).
    Computed in float32 as diffusers does, to the bit: the model multiplies its time by 1000 before it takes
    sines of it, so that the last bit of a sigma shows in the fifth digit of a picture.
    """
    import numpy as np

    plain = np.linspace(1.0, 1.0 / steps, steps).astype(np.float32)
    # The shortest decimal of each float32: exact when read back, and fit to be read in a record.
    return [float(str(sigma)) for sigma in shift_sigma(plain, np.float32(shift))] + [0.0]


def start_at_strength(sigmas: list[float], strength: float) -> list[float]:
    """The tail of a schedule for img2img: the last ceil(steps * strength) steps, as diffusers counts them."""
    steps = len(sigmas) - 1
    first = int(max(steps - min(steps * strength, steps), 0))
    return sigmas[first:]
