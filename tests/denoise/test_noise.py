"""Noise depends on the seed alone."""

from __future__ import annotations

import torch

from llm_dit.denoise.noise import draw_noise, mix_noise, seeded_generator


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


def test_mixing_runs_from_clean_to_noise():
    clean, noise = torch.zeros(1, 2), torch.ones(1, 2)
    assert mix_noise(clean, noise, 0.0).tolist() == [[0, 0]]
    assert mix_noise(clean, noise, 0.25).tolist() == [[0.25, 0.25]]
    assert mix_noise(clean, noise, 1.0).tolist() == [[1, 1]]
