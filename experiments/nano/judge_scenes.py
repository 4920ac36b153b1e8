"""What the judge learns from: scenes of one to four drawings, damaged from hardly to beyond recognition.

Every picture is a function of the sprites, the VAE and a numpy Generator; nothing here was drawn by nano's
transformer, but the VAE is used, because what nano draws carries its texture. Looks that nano is never shown are left
out. The styles that nano itself never sees are here too, so that adapters that teach them can be judged.

How much of a drawing's subject and style is left to be recognised is told with it. Damage lowers that little by little:
the thresholds are where a person stops recognising the drawing, set by looking at sheets of them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import to_pictures, to_tensor
from domain import STYLES, held_out_look
from judge_damage import damaged, no_subject, warped
from judge_icons import KEYS, Icons, pixels_of
from judge_nothing import RGB, any_colour, ramp
from layouts import ink_on
from paths import SIZE
from PIL import Image
from vocabulary import COLOURS

STYLE_SHARES = [0.21, 0.21, 0.21, 0.21, 0.1, 0.06]


@dataclass
class Seen:
    """One drawing: centre and side in shares of the picture, subject (-1: none of these) and style.

    sure, style_sure: how much of subject and style is left to be recognised, 0..1; a style outlives its subject.
    """

    x: float
    y: float
    side: float
    subject: int
    style: int
    sure: float = 1.0
    style_sure: float = 1.0
    open: bool = False  # nobody says whether it shows a subject


@dataclass
class Told:
    """All that is true of one picture. colours [13]: with none last; *_open: left out of the loss."""

    seen: list[Seen] = field(default_factory=list)
    colours: np.ndarray = field(default_factory=lambda: np.eye(len(COLOURS) + 1, dtype=np.float32)[-1])
    colour_open: bool = False
    centres_open: bool = False


def spots(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Where drawings go, wider than nano's layouts: (x, y, side) of one, of two, of three in a row or a triangle, or
    of two to four anywhere that do not overlap much."""
    kind = rng.choice(5, p=[0.4, 0.2, 0.1, 0.1, 0.2])
    if kind == 0:
        side = rng.choice([rng.uniform(0.28, 0.56), rng.uniform(0.56, 0.9), rng.uniform(0.86, 1.05)], p=[0.3, 0.5, 0.2])
        slack = max(0.0, 1 - side) * 0.35 + 0.02
        return [(0.5 + rng.uniform(-slack, slack), 0.5 + rng.uniform(-slack, slack), float(side))]
    if kind == 1:
        apart, angle = rng.uniform(0.22, 0.28), rng.integers(4) * np.pi / 2 + rng.normal(0, 0.15)
        step = apart * np.array([np.cos(angle), np.sin(angle)])
        return [(*(0.5 + sign * step + rng.uniform(-0.03, 0.03, 2)), rng.uniform(0.34, 0.5)) for sign in (1, -1)]
    if kind in (2, 3):
        centres = [(1 / 6, 0.5), (0.5, 0.5), (5 / 6, 0.5)] if kind == 2 else [(0.5, 0.26), (0.26, 0.74), (0.74, 0.74)]
        sides, turned = ((0.26, 0.34) if kind == 2 else (0.33, 0.46)), rng.random() < 0.2
        centres = [(y, x) for x, y in centres] if turned else centres
        return [(x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.03, 0.03), rng.uniform(*sides)) for x, y in centres]
    result: list[tuple[float, float, float]] = []
    for _ in range(20):
        side = rng.uniform(0.26, 0.5)
        x, y = rng.uniform(side * 0.45, 1 - side * 0.45, 2)
        if all(np.hypot(x - a, y - b) > 0.42 * (side + c) for a, b, c in result):
            result.append((x, y, side))
        if len(result) == 4:
            break
    return result


