"""Compose the pictures of nano, version 1: where each drawing of a scene goes, and the picture itself.

Every picture is a function of the sprites and a numpy Generator, so a seed gives the same pictures anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from domain import STYLES, SUBJECTS, Scene
from paths import SIZE, V1
from PIL import Image
from vocabulary import COLOURS

from llm_dit.metrics.nano_judge.scene import RELATIONS

SUBJECT_INDEX = {name: i for i, name in enumerate(SUBJECTS)}
STYLE_INDEX = {name: i for i, name in enumerate(STYLES)}
# Side of a drawing, as shares of the picture's.
SIDES = {"small": (0.34, 0.44), "plain": (0.68, 0.82), "large": (0.92, 1.0)}
SIDE_OF_TWO = (0.40, 0.47)
SIDE_IN_ROW = (0.29, 0.325)
SIDE_IN_TRIANGLE = (0.38, 0.43)
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


def ink_on(colour: tuple[int, ...]) -> tuple[int, int, int]:
    """Black ink, or white where the background is dark (relative luminance below 0.2, far from any of COLOURS)."""
    linear = (np.asarray(colour, float) / 255) ** 2.2
    return BLACK_INK if linear @ (0.2126, 0.7152, 0.0722) > 0.2 else WHITE_INK


def places(scene: Scene, rng: np.random.Generator) -> list[Place]:
    """A random layout of the scene: one Place for each drawing."""

    def near(value: float, spread: float) -> float:
        return float(value + rng.uniform(-spread, spread))

    if scene.kind == "pair":
        step = RELATIONS[scene.relation]
        apart = rng.uniform(0.245, 0.265)
        result = []
        for sign, subject in ((1, scene.subject), (-1, scene.other)):
            x, y = (0.5 + sign * apart * s if s else near(0.5, 0.05) for s in step)
            result.append(Place(subject, float(x), float(y), float(rng.uniform(*SIDE_OF_TWO))))
        return result
    if scene.count == 1:
        side = float(rng.uniform(*SIDES[scene.size]))
        slack = (1 - side) / (5 if scene.size == "small" else 6)
        return [Place(scene.subject, near(0.5, slack), near(0.5, slack), side)]
    if scene.count == 2:
        centres, sides, spread = [(0.255, 0.5), (0.745, 0.5)], SIDE_OF_TWO, 0.012
    elif rng.random() < 0.45:
        centres, sides, spread = [(1 / 6, 0.5), (0.5, 0.5), (5 / 6, 0.5)], SIDE_IN_ROW, 0.005
    else:
        centres, sides, spread = [(0.5, 0.26), (0.26, 0.74), (0.74, 0.74)], SIDE_IN_TRIANGLE, 0.015
    side, down = rng.uniform(*sides), rng.uniform(-0.03, 0.03)
    return [
        Place(scene.subject, near(x, spread), near(y + down, spread), float(side * rng.uniform(0.97, 1.0)))
        for x, y in centres
    ]


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
