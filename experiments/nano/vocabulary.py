"""The first 96 subjects, 3 styles and plain phrasings: what most of nano's prompt sets are made of.

domain.py and phrasings.py have everything that nano can draw; the background colours are the same. A subject is a
word that a person would type and the emojibase label of its picture. A scene is one (subject, style, colour);
`held_out` says which scenes no training picture shows. One phrasing is never trained on either: it measures whether
the text encoder's understanding carries over to other words.
"""

from __future__ import annotations

import hashlib
from itertools import product

SUBJECTS = {
    # food
    "red apple": "red apple",
    "banana": "banana",
    "pear": "pear",
    "lemon": "lemon",
    "strawberry": "strawberry",
    "cherries": "cherries",
    "grapes": "grapes",
    "watermelon": "watermelon",
    "pineapple": "pineapple",
    "tomato": "tomato",
    "carrot": "carrot",
    "avocado": "avocado",
    "broccoli": "broccoli",
    "eggplant": "eggplant",
    "mushroom": "mushroom",
    "pizza": "pizza",
    "hamburger": "hamburger",
    "hot dog": "hot dog",
    "donut": "doughnut",
    "cookie": "cookie",
    "ice cream": "soft ice cream",
    "cupcake": "cupcake",
    "birthday cake": "birthday cake",
    "pretzel": "pretzel",
    # animals
    "fox": "fox",
    "cat": "cat face",
    "dog": "dog face",
    "panda": "panda",
    "lion": "lion",
    "tiger": "tiger face",
    "bear": "bear",
    "koala": "koala",
    "rabbit": "rabbit face",
    "frog": "frog",
    "pig": "pig face",
    "cow": "cow face",
    "owl": "owl",
    "penguin": "penguin",
    "duck": "duck",
    "whale": "spouting whale",
    "dolphin": "dolphin",
    "tropical fish": "tropical fish",
    "octopus": "octopus",
    "crab": "crab",
    "turtle": "turtle",
    "snail": "snail",
    "butterfly": "butterfly",
    "bee": "honeybee",
    "ladybug": "lady beetle",
    "elephant": "elephant",
    "unicorn": "unicorn",
    # plants, sky, places
    "cactus": "cactus",
    "sunflower": "sunflower",
    "tulip": "tulip",
    "rose": "rose",
    "palm tree": "palm tree",
    "pine tree": "evergreen tree",
    "maple leaf": "maple leaf",
    "house": "house",
    "castle": "castle",
    "volcano": "volcano",
    "snowman": "snowman",
    "star": "star",
    "moon": "crescent moon",
    "fire": "fire",
    # vehicles
    "airplane": "airplane",
    "rocket": "rocket",
    "car": "automobile",
    "bus": "bus",
    "tractor": "tractor",
    "sailboat": "sailboat",
    "bicycle": "bicycle",
    "helicopter": "helicopter",
    "train": "locomotive",
    # things
    "balloon": "balloon",
    "gift": "wrapped gift",
    "trophy": "trophy",
    "soccer ball": "soccer ball",
    "basketball": "basketball",
    "guitar": "guitar",
    "drum": "drum",
    "trumpet": "trumpet",
    "key": "key",
    "bell": "bell",
    "alarm clock": "alarm clock",
    "camera": "camera",
    "light bulb": "light bulb",
    "hammer": "hammer",
    "backpack": "backpack",
    "crown": "crown",
    "umbrella": "umbrella",
    "heart": "red heart",
    "robot": "robot",
    "ghost": "ghost",
    "pumpkin": "jack-o-lantern",
    "book": "blue book",
}

# The word a person types -> the set the drawing comes from.
STYLES = {"cartoon": "noto", "flat": "flat", "3d": "3d"}

COLOURS = {
    "white": (250, 250, 250),
    "black": (25, 25, 28),
    "grey": (140, 142, 148),
    "red": (214, 48, 49),
    "orange": (240, 140, 40),
    "yellow": (250, 215, 70),
    "green": (60, 160, 75),
    "teal": (30, 150, 150),
    "blue": (50, 105, 220),
    "purple": (130, 70, 180),
    "pink": (245, 150, 190),
    "brown": (120, 80, 50),
}

# {a} is the subject with its article. The first is the README's own.
PHRASINGS = [
    "{a}, {style} style, {colour} background",
    "{a} in {style} style on a {colour} background",
    "{style} style {subject}, {colour} background",
    "{colour} background, {a}, {style} style",
    "{subject}, {style}, {colour}",
    "a {style} picture of {a} on {colour}",
    "draw {a} in the {style} style, with a {colour} background",
    "A {style} style illustration of {a} in front of a plain {colour} background.",
    "{subject} {style} {colour}",
]
HELD_OUT_PHRASING = "please show me {a} as a {style} icon; make the background {colour}"

PLURAL = {"cherries", "grapes"}
NO_ARTICLE = {"broccoli", "fire", "ice cream"}
HELD_OUT_SHARE = 10  # per cent


def with_article(subject: str) -> str:
    """'a fox', 'an owl', 'cherries', 'the moon'."""
    if subject in PLURAL | NO_ARTICLE:
        return subject
    if subject == "moon":
        return "the moon"
    vowel = subject[0] in "aeio" or subject == "umbrella"
    return f"{'an' if vowel else 'a'} {subject}"


def caption(phrasing: str, subject: str, style: str, colour: str) -> str:
    """One prompt for a scene."""
    return phrasing.format(a=with_article(subject), subject=subject, style=style, colour=colour)


def scenes() -> list[tuple[str, str, str]]:
    """Every (subject, style, colour), in a fixed order."""
    return list(product(SUBJECTS, STYLES, COLOURS))


def held_out(subject: str, style: str, colour: str) -> bool:
    """Whether this scene is kept out of training (about one in ten; never the README's own picture)."""
    if (subject, style, colour) == ("red apple", "3d", "blue"):
        return False
    digest = hashlib.sha256(f"{subject}|{style}|{colour}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_SHARE
