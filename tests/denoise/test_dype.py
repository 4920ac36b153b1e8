"""Extrapolated positions: the papers' formulae in float64, the stock bits where nothing acts, every sigma anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_z_image import RopeEmbedder

from llm_dit.config import DypeConfig
from llm_dit.diffusion.dype import describe_dype, idle_positions, is_idle, kappa_at, stretched_axes, stretches
from llm_dit.families.z_image.rotary import ComputedRotary, following, install_computed_rotary
from llm_dit.families.z_image.tiny import TEXT_WIDTH, tiny_transformer

DIMS, THETA, TRAINED = [32, 48, 48], 256.0, 1024
LARGE = (1536, 2048)  # height, width: stretched 1.5 and 2 times
METHODS = ["pi", "ntk", "yarn", "vision_yarn", "dy_pi", "dy_ntk", "dy_yarn"]


def ids_of(size=LARGE, frame=65):
    rows, columns = torch.meshgrid(torch.arange(size[0] // 16), torch.arange(size[1] // 16), indexing="ij")
    frames = torch.full_like(rows, frame)
    return torch.stack([frames, rows, columns], -1).reshape(-1, 3).to(torch.int32)


def frequencies(settings, sigma, size=LARGE, ids=None):
    rotary = ComputedRotary(DIMS, THETA)
    with rotary.turning(stretched_axes(sigma, settings, size, TRAINED, rotary.stock, THETA)):
        return rotary(ids_of(size) if ids is None else ids)


def stock(ids):
    return RopeEmbedder(theta=THETA, axes_dims=DIMS, axes_lens=[1536, 512, 512])(ids)


def same_bits(a, b):
    return torch.equal(torch.view_as_real(a), torch.view_as_real(b))


# The formulae once more, by numpy, from the papers alone: rates of one axis and the length of its numbers.
# D channels, base b, L trained tokens, s the axis' stretch, g the larger stretch, t the noise level.


def paper_kappa(method, t):
    return {"dy_pi": 2 * t**2, "dy_ntk": 2 * t**2, "dy_yarn": t**2, "vision_yarn": t**2}.get(method, 1.0)


def paper_axis(method, t, s, g, D=48, b=256.0, L=64):  # noqa: N803
    d, kappa = np.arange(D // 2, dtype=np.float64), paper_kappa(method, t)
    theta = b ** (-2 * d / D)
    if method.endswith("pi"):
        return theta / s**kappa, 1.0
    if method.endswith("ntk"):
        return (b * s ** (kappa * D / (D - 2))) ** (-2 * d / D), 1.0
    if method in ("yarn", "dy_yarn"):
        r = L / (2 * np.pi / theta)
        gamma = np.clip((r - 1 * kappa) / (32 * kappa - 1 * kappa), 0, 1)
        return (1 - gamma) * theta / s + gamma * theta, 0.1 * np.log(s) + 1

    def mask(first, second):
        low = np.clip(np.floor(D * np.log(L / (2 * np.pi * first * kappa)) / (2 * np.log(b))), 0, D / 2)
        high = np.clip(np.ceil(D * np.log(L / (2 * np.pi * second * kappa)) / (2 * np.log(b))), 0, D / 2)
        return 1 - np.clip((d - low) / max(high - low, 0.001), 0, 1)

    m_beta, m_gamma = mask(1.25, 0.75), mask(16, 2)
    mixed = theta / s * (1 - m_beta) + (b * g ** (D / (D - 2))) ** (-2 * d / D) * m_beta
    return mixed * (1 - m_gamma) + theta * m_gamma, 1 + 0.1 * np.log(g) * t**2


@pytest.mark.parametrize("t", [1.0, 0.75, 0.3, 0.05])
@pytest.mark.parametrize("method", METHODS)
def test_equal_to_the_papers_formulae(method, t):
    ids = ids_of()
    settings = DypeConfig(method=method)
    found = frequencies(settings, t).numpy()
    axes = stretched_axes(t, settings, LARGE, TRAINED, ComputedRotary(DIMS, THETA).stock, THETA)
    for axis, s in ((1, 1.5), (2, 2.0)):
        rates, length = paper_axis(method, t, s, g=2.0)
        assert np.allclose(axes[axis].rates, rates, rtol=1e-12, atol=0)
        assert axes[axis].length == pytest.approx(length, rel=1e-12)
        first = 16 if axis == 1 else 40
        expected = length * np.exp(1j * np.outer(ids[:, axis].numpy().astype(np.float64), rates))
        assert np.abs(found[:, first : first + 24] - expected).max() < 6e-6  # angles up to 128 rad, in float32
    assert same_bits(torch.from_numpy(found[:, :16].copy()), stock(ids)[:, :16])


@pytest.mark.parametrize(
    ("method", "t", "pair", "rate", "length"),
    [
        # Column axis, stretch 2, from the formulae by hand: pair 0 turns once a token, pair 23 256^(-46/48).
        ("pi", 0.5, 0, 0.5, 1.0),
        ("dy_pi", 1.0, 0, 0.25, 1.0),
        ("dy_pi", 0.5, 0, 2**-0.5, 1.0),
        ("ntk", 0.5, 0, 1.0, 1.0),
        ("ntk", 0.5, 23, 256 ** (-46 / 48) / 2, 1.0),
        ("dy_ntk", 1.0, 23, 256 ** (-46 / 48) / 4, 1.0),
        ("dy_ntk", 0.5, 23, 256 ** (-46 / 48) / 2**0.5, 1.0),
        ("yarn", 0.5, 23, 256 ** (-46 / 48) / 2, 1 + 0.1 * math.log(2)),
        ("dy_yarn", 0.5, 0, 1.0, 1 + 0.1 * math.log(2)),  # 10.2 turns are above 32 x 0.25
        ("vision_yarn", 0.5, 0, 1.0, 1 + 0.025 * math.log(2)),
        ("vision_yarn", 1.0, 23, 256 ** (-46 / 48) / 2, 1 + 0.1 * math.log(2)),
    ],
)
def test_golden_rates(method, t, pair, rate, length):
    axis = stretched_axes(t, DypeConfig(method=method), LARGE, TRAINED, ComputedRotary(DIMS, THETA).stock, THETA)[2]
    assert axis.rates[pair] == pytest.approx(rate, rel=1e-12)
    assert axis.length == pytest.approx(length, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_stock_bits_where_nothing_is_extrapolated(method):
    for size in ((1024, 1024), (512, 768)):
        assert same_bits(frequencies(DypeConfig(method=method), 1.0, size), stock(ids_of(size)))


@pytest.mark.parametrize("method", METHODS)
def test_only_the_longer_axis_is_stretched(method):
    size = (1024, 2048)
    found, plain = frequencies(DypeConfig(method=method), 1.0, size), stock(ids_of(size))
    assert same_bits(found[:, :40], plain[:, :40])
    assert not same_bits(found[:, 40:], plain[:, 40:])


@pytest.mark.parametrize("method", ["dy_pi", "dy_ntk", "dy_yarn", "vision_yarn"])
def test_stock_bits_at_kappa_0(method):
    plain = stock(ids_of())
    assert same_bits(frequencies(DypeConfig(method=method, lambda_s=0.0), 1.0), plain)
    assert same_bits(frequencies(DypeConfig(method=method), 0.0), plain)


@pytest.mark.parametrize("method", ["dy_pi", "dy_ntk", "dy_yarn", "vision_yarn"])
def test_towards_the_picture_the_angles_go_to_the_stock_ones(method):
    settings, plain = DypeConfig(method=method, attention_scale=0.0), stock(ids_of())
    far = [float((frequencies(settings, t) - plain).abs().mean()) for t in (1.0, 0.5, 0.2, 0.02)]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 0.01 * far[0]


@pytest.mark.parametrize("method", ["pi", "ntk", "yarn"])
def test_a_schedule_that_never_fades_is_the_static_method(method):
    fading = DypeConfig(method=f"dy_{method}", lambda_s=1.0, lambda_t=0.0)
    for t in (1.0, 0.3):
        assert same_bits(frequencies(fading, t), frequencies(DypeConfig(method=method), t))


def test_pi_puts_every_position_within_the_trained_ones():
    size = (2048, 2048)
    half = frequencies(DypeConfig(method="pi"), 1.0, size).reshape(128, 128, -1)[::2, ::2]
    assert torch.allclose(half[..., 16:], stock(ids_of((1024, 1024))).reshape(64, 64, -1)[..., 16:], atol=1e-6)


def test_isotropic_stretches_both_axes_by_the_larger():
    assert stretches(LARGE, TRAINED) == (1.5, 2.0)
    assert stretches(LARGE, TRAINED, "isotropic") == (2.0, 2.0)
    assert stretches((512, 2048), TRAINED) == (1.0, 2.0)
    stock = ComputedRotary(DIMS, THETA).stock
    axes = stretched_axes(1.0, DypeConfig(method="ntk", scaling="isotropic"), LARGE, TRAINED, stock, THETA)
    assert axes[1] == axes[2]


def test_one_embedder_gives_other_angles_at_every_sigma_and_its_own_again():
    rotary, settings, ids = ComputedRotary(DIMS, THETA), DypeConfig(method="dy_ntk"), ids_of()
    seen = []
    for sigma in (1.0, 0.9, 0.5, 0.9, 1.0):
        with rotary.turning(stretched_axes(sigma, settings, LARGE, TRAINED, rotary.stock, THETA)):
            seen.append(rotary(ids).clone())
    assert same_bits(seen[0], seen[4])
    assert same_bits(seen[1], seen[3])
    assert not same_bits(seen[0], seen[1])
    assert not same_bits(seen[1], seen[2])
    assert same_bits(rotary(ids), stock(ids))


def test_an_axis_is_put_back_after_a_failure_and_contexts_nest():
    rotary = ComputedRotary(DIMS, THETA)
    other = stretched_axes(1.0, DypeConfig(method="pi"), LARGE, TRAINED, rotary.stock, THETA)
    with rotary.turning({2: other[2]}):
        with rotary.turning({1: other[1]}):
            assert rotary.axes == (rotary.stock[0], other[1], other[2])
            with pytest.raises(RuntimeError), rotary.turning({0: other[1]}):
                raise RuntimeError
            assert rotary.axes == (rotary.stock[0], other[1], other[2])
        assert rotary.axes == (rotary.stock[0], rotary.stock[1], other[2])
    assert rotary.axes == rotary.stock


def test_a_transformer_sees_the_positions_of_each_step():
    transformer = tiny_transformer().eval()
    install_computed_rotary(transformer)
    generator = torch.Generator().manual_seed(0)
    x, caption = torch.randn(16, 1, 16, 16, generator=generator), torch.randn(9, TEXT_WIDTH, generator=generator)

    def velocity(latents, sigma):
        with torch.no_grad():  # the model's own time is held, so that only positions can differ
            return transformer([latents], torch.tensor([0.3]), [caption], return_dict=False)[0][0]

    plain = velocity(x, 1.0)
    follow = following(velocity, transformer, DypeConfig(method="dy_ntk"), (128, 128), 64)
    steps = [follow(x, sigma) for sigma in (1.0, 0.6, 0.2)]
    assert not any(torch.equal(a, b) for a, b in zip(steps, [*steps[1:], plain], strict=True))
    assert torch.equal(follow(x, 0.0), plain)
    assert torch.equal(velocity(x, 1.0), plain)
    assert following(velocity, transformer, DypeConfig(method="dy_ntk"), (64, 64), 64) is velocity
    assert following(velocity, transformer, DypeConfig(), (128, 128), 64) is velocity


def test_pi_at_twice_the_size_is_the_model_on_half_positions():
    """The whole way through a transformer: ids halved by hand and pi by 2 give one result."""
    transformer = tiny_transformer().eval()
    install_computed_rotary(transformer)
    generator = torch.Generator().manual_seed(0)
    x, caption = torch.randn(16, 1, 16, 16, generator=generator), torch.randn(9, TEXT_WIDTH, generator=generator)

    def velocity(latents, sigma):
        with torch.no_grad():
            return transformer([latents], torch.tensor([0.3]), [caption], return_dict=False)[0][0]

    found = following(velocity, transformer, DypeConfig(method="pi"), (128, 128), 64)(x, 0.7)
    rotary = transformer.rope_embedder
    transformer.rope_embedder = lambda ids: rotary(ids.double() * torch.tensor([1.0, 0.5, 0.5]))
    assert torch.allclose(found, velocity(x, 0.7), atol=1e-6)


def test_what_ran_is_described():
    settings = DypeConfig(method="dy_ntk")
    told = describe_dype(settings, LARGE, TRAINED, [1.0, 0.5, 0.0])
    assert told == {"method": "dy_ntk", "stretch": [1.5, 2.0], "kappa": [2.0, 0.5]}
    assert describe_dype(settings, (1024, 1024), TRAINED, [1.0, 0.0]) is None
    assert kappa_at(0.3, DypeConfig(method="yarn")) == 1.0


@pytest.mark.parametrize(
    ("settings", "size", "words"),
    [
        ({}, LARGE, []),
        ({"method": "dy_ntk"}, LARGE, []),
        ({"method": "dy_ntk", "lambda_t": 4.0}, LARGE, []),
        ({"method": "yarn", "alpha": 0.5, "beta": 8.0, "attention_scale": 0.0}, LARGE, []),
        ({"lambda_s": 1.0}, LARGE, ["dype.lambda_s has no effect: dype.method is none"]),
        (
            {"method": "ntk"},
            (1024, 1024),
            ["dype has no effect: 1024 x 1024 is no larger than model.trained_size=1024"],
        ),
        ({"method": "ntk", "lambda_t": 1.0}, LARGE, ["dype.lambda_t has no effect: ntk does not fade"]),
        ({"method": "dy_ntk", "lambda_s": 0.0}, LARGE, ["dype has no effect: dype.lambda_s is 0"]),
        ({"method": "pi", "attention_scale": 0.2}, LARGE, ["dype.attention_scale has no effect: dype.method is pi"]),
        ({"method": "vision_yarn", "beta": 8.0}, LARGE, ["dype.beta has no effect: dype.method is vision_yarn"]),
        ({"method": "pi", "scaling": "isotropic"}, (2048, 2048), ["dype.scaling has no effect"]),
    ],
)
def test_settings_that_cannot_act_are_named(settings, size, words):
    settings = DypeConfig(**settings)
    lines = idle_positions(settings, size, TRAINED)
    assert len(lines) == len(words)
    assert all(line.startswith(word) for line, word in zip(lines, words, strict=True))
    if any(word.startswith("dype has no effect") for word in words):
        assert is_idle(settings, size, TRAINED)
