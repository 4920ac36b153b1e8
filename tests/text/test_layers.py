"""Norms and combinations of hidden states: values worked out by hand, and what must hold for any states."""

from __future__ import annotations

import math

import pytest
import torch

from llm_dit.text import layers

A, B = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])


def states(count=3, tokens=5, features=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    return [(torch.randn(tokens, features, generator=generator) * 10**i).to(dtype) for i in range(count)]


def close(result, expected, tolerance=1e-5):
    assert torch.allclose(result, torch.tensor(expected, dtype=torch.float32), atol=tolerance), result


def test_norms_by_hand():
    close(layers.rms(A), [[3 / math.sqrt(12.5), 4 / math.sqrt(12.5)]])
    close(layers.layer_norm(A), [[-1.0, 1.0]], 1e-4)
    root = math.sqrt(12.5)
    close(layers.per_channel(A, torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.5])), [[(3 / root - 1) / 2, 8 / root]])


def test_combinations_by_hand():
    close(layers.COMBINE["mean"]([A, B], []), [[1.5, 3.0]])
    close(layers.weighted([A, B], [3, 1]), [[2.25, 3.5]])
    # Directions (0.6, 0.8) and (0, 1), each of rms 1, at the mean of the scales sqrt(12.5) and sqrt(2).
    scale = (math.sqrt(12.5) + math.sqrt(2)) / 2
    close(layers.norm_mean([A, B]), [[0.3 * math.sqrt(2) * scale, 0.9 * math.sqrt(2) * scale]])
    close(layers.concat([A, B]), [[3.0, 4.0, 0.0, 2.0]])
    # Half way between two directions is their bisector; lengths 5 and 2 give 3.5.
    bisector = math.hypot(0.6, 1.8)
    close(layers.slerp([A, B]), [[3.5 * 0.6 / bisector, 3.5 * 1.8 / bisector]])


def test_slerp_goes_a_quarter_of_a_right_angle():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    close(layers.slerp([x, y], [3, 1]), [[math.cos(math.pi / 8), math.sin(math.pi / 8)]])


@pytest.mark.parametrize("other", [[[3.0, 4.0]], [[3.0, 4.00001]], [[-3.0, -4.0]], [[0.0, 0.0]]])
def test_slerp_stays_finite_where_there_is_no_angle(other):
    assert torch.isfinite(layers.slerp([A, torch.tensor(other)], [1, 3])).all()


def test_slerp_of_nearly_equal_tokens_is_as_exact_as_a_mean():
    near = A + torch.tensor([[1e-4, -1e-4]])
    assert torch.allclose(layers.slerp([A, near]), (A + near) / 2, atol=1e-6)


@pytest.mark.parametrize("combine", ["mean", "weighted", "norm_mean", "slerp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_layer_or_the_same_layer_again_is_itself(combine, dtype):
    (state,) = states(1, dtype=dtype)
    for count in (1, 2, 3):
        result = layers.COMBINE[combine]([state] * count, [])
        assert result.dtype == torch.float32
        assert torch.allclose(result, state.float(), atol=1e-4)


@pytest.mark.parametrize("combine", ["weighted", "norm_mean", "slerp"])
def test_a_layer_of_weight_zero_is_not_there(combine):
    a, b, c = states()
    combined = layers.COMBINE[combine]
    assert torch.allclose(combined([a, b, c], [1, 2, 0]), combined([a, b], [1, 2]), atol=1e-4)
    assert torch.allclose(combined([a, b, c], [2, 4, 6]), combined([a, b, c], [1, 2, 3]), atol=1e-3)


@pytest.mark.parametrize("combine", list(layers.COMBINE))
def test_tokens_are_combined_one_by_one(combine):
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = layers.COMBINE[combine]([s[order] for s in states()], [])
    assert torch.equal(moved, layers.COMBINE[combine](states(), [])[order])


def test_norm_mean_hears_every_layer_and_the_mean_only_the_loudest():
    a, _, c = states()
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(layers.weighted([a, c]), c, dim=-1).min() > 0.99
    mixed = layers.norm_mean([a, c])
    assert torch.allclose(cosine(mixed, a, dim=-1), cosine(mixed, c, dim=-1), atol=1e-5)


@pytest.mark.parametrize("combine", ["norm_mean", "slerp"])
def test_the_tokens_scales_do_not_turn_these(combine):
    turned = layers.COMBINE[combine](states(), [])
    from_rms = layers.COMBINE[combine]([layers.rms(s) for s in states()], [])
    assert torch.allclose(layers.rms(turned), layers.rms(from_rms), atol=1e-4)


def test_weights_that_cannot_be_used_are_refused():
    with pytest.raises(ValueError, match="2 weights for 3 layers"):
        layers.weighted(states(), [1, 2])
    with pytest.raises(ValueError, match="add up to 0"):
        layers.weighted(states(), [1, 1, -2])
    with pytest.raises(ValueError, match="no negative weights"):
        layers.slerp(states(), [1, 1, -1])
