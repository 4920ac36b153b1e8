"""Noise levels of a run. sigma is in [0, 1]: 1 is pure noise, 0 the picture; x = (1 - sigma) x0 + sigma noise.

All are computed in float32 as diffusers does, to the bit: the model multiplies its time by 1000 before it takes sines
of it, so that the last bit of a sigma shows in the fifth digit of a picture. A threshold is compared with them in
float32, too (above): that of 2 / 3 is the level 0.6666667. docs/samplers.md has the formulae.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from llm_dit.base.errors import ConfigError
from llm_dit.base.float32 import in_float32
from llm_dit.config import SamplerConfig, explicit_sigmas

if TYPE_CHECKING:
    import numpy as np

PIXELS_A_TOKEN = 16  # a side of the picture's tokens: 8 by the VAE, 2 by the transformer's patches
KARRAS_RHO = 7.0  # Karras et al. 2022, section 5
BETA_SHAPE = 0.6  # both parameters of the beta distribution, as in diffusers


def noise_levels(
    sampler: SamplerConfig, own_shift: Callable[[], float], size: tuple[int, int]
) -> tuple[list[float], float | None]:
    """A run's sigmas, falling to 0, and the shift in them, None when they are an explicit list.

    own_shift: gives the shift of the model's own schedule, and is called only where that is wanted.
    size: (height, width) in pixels. Raises ConfigError for a shift so extreme that levels fall together in float32.
    """
    if sampler.sigmas:
        return explicit_sigmas(sampler.sigmas), None
    if sampler.shift_mode == "resolution":
        tokens = (size[0] // PIXELS_A_TOKEN) * (size[1] // PIXELS_A_TOKEN)
        shift = resolution_shift(
            tokens, sampler.base_shift, sampler.max_shift, sampler.base_image_tokens, sampler.max_image_tokens
        )
    else:
        shift = own_shift() if sampler.shift is None else sampler.shift
    sigmas = flow_sigmas(sampler.steps, shift, sampler.spacing, by_resolution=sampler.shift_mode == "resolution")
    if not all(a > b for a, b in pairwise(sigmas)):
        raise ConfigError(
            f"the noise levels of {sampler.steps} steps do not fall at shift {shift:.3g}: use fewer steps or a smaller "
            "shift (sampler.shift_mode=static, or a lower sampler.max_shift)."
        )
    return sigmas, shift


def above(sigma: float, threshold: float) -> bool:
    """Whether a noise level is above a threshold, compared in float32."""
    return in_float32(sigma) > in_float32(threshold)


def model_time(sigma: float) -> float:
    """The model's time 1 - sigma, by way of diffusers' 1000 timesteps: each operation is rounded to float32."""
    return in_float32(in_float32(1000 - in_float32(in_float32(sigma) * 1000)) / 1000)


def resolution_shift(
    image_tokens: int, base_shift: float, max_shift: float, base_image_tokens: int, max_image_tokens: int
) -> float:
    """The shift for a picture of so many tokens: exp(mu), mu linear in tokens through the two given points.

    diffusers' calculate_shift and exponential time shift (Flux; Esser et al. 2024, section 5.3.2). Infinite where
    exp overflows.
    """
    slope = (max_shift - base_shift) / (max_image_tokens - base_image_tokens)
    # In diffusers' order of operations, for the same bits.
    mu = image_tokens * slope + (base_shift - slope * base_image_tokens)
    return math.exp(mu) if mu < 700 else math.inf


def shift_sigma(sigma: np.ndarray, shift: float) -> np.ndarray:
    """Static shift of the flow-matching schedule (Esser et al. 2024, section 5.3.2): s sigma / (1 + (s - 1) sigma)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def flow_sigmas(steps: int, shift: float, spacing: str = "uniform", by_resolution: bool = False) -> list[float]:
    """steps + 1 noise levels from 1 down to 0: linspace(1, 1 / steps, steps), shifted, spaced anew, then 0.

    spacing: uniform leaves the shifted levels as they are; karras, exponential and beta space as many anew between the
    first and the last of them. by_resolution: diffusers' form of the same shift for one that follows the resolution.
    Equal to ZImagePipeline's of diffusers >= 0.39; older recipes with N steps did N - 1 (their last step had length 0).
    """
    import numpy as np
    import torch

    levels = torch.linspace(1.0, 1.0 / steps, steps).numpy()  # as the pipeline does; numpy's differs in the last bit
    levels = shift / (shift + (1 / levels - 1)) if by_resolution else shift_sigma(levels, shift)
    levels[0] = 1.0  # shifts below 1 can round it to either side of 1, above which there is no noise level
    if spacing != "uniform":
        levels = SPACINGS[spacing](levels[0].item(), levels[-1].item(), steps).astype(np.float32)
    # The shortest decimal of each float32: exact when read back, and fit to be read in a record.
    return [float(str(sigma)) for sigma in levels] + [0.0]


def karras_levels(first: float, last: float, count: int) -> np.ndarray:
    """Even steps in sigma^(1 / rho) (Karras et al. 2022, equation 5): close together at low sigma."""
    import numpy as np

    high, low = first ** (1 / KARRAS_RHO), last ** (1 / KARRAS_RHO)
    return (high + np.linspace(0, 1, count) * (low - high)) ** KARRAS_RHO


def exponential_levels(first: float, last: float, count: int) -> np.ndarray:
    """Even steps in log(sigma): closest together at low sigma."""
    import numpy as np

    return np.exp(np.linspace(math.log(first), math.log(last), count))


def beta_levels(first: float, last: float, count: int) -> np.ndarray:
    """Quantiles of a beta distribution (Lee et al. 2024): close together at both ends."""
    import numpy as np
    from scipy.special import betaincinv

    return last + betaincinv(BETA_SHAPE, BETA_SHAPE, 1 - np.linspace(0, 1, count)) * (first - last)


SPACINGS = {"karras": karras_levels, "exponential": exponential_levels, "beta": beta_levels}


def steps_of(sampler: SamplerConfig) -> int:
    """The steps of a run before img2img shortens it: those of an explicit list, else sampler.steps."""
    return len(explicit_sigmas(sampler.sigmas)) - 1 if sampler.sigmas else sampler.steps


def start_at_strength(sigmas: list[float], strength: float) -> list[float]:
    """The tail of a schedule for img2img: the last ceil(steps * strength) steps, as diffusers counts them."""
    steps = len(sigmas) - 1
    first = int(max(steps - min(steps * strength, steps), 0))
    return sigmas[first:]
