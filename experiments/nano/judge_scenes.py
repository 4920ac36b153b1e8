"""What the judge learns from: scenes of one to four drawings, damaged from hardly to beyond recognition, and nothing.

Every picture is a function of the sprites, the VAE and a numpy Generator; nothing here was drawn by nano's
transformer, but the VAE is used, because what nano draws carries its texture. Looks that nano is never shown are left
out. The styles that nano itself never sees are here too, so that adapters that teach them can be judged.

A target is a distribution over the words and "none of these". Damage moves it from the word to none little by little:
the thresholds are where a person stops recognising the drawing, set by looking at sheets of them. Where a drawing is
damaged beyond recognition its centre is left open.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import to_pictures, to_tensor
from diffusers import AutoencoderKL
from domain import STYLES, SUBJECTS, UNSEEN_STYLES, drawn, held_out_look
from judge_nothing import RGB, any_colour, nothing, ramp
from layouts import ink_on, load_sprites
from paths import SIZE, V1
from PIL import Image
from vocabulary import COLOURS

from llm_dit.metrics.nano_judge.net import GRID

KEYS = (list(SUBJECTS), [*STYLES, *UNSEEN_STYLES], list(COLOURS))
STYLE_SHARES = [0.21, 0.21, 0.21, 0.21, 0.1, 0.06]
INK = KEYS[1].index("ink")
SPRITE = 160
# Other icons that show one of the subjects, or nearly: whether they do is left open.
LOOK_ALIKES = re.compile(
    r"\b(cats?|dog|poodle|hearts?|love letter|moon|stars?|bus|minibus|trolleybus|trains?|railway|metro|rail|station|"
    r"tram|monorail|umbrella|books?|notebook|key|camera|bell|drum|hammer|clock|o.clock|\w+-thirty|automobile|car|taxi|"
    r"sport utility|pickup|airplane|bicycles?|houses?|hut|castle|snowman|bear|tiger|cow|ox|pig|rabbit|whale|fish|"
    r"blowfish|ice cream|shortcake|goose|Christmas tree|fallen leaf|wilted flower|banjo|mammoth)\b"
)
# Of a centre's target: one within about a cell, nothing beyond two.
CENTRE_SPREAD, CENTRE_GAIN = 0.7, 1.7


@dataclass
class Seen:
    """One drawing: centre and side in shares of the picture, subject (-1: none of these), how much of it is left."""

    x: float
    y: float
    side: float
    subject: int
    sure: float = 1.0
    open: bool = False  # nobody says whether it shows a subject


@dataclass
class Told:
    """All that is true of one picture. style -1: none; colours [13] with none last; *_open: left out of the loss."""

    seen: list[Seen] = field(default_factory=list)
    style: int = -1
    style_sure: float = 1.0
    style_open: bool = False
    colours: np.ndarray = field(default_factory=lambda: np.eye(len(COLOURS) + 1, dtype=np.float32)[-1])
    colour_open: bool = False
    centres_open: bool = False


@dataclass
class Icons:
    """sprites uint8 [icons, styles, 160, 160, 4]; numbers of the icons that are no subjects; which look like one.

    more: for each of UNSEEN_STYLES, its sprites uint8 [160, 160, 4] by the subject's number.
    """

    sprites: np.ndarray
    more: list[dict[int, np.ndarray]]
    known: list[int]  # for training
    unseen: list[int]  # never trained on: to measure with
    alike: set[int]

    def subjects(self, style: int) -> list[int]:
        """Numbers of the subjects that exist in a style."""
        if style >= len(STYLES):
            return list(self.more[style - len(STYLES)])
        return [i for i, subject in enumerate(SUBJECTS) if drawn(subject, KEYS[1][style])]

    def others(self, style: int) -> list[int]:
        """Numbers of icons that are no subjects, of a style that has any."""
        return self.known if style < len(STYLES) else []


@dataclass
class Batch:
    """pictures [n, 3, SIZE, SIZE] in -1..1 and what is true of them, as the loss wants it."""

    pictures: torch.Tensor
    told: list[Told]
    centre: torch.Tensor  # [n, GRID, GRID] in 0..1
    centre_weight: torch.Tensor  # the same, 0 where it is left open
    cells: torch.Tensor  # [m, 3]: picture, row, column of the cells where a drawing's centre is
    subject: torch.Tensor  # [m, subjects + 1]
    subject_weight: torch.Tensor  # [m]
    side: torch.Tensor  # [m], log2
    style: torch.Tensor  # [n, styles + 1]
    style_weight: torch.Tensor
    colour: torch.Tensor  # [n, colours + 1]
    colour_weight: torch.Tensor


def load_icons() -> Icons:
    """The sprites, and the split of the other icons (one in six is kept from training, by a hash of its label)."""
    labels = json.loads((V1 / "sprites.json").read_text())
    words = {word for name in SUBJECTS for word in (name, name.split()[-1])}
    others = range(len(SUBJECTS), len(labels))
    alike = {i for i in others if LOOK_ALIKES.search(labels[i]) or words & set(labels[i].lower().split())}
    unseen = [i for i in others if i not in alike and hashlib.sha256(labels[i].encode()).digest()[0] % 6 == 0]
    more = [load_unseen(style) for style in UNSEEN_STYLES]
    return Icons(load_sprites(), more, [i for i in others if i not in unseen], unseen, alike)


def load_unseen(style: str) -> dict[int, np.ndarray]:
    """Sprites of a style that nano never sees, by the subject's number."""
    with np.load(V1 / f"unseen_{style}.npz") as file:
        return dict(zip(map(KEYS[0].index, file["subjects"].tolist()), file["sprites"], strict=True))


