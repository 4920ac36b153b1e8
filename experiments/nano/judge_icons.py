"""The icons that the judge learns: its words, nano's subjects in all styles, and icons that are none of them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

import numpy as np
from domain import STYLES, SUBJECTS, UNSEEN_STYLES, drawn
from layouts import load_sprites, load_unseen
from paths import V1
from vocabulary import COLOURS

KEYS = (list(SUBJECTS), [*STYLES, *UNSEEN_STYLES], list(COLOURS))
INK = KEYS[1].index("ink")
SPRITE = 160
# Other icons that show one of the subjects, or nearly: whether they do is left open.
LOOK_ALIKES = re.compile(
    r"\b(cats?|dog|poodle|hearts?|love letter|moon|stars?|bus|minibus|trolleybus|trains?|railway|metro|rail|station|"
    r"tram|monorail|umbrella|books?|notebook|key|camera|bell|drum|hammer|clock|o.clock|\w+-thirty|automobile|car|taxi|"
    r"sport utility|pickup|airplane|bicycles?|houses?|hut|castle|snowman|bear|tiger|cow|ox|pig|rabbit|whale|fish|"
    r"blowfish|ice cream|shortcake|goose|Christmas tree|fallen leaf|wilted flower|banjo|mammoth)\b"
)


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


def load_icons() -> Icons:
    """The sprites, and the split of the other icons (one in six is kept from training, by a hash of its label)."""
    labels = json.loads((V1 / "sprites.json").read_text())
    words = {word for name in SUBJECTS for word in (name, name.split()[-1])}
    others = range(len(SUBJECTS), len(labels))
    alike = {i for i in others if LOOK_ALIKES.search(labels[i]) or words & set(labels[i].lower().split())}
    unseen = [i for i in others if i not in alike and hashlib.sha256(labels[i].encode()).digest()[0] % 6 == 0]
    kept = [load_unseen(style) for style in UNSEEN_STYLES]
    more = [dict(zip(map(KEYS[0].index, subjects), sprites, strict=True)) for subjects, sprites in kept]
    return Icons(load_sprites(), more, [i for i in others if i not in unseen], unseen, alike)


def pixels_of(icons: Icons, number: int, style: int, ink: tuple[int, int, int]) -> np.ndarray:
    """A sprite as float32 [160, 160, 4], premultiplied, 0..1."""
    sprite = icons.sprites[number, style] if style < len(STYLES) else icons.more[style - len(STYLES)][number]
    x = sprite.astype(np.float32) / 255
    if style == INK:
        x[..., :3] = np.array(ink, np.float32) / 255
    x[..., :3] *= x[..., 3:]
    return x
