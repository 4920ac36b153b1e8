"""Decoding in tiles: against the whole decode at many sizes, seams, and memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from llm_dit.compose import compose
from llm_dit.families.autoencoder_kl.tiles import decode_in_tiles, spans, windows
from llm_dit.families.z_image.tiny import tiny_vae
from llm_dit.models.cache import Models
from llm_dit.weights.place import choose_placement


@pytest.fixture(scope="module")
def nano():
    """The trained VAE at hand, whose GroupNorms have one group, so that statistics matter most."""
    return Models(compose(["x", "hardware=cpu"]), choose_placement("cpu", "float32")).vae


def smooth(nano, height, width):
    """Latents of a picture of two colour gradients."""
    rows, columns = torch.linspace(-1, 1, height * 8)[:, None], torch.linspace(-1, 1, width * 8)[None]
    rows, columns = torch.broadcast_tensors(rows, columns)
    with torch.no_grad():
        return nano.encode(torch.stack([columns, rows, 0 * rows])[None]).latent_dist.mode()


def detailed(nano, height, width):
    """Latents of discs of many sizes and colours, with sharp edges."""
    generator = torch.Generator().manual_seed(3)
    picture = torch.ones(3, height * 8, width * 8)
    rows, columns = torch.meshgrid(torch.arange(height * 8), torch.arange(width * 8), indexing="ij")
    for y, x, radius, *colour in torch.rand(60, 6, generator=generator).tolist():
        inside = (rows - y * height * 8) ** 2 + (columns - x * width * 8) ** 2 < (4 + 28 * radius) ** 2
        picture[:, inside] = torch.tensor(colour)[:, None] * 2 - 1
    with torch.no_grad():
        return nano.encode(picture[None]).latent_dist.mode()


def levels(pixels):
    """Pixels in -1..1 as levels of 255."""
    return (pixels.clamp(-1, 1) + 1).numpy() * 127.5


def both(vae, z, tile, overlap, passes=1):
    with torch.no_grad():
        return levels(vae.decode(z).sample[0]), levels(decode_in_tiles(vae, z, tile, overlap, passes))


@pytest.mark.parametrize("tile", [2, 8, 13, 64])
@pytest.mark.parametrize("overlap", [1, 3, 6])
def test_a_side_is_covered_by_equal_tiles_and_owned_once(tile, overlap):
    if overlap > tile // 2:
        return
    for size in range(1, 200):
        cut = spans(size, tile, overlap)
        assert (cut[0].start, cut[-1].end, cut[0].first, cut[-1].last) == (0, size, 0, size)
        assert {s.end - s.start for s in cut} == {min(size, tile)}
        for a, b in pairwise(cut):
            assert a.end - b.start >= overlap
            assert a.last == b.first
        assert all(s.start <= s.first < s.last <= s.end for s in cut)
        total = np.zeros(size * 8)
        for span, share in zip(cut, windows(cut, overlap, 8), strict=True):
            total[span.start * 8 : span.end * 8] += share.numpy()
        assert np.allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("size", [(17, 16), (25, 33), (41, 20), (9, 40)])
@pytest.mark.parametrize(("make", "mean", "worst"), [(smooth, 1.2, 8), (detailed, 0.8, 8)])
def test_close_to_the_whole_decode_at_any_size(nano, size, make, mean, worst):
    """In levels of 255, over tiles of 128 px that share half."""
    whole, tiled = both(nano, make(nano, *size), 16, 8)
    assert tiled.shape == whole.shape == (3, size[0] * 8, size[1] * 8)
    assert np.abs(tiled - whole).mean() < mean
    assert np.abs(tiled - whole).max() < worst


def test_with_enough_passes_it_is_the_whole_decode(nano):
    """So nothing but statistics and context is missing: neither attention nor the blend."""
    z = detailed(nano, 25, 33)
    far = []
    for passes in (1, 4, 12):
        whole, tiled = both(nano, z, 16, 8, passes)
        far.append(np.abs(tiled - whole).mean())
    assert far[0] > far[1] > far[2]
    assert far[2] < 0.05


def step_at(pixels, place):
    """Mean jump between the columns beside a place, less the mean jump of its neighbours."""
    jumps = np.abs(np.diff(pixels, axis=2)).mean((0, 1))
    return jumps[place - 1] - (jumps[place - 3] + jumps[place + 1]) / 2


def test_no_seam_shows_where_tiles_meet(nano):
    z = smooth(nano, 24, 56)
    cut = spans(56, 16, 4)
    whole, tiled = both(nano, z, 16, 4)
    for a, b in pairwise(cut):
        for place in (b.start * 8, a.last * 8, a.end * 8):
            assert abs(step_at(tiled, place) - step_at(whole, place)) < 0.015


def test_a_decoder_with_attention_and_many_groups_is_taken():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 16, 16, 16),
            layers_per_block=2,
            latent_channels=16,
            norm_num_groups=4,
            use_quant_conv=True,
            use_post_quant_conv=True,
            mid_block_add_attention=True,
        ).eval()
    z = torch.randn(1, 16, 30, 41, generator=torch.Generator().manual_seed(1))
    whole, alone = both(vae, z, 24, 12, passes=0)
    _, tiled = both(vae, z, 24, 12)
    assert np.abs(tiled - whole).mean() < np.abs(alone - whole).mean()


def largest(vae, z, tile, overlap):
    """Elements of the largest tensor that any part behind the decoder's middle gives."""
    seen = []
    parts = [m for block in [*vae.decoder.up_blocks, vae.decoder.conv_out] for m in block.modules()]
    hooks = [m.register_forward_hook(lambda _m, _i, out: seen.append(out.numel())) for m in parts]
    try:
        with torch.no_grad():
            decode_in_tiles(vae, z, tile, overlap) if tile else vae.decode(z)
    finally:
        for hook in hooks:
            hook.remove()
    return max(seen)


def test_memory_is_bounded_by_the_tile():
    vae = tiny_vae().eval()
    small, large = torch.zeros(1, 16, 17, 17), torch.zeros(1, 16, 45, 60)
    assert largest(vae, small, 8, 2) == largest(vae, large, 8, 2) == 8 * 64 * 64
    assert largest(vae, large, None, None) == 8 * 360 * 480


def test_the_vae_is_as_before_also_after_a_failure():
    vae = tiny_vae().eval()
    norms = [m for m in vae.decoder.modules() if isinstance(m, torch.nn.GroupNorm)]
    z = torch.randn(1, 16, 12, 12)
    with torch.no_grad():
        before = vae.decode(z).sample
        decode_in_tiles(vae, z, 8, 2)
        assert torch.equal(vae.decode(z).sample, before)
        conv_out = vae.decoder.conv_out
        vae.decoder.conv_out = torch.nn.Conv2d(5, 3, 3)
        with pytest.raises(RuntimeError):
            decode_in_tiles(vae, z, 8, 2)
        vae.decoder.conv_out = conv_out
    assert not any("forward" in vars(norm) for norm in norms)


def test_bfloat16_is_normalised_in_float32():
    vae, z = tiny_vae().eval(), torch.randn(1, 16, 20, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = decode_in_tiles(vae, z, 8, 4)
        rough = decode_in_tiles(vae.to(torch.bfloat16), z.to(torch.bfloat16), 8, 4)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.02 * exact.std()
