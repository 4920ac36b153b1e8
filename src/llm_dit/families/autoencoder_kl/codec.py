"""Latents to pixels and back, with the model's own scaling and shift, whole or in tiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import RenderError
from llm_dit.config import TilingConfig
from llm_dit.families.autoencoder_kl.tiles import decode_in_tiles

if TYPE_CHECKING:
    import numpy as np
    import torch

VAE_FACTOR = 8


@contextmanager
def _tiling(vae: Any, tiling: TilingConfig) -> Iterator[None]:
    """diffusers' tiling of encoding, which is on when the picture is larger than a tile; its three sizes set together.

    The overlap is rounded to whole latents, and exact: diffusers cuts and joins tiles by several roundings of it,
    and where those disagree the picture comes out in the wrong size, with strips of it repeated.
    """
    before = (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor)
    vae.use_tiling = tiling.enabled
    if tiling.enabled:
        vae.tile_sample_min_size = tiling.tile_size
        vae.tile_latent_min_size = tiling.tile_size // VAE_FACTOR
        side = vae.tile_latent_min_size
        vae.tile_overlap_factor = Fraction(_overlap(side, tiling), side)
    try:
        yield
    finally:
        vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor = before


def _overlap(side: int, tiling: TilingConfig) -> int:
    """Latents that neighbouring tiles of so many latents share."""
    return max(1, round(side * tiling.overlap))


def decode(vae: Any, latents: torch.Tensor, tiling: TilingConfig) -> np.ndarray:
    """Latents [16, h, w] to pixels uint8 [8h, 8w, 3]. Raises RenderError when a value is not finite."""
    import torch

    weight = next(vae.parameters())
    side = tiling.tile_size // VAE_FACTOR
    with torch.inference_mode(), _tiling(vae, TilingConfig()):
        z = latents.to(weight.device, weight.dtype).unsqueeze(0)
        z = z / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        if tiling.enabled and max(z.shape[-2:]) > side:
            pixels = decode_in_tiles(vae, z, side, _overlap(side, tiling))
        else:
            pixels = vae.decode(z, return_dict=False)[0][0].float().cpu()
    if not torch.isfinite(pixels).all():
        raise RenderError(f"the decoded picture is not finite: the VAE broke down in {weight.dtype}. Try float32.")
    pixels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0)
    return (pixels.numpy() * 255).round().astype("uint8")


def encode(vae: Any, pixels: torch.Tensor, generator: torch.Generator, tiling: TilingConfig) -> torch.Tensor:
    """Pixels float32 [3, H, W] in -1..1 to latents float32 [16, H/8, W/8] on the CPU.

    The posterior is sampled with the generator, as diffusers' img2img does.
    """
    return encode_batch(vae, pixels.unsqueeze(0), [generator], tiling)[0]


def encode_batch(
    vae: Any, pixels: torch.Tensor, generators: list[torch.Generator] | None, tiling: TilingConfig
) -> torch.Tensor:
    """Pixels float32 [B, 3, H, W] in -1..1 to latents float32 [B, 16, H/8, W/8] on the CPU.

    Each posterior is sampled with a generator of its own; without generators its mode is taken.
    """
    import torch

    weight = next(vae.parameters())
    with torch.inference_mode(), _tiling(vae, tiling):
        posterior = vae.encode(pixels.to(weight.device, weight.dtype)).latent_dist
        if generators is None:
            z = posterior.mode()
        else:
            # Drawn one by one, so that a picture's latents do not depend on what is encoded beside it.
            shape, like = posterior.mean[:1].shape, {"dtype": posterior.mean.dtype}
            noise = [torch.randn(shape, generator=g, device=g.device, **like) for g in generators]
            z = posterior.mean + posterior.std * torch.cat(noise).to(weight.device)
        z = z.float().cpu()
    return (z - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
