"""Noise depends on the seed alone."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import pytest
import torch

from llm_dit.config import DiversityConfig
from llm_dit.diffusion.highres import second_stream
from llm_dit.diffusion.noise import Streams, draw_noise, mix_noise, named_generator, seeded_generator, slerp_noise


def test_a_seeds_noise_does_not_depend_on_its_batch():
    together = draw_noise([seeded_generator(s) for s in (1, 2, 3)], (16, 8, 8))
    alone = draw_noise([seeded_generator(2)], (16, 8, 8))
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])
    assert together.dtype == torch.float32


def test_it_is_the_noise_diffusers_would_draw():
    from diffusers.utils.torch_utils import randn_tensor

    theirs = randn_tensor((1, 16, 8, 8), generator=torch.Generator("cpu").manual_seed(7), dtype=torch.float32)
    assert torch.equal(draw_noise([seeded_generator(7)], (16, 8, 8)), theirs)


SAME_LOW_WORD = [5, 2**32 + 5, 2**33 + 5, 2**62 + 5, 2**63 - 2**32 + 5]
STREAMS = [
    seeded_generator,
    second_stream,
    *(partial(named_generator, n) for n in ("between steps", "prompt embeddings")),
]


@pytest.mark.parametrize("stream", STREAMS)
def test_all_63_bits_of_a_seed_count(stream):
    drawn = [tuple(torch.randn(8, generator=stream(s)).tolist()) for s in SAME_LOW_WORD]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_below_2_to_the_32_the_noise_is_torchs_own(seed):
    expected = torch.Generator("cpu").manual_seed(seed)
    assert torch.equal(seeded_generator(seed).get_state(), expected.get_state())
    hashed = int.from_bytes(hashlib.sha256(f"second stage {seed}".encode()).digest()[:7])
    expected = torch.Generator("cpu").manual_seed(hashed)
    assert torch.equal(second_stream(seed).get_state(), expected.get_state())


@pytest.mark.parametrize("seed", SAME_LOW_WORD[1:])
def test_above_it_is_the_twister_set_up_from_both_words(seed):
    """torch.rand takes the lower 24 bits of each number of the twister, which numpy gives whole."""
    numbers = np.random.RandomState([seed % 2**32, seed // 2**32]).randint(0, 2**32, 2000, dtype=np.uint32)
    expected = (numbers & 0xFFFFFF).astype(np.float32) / 2**24
    generator = seeded_generator(seed)
    assert generator.initial_seed() == seed
    assert torch.equal(torch.rand(2000, generator=generator), torch.from_numpy(expected))


def test_mixing_runs_from_clean_to_noise():
    clean, noise = torch.zeros(1, 2), torch.ones(1, 2)
    assert mix_noise(clean, noise, 0.0).tolist() == [[0, 0]]
    assert mix_noise(clean, noise, 0.25).tolist() == [[0.25, 0.25]]
    assert mix_noise(clean, noise, 1.0).tolist() == [[1, 1]]


def towards(strength, seeds=(1, 2), shape=(16, 8, 8), seed=9):
    return Streams(seeded_generator, seeds, DiversityConfig(variation_seed=seed, variation_strength=strength)).draw(
        shape
    )


def test_a_variation_begins_at_the_own_noise_and_ends_at_the_others():
    own = draw_noise([seeded_generator(s) for s in (1, 2)], (16, 8, 8))
    other = draw_noise([seeded_generator(9)], (16, 8, 8))[0]
    assert torch.equal(Streams(seeded_generator, (1, 2)).draw((16, 8, 8)), own)
    assert torch.equal(towards(0.0), own)
    assert all(torch.equal(noise, other) for noise in towards(1.0))
    assert torch.allclose(towards(0.001), own, atol=0.05)
    assert torch.allclose(towards(0.999)[1], other, atol=0.05)


def test_on_the_way_it_stays_noise():
    """Along the great circle the deviation is 1; on the straight line it would be .71 in the middle."""
    for strength in (0.25, 0.5, 0.75):
        noise = towards(strength, shape=(16, 64, 64))
        assert abs(float(noise.std()) - 1) < 0.01
        assert abs(float(noise.mean())) < 0.01


def test_a_variation_by_hand():
    a, b = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])
    half = torch.tensor([[[3.0, 3.0]]]) / 2**0.5
    assert torch.allclose(slerp_noise(a, b, 0.5), half, atol=1e-6)
    assert torch.equal(slerp_noise(a, a, 0.5), a)
    assert torch.isfinite(slerp_noise(a, torch.zeros_like(a), 0.5)).all()


def test_a_variation_does_not_depend_on_its_batch():
    assert torch.equal(towards(0.4, (1, 2, 3))[1:2], towards(0.4, (2,)))


def test_what_is_taken_directly_from_a_stream_is_passed_over_in_the_others():
    settings = DiversityConfig(variation_seed=9, variation_strength=0.999)
    streams = Streams(seeded_generator, (1,), settings)
    torch.randn(4, 4, generator=streams.generators[0])
    streams.pass_over((4, 4))
    ahead = seeded_generator(9)
    torch.randn(4, 4, generator=ahead)
    assert torch.allclose(streams.draw((4, 4)), torch.randn(1, 4, 4, generator=ahead), atol=0.05)


def test_each_name_is_a_stream_of_its_own():
    drawn = [
        torch.randn(8, generator=g) for g in (seeded_generator(3), named_generator("a", 3), named_generator("b", 3))
    ]
    assert not any(torch.equal(x, y) for i, x in enumerate(drawn) for y in drawn[:i])
    # Pictures that lcm drew depend on these bits.
    assert named_generator("between steps", 3).initial_seed() == int.from_bytes(
        hashlib.sha256(b"between steps 3").digest()[:7], "big"
    )
