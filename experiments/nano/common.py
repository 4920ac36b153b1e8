"""Small things that every stage of the recipe needs: threads, seeds, picture tensors, sheets of pictures."""

from __future__ import annotations

import os

import numpy as np
import torch
from paths import ASSETS
from PIL import Image


def start_training(seed: int) -> None:
    """Fixed seed, all cores, and the process id in assets/train.pid so that it can be paused."""
    torch.manual_seed(seed)
    torch.set_num_threads(os.cpu_count() or 1)
    ASSETS.mkdir(parents=True, exist_ok=True)
    (ASSETS.parent / "train.pid").write_text(str(os.getpid()))


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [n, h, w, 3] -> float [n, 3, h, w] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(x: torch.Tensor) -> np.ndarray:
    """float [n, 3, h, w] in -1..1 -> uint8 [n, h, w, 3]."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def save_grid(x: torch.Tensor, columns: int, name: str) -> None:
    """Pictures [n, 3, h, w] in -1..1, row by row, to assets/nano/NAME."""
    pictures = to_pictures(x.float())
    n, height, width, _ = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height, i % columns * width
        sheet[top : top + height, left : left + width] = picture
    Image.fromarray(sheet).save(ASSETS / name)
