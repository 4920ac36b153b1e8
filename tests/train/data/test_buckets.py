"""Shapes: their properties, and which picture goes where."""

from __future__ import annotations

import random

import pytest

from llm_dit.train.data.buckets import bucket_sizes, nearest_bucket


@pytest.mark.parametrize("size", [16, 32, 48, 64, 128, 256, 512, 768, 1024, 2048])
def test_shapes_are_snapped_and_no_larger_than_asked(size):
    shapes = bucket_sizes(size)
    assert (size, size) in shapes
    assert len(shapes) == len(set(shapes)) <= 30
    for height, width in shapes:
        assert height % 16 == 0
        assert width % 16 == 0
        assert 0 < height * width <= size * size
        assert max(height, width) <= 4 * min(height, width)
        assert (width, height) in shapes
    assert [w / h for h, w in shapes] == sorted(w / h for h, w in shapes)


def test_shapes_of_nanos_size():
    assert bucket_sizes(128) == [
        (256, 64), (192, 80), (160, 96), (144, 112), (128, 128), (112, 144), (96, 160), (80, 192), (64, 256)
    ]  # fmt: skip
    assert bucket_sizes(128, aspects=False) == [(128, 128)]


def test_shapes_of_z_images_size_use_their_area_well():
    shapes = bucket_sizes(1024)
    assert (768, 1360) in shapes
    assert all(h * w > 0.93 * 1024**2 for h, w in shapes)


def test_a_picture_goes_to_the_nearest_aspect():
    shapes = bucket_sizes(1024)
    chance = random.Random(0)
    for _ in range(300):
        height, width = chance.randint(50, 4000), chance.randint(50, 4000)
        chosen = shapes[nearest_bucket(height, width, shapes)]

        def off(shape, aspect=width / height):
            ratio = shape[1] / shape[0] / aspect
            return max(ratio, 1 / ratio)

        assert off(chosen) == pytest.approx(min(off(shape) for shape in shapes))


def test_of_two_shapes_of_one_aspect_the_larger_is_taken():
    shapes = [(32, 64), (64, 128), (48, 96)]
    assert nearest_bucket(10, 20, shapes) == 1