def scene(rng: np.random.Generator, icons: Icons, calm: bool = False) -> tuple[np.ndarray, Told]:
    """One picture (uint8 [SIZE, SIZE, 3]) of drawings on a ground, and what is true of it. calm: nothing damaged."""
    told, common = Told(), int(rng.choice(len(KEYS[1]), p=STYLE_SHARES))
    colour = int(rng.integers(len(RGB)))
    rgb, named = RGB[colour] + rng.integers(-14, 15, 3), np.eye(len(RGB) + 1, dtype=np.float32)[colour]
    free = rng.random() < 0.12
    if free:
        any_rgb, share = any_colour(rng, 1)
        rgb, named = any_rgb[0], np.append(share[0], 0).astype(np.float32)
    rgb = rgb.clip(0, 255)
    told.colours = named
    ink = ink_on(rgb) if rng.random() < 0.95 else tuple(rng.integers(0, 256, 3))
    ground = np.broadcast_to(rgb.round().astype(np.uint8), (SIZE, SIZE, 3))
    if rng.random() < 0.06:  # graded: no longer one colour when the ends differ much
        end = rgb + (rng.uniform(0, 255, 3) - rgb) * rng.random()
        corners = np.stack([rgb, end])[rng.integers(2, size=4)].reshape(2, 2, 3)
        apart = float(np.linalg.norm(np.ptp(corners.reshape(4, 3), 0)) / 127.5)
        ground = np.asarray(
            Image.fromarray(corners.round().astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        )
        told.colours = named * float(ramp(apart, 0.35, 1.0))
        told.colours[-1] += 1 - told.colours.sum()
    canvas = Image.fromarray(ground.copy())
    where, alike = spots(rng), rng.random() < 0.5
    mixed = not calm and len(where) > 1 and rng.random() < 0.04
    first = None
    for x, y, side in where:
        style = int(rng.integers(len(STYLES))) if mixed else common
        kind = rng.choice(3, p=[0.76, 0.14, 0.1] if not calm else [0.85, 0.15, 0.0])
        others = icons.others(style)
        kind = 0 if kind == 1 and not others else kind
        number = int(rng.choice(others if kind == 1 else icons.subjects(style)))
        if alike and first is not None and (first[0] or first[1] in icons.subjects(style)):
            kind, number = first
        first = first or (kind, number)
        if kind == 0 and not free and held_out_look(KEYS[0][number], KEYS[1][style], KEYS[2][colour]):
            continue
        one = Seen(float(x), float(y), float(side), number if kind == 0 else -1, style)
        one.open = bool(kind == 1 and number in icons.alike)
        one.style_sure = 0.5 if kind == 2 else 1.0
        pixels = no_subject(rng, icons, style, ink) if kind == 2 else pixels_of(icons, number, style, ink)
        if not calm and kind < 2:
            if rng.random() < 0.22:
                pixels, one.sure = damaged(pixels, rng)
                one.style_sure = 0.3 + 0.7 * one.sure
            elif rng.random() < 0.35:  # a wobble that nobody would mind
                pixels = warped(pixels, rng, rng.uniform(0.004, 0.035))
        if rng.random() < 0.08:
            pixels = pixels[:, ::-1]
        small = Image.fromarray((pixels * 255).round().clip(0, 255).astype(np.uint8), "RGBA")
        box = [max(4, round(SIZE * side * s)) for s in np.exp(rng.normal(0, 0.03, 2))]
        turn = float(rng.normal(0, 3) + (rng.uniform(-20, 20) if rng.random() < 0.15 else 0))
        # As premultiplied: resize and turn first, then paste by hand.
        planes = [p.resize(box, Image.Resampling.BOX).rotate(turn, Image.Resampling.BILINEAR) for p in small.split()]
        rgba = np.stack([np.asarray(p) for p in planes], 2).astype(np.float32)
        left, top = round(x * SIZE - box[0] / 2), round(y * SIZE - box[1] / 2)
        piece = np.asarray(canvas.crop((left, top, left + box[0], top + box[1])), np.float32)
        over = rgba[..., :3] + piece * (1 - rgba[..., 3:] / 255)
        canvas.paste(Image.fromarray(over.clip(0, 255).astype(np.uint8)), (left, top))
        told.seen.append(one)
    return np.asarray(canvas), told


def in_pieces(picture: np.ndarray, told: Told, rng: np.random.Generator) -> tuple[np.ndarray, Told]:
    """The picture cut into tiles that are shuffled: no subject is left."""
    cells = int(rng.choice([4, 6, 8]))
    side = SIZE // cells
    tiles = [picture[a * side : (a + 1) * side, b * side : (b + 1) * side] for a in range(cells) for b in range(cells)]
    result = picture.copy()
    for i, j in enumerate(rng.permutation(len(tiles))):
        a, b = divmod(i, cells)
        result[a * side : (a + 1) * side, b * side : (b + 1) * side] = tiles[j]
    lost = [Seen(s.x, s.y, s.side, -1, s.style, style_sure=0.5) for s in told.seen]
    return result, Told(lost, told.colours, colour_open=True, centres_open=True)


def fade(told: Told, subject: float, style: float, colour: float) -> None:
    """Make the truths of a picture less sure, each by a factor."""
    for one in told.seen:
        one.sure, one.style_sure = one.sure * subject, one.style_sure * style
    told.colours = told.colours.copy()
    told.colours[:-1] *= colour
    told.colours[-1] = 1 - told.colours[:-1].sum()


def spoil(x: torch.Tensor, told: Told, rng: np.random.Generator) -> torch.Tensor:
    """JPEG, brightness, blur, noise over one picture [3, SIZE, SIZE]; changes what is true of it."""
    if rng.random() < 0.12:
        stream = io.BytesIO()
        Image.fromarray(to_pictures(x[None])[0]).save(stream, "JPEG", quality=int(rng.integers(20, 90)))
        x = to_tensor(np.array(Image.open(stream))[None])[0]
    gain = torch.from_numpy(rng.uniform(0.9, 1.1) * rng.uniform(0.96, 1.04, (3, 1, 1))).float()
    x = x * gain + torch.from_numpy(rng.uniform(-0.04, 0.04, (3, 1, 1))).float()
    if rng.random() < 0.35:
        side = int(SIZE / rng.uniform(1.1, 3.0)) if rng.random() < 0.7 else int(rng.integers(6, 60))
        tiny = F.interpolate(x[None], size=side, mode="area")
        x = F.interpolate(tiny, size=SIZE, mode="bicubic", align_corners=False)[0]
        for one in told.seen:
            one.sure *= float(ramp(-side * one.side, -16, -6.5))
            one.style_sure *= float(ramp(-side * one.side, -22, -8))
    grain = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    if rng.random() < 0.4:
        grain = F.interpolate(grain[None, :, ::3, ::3], size=SIZE, mode="bilinear")[0]
    if rng.random() < 0.1:
        weight = float(rng.uniform(0.2, 1.0))
        x = x * (1 - weight) + 0.6 * weight * grain
        left = float(ramp(weight, 0.5, 0.85))
        fade(told, left, float(ramp(weight, 0.3, 0.65)), float(ramp(weight, 0.6, 0.9)))
    elif rng.random() < 0.5:
        x = x + float(rng.uniform(0, 0.2)) * grain
    return x.clamp(-1, 1)
