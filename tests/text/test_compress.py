"""Fewer tokens out of many: values worked out by hand, and what must hold for any text."""

from __future__ import annotations

import math

import pytest
import torch

from llm_dit.text.compress import COMPRESS, attention_pool, compress, importance, interpolate, merge, nearness, pool

HOW = list(COMPRESS)


def tokens(count, features=8, seed=0, dtype=torch.float32):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed)).to(dtype)


def column(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_interpolate_by_hand():
    assert torch.allclose(interpolate(column(0, 1, 4, 9), 3), column(0, 2.5, 9))
    assert torch.allclose(interpolate(column(0, 10), 5), column(0, 2.5, 5, 7.5, 10))
    assert torch.equal(interpolate(column(3, 4, 5), 1), column(3))


def test_pool_by_hand():
    assert torch.allclose(pool(column(1, 3, 5, 7), 2), column(2, 6))
    assert torch.allclose(pool(column(1, 2, 6), 2), column(1.5, 4))  # the middle one is in both regions


def test_importance_by_hand():
    """Cosines of +1 and -1: each token's mean is over the neighbours it has."""
    x = column(1, 1, -1, 1)
    means = [(1 - 1) / 2, (1 - 1 + 1) / 3, (-1 - 1 - 1) / 3, (-1 + 1) / 2]
    expected = 1 - torch.tensor(means)
    assert torch.allclose(importance(x), expected - expected.min() + 0.1)


def test_attention_pool_by_hand():
    x = column(1, 1, -1, 1)
    a, b, c, d = (math.exp(v) for v in importance(x).tolist())
    assert torch.allclose(attention_pool(x, 2), column((a + b) / (a + b), (d - c) / (c + d)))


def test_tokens_that_differ_weigh_more_and_no_edge_does_so_by_itself():
    x = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]] + [[1.0, 0.0]] * 4)
    found = importance(x)
    assert found.argmax() == 4
    assert torch.allclose(found[0], found[-1])
    assert torch.allclose(importance(tokens(1).repeat(9, 1)), torch.full((9,), 0.1))


def test_merge_by_hand():
    x = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 2.0], [1.0, 9.0]])
    # Of the second and fourth token, the second is exactly like the first one.
    assert torch.allclose(merge(x, 3), torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 9.0]]))
    # Two too many at once: the fourth joins the third.
    assert torch.allclose(merge(x, 2), torch.tensor([[3.0, 0.0], [0.5, 5.5]]))
    # A further round weighs by size: two tokens of (3, 0) with two of (0.5, 5.5).
    assert torch.allclose(merge(x, 1), x.mean(0, keepdim=True))


def test_merging_to_one_token_is_the_mean_whatever_the_rounds():
    x = tokens(37)
    assert torch.allclose(merge(x, 1)[0], x.mean(0), atol=1e-5)


def test_merge_takes_the_repeated_and_leaves_the_rest():
    x = tokens(12)
    repeated = x.repeat_interleave(torch.tensor([1, 1, 2, 1, 1, 2, 1, 1, 1, 2, 1, 1]), dim=0)
    assert torch.allclose(merge(repeated, 12), x, atol=1e-6)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("count", "length"), [(5, 4), (100, 31), (64, 32), (33, 32), (7, 1), (1000, 5)])
def test_the_length_is_exact(how, count, length):
    assert compress(tokens(count), length, how).shape == (length, 8)


@pytest.mark.parametrize("how", HOW)
def test_a_text_that_fits_is_left_alone(how):
    x = tokens(9, dtype=torch.bfloat16)
    assert compress(x, 9, how) is x
    assert compress(x, 40, how) is x
    with pytest.raises(ValueError, match="0 tokens"):
        compress(x, 0, how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("length", [1, 6, 17])
def test_a_constant_text_stays_constant(how, length):
    x = tokens(1).repeat(23, 1)
    assert torch.allclose(compress(x, length, how), x[:length], atol=1e-6)


@pytest.mark.parametrize("how", HOW)
def test_texts_of_a_batch_do_not_see_each_other(how):
    batch = torch.stack([tokens(30, seed=i) for i in range(3)])
    order = [2, 0, 1]
    together = compress(batch, 11, how)
    assert torch.allclose(compress(batch[order], 11, how), together[order], atol=1e-6)
    for alone, row in zip(batch, together, strict=True):
        assert torch.allclose(compress(alone, 11, how), row, atol=1e-6)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_any_dtype_is_computed_in_float32(how, dtype):
    x = tokens(40, dtype=dtype)
    result = compress(x, 13, how)
    assert result.dtype == torch.float32
    assert torch.equal(result, compress(x.float(), 13, how))


@pytest.mark.parametrize("how", HOW)
def test_every_result_lies_between_the_tokens(how):
    x = tokens(50)
    result = compress(x, 16, how)
    assert (result <= x.amax(0) + 1e-6).all()
    assert (result >= x.amin(0) - 1e-6).all()


@pytest.mark.parametrize("how", ["interpolate", "pool", "attention_pool"])
def test_the_order_of_the_text_is_kept(how):
    result = compress(column(*range(1, 60)) * torch.ones(4), 20, how)[:, 0]
    assert (result.diff() > 0).all()


def test_interpolation_keeps_the_ends():
    x = tokens(45)
    result = interpolate(x, 12)
    assert torch.equal(result[0], x[0])
    assert torch.allclose(result[-1], x[-1])


@pytest.mark.parametrize(("how", "theirs"), [
    ("interpolate", lambda x, m: torch.nn.functional.interpolate(x.T[None], m, mode="linear", align_corners=True)[0].T),
    ("pool", lambda x, m: torch.nn.functional.adaptive_avg_pool1d(x.T[None], m)[0].T),
])  # fmt: skip
def test_equal_to_torchs_own(how, theirs):
    x = tokens(77)
    for length in (5, 32, 76):
        assert torch.allclose(compress(x, length, how), theirs(x, length), atol=1e-5)


def test_nearness_by_hand():
    original = torch.eye(3)
    mean, lowest = nearness(torch.tensor([[2.0, 0.0, 0.0], [3.0, 4.0, 0.0]]), original)
    assert (mean, lowest) == (pytest.approx(0.9), pytest.approx(0.8))
    assert nearness(original[:2], original) == (1.0, 1.0)
