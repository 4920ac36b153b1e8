"""Shapes that pictures are cut to: several aspects of about the same area, so that a batch has one shape.

After the aspect buckets of NovelAI's Stable Diffusion (2022). Nothing here opens a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

SNAP = 16  # pixels: 8 for the VAE times 2 for the transformer's patches
MAX_ASPECT = 4.0


def bucket_sizes(size: int, aspects: bool = True) -> list[tuple[int, int]]:
    """The shapes (height, width) for pictures of at most size x size pixels, from the tallest to the widest.

    Both sides are multiples of 16; the long one is at most 4 times the short one. Widths go in steps of a sixteenth
    of size, so that there are about 20 shapes whatever the size is. aspects=False gives the square alone.
    """
    if not aspects:
        return [(size, size)]
    step = max(SNAP, size // 16 // SNAP * SNAP)
    shapes = {(size, size)}
    for short in range(size, SNAP - 1, -step):
        long = size * size // short // SNAP * SNAP
        if long <= MAX_ASPECT * short:
            shapes |= {(short, long), (long, short)}
    return sorted(shapes, key=lambda shape: shape[1] / shape[0])


def nearest_bucket(height: int, width: int, shapes: Sequence[tuple[int, int]]) -> int:
    """The index of the shape whose aspect differs least from a picture's, as a ratio; of two, the larger one."""
    aspect = log(width / height)

    def loss(index: int) -> tuple[float, int]:
        tall, wide = shapes[index]
        return (round(abs(log(wide / tall) - aspect), 9), -tall * wide)

    return min(range(len(shapes)), key=loss)
