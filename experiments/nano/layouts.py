"""Compose the pictures of nano, version 1: where each drawing of a scene goes, and the picture itself.

Every picture is a function of the sprites and a numpy Generator, so a seed gives the same pictures anywhere.

A drawing comes in three sizes and moves by whole patches of the transformer, so that wherever it stands it is the same
patches; several have one arrangement for each relation and number. With sizes and places that varied freely, a model
this small drew pairs as blobs (README.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from domain import STYLES, SUBJECTS, Scene
from paths import SIZE, V1
from PIL import Image
from vocabulary import COLOURS

from llm_dit.metrics.nano_judge.scene import OPPOSITE, RELATIONS

SUBJECT_INDEX = {name: i for i, name in enumerate(SUBJECTS)}
STYLE_INDEX = {name: i for i, name in enumerate(STYLES)}
# Side of a drawing, as a share of the picture's; each of several is small.
SIDES = {"small": 60 / SIZE, "plain": 96 / SIZE, "large": 120 / SIZE}
PATCH = 16 / SIZE  # of the transformer: two of the VAE's cells, which are 8 px
# Where one alone may stand; half the time it is in the middle.
STEPS = ((0, 0), (0, 0), (0, 0), (0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
BLACK_INK, WHITE_INK = (22, 22, 26), (246, 246, 246)


@dataclass(frozen=True)
class Place:
    """Where one drawing goes: centre (x, y) and side, in shares of the picture; y grows downwards."""

    subject: str
    x: float
    y: float
    side: float


def load_sprites() -> np.ndarray:
    """uint8 [icons, styles, 160, 160, 4], read page by page as needed."""
    return np.load(V1 / "sprites.npy", mmap_mode="r")


def load_unseen(style: str) -> tuple[list[str], np.ndarray]:
    """Subjects that a style kept from training has, and their sprites: uint8 [subjects, 160, 160, 4]."""
    with np.load(V1 / f"unseen_{style}.npz") as file:
        return file["subjects"].tolist(), file["sprites"]


def ink_on(colour: tuple[int, ...]) -> tuple[int, int, int]:
    """Black ink, or white where the background is dark (relative luminance below 0.2, far from any of COLOURS)."""
    linear = (np.asarray(colour, float) / 255) ** 2.2
    return BLACK_INK if linear @ (0.2126, 0.7152, 0.0722) > 0.2 else WHITE_INK


def places(scene: Scene, rng: np.random.Generator) -> list[Place]:
    """A random layout of the scene: one Place for each drawing."""

    if scene.kind == "pair":
        both = RELATIONS[scene.relation], RELATIONS[OPPOSITE[scene.relation]]
        return [
            Place(subject, 0.5 + x / 4, 0.5 + y / 4, SIDES["small"])
            for subject, (x, y) in zip((scene.subject, scene.other), both, strict=True)
        ]
    if scene.count == 1:
        right, down = (0, 0) if scene.size == "large" else STEPS[int(rng.integers(len(STEPS)))]
        return [Place(scene.subject, 0.5 + right * PATCH, 0.5 + down * PATCH, SIDES[scene.size])]
    if scene.count == 2:
        centres = [(0.25, 0.5), (0.75, 0.5)]
    else:
        alone, two = (0.25, 0.75) if rng.random() < 0.5 else (0.75, 0.25)
        centres = [(0.5, alone), (0.25, two), (0.75, two)]
    return [Place(scene.subject, x, y, SIDES["small"]) for x, y in centres]


def paste(canvas: Image.Image, sprite: np.ndarray, place: Place, ink: tuple[int, int, int] | None) -> None:
    """Draw a sprite (uint8 RGBA) into the canvas; its colour becomes `ink` if that is given."""
    side = round(place.side * SIZE)
    left, top = (round(v * SIZE - side / 2) for v in (place.x, place.y))
    small = Image.fromarray(np.ascontiguousarray(sprite)).convert("RGBa").resize((side, side), Image.Resampling.BOX)
    small = small.convert("RGBA")
    canvas.paste(small if ink is None else ink, (left, top, left + side, top + side), small.getchannel("A"))


def compose(
    sprites: np.ndarray, numbers: list[int], style: int, where: list[Place], colour: tuple[int, ...]
) -> np.ndarray:
    """Drawings on a background of exactly this colour: uint8 [SIZE, SIZE, 3]. numbers: the icon for each Place."""
    canvas = Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in colour))
    ink = ink_on(colour) if style == STYLE_INDEX["ink"] else None
    for number, place in zip(numbers, where, strict=True):
        paste(canvas, sprites[number, style], place, ink)
    return np.asarray(canvas)


def shade(colour: str, rng: np.random.Generator) -> tuple[int, ...]:
    """A background colour, a little off its name's value."""
    return tuple(int(v) for v in np.clip(np.array(COLOURS[colour]) + rng.integers(-6, 7, 3), 0, 255))


def picture(sprites: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A picture of the scene: uint8 [SIZE, SIZE, 3]."""
    where = places(scene, rng)
    numbers = [SUBJECT_INDEX[place.subject] for place in where]
    return compose(sprites, numbers, STYLE_INDEX[scene.style], where, shade(scene.colour, rng))
