"""Noise levels, weights and targets against their formulae."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from llm_dit.config import TrainConfig
from llm_dit.train.flow import (
    noised,
    sample_sigmas,
    squared_errors,
    stream,
    stream_seed,
    target_velocity,
    weights_of,
)

COUNT = 40_000


def draw(shift=1.0, **settings):
    return sample_sigmas(stream(0, 0, 0, 0, 0), COUNT, TrainConfig(**settings), shift).double()


def expected_mean(density, low, high, transform):
    return quad(lambda u: density(u) * transform(u), low, high)[0]


def normal(x):
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def shifted(sigma, shift):
    return shift * sigma / (1 + (shift - 1) * sigma)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_moments_of_the_noise_levels(shift):
    for settings, density, bounds, level in (
        ({"sigma_sampling": "uniform"}, lambda u: 1.0, (0, 1), lambda u: u),
        (
            {"sigma_sampling": "logit_normal", "logit_mean": 0.4, "logit_std": 1.1},
            normal,
            (-8, 8),
            lambda n: sigmoid(0.4 + 1.1 * n),
        ),
        (
            {"sigma_sampling": "mode", "mode_scale": 1.29},
            lambda u: 1.0,
            (0, 1),
            lambda u: 1 - u - 1.29 * (math.cos(math.pi / 2 * u) ** 2 - 1 + u),
        ),
    ):
        sigma = draw(shift, **settings)
        mean = expected_mean(density, *bounds, lambda u, level=level: shifted(level(u), shift))
        square = expected_mean(density, *bounds, lambda u, level=level: shifted(level(u), shift) ** 2)
        assert sigma.mean().item() == pytest.approx(mean, abs=4 * 0.3 / math.sqrt(COUNT)), settings
        assert sigma.square().mean().item() == pytest.approx(square, abs=4 * 0.35 / math.sqrt(COUNT)), settings
        assert sigma.min() >= 0
        assert sigma.max() <= 1


def test_a_logit_normal_shifted_by_three_has_the_measured_mean():
    # reference/diffusers.md: logit_normal(0, 1) with shift 3 has mean .716, uniform .675
    assert draw(3.0, sigma_sampling="logit_normal").mean().item() == pytest.approx(0.716, abs=0.005)
    assert draw(3.0, sigma_sampling="uniform").mean().item() == pytest.approx(0.675, abs=0.005)


def test_a_share_of_the_levels_is_uniform():
    narrow = {"sigma_sampling": "logit_normal", "logit_std": 0.001}
    sigma = draw(uniform_share=0.25, **narrow)
    assert (sigma < 0.45).double().mean().item() == pytest.approx(0.25 * 0.45, abs=0.006)
    assert torch.allclose(draw(**narrow), torch.tensor(0.5, dtype=torch.float64), atol=2e-3)


def test_streams_repeat_and_differ():
    assert torch.equal(*(torch.rand(5, generator=stream(1, 2, 3, 4, 5)) for _ in range(2)))
    seeds = {
        stream_seed(a, b, c, d, e) for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1) for e in (0, 1, 100)
    }
    assert len(seeds) == 48
    assert all(0 <= seed < 2**63 for seed in seeds)
    wide = {stream_seed(seed, 0, 0, 0, 0) for seed in (5, 2**32 + 5, 2**33 + 5, 2**63 - 2, 2**63 - 1)}
    assert len(wide) == 5


def test_the_stream_of_a_seed_below_2_to_the_32_is_as_it_was():
    """Trainings that are resumed draw on from it."""
    expected = np.random.SeedSequence([42, 7, 1, 0, 3]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    assert stream_seed(42, 7, 1, 0, 3) == expected


def test_noised_latents_and_their_target():
    clean, noise = torch.tensor([1.0, 1.0]).view(2, 1, 1, 1), torch.tensor([3.0, 5.0]).view(2, 1, 1, 1)
    sigma = torch.tensor([0.25, 1.0])
    assert noised(clean, noise, sigma).flatten().tolist() == [1.5, 5.0]
    assert target_velocity(clean, noise).flatten().tolist() == [2.0, 4.0]
    # one step along the target from any level gives the picture
    x = noised(clean, noise, sigma)
    assert torch.equal(x - sigma.view(-1, 1, 1, 1) * target_velocity(clean, noise), clean)


def test_weights_are_those_of_the_formulae():
    sigma = torch.tensor([0.0, 0.25, 0.5, 1.0])
    bell, least = np.exp(-2 * (np.array([0, 0.25, 0.5, 1.0]) - 0.5) ** 2), math.exp(-0.5)
    area = quad(lambda s: math.exp(-2 * (s - 0.5) ** 2), 0, 1)[0] - least
    assert weights_of(sigma, "gaussian").tolist() == pytest.approx(list((bell - least) / area), abs=1e-6)
    assert weights_of(sigma, "none").tolist() == [1, 1, 1, 1]
    assert weights_of(sigma, "sigma_sqrt").tolist() == pytest.approx([1e6, 16, 4, 1])
    cosmap = [2 / (math.pi * d) for d in (1, 0.625, 0.5, 1)]
    assert weights_of(sigma, "cosmap").tolist() == pytest.approx(cosmap)


@pytest.mark.parametrize("name", ["sigma_sqrt", "cosmap"])
def test_weights_equal_diffusers(name):
    from diffusers.training_utils import compute_loss_weighting_for_sd3

    sigma = torch.linspace(0.01, 1, 50)
    assert torch.allclose(weights_of(sigma, name), compute_loss_weighting_for_sd3(name, sigma), rtol=1e-5)


def test_gaussian_weights_have_mean_one_over_uniform_levels():
    assert weights_of(torch.linspace(0, 1, 10_001), "gaussian").mean().item() == pytest.approx(1, abs=1e-3)


def test_errors_are_by_picture():
    errors = squared_errors(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.zeros(2, 2))
    assert errors.tolist() == [5.0, 0.0]
