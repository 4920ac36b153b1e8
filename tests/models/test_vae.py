"""Latents to pixels and back, whole and in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_dit.base.errors import RenderError
from llm_dit.config import TilingConfig
from llm_dit.families.autoencoder_kl.codec import decode, encode
from llm_dit.families.z_image.tiny import tiny_vae

WHOLE = TilingConfig()


@pytest.fixture(scope="module")
def vae():
    return tiny_vae().eval().requires_grad_(False)


def latents(height: int, width: int) -> torch.Tensor:
    return torch.randn(16, height, width, generator=torch.Generator().manual_seed(1))


def settings(vae) -> tuple:
    return (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor)


def test_decode_gives_bytes_of_eight_times_the_size(vae):
    pixels = decode(vae, latents(4, 6), WHOLE)
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8


def test_decode_undoes_the_models_scaling_and_shift(vae):
    z = latents(4, 6)
    sample = vae.decode((z / 0.3611 + 0.1159).unsqueeze(0)).sample[0]
    expected = ((sample / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(decode(vae, z, WHOLE), expected.astype(np.uint8))


def test_a_vae_without_shift_is_taken(vae):
    other = tiny_vae().eval()
    other.register_to_config(shift_factor=None)
    z = latents(4, 6)
    sample = other.decode((z / 0.3611).unsqueeze(0)).sample[0].detach()
    expected = ((sample / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(decode(other, z, WHOLE), expected.astype(np.uint8))
    assert encode(other, torch.zeros(3, 32, 48), torch.Generator(), WHOLE).shape == (16, 4, 6)


def test_encode_gives_latents_on_the_cpu_drawn_from_the_generator(vae):
    pixels = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    first, again, other = (encode(vae, pixels, torch.Generator().manual_seed(s), WHOLE) for s in (0, 0, 1))
    assert first.shape == (16, 4, 6)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_encode_applies_the_models_shift_and_scaling(vae):
    pixels = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    posterior = vae.encode(pixels.unsqueeze(0)).latent_dist
    expected = (posterior.sample(generator=torch.Generator().manual_seed(0))[0] - 0.1159) * 0.3611
    assert torch.equal(encode(vae, pixels, torch.Generator().manual_seed(0), WHOLE), expected)


def test_round_trip_keeps_the_size(vae):
    pixels = decode(vae, latents(6, 10), WHOLE)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    assert encode(vae, tensor, torch.Generator(), WHOLE).shape == (16, 6, 10)


def test_bfloat16_vae_takes_float32_latents_and_pixels():
    vae = tiny_vae().to(torch.bfloat16).eval()
    assert decode(vae, latents(4, 4), WHOLE).shape == (32, 32, 3)
    assert encode(vae, torch.zeros(3, 32, 32), torch.Generator(), WHOLE).dtype == torch.float32


def test_a_picture_no_larger_than_a_tile_is_not_tiled(vae):
    z = latents(8, 8)
    assert np.array_equal(decode(vae, z, TilingConfig(enabled=True, tile_size=64)), decode(vae, z, WHOLE))


def test_tiles_draw_nearly_the_same_picture(vae):
    """Nothing moves, and the difference is far below what a shift by a latent makes."""
    z = latents(16, 24)
    whole = decode(vae, z, WHOLE).astype(float)
    tiled = decode(vae, z, TilingConfig(enabled=True, tile_size=64, overlap=0.5)).astype(float)
    assert np.abs(tiled - whole).mean() < 0.12 * whole.std()
    shifted = np.roll(whole, 8, axis=1)
    assert np.abs(tiled - shifted).mean() > 4 * np.abs(tiled - whole).mean()


@pytest.mark.parametrize("overlap", [0.05, 0.1, 0.25, 0.3, 0.33, 0.45, 0.5])
@pytest.mark.parametrize("width", [10, 13, 22])
def test_tiled_pictures_have_the_whole_ones_size(vae, overlap, width):
    """Also for overlaps that are no whole number of latents, which diffusers joins in the wrong places."""
    tiling = TilingConfig(enabled=True, tile_size=64, overlap=overlap)
    assert decode(vae, latents(10, width), tiling).shape == (80, 8 * width, 3)
    assert encode(vae, torch.zeros(3, 80, 8 * width), torch.Generator(), tiling).shape == (16, 10, width)


def test_joins_are_in_place_for_every_tile_size_and_overlap(vae):
    """The roundings that diffusers cuts and joins by agree, over everything the config allows."""
    from llm_dit.families.autoencoder_kl.codec import _tiling

    for tile in range(64, 4097, 64):
        for percent in range(5, 51):
            with _tiling(vae, TilingConfig(enabled=True, tile_size=tile, overlap=percent / 100)):
                pixels, small, overlap = vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor
                step = int(small * (1 - overlap))
                assert pixels - int(pixels * overlap) == 8 * step == int(pixels * (1 - overlap))
                assert small - int(small * overlap) == step
                assert abs(float(overlap) - percent / 100) <= max(0.5 / small, 1 / small - 0.05)


def test_tiling_is_put_back_also_after_a_failure(vae):
    before = settings(vae)
    tiling = TilingConfig(enabled=True, tile_size=64, overlap=0.5)
    encode(vae, torch.zeros(3, 80, 80), torch.Generator(), tiling)
    assert settings(vae) == before
    with pytest.raises(RuntimeError):
        encode(vae, torch.zeros(5, 80, 80), torch.Generator(), tiling)
    assert settings(vae) == before


def test_values_that_are_not_finite_are_an_error(vae):
    with pytest.raises(RenderError, match="not finite"):
        decode(vae, torch.full((16, 4, 4), float("nan")), WHOLE)
