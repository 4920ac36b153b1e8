"""Damage to one drawing, from hardly to beyond recognition, and things that show no subject though made of drawings."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from judge_icons import SPRITE, Icons, pixels_of
from judge_nothing import ramp
from paths import SIZE


def warped(x: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray:
    """A drawing [160, 160, 4] pushed about; what comes in from outside is empty."""
    moved = displaced(torch.from_numpy(x).permute(2, 0, 1), rng, spread, (4, 6, 9), "zeros")
    return moved.permute(1, 2, 0).numpy()


def displaced(
    x: torch.Tensor, rng: np.random.Generator, spread: float, knots: tuple[int, ...], outside: str
) -> torch.Tensor:
    """A smooth random displacement of [c, h, w], its spread in shares of the side.

    knots: how many a side the field may have. outside: grid_sample's padding_mode.
    """
    side = int(rng.choice(knots))
    field = torch.from_numpy(rng.standard_normal((1, 2, side, side))).float() * 2 * spread
    field = F.interpolate(field, size=x.shape[-2:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    grid = F.affine_grid(torch.eye(2, 3)[None], (1, *x.shape), align_corners=False)
    return F.grid_sample(x[None], grid + field, padding_mode=outside, align_corners=False)[0]


def mask_of(rng: np.random.Generator, share: float) -> np.ndarray:
    """[160, 160, 1] of 0 and 1: a random smooth region, or a half plane, that covers about `share`."""
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
        field = torch.from_numpy(np.cos(angle) * x + np.sin(angle) * y).float()[None]
    else:
        knots = torch.from_numpy(rng.standard_normal((1, 1, 4, 4))).float()
        field = F.interpolate(knots, size=SIZE, mode="bicubic", align_corners=True)[0]
    mask = (field < torch.quantile(field[:, ::4, ::4], float(share))).float()
    return F.interpolate(mask[None], size=SPRITE)[0].permute(1, 2, 0).numpy()


def damaged(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """One drawing warped, with a hole, or partly covered; and how much of it is left to recognise, 0..1."""
    kind = rng.integers(3)
    if kind == 0:
        spread = rng.uniform(0.02, 0.16)
        return warped(x, rng, spread), float(ramp(spread, 0.05, 0.12))
    mask = mask_of(rng, rng.uniform(0.05, 0.95))
    lost = float((x[..., 3:] * mask).sum() / max(x[..., 3].sum(), 1))
    if kind == 1:
        return x * (1 - mask), float(ramp(lost, 0.4, 0.75))
    patch = np.append(rng.uniform(0, 1, 3), 1).astype(np.float32) * (mask * (x[..., 3:] > 0.05))
    return x * (1 - patch[..., 3:]) + patch, float(ramp(lost, 0.4, 0.75))


def no_subject(rng: np.random.Generator, icons: Icons, style: int, ink: tuple[int, int, int]) -> np.ndarray:
    """What shows no subject though made of drawings: a blend, two halves, a blob of a drawing's colours."""
    everything = np.array(icons.subjects(style) * 4 + icons.others(style))
    a, b = (pixels_of(icons, int(i), style, ink) for i in rng.choice(everything, 2, replace=False))
    kind = rng.integers(3)
    if kind == 0:
        share = rng.uniform(0.38, 0.62)
        return a * (1 - share) + b * share
    if kind == 1:
        mask = mask_of(rng, rng.uniform(0.42, 0.58))
        return a * mask + b * (1 - mask)
    side = int(rng.integers(2, 7))
    tiny = F.interpolate(torch.from_numpy(a).permute(2, 0, 1)[None], size=side, mode="area")
    blob = F.interpolate(tiny, size=SPRITE, mode="bicubic", align_corners=False)[0].clamp(0, 1).permute(1, 2, 0).numpy()
    if rng.random() < 0.6:
        shape = ((blob[..., 3:] - rng.uniform(0.2, 0.6)) * 25).clip(0, 1)
        blob = np.concatenate([blob[..., :3] / blob[..., 3:].clip(0.05) * shape, shape], 2).clip(0, 1)
    return blob
