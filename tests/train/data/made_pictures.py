"""Pictures made for tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SIZES = ((64, 64), (80, 48), (48, 80), (128, 128))  # of pictures, (height, width)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """A picture with structure, not flat and not the same for two seeds."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def as_bytes(image: Image.Image, format: str = "PNG", **options) -> bytes:
    """The file that saving the picture makes."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
