"""Pixels as PIL images and as tensors, and hashes of pixels and of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from llm_dit.base.paths import user_path
from llm_dit.images.read import picture_bytes

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image


def file_sha256(path: str | Path) -> str:
    """Hash of a picture file's bytes. Raises ImageError when it cannot be read."""
    return hashlib.sha256(picture_bytes(user_path(path))).hexdigest()


def pixels_sha256(pixels: np.ndarray) -> str:
    """Hash of the pixels alone: equal for equal pictures, whatever their metadata says."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def as_image(pixels: np.ndarray) -> Image.Image:
    """Pixels uint8 [H, W, 3] as a PIL image."""
    from PIL import Image

    return Image.fromarray(pixels)


def as_pixels(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """An RGB image resized to size (height, width), as float32 [3, H, W] in -1..1."""
    import numpy as np
    import torch
    from PIL import Image

    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255.0).permute(2, 0, 1) * 2.0 - 1.0