def pixels_of(icons: Icons, number: int, style: int, ink: tuple[int, int, int]) -> np.ndarray:
    """A sprite as float32 [160, 160, 4], premultiplied, 0..1."""
    sprite = icons.sprites[number, style] if style < len(STYLES) else icons.more[style - len(STYLES)][number]
    x = sprite.astype(np.float32) / 255
    if style == INK:
        x[..., :3] = np.array(ink, np.float32) / 255
    x[..., :3] *= x[..., 3:]
    return x


def warped(x: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray:
    """A smooth random displacement, its spread in shares of the side."""
    knots = int(rng.choice([4, 6, 9]))
    field = torch.from_numpy(rng.standard_normal((1, 2, knots, knots))).float() * 2 * spread
    field = F.interpolate(field, size=SPRITE, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    grid = F.affine_grid(torch.eye(2, 3)[None], (1, 4, SPRITE, SPRITE), align_corners=False)
    moved = F.grid_sample(torch.from_numpy(x).permute(2, 0, 1)[None], grid + field, align_corners=False)
    return moved[0].permute(1, 2, 0).numpy()


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
        return warped(x, rng, spread), float(ramp(spread, 0.03, 0.1))
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
    told = Told(style=int(rng.choice(len(KEYS[1]), p=STYLE_SHARES)))
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
    mixed = not calm and len(where) > 1 and rng.random() < 0.04  # styles: then none of them is the picture's
    first = None
    for x, y, side in where:
        style = int(rng.integers(len(STYLES))) if mixed else told.style
        kind = rng.choice(3, p=[0.76, 0.14, 0.1] if not calm else [0.85, 0.15, 0.0])
        others = icons.others(style)
        kind = 0 if kind == 1 and not others else kind
        number = int(rng.choice(others if kind == 1 else icons.subjects(style)))
        if alike and first is not None and (first[0] or first[1] in icons.subjects(style)):
            kind, number = first
        first = first or (kind, number)
        if kind == 0 and not free and held_out_look(KEYS[0][number], KEYS[1][style], KEYS[2][colour]):
            continue
        one = Seen(float(x), float(y), float(side), number if kind == 0 else -1, open=number in icons.alike)
        one.open &= kind == 1
        pixels = no_subject(rng, icons, style, ink) if kind == 2 else pixels_of(icons, number, style, ink)
        if not calm and kind < 2:
            if rng.random() < 0.22:
                pixels, one.sure = damaged(pixels, rng)
            elif rng.random() < 0.25:  # a wobble that nobody would mind
                pixels = warped(pixels, rng, rng.uniform(0.004, 0.02))
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
    if mixed or not told.seen:
        told.style = -1
    else:
        told.style_sure = float(np.mean([0.3 + 0.7 * s.sure if s.subject >= 0 else 1.0 for s in told.seen]))
        told.style_open = any(s.subject < 0 and not s.open for s in told.seen) and len(told.seen) == 1 and not calm
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
    lost = [Seen(s.x, s.y, s.side, -1) for s in told.seen]
    return result, Told(lost, told.style, style_open=True, colours=told.colours, colour_open=True, centres_open=True)


@torch.no_grad()
def make_bank(vae: AutoencoderKL, icons: Icons, n: int, seed: int) -> tuple[np.ndarray, list[Told]]:
    """n pictures through the VAE, most of them with disturbed latents: uint8 [n, SIZE, SIZE, 3], and what is true."""
    pictures, told = [], []
    for start in range(0, n, 16):
        rng = np.random.default_rng((seed, start))
        made = [scene(rng, icons, calm=True) for _ in range(min(16, n - start))]
        with torch.autocast("cpu", torch.bfloat16):
            z = vae.encode(to_tensor(np.stack([m[0] for m in made]))).latent_dist.mean.float()
        spread = z.std()
        for i, (_, about) in enumerate(made):
            kind, other, left, ground = rng.choice(4, p=[0.3, 0.45, 0.15, 0.1]), int(rng.integers(len(made))), 1.0, 1.0
            if kind == 1:  # noise in the latent, fine or smooth
                strength = 1.6 * rng.random() ** 1.7  # mostly mild, as nano's own errors are
                noise = torch.from_numpy(rng.standard_normal((1, 16, 16, 16))).float()
                if rng.random() < 0.5:
                    noise = 1.5 * F.interpolate(noise[..., ::4, ::4], size=16, mode="bicubic", align_corners=True)
                z[i] += strength * spread * noise[0]
                left, ground = float(ramp(strength, 0.4, 1.0)), float(ramp(strength, 0.6, 1.2))
            elif kind == 2:  # on the way to another picture
                share = rng.uniform(0, 0.5)
                z[i] = z[i] * (1 - share) + z[other] * share
                left, ground = float(ramp(share, 0.2, 0.42)), float(ramp(share, 0.1, 0.3))
            elif kind == 3:  # nothing but noise
                noise = torch.from_numpy(rng.standard_normal((1, 16, 16, 16))).float()
                side = int(rng.choice([16, 8, 4]))
                noise = F.interpolate(noise[..., :side, :side], size=16, mode="bicubic")[0]
                z[i] = rng.uniform(0.5, 1.8) * spread * noise
                about.seen, about.style, ground, about.centres_open = [], -1, 0.0, True
            fade(about, left, left, ground)
            told.append(about)
        with torch.autocast("cpu", torch.bfloat16):
            pictures.append(to_pictures(vae.decode(z).sample.float()))
    return np.concatenate(pictures), told


def fade(told: Told, subject: float, style: float, colour: float) -> None:
    """Make the truths of a picture less sure, each by a factor."""
    for one in told.seen:
        one.sure *= subject
    told.style_sure *= style
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
            one.sure *= float(ramp(-side * one.side, -17, -6.5))
        largest = max((one.side for one in told.seen), default=0.7)
        fade(told, 1.0, float(ramp(-side * largest, -26, -11)), 1.0)
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


def targets(pictures: torch.Tensor, told: list[Told]) -> Batch:
    """What is true of the pictures as tensors for the loss."""
    n, subjects = len(told), len(SUBJECTS)
    middle = (torch.arange(GRID) + 0.5) / GRID
    centre, centre_weight = torch.zeros(n, GRID, GRID), torch.ones(n, GRID, GRID)
    cells, subject, weight, side = [], [], [], []
    style, colour = torch.zeros(n, len(KEYS[1]) + 1), torch.zeros(n, len(COLOURS) + 1)
    style_weight, colour_weight = torch.ones(n), torch.ones(n)
    for i, about in enumerate(told):
        if about.centres_open:
            centre_weight[i] = 0
        for one in about.seen:
            square = ((middle[None] - one.x) ** 2 + (middle[:, None] - one.y) ** 2) * GRID**2
            here = (CENTRE_GAIN * torch.exp(-square / (2 * CENTRE_SPREAD**2))).clamp(max=1)
            centre[i] = torch.maximum(centre[i], here)
            if one.sure < 0.4:  # whether anything is there is left open
                centre_weight[i][square < 9] = 0
            for row, column in (square < 1.6).nonzero().tolist():
                cells.append((i, row, column))
                target = torch.zeros(subjects + 1)
                target[-1] = 1.0
                if one.subject >= 0:
                    target[one.subject], target[-1] = one.sure, 1 - one.sure
                subject.append(target)
                weight.append(0.0 if one.open else 1.0)
                side.append(np.log2(one.side))
        if about.style >= 0:
            style[i, about.style] = about.style_sure
        style[i, -1] = 1 - style[i, :-1].sum()
        style_weight[i] = float(not about.style_open)
        colour[i] = torch.from_numpy(about.colours)
        colour_weight[i] = float(not about.colour_open)
    return Batch(
        pictures, told, centre, centre_weight,
        torch.tensor(cells).reshape(-1, 3), torch.stack(subject) if subject else torch.zeros(0, subjects + 1),
        torch.tensor(weight), torch.tensor(side, dtype=torch.float32),
        style, style_weight, colour, colour_weight,
    )  # fmt: skip


def batch(rng: np.random.Generator, icons: Icons, bank: tuple[np.ndarray, list[Told]], n: int) -> Batch:
    """One batch for training: scenes 54 % (7 in 100 of them in shuffled pieces), bank 38 %, nothing 8 %; all spoilt."""
    drawn_now, banked = int(n * 0.55), int(n * 0.39)
    made = [scene(rng, icons) for _ in range(drawn_now)]
    made = [in_pieces(*m, rng) if rng.random() < 0.07 else m for m in made]
    for i in rng.integers(len(bank[0]), size=banked):
        made.append((bank[0][i], deepcopy(bank[1][i])))
    empty = zip(*nothing(rng, n - len(made)), strict=True)
    made += [(pixels, Told(colours=colours, colour_open=bool(unclear))) for pixels, colours, unclear in empty]
    x = to_tensor(np.stack([m[0] for m in made]))
    told = [m[1] for m in made]
    x = torch.stack([spoil(one, about, rng) for one, about in zip(x, told, strict=True)])
    return targets(x, told)
