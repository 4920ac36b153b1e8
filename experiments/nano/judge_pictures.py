"""What the judge learns from: nano's icons, damaged from hardly to beyond recognition, and pictures that show none.

Every picture is a function of the sprites, the VAE and a numpy Generator. Nothing here, and nothing that the judge is
trained on, was drawn by nano's transformer; the VAE is used because what nano draws carries its texture.

A target is a distribution over the labels and "none" (last). Damage moves it from the label to none little by little:
the thresholds are where a person stops recognising the picture (at 128 px), set by looking at sheets of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import to_pictures, to_tensor
from diffusers import AutoencoderKL
from paths import ASSETS, SIZE
from PIL import Image
from scenes import load_sprites
from vocabulary import COLOURS, STYLES, SUBJECTS, held_out

KEYS = (list(SUBJECTS), list(STYLES), list(COLOURS))
NONE = tuple(len(keys) for keys in KEYS)
SMALL = 64  # px, what the network sees
RGB = np.array(list(COLOURS.values()), np.float32)
# Other icons that show one of the subjects, or nearly: whether they do is left open.
LOOK_ALIKES = re.compile(
    r"\b(cats?|dog|poodle|hearts?|love letter|moon|stars?|bus|minibus|trolleybus|trains?|railway|metro|rail|station|"
    r"tram|monorail|umbrella|books?|notebook|key|camera|bell|drum|hammer|clock|o.clock|\w+-thirty|automobile|car|taxi|"
    r"sport utility|pickup|airplane|bicycles?|houses?|hut|castle|snowman|bear|tiger|cow|ox|pig|rabbit|whale|fish|"
    r"blowfish|ice cream|shortcake|goose|Christmas tree|fallen leaf|wilted flower|banjo|mammoth)\b"
)


@dataclass
class Batch:
    """pictures [n, 3, SMALL, SMALL] in -1..1; for subject, style and colour: targets [n, choices + 1], weights [n]."""

    pictures: torch.Tensor
    targets: list[torch.Tensor]
    weights: torch.Tensor  # [n, 3]; 0 where the question is left open


@dataclass
class Icons:
    """sprites uint8 [icons, styles, 160, 160, 4]; numbers of the icons that are no subjects; which look like one."""

    sprites: np.ndarray
    known: list[int]  # for training
    unseen: list[int]  # never trained on: to measure with
    alike: set[int]


def load_icons() -> Icons:
    """The sprites, and the split of the other icons (one in six is kept from training, by a hash of its label)."""
    labels = json.loads((ASSETS / "sprites.json").read_text())
    others = range(len(SUBJECTS), len(labels))
    alike = {i for i in others if LOOK_ALIKES.search(labels[i])}
    unseen = [i for i in others if i not in alike and hashlib.sha256(labels[i].encode()).digest()[0] % 6 == 0]
    return Icons(load_sprites(), [i for i in others if i not in unseen], unseen, alike)


def ramp(x: np.ndarray | float, full: float, gone: float) -> np.ndarray:
    """1 while x is on full's side, 0 beyond gone, straight between."""
    return np.clip((gone - np.asarray(x, np.float32)) / (gone - full), 0, 1)


