"""Compose training pictures: a sprite on a plain background, a little off the centre and of varying size.

Every picture is a function of the sprites and a numpy Generator, so a seed gives the same pictures anywhere.
"""

from __future__ import annotations

import numpy as np
from paths import ASSETS, SIZE
from PIL import Image
from vocabulary import COLOURS, STYLES, SUBJECTS

SUBJECT_INDEX = {name: i for i, name in enumerate(SUBJECTS)}
STYLE_INDEX = {name: i for i, name in enumerate(STYLES)}


def load_sprites() -> np.ndarray:
    """uint8 [icons, styles, 160, 160, 4], read page by page as needed."""
    return np.load(ASSETS / "sprites.npy", mmap_mode="r")


def paste(canvas: Image.Image, sprite: np.ndarray, side: int, left: int, top: int) -> None:
    """Draw `sprite` (uint8 RGBA) at `side` px into the canvas."""
    small = Image.fromarray(np.ascontiguousarray(sprite)).convert("RGBa").resize((side, side), Image.Resampling.BOX)
    small = small.convert("RGBA")
    canvas.paste(small, (left, top), small)


def compose(sprite: np.ndarray, colour: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """One subject on a plain background: uint8 [SIZE, SIZE, 3]."""
    shade = np.clip(np.array(colour) + rng.integers(-6, 7, 3), 0, 255)
    canvas = Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in shade))
    side = int(SIZE * rng.uniform(0.68, 0.82))
    slack = (SIZE - side) // 2
    shift = rng.integers(-slack // 3, slack // 3 + 1, 2)
    paste(canvas, sprite, side, slack + int(shift[0]), slack + int(shift[1]))
    return np.asarray(canvas)


def compose_scene(sprites: np.ndarray, subject: str, style: str, colour: str, rng: np.random.Generator) -> np.ndarray:
    """The picture of one scene: uint8 [SIZE, SIZE, 3]."""
    return compose(sprites[SUBJECT_INDEX[subject], STYLE_INDEX[style]], COLOURS[colour], rng)


def compose_anything(sprites: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture for the VAE, wider than the scenes: any icon, one to three of them, any size, flat or graded ground."""
    if rng.random() < 0.5:
        sprite = sprites[rng.integers(len(SUBJECTS)), rng.integers(len(STYLES))]
        return compose(sprite, list(COLOURS.values())[rng.integers(len(COLOURS))], rng)
    corners = rng.integers(0, 256, (4, 3)) if rng.random() < 0.3 else np.repeat(rng.integers(0, 256, (1, 3)), 4, 0)
    ground = Image.fromarray(corners.reshape(2, 2, 3).astype(np.uint8))
    canvas = ground.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])):
        side = int(SIZE * rng.uniform(0.3, 1.0))
        left, top = rng.integers(-side // 6, SIZE - side + side // 6 + 1, 2)
        paste(canvas, sprites[rng.integers(len(sprites)), rng.integers(len(STYLES))], side, int(left), int(top))
    return np.asarray(canvas)
