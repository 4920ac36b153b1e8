"""Pictures that show nothing: grounds of one colour or nearly, noise, clouds, stripes; and what colours are called.

The judge has to refuse them, but for the ground's colour where there is one. Every picture is a function of a numpy
Generator.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import to_pictures
from paths import SIZE
from vocabulary import COLOURS

RGB = np.array(list(COLOURS.values()), np.float32)


def ramp(x: np.ndarray | float, full: float, gone: float) -> np.ndarray:
    """1 while x is on full's side, 0 beyond gone, straight between."""
    return np.clip((gone - np.asarray(x, np.float32)) / (gone - full), 0, 1)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0..255 [..., 3] -> OKLab (Ottosson 2020), where distances are about as large as they look."""
    x = rgb / 255
    x = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(x @ np.array([[0.4122, 0.2119, 0.0883], [0.5363, 0.6807, 0.2817], [0.0514, 0.1074, 0.6300]]))
    return lms @ np.array([[0.2105, 1.9780, 0.0259], [0.7936, -2.4286, 0.7828], [-0.0041, 0.4506, -0.8087]])


def any_colour(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours [n, 3] from the whole cube, and what they are called [n, 12]: shared by the nearest names."""
    rgb = rng.uniform(0, 255, (n, 3)).astype(np.float32)
    distance = np.linalg.norm(oklab(rgb)[:, None] - oklab(RGB)[None], axis=2)
    share = np.exp(-distance / 0.03)
    return rgb, (share / share.sum(1, keepdims=True)).astype(np.float32)


def grounds(rng: np.random.Generator, n: int) -> tuple[torch.Tensor, np.ndarray]:
    """Backgrounds [n, 3, SIZE, SIZE] in -1..1, nearly all of one colour; what they are called [n, 12]."""
    colour = rng.integers(len(RGB), size=n)
    rgb, named = RGB[colour] + rng.integers(-14, 15, (n, 3)), np.eye(len(RGB), dtype=np.float32)[colour]
    free = rng.random(n) < 0.12
    rgb[free], named[free] = any_colour(rng, int(free.sum()))
    x = torch.from_numpy(rgb.clip(0, 255) / 127.5 - 1).float()[:, :, None, None].repeat(1, 1, SIZE, SIZE)
    for i in np.flatnonzero(rng.random(n) < 0.06):  # graded: no longer one colour when the ends differ much
        other, _ = any_colour(rng, 1)
        ends = torch.from_numpy(np.stack([rgb[i], rgb[i] + (other[0] - rgb[i]) * rng.random()]) / 127.5 - 1).float()
        corners = ends[torch.from_numpy(rng.integers(2, size=4))].T.reshape(1, 3, 2, 2)
        x[i] = F.interpolate(corners, size=SIZE, mode="bilinear", align_corners=True)[0].clamp(-1, 1)
        apart = float((corners.amax((2, 3)) - corners.amin((2, 3))).norm())
        named[i] *= ramp(apart, 0.35, 1.0)
    return x, named


def nothing(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grounds alone, noise of several kinds, gradients, stripes, chequers, smooth clouds: uint8 [n, SIZE, SIZE, 3];
    what their colour is called [n, 13], "none" last; and whether that is left open [n]."""
    x, named = grounds(rng, n)
    unclear = np.zeros(n, bool)
    for i in range(n):
        kind = rng.integers(6)
        if kind == 0:  # the background alone
            continue
        named[i] = 0
        low, high = (torch.from_numpy(rng.uniform(-1, 1, (3, 1, 1))).float() for _ in range(2))
        if kind in (1, 2):  # noise, fine to coarse
            side = int(rng.choice([SIZE, SIZE, SIZE, 64, 32, 16, 8]))
            channels = 1 if rng.random() < 0.25 else 3
            noise = torch.from_numpy(rng.standard_normal((1, channels, side, side))).float()
            if rng.random() < 0.5:
                noise = torch.from_numpy(rng.uniform(-1, 1, (1, channels, side, side))).float()
            mode = "nearest" if rng.random() < 0.5 else "bilinear"
            strength = rng.uniform(0.8 if side >= 64 else 0.4, 1.3)  # weaker fine noise is a grained background
            x[i] = (F.interpolate(noise, size=SIZE, mode=mode) * strength + 0.3 * low)[0].clamp(-1, 1)
            unclear[i] = side == SIZE and channels == 1
        elif kind == 3:  # clouds of colour
            side = int(rng.integers(2, 7))
            noise = torch.from_numpy(rng.uniform(-1, 1, (1, 3, side, side))).float()
            x[i] = F.interpolate(noise, size=SIZE, mode="bicubic", align_corners=True)[0].clamp(-1, 1)
        else:  # stripes, chequers, rings
            v, u = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
            angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 30)
            along, across = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
            wave = torch.sin(waves * along)
            if kind == 5:
                wave = (
                    wave * torch.sin(waves * across) if rng.random() < 0.5 else torch.sin(waves * (u**2 + v**2).sqrt())
                )
            share = (wave * rng.choice([1.0, 20.0])).clamp(-1, 1)[None] / 2 + 0.5
            x[i] = low * share + high * (1 - share)
    return to_pictures(x), np.concatenate([named, 1 - named.sum(1, keepdims=True)], 1), unclear
