"""Two stages for large pictures: drawn at a size the model knows, enlarged, noised to a part and drawn again.

SDEdit (2108.01073) from the model's own smaller picture. Here are the sizes, the levels and the enlarging;
render/draw.py draws both stages by the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from llm_dit.config import HighresConfig, SamplerConfig
from llm_dit.diffusion.sigmas import noise_levels, start_at_strength

if TYPE_CHECKING:
    import torch


def base_size_of(settings: HighresConfig, size: tuple[int, int], trained_size: int) -> tuple[int, int]:
    """(height, width) of the first stage: the picture's shape with the longer side at the base size, to 16 pixels.

    The picture's own size where it is no larger than that.
    """
    base = settings.base_size or trained_size
    if max(size) <= base:
        return size
    height, width = (max(16, round(side * base / max(size) / 16) * 16) for side in size)
    return height, width


def has_two_stages(settings: HighresConfig, size: tuple[int, int], trained_size: int) -> bool:
    """Whether a second stage follows: asked for, and larger than the first."""
    return settings.mode == "two_stage" and base_size_of(settings, size, trained_size) != size


def second_levels(
    settings: HighresConfig, sampler: SamplerConfig, own_shift: Callable[[], float], size: tuple[int, int]
) -> tuple[list[float], float | None]:
    """The second stage's sigmas and shift: the end of its own schedule at the full size, as in img2img.

    highres.steps is ignored where the levels are an explicit list, which serves both stages.
    """
    own = replace(sampler, steps=settings.steps or sampler.steps)
    sigmas, shift = noise_levels(own, own_shift, size)
    return start_at_strength(sigmas, settings.strength), shift


def second_stream(seed: int) -> torch.Generator:
    """A seed's generator of the second stage, a stream of its own: no noise of the first stage comes again."""
    from llm_dit.diffusion.noise import named_generator

    return named_generator("second stage", seed)


def enlarge_latents(latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Latents [batch, C, h, w] to [batch, C, *size] by bicubic interpolation, which smooths and may overshoot."""
    from torch.nn.functional import interpolate

    return interpolate(latents, size=size, mode="bicubic", align_corners=False)


def idle_highres(
    settings: HighresConfig, sampler: SamplerConfig, size: tuple[int, int], trained_size: int
) -> list[str]:
    """Why settings of the group that were given cannot act, one line each. size: (height, width) in pixels."""
    plain = HighresConfig()
    given = [k for k, v in vars(settings).items() if v != getattr(plain, k) and k != "mode"]
    if settings.mode == "none":
        return [f"highres.{k} has no effect: highres.mode is none." for k in given]
    if not has_two_stages(settings, size, trained_size):
        base = f"highres.base_size={settings.base_size}" if settings.base_size else f"model.trained_size={trained_size}"
        return [f"highres has no effect: {size[1]} x {size[0]} is no larger than {base}."]
    lines = []
    if settings.strength == 1:
        lines.append("highres' first stage has no effect: highres.strength is 1, so that nothing of it is kept.")
    if settings.steps and sampler.sigmas:
        lines.append("highres.steps has no effect: sampler.sigmas gives the levels.")
    return lines
