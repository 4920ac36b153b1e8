"""Guidance: both conventions, the cap, and when it acts."""

from __future__ import annotations

import pytest
import torch

from llm_dit.denoise.guidance import cap_norm, cfg, cfg_is_on


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)


def test_scale_zero_is_the_positive_prediction(pair):
    assert torch.equal(cfg(*pair, 0.0), pair[0])


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_scale_s_is_the_usual_weight_s_plus_one(pair, scale):
    positive, negative = pair
    usual = negative + (scale + 1) * (positive - negative)
    assert torch.allclose(cfg(positive, negative, scale), usual, atol=1e-5)


def test_the_cap_is_per_picture_and_leaves_smaller_ones_alone():
    positive = torch.ones(2, 1, 2, 2)
    guided = torch.stack([torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), 0.5)])
    capped = cap_norm(guided, positive, 1.5)
    assert torch.allclose(capped[0], torch.full((1, 2, 2), 1.5))
    assert torch.equal(capped[1], guided[1])


@pytest.mark.parametrize(
    ("sigma", "truncation", "on"),
    [(1.0, 0.0, True), (0.9, 0.0, False), (0.5, 0.5, True), (0.49, 0.5, False), (0.01, 1.0, True)],
)
def test_truncation_is_strict_in_model_time(sigma, truncation, on):
    assert cfg_is_on(sigma, 1.0, truncation) is on
    assert not cfg_is_on(sigma, 0.0, truncation)
