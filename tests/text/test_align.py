"""Maps between spaces of hidden states: each finds the map it can express, and its R2 is that of the tokens."""

from __future__ import annotations

import pytest
import torch

from llm_dit.text.align import Affine, Moments, fit, fit_moments, fit_procrustes, fit_ridge, r_squared
from llm_dit.text.layers import rms

WIDTH = 12


def randoms(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sums_of(x, y, parts=3):
    """Sums of rms-normed tokens as they are; the tokens are brought to unit rms by one more feature where needed."""
    sums = Moments()
    for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
        sums.add(a, b)
    return sums


def direct_r2(map, x, y):
    y = rms(y).double()
    error = (map(x).double() - y).square().sum()
    return float(1 - error / (y - y.mean(0)).square().sum())


def test_sums_do_not_depend_on_how_the_tokens_come():
    x, y = randoms(60, WIDTH), randoms(60, WIDTH, seed=1)
    one, many = sums_of(x, y, 1), sums_of(x, y, 7)
    for name in ("x", "y", "xx", "xy", "yy"):
        assert torch.allclose(getattr(one, name), getattr(many, name))
    assert one.count == many.count == 60


def test_ridge_without_penalty_is_least_squares():
    x, y = randoms(80, WIDTH), randoms(80, 5, seed=1)
    map = fit_ridge(sums_of(x, y), 0.0)
    ones = torch.ones(80, 1, dtype=torch.float64)
    solution = torch.linalg.lstsq(torch.cat([rms(x).double(), ones], 1), rms(y).double()).solution
    assert torch.allclose(map.weight.double(), solution[:-1], atol=1e-5)
    assert torch.allclose(map.bias.double(), solution[-1], atol=1e-5)


def test_ridge_with_a_penalty_by_hand():
    """With features that do not vary together, k = strength x mean variance divides by 1 + strength."""
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    map = fit_ridge(sums_of(x, x, 1), 0.25)
    assert torch.allclose(map.weight, torch.eye(2) / 1.25, atol=1e-5)
    assert r_squared(sums_of(x, x, 1), map) == pytest.approx(1 - 0.2**2, abs=1e-5)


def test_a_heavy_penalty_leaves_the_mean():
    x, y = randoms(80, WIDTH), randoms(80, WIDTH, seed=1) + 1
    map = fit_ridge(sums_of(x, y), 1e6)
    assert torch.allclose(map(x), rms(y).mean(0).float().expand(80, -1), atol=1e-3)
    assert r_squared(sums_of(x, y), map) == pytest.approx(0, abs=1e-3)


def test_procrustes_finds_a_rotation_and_keeps_the_angles():
    x = randoms(200, WIDTH)
    rotation = torch.linalg.qr(randoms(WIDTH, WIDTH, seed=3))[0]
    map = fit_procrustes(sums_of(x, x @ rotation))
    assert torch.allclose(map.weight, rotation.float(), atol=1e-5)
    assert r_squared(sums_of(x, x @ rotation), map) == pytest.approx(1, abs=1e-6)
    noisy = fit_procrustes(sums_of(x, x @ rotation + randoms(200, WIDTH, seed=4)))
    gram = noisy.weight @ noisy.weight.T
    assert torch.allclose(gram, gram[0, 0] * torch.eye(WIDTH), atol=1e-5)


def test_moments_gives_each_feature_the_mean_and_variance_of_the_other_space():
    x, y = randoms(300, WIDTH) + 0.5, randoms(300, WIDTH, seed=1) * torch.arange(1, WIDTH + 1)
    mapped, wanted = fit_moments(sums_of(x, y))(x), rms(y).float()
    assert torch.allclose(mapped.mean(0), wanted.mean(0), atol=1e-5)
    assert torch.allclose(mapped.std(0), wanted.std(0), atol=1e-5)


@pytest.mark.parametrize("method", ["moments", "ridge", "procrustes"])
def test_r2_is_that_of_the_tokens_themselves(method):
    x, y = randoms(90, WIDTH), randoms(90, WIDTH, seed=1) + randoms(90, WIDTH)
    sums = sums_of(x, y)
    map = fit(sums, method, 0.1)
    assert r_squared(sums, map) == pytest.approx(direct_r2(map, x, y), abs=1e-5)
    other_x, other_y = randoms(40, WIDTH, seed=5), randoms(40, WIDTH, seed=6)
    assert r_squared(sums_of(other_x, other_y), map) == pytest.approx(direct_r2(map, other_x, other_y), abs=1e-5)
    unchanged = Affine(torch.ones(WIDTH), torch.zeros(WIDTH))
    assert r_squared(sums) == pytest.approx(direct_r2(unchanged, x, y), abs=1e-5)


def test_ridge_knows_more_than_a_rotation_and_a_rotation_more_than_moments():
    x = randoms(400, WIDTH)
    y = x @ randoms(WIDTH, WIDTH, seed=8) + 0.1 * randoms(400, WIDTH, seed=9)
    sums = sums_of(x, y)
    ridge, procrustes, moments = (r_squared(sums, fit(sums, m, 1e-6)) for m in ("ridge", "procrustes", "moments"))
    assert ridge > procrustes > moments
    assert ridge > 0.9


def test_one_huge_token_does_not_decide_the_fit():
    x, y = randoms(100, WIDTH), randoms(100, WIDTH)
    rotation = torch.linalg.qr(randoms(WIDTH, WIDTH, seed=3))[0]
    y = x @ rotation
    plain = fit_procrustes(sums_of(x, y))
    x[0], y[0] = x[0] * 1e4, y[0] * 1e4
    assert torch.allclose(fit_procrustes(sums_of(x, y)).weight, plain.weight, atol=1e-4)


def test_widths_that_a_method_cannot_map_are_refused():
    sums = sums_of(randoms(60, 2 * WIDTH), randoms(60, WIDTH))
    for method in ("moments", "procrustes"):
        with pytest.raises(ValueError, match="24 and 12"):
            fit(sums, method, 0.0)
    assert fit(sums, "ridge", 0.1)(randoms(3, 2 * WIDTH)).shape == (3, WIDTH)


def test_states_of_any_dtype_are_mapped_in_float32():
    x = randoms(60, WIDTH)
    map = fit_ridge(sums_of(x, x), 1e-9)
    assert map(x.bfloat16()).dtype == torch.float32
    assert torch.allclose(map(x.bfloat16()), rms(x.bfloat16()), atol=1e-3)
