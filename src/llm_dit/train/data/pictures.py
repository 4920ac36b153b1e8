"""Bytes of a picture to pixels: PNG, JPEG and WebP, upright, opaque, RGB, cut to a bucket.

Errors are ImageErrors that say what is wrong and leave it to the caller to say where. Colour profiles are not applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_dit.base.errors import ImageError
from llm_dit.images.read import decode

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_ENLARGED = 4.0  # times; a picture that would have to grow by more has nothing to teach
CROP_AREA = (0.5, 1.0)  # of the largest crop of its shape, for random crops


def open_picture(content: bytes) -> tuple[Image.Image, list[str]]:
    """An RGB image and remarks on what was done to make it one (turned, laid on white, first frame and so on)."""
    if not content:
        raise ImageError("an empty file")
    return decode(content, FORMATS)


def enlarged(height: int, width: int, shape: tuple[int, int]) -> float:
    """How many times a picture of that size has to grow to cover the shape; below 1 it shrinks."""
    return max(shape[0] / height, shape[1] / width)


def cut(image: Image.Image, shape: tuple[int, int], mirrored: bool = False) -> torch.Tensor:
    """The middle of the image at shape (height, width), as float32 [3, H, W] in -1..1; as much of it as fits."""
    wide, tall = _largest(image, shape)
    left, top = (image.width - wide) / 2, (image.height - tall) / 2
    return _pixels(image, (left, top, left + wide, top + tall), shape, mirrored)


def random_cut(image: Image.Image, shape: tuple[int, int], generator: np.random.Generator, flip: bool) -> torch.Tensor:
    """Like cut, of a random place, a half to the whole of the largest area, and mirrored half of the time if flip."""
    wide, tall = _largest(image, shape)
    share = generator.uniform(*CROP_AREA) ** 0.5
    left = generator.uniform(0, image.width - wide * share)
    top = generator.uniform(0, image.height - tall * share)
    mirrored = flip and bool(generator.integers(2))
    return _pixels(image, (left, top, left + wide * share, top + tall * share), shape, mirrored)


def _largest(image: Image.Image, shape: tuple[int, int]) -> tuple[float, float]:
    """Width and height of the largest part of the image that has the shape's aspect."""
    grow = enlarged(image.height, image.width, shape)
    return min(shape[1] / grow, image.width), min(shape[0] / grow, image.height)


def _pixels(
    image: Image.Image, box: tuple[float, float, float, float], shape: tuple[int, int], mirrored: bool
) -> torch.Tensor:
    import numpy as np
    import torch
    from PIL import Image

    whole = (0, 0, image.width, image.height)
    if image.size != (shape[1], shape[0]) or box != whole:
        # One resampling from the box; Lanczos in Pillow widens with the scale, which is what keeps out aliasing.
        image = image.resize((shape[1], shape[0]), Image.Resampling.LANCZOS, box=box)
    pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0).permute(2, 0, 1) * 2.0 - 1.0
    return pixels.flip(2) if mirrored else pixels