class Answers:
    """The targets of n pictures, filled in as they are made."""

    def __init__(self, n: int):
        self.labels = np.full((n, 2), -1)  # subject, style; -1: none
        self.sure = np.ones((n, 2), np.float32)  # how much of subject and style is left to see
        self.colours = np.zeros((n, NONE[2] + 1), np.float32)
        self.weights = np.ones((n, 3), np.float32)

    def tensors(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(targets, weights) as Batch holds them."""
        targets = []
        for i in range(2):
            target = np.zeros((len(self.labels), NONE[i] + 1), np.float32)
            has = self.labels[:, i] >= 0
            target[has, self.labels[has, i]] = self.sure[has, i]
            target[:, -1] = 1 - target.sum(1)
            targets.append(torch.from_numpy(target))
        self.colours[:, -1] = 1 - self.colours[:, :-1].sum(1)
        return [*targets, torch.from_numpy(self.colours)], torch.from_numpy(self.weights)


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


def grounds(rng: np.random.Generator, n: int, scenes: np.ndarray | None, answers: Answers, at: slice) -> torch.Tensor:
    """Backgrounds [n, 3, SIZE, SIZE] in -1..1, nearly all of one colour; writes what they are called.

    scenes: [n, 2] of (subject, style) numbers; nano's held-out scenes are not made from them.
    """
    colour = rng.integers(len(RGB), size=n)
    if scenes is not None:
        for i, (subject, style) in enumerate(scenes):
            while subject >= 0 and held_out(KEYS[0][subject], KEYS[1][style], KEYS[2][colour[i]]):
                colour[i] = rng.integers(len(RGB))
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
    answers.colours[at, :-1] = named
    return x


def placed(sprites: torch.Tensor, rng: np.random.Generator, warp: np.ndarray) -> torch.Tensor:
    """Sprites [n, 4, 160, 160] (premultiplied, 0..1) in a SIZE square: shifted, scaled, turned a little, warped.

    warp: [n], spread of a smooth displacement in shares of the picture's side.
    """
    n = len(sprites)
    side = rng.uniform(0.56, 0.9, n)
    turn = rng.normal(0, 0.06, n) + rng.uniform(-0.35, 0.35, n) * (rng.random(n) < 0.2)
    stretch = np.exp(rng.normal(0, 0.04, n))
    shift = rng.uniform(-0.16, 0.16, (n, 2))
    cos, sin = np.cos(turn) / side, np.sin(turn) / side
    theta = np.stack([cos * stretch, -sin, shift[:, 0], sin, cos / stretch, shift[:, 1]], 1).reshape(n, 2, 3)
    grid = F.affine_grid(torch.from_numpy(theta).float(), (n, 4, SIZE, SIZE), align_corners=False)
    knots = rng.choice([4, 6, 9])
    field = torch.from_numpy(rng.standard_normal((n, 2, knots, knots)) * (2 * warp[:, None, None, None])).float()
    field = F.interpolate(field, size=SIZE, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(sprites, grid + field / torch.from_numpy(side).float()[:, None, None, None],
                         mode="bilinear", align_corners=False)  # fmt: skip


def fetch(icons: Icons, numbers: np.ndarray, styles: np.ndarray) -> torch.Tensor:
    """Sprites [n, 4, 160, 160], premultiplied, 0..1."""
    raw = np.stack([icons.sprites[i, s] for i, s in zip(numbers, styles, strict=True)])
    x = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255
    x[:, :3] *= x[:, 3:]
    return x


def over(icon: torch.Tensor, ground: torch.Tensor) -> torch.Tensor:
    """An icon (premultiplied, 0..1) on a background in -1..1."""
    return icon[:, :3] * 2 - icon[:, 3:] + ground * (1 - icon[:, 3:])


def smooth_mask(rng: np.random.Generator, share: float) -> torch.Tensor:
    """[1, SIZE, SIZE] of 0 and 1: a random smooth region, or a half plane, that covers about `share`."""
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
        field = torch.from_numpy(np.cos(angle) * x + np.sin(angle) * y).float()[None]
    else:
        knots = torch.from_numpy(rng.standard_normal((1, 1, 4, 4))).float()
        field = F.interpolate(knots, size=SIZE, mode="bicubic", align_corners=True)[0]
    return (field < torch.quantile(field[:, ::4, ::4], float(share))).float()


def icon_pictures(rng: np.random.Generator, icons: Icons, n: int, other: float, answers: Answers, at: slice,
                  calm: bool = False) -> torch.Tensor:  # fmt: skip
    """Icons on backgrounds [n, 3, SIZE, SIZE]; `other` is the share of icons that are no subjects. calm: undamaged."""
    numbers = rng.integers(len(SUBJECTS), size=n)
    foreign = rng.random(n) < other
    numbers[foreign] = rng.choice(icons.known, int(foreign.sum()))
    styles = rng.integers(len(STYLES), size=n)
    subject = np.where(foreign, -1, numbers)
    answers.labels[at] = np.stack([subject, styles], 1)
    answers.weights[at, 0] = [float(i not in icons.alike) for i in numbers]
    ground = grounds(rng, n, np.stack([subject, styles], 1), answers, at)
    kind = np.where(rng.random(n) < (0.0 if calm else 0.3), rng.integers(1, 4, n), 0)  # warp, hole, cover
    warp = np.where(kind == 1, rng.uniform(0.02, 0.16, n), rng.uniform(0, 0.012, n) * (rng.random(n) < 0.5))
    sprites, mirrored = fetch(icons, numbers, styles), torch.from_numpy(rng.random(n) < 0.1)
    icon = placed(torch.where(mirrored[:, None, None, None], sprites.flip(3), sprites), rng, warp)
    sure = np.stack([ramp(warp, 0.03, 0.1), ramp(warp, 0.05, 0.14)], 1)
    x = over(icon, ground)
    for i in np.flatnonzero(kind >= 2):
        mask = smooth_mask(rng, rng.uniform(0.05, 0.95))
        lost = float((icon[i, 3:] * mask).sum() / icon[i, 3:].sum().clamp_min(1))
        if kind[i] == 2:
            x[i] = x[i] * (1 - mask) + ground[i] * mask
        else:
            mask = mask * (F.max_pool2d(icon[i : i + 1, 3:], 9, 1, 4)[0] > 0.05)
            x[i] = x[i] * (1 - mask) + torch.from_numpy(rng.uniform(-1, 1, (3, 1, 1))).float() * mask
        sure[i] = ramp(lost, 0.4, 0.75), ramp(lost, 0.5, 0.85)
    answers.sure[at] = sure
    return x


def mixtures(rng: np.random.Generator, icons: Icons, n: int, answers: Answers, at: slice) -> torch.Tensor:
    """What no subject is to be seen in, though made of them: blends, halves, blobs, shuffled patches."""
    everything = np.concatenate([np.arange(len(SUBJECTS))] * 4 + [np.array(icons.known)])
    a, b = rng.choice(everything, (2, n))
    styles, others = rng.integers(len(STYLES), size=(2, n))
    others = np.where(rng.random(n) < 0.5, styles, others)
    ground = grounds(rng, n, None, answers, at)
    kind = rng.integers(4, size=n)
    first = fetch(icons, a, styles)
    for i in np.flatnonzero(kind == 2):  # blobs: only its colours are left, in a soft or a cut shape
        side = int(rng.integers(2, 7))
        tiny = F.interpolate(first[i : i + 1], size=side, mode="area")
        blob = F.interpolate(tiny, size=160, mode="bicubic", align_corners=False).clamp(0, 1)
        if rng.random() < 0.6:
            shape = ((blob[:, 3:] - rng.uniform(0.2, 0.6)) * 25).clamp(0, 1)
            blob = torch.cat([blob[:, :3] / blob[:, 3:].clamp_min(0.05) * shape, shape], 1).clamp(0, 1)
        first[i] = blob[0]
    still = np.zeros(n, np.float32)
    icon, second = placed(first, rng, still), placed(fetch(icons, b, others), rng, still)
    x = over(icon, ground)
    answers.labels[at] = -1
    for i, what in enumerate(kind):
        one, two = icon[i : i + 1], second[i : i + 1]
        same = styles[i] == others[i]
        if what == 0:
            share = rng.uniform(0.38, 0.62)
            x[i] = over(one * (1 - share) + two * share, ground[i : i + 1])[0]
            answers.weights[at.start + i, 1] = float(not same)
        elif what == 1:
            mask = smooth_mask(rng, rng.uniform(0.42, 0.58))
            x[i] = over(one * mask + two * (1 - mask), ground[i : i + 1])[0]
            if same:
                answers.labels[at.start + i, 1] = styles[i]
        elif what == 3:
            cells = int(rng.choice([3, 4, 6, 8]))
            side = SIZE // cells
            body = x[i, :, : cells * side, : cells * side].unfold(1, side, side).unfold(2, side, side)
            body = body.reshape(3, -1, side, side)[:, torch.from_numpy(rng.permutation(cells * cells))]
            body = body.reshape(3, cells, cells, side, side).permute(0, 1, 3, 2, 4)
            x[i, :, : cells * side, : cells * side] = body.reshape(3, cells * side, cells * side)
            answers.weights[at.start + i, 1:] = 0, 0.5
    return x


def empty_pictures(rng: np.random.Generator, n: int, answers: Answers, at: slice) -> torch.Tensor:
    """Nothing at all: noise of several kinds, one colour, gradients, stripes, chequers, smooth clouds."""
    x = grounds(rng, n, None, answers, at)
    answers.labels[at] = -1
    for i in range(n):
        kind = rng.integers(6)
        if kind == 0:  # the background alone
            continue
        answers.colours[at.start + i] = 0
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
            answers.weights[at.start + i, 2] = float(side != SIZE or channels == 3)
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
    return x


def damage(rng: np.random.Generator, x: torch.Tensor, answers: Answers) -> torch.Tensor:
    """[n, 3, SIZE, SIZE] -> [n, 3, SMALL, SMALL]: JPEG, colour and brightness, blur, noise; changes the targets."""
    n = len(x)
    for i in np.flatnonzero(rng.random(n) < 0.12):
        stream = io.BytesIO()
        Image.fromarray(to_pictures(x[i : i + 1])[0]).save(stream, "JPEG", quality=int(rng.integers(12, 80)))
        x[i] = to_tensor(np.array(Image.open(stream))[None])[0]
    x = F.interpolate(x, size=SMALL, mode="area")
    gain = torch.from_numpy(rng.uniform(0.88, 1.12, (n, 1, 1, 1)) * rng.uniform(0.95, 1.05, (n, 3, 1, 1))).float()
    x = x * gain + torch.from_numpy(rng.uniform(-0.05, 0.05, (n, 3, 1, 1))).float()
    for i in np.flatnonzero(rng.random(n) < 0.35):
        side = int(SMALL / rng.uniform(1.05, 2.2)) if rng.random() < 0.7 else int(rng.integers(4, 30))
        tiny = F.interpolate(x[i : i + 1], size=side, mode="area")
        x[i] = F.interpolate(tiny, size=SMALL, mode="bicubic", align_corners=False)[0]
        answers.sure[i] *= ramp(-side, -24, -9), ramp(-side, -36, -15)
    grain = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    half = torch.from_numpy(rng.random((n, 1, 1, 1)) < 0.3)
    grain = torch.where(half, F.interpolate(grain[..., ::3, ::3], size=SMALL, mode="bilinear"), grain)
    light = rng.uniform(0, 0.2, n) * (rng.random(n) < 0.5)
    heavy = rng.random(n) < 0.1
    weight = torch.from_numpy(np.where(heavy, rng.uniform(0.2, 1.0, n), 0)).float()[:, None, None, None]
    x = x + torch.from_numpy(np.where(heavy, 0, light)).float()[:, None, None, None] * grain
    x = x * (1 - weight) + 0.6 * weight * grain
    w = weight.flatten().numpy()
    answers.sure *= np.stack([ramp(w, 0.5, 0.85), ramp(w, 0.3, 0.65)], 1)
    answers.colours[:, :-1] *= ramp(w, 0.6, 0.9)[:, None]
    return x.clamp(-1, 1)


def bank_picture_codes(rng: np.random.Generator, vae: AutoencoderKL, icons: Icons, n: int, answers: Answers,
                       at: slice) -> torch.Tensor:  # fmt: skip
    """Latents [n, 16, 16, 16] of undamaged icons, some disturbed from hardly to beyond recognition."""
    x = icon_pictures(rng, icons, n, 0.22, answers, at, calm=True)
    z = vae.encode(x).latent_dist.mean
    spread = z.std()
    kind = rng.choice(5, n, p=[0.45, 0.22, 0.15, 0.1, 0.08])
    sure, colours = answers.sure[at], answers.colours[at]
    for i in range(n):
        other = int(rng.integers(n))
        if kind[i] == 1:  # noise in the latent, fine or smooth
            strength = rng.uniform(0, 1.6)
            noise = torch.from_numpy(rng.standard_normal((1, 16, 16, 16))).float()
            if rng.random() < 0.5:
                noise = 1.5 * F.interpolate(noise[..., ::4, ::4], size=16, mode="bicubic", align_corners=True)
            z[i] += strength * spread * noise[0]
            sure[i] *= ramp(strength, 0.5, 1.2), ramp(strength, 0.3, 0.9)
            colours[i, :-1] *= ramp(strength, 0.6, 1.2)
        elif kind[i] == 2:  # half way to another picture
            share = rng.uniform(0, 0.5)
            z[i] = z[i] * (1 - share) + z[other] * share
            sure[i] *= ramp(share, 0.2, 0.42), ramp(share, 0.2, 0.45)
            colours[i, :-1] *= ramp(share, 0.1, 0.3)
        elif kind[i] == 3:  # pieces of another
            share = rng.uniform(0.05, 0.6)
            mask = F.interpolate(smooth_mask(rng, share)[None], size=16, mode="area")[0]
            z[i] = z[i] * (1 - mask) + z[other] * mask
            sure[i] *= ramp(share, 0.2, 0.45), ramp(share, 0.25, 0.5)
            colours[i, :-1] *= ramp(share, 0.15, 0.35)
        elif kind[i] == 4:  # nothing but noise
            noise = torch.from_numpy(rng.standard_normal((1, 16, 16, 16))).float()
            side = int(rng.choice([16, 8, 4]))
            z[i] = rng.uniform(0.5, 1.8) * spread * F.interpolate(noise[..., :side, :side], size=16, mode="bicubic")[0]
            answers.labels[at.start + i], colours[i], answers.weights[at.start + i] = -1, 0, 1
    return z


@torch.no_grad()
def make_bank(vae: AutoencoderKL, icons: Icons, n: int, seed: int) -> dict[str, np.ndarray]:
    """n pictures through the VAE with their targets, made once: pictures uint8 [n, 128, 128, 3] and Answers' arrays."""
    answers, pictures = Answers(n), []
    for start in range(0, n, 32):
        at = slice(start, min(start + 32, n))
        rng = np.random.default_rng((seed, start))
        z = bank_picture_codes(rng, vae, icons, at.stop - start, answers, at)
        with torch.autocast("cpu", torch.bfloat16):
            pictures.append(to_pictures(vae.decode(z).sample.float()))
    arrays = {key: getattr(answers, key) for key in ("labels", "sure", "colours", "weights")}
    return {"pictures": np.concatenate(pictures), **arrays}


def from_bank(rng: np.random.Generator, bank: dict[str, np.ndarray], answers: Answers, at: slice) -> torch.Tensor:
    """Pictures of the bank [n, 3, SIZE, SIZE] for the places `at`, shifted and scaled a little."""
    n = at.stop - at.start
    chosen = rng.integers(len(bank["pictures"]), size=n)
    for key in ("labels", "sure", "colours", "weights"):
        getattr(answers, key)[at] = bank[key][chosen]
    scale = torch.from_numpy(rng.uniform(0.86, 1.1, n)).float()
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = torch.from_numpy(rng.uniform(-0.08, 0.08, (n, 2))).float()
    grid = F.affine_grid(theta, (n, 3, SIZE, SIZE), align_corners=False)
    return F.grid_sample(to_tensor(bank["pictures"][chosen]), grid, padding_mode="border", align_corners=False)


def batch(rng: np.random.Generator, icons: Icons, bank: dict[str, np.ndarray], n: int) -> Batch:
    """One batch for training: icons 57 % (a fifth of them no subjects), bank 22 %, mixtures 13 %, nothing 8 %."""
    answers = Answers(n)
    stops = [int(n * share) for share in (0, 0.57, 0.79, 0.92)] + [n]
    icon, banked, mixed, empty = (slice(a, b) for a, b in pairwise(stops))
    x = torch.cat(
        [
            icon_pictures(rng, icons, icon.stop - icon.start, 0.22, answers, icon),
            from_bank(rng, bank, answers, banked),
            mixtures(rng, icons, mixed.stop - mixed.start, answers, mixed),
            empty_pictures(rng, empty.stop - empty.start, answers, empty),
        ]
    )
    x = damage(rng, x, answers)
    return Batch(x, *answers.tensors())
