"""Sharpness, entropy and uniformity on pictures whose numbers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tiny_metrics import picture

from llm_dit.config import EntropyMetric, SharpnessMetric, UniformMetric
from llm_dit.metrics.base import Sample
from llm_dit.metrics.image_statistics import Entropy, Sharpness, Uniform

PLAIN = np.full((32, 32, 3), 90, np.uint8)


def value(metric, pixels, mode="RGB"):
    settings = {Sharpness: SharpnessMetric, Entropy: EntropyMetric, Uniform: UniformMetric}[metric]()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (score,) = metric(settings, "cpu", 1).score([Sample(image.convert(mode), "ignored")])
    assert (score.tokens, score.truncated) == (None, False)
    return score.values[metric.name]


def grey(values):
    return np.repeat(np.asarray(values, np.uint8)[:, :, None], 3, axis=2)


def test_sharpness_by_hand():
    assert value(Sharpness, PLAIN) == 0
    # one white pixel in 5 x 5 black: of the 9 inner pixels one is -4 and four are 1; the mean is 0
    dot = np.zeros((5, 5))
    dot[2, 2] = 255
    assert value(Sharpness, grey(dot)) == pytest.approx((16 + 4) / 9)
    chequers = 255 * (np.indices((34, 34)).sum(0) % 2)
    assert value(Sharpness, grey(chequers)) == pytest.approx(16)
    ramp = np.tile(np.arange(0, 128, 4), (32, 1))
    assert value(Sharpness, grey(ramp)) == pytest.approx(0, abs=1e-12)
    assert value(Sharpness, grey([[0, 255]])) == 0


def test_sharpness_falls_with_blur_and_equals_scipy():
    from scipy.ndimage import laplace

    image = picture(0, (64, 64))
    blurred = [image.filter(ImageFilter.GaussianBlur(radius)) for radius in (0.5, 1, 2)]
    sharpness = [value(Sharpness, each) for each in (image, *blurred)]
    assert sharpness == sorted(sharpness, reverse=True)
    luma = np.asarray(image) @ [0.299, 0.587, 0.114] / 255
    assert sharpness[0] == pytest.approx(laplace(luma)[1:-1, 1:-1].var())


def test_entropy_by_hand():
    assert value(Entropy, PLAIN) == 0
    assert value(Entropy, grey([[0, 255], [255, 0]])) == pytest.approx(1)
    assert value(Entropy, grey(np.arange(256).reshape(16, 16))) == pytest.approx(8)
    assert value(Entropy, grey([[0, 0, 0, 255]])) == pytest.approx(0.8112781)


def test_grey_is_luma():
    red, green, blue = (np.zeros((4, 4, 3), np.uint8) for _ in range(3))
    red[..., 0], green[..., 1], blue[..., 2] = 255, 255, 255
    assert value(Entropy, np.concatenate([red, green, blue, red // 2])) == pytest.approx(2)


def test_uniform_flags_pictures_of_nearly_one_colour():
    assert value(Uniform, PLAIN) == 1
    rng = np.random.default_rng(0)
    assert value(Uniform, (PLAIN + rng.integers(-6, 7, PLAIN.shape)).astype(np.uint8)) == 1
    assert value(Uniform, picture(0)) == 0
    # 5 of 1024 pixels may differ, 6 may not
    for count, expected in ((5, 1), (6, 0)):
        some = PLAIN.copy().reshape(-1, 3)
        some[:count] = 200
        assert value(Uniform, some.reshape(PLAIN.shape)) == expected
    one_channel = PLAIN.copy()
    one_channel[:16, :, 2] = 120
    assert value(Uniform, one_channel) == 0


def test_other_modes_and_a_small_icon():
    assert value(Sharpness, PLAIN, "L") == value(Sharpness, PLAIN, "RGBA") == 0
    icon = np.full((128, 128, 3), 255, np.uint8)
    icon[60:70, 60:70] = 0
    assert value(Uniform, icon) == 0


def test_identities_differ():
    identities = {m(s(), "cpu", 1).identity for m, s in
                  ((Sharpness, SharpnessMetric), (Entropy, EntropyMetric), (Uniform, UniformMetric))}  # fmt: skip
    assert identities == {"sharpness v1", "entropy v1", "uniform v1"}
