"""What nano, version 1, can draw: subjects, styles, colours, sizes, relations, counts; and what it is never shown.

A scene is one subject (plain, small or large), two subjects in a relation, or one to three of a subject. How scenes
are asked for is in phrasings.py. vocabulary.py has the first of the subjects. The domain is what the judge knows and
scenes are asked for in; nano is taught the part of it that a model of its size learns well (`taught`).

Held out of training, each by a hash of its names: a tenth of all (subject, style, colour), in every kind of scene;
a tenth of all placements of two subjects (a fox left of a key is the same placement as a key right of a fox); a tenth
of all (count, subject, style); and some phrasings and filler adjectives.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from vocabulary import COLOURS
from vocabulary import SUBJECTS as FIRST_SUBJECTS

from llm_dit.metrics.nano_judge.scene import OPPOSITE

# The word a person types -> the emojibase label of its picture.
SUBJECTS = {
    **FIRST_SUBJECTS,
    # food
    "green apple": "green apple",
    "peach": "peach",
    "kiwi": "kiwi fruit",
    "corn": "ear of corn",
    "hot pepper": "hot pepper",
    "bread": "bread",
    "croissant": "croissant",
    "cheese": "cheese wedge",
    "taco": "taco",
    "french fries": "french fries",
    "popcorn": "popcorn",
    "lollipop": "lollipop",
    # animals
    "monkey": "monkey face",
    "mouse": "mouse face",
    "horse": "horse face",
    "giraffe": "giraffe",
    "camel": "camel",
    "sheep": "ewe",
    "chicken": "chicken",
    "chick": "baby chick",
    "parrot": "parrot",
    "bat": "bat",
    "hedgehog": "hedgehog",
    "shark": "shark",
    "snake": "snake",
    "crocodile": "crocodile",
    "dinosaur": "T-Rex",
    "dragon": "dragon face",
    "spider": "spider",
    "flamingo": "flamingo",
    # plants, sky, places
    "tree": "deciduous tree",
    "four leaf clover": "four leaf clover",
    "sun": "sun",
    "cloud": "cloud",
    "rainbow": "rainbow",
    "snowflake": "snowflake",
    "lightning bolt": "high voltage",
    "globe": "globe showing Americas",
    "planet": "ringed planet",
    "water drop": "droplet",
    "tent": "tent",
    # vehicles
    "ambulance": "ambulance",
    "motorcycle": "motorcycle",
    "skateboard": "skateboard",
    "anchor": "anchor",
    "flying saucer": "flying saucer",
    "traffic light": "vertical traffic light",
    # things
    "microphone": "microphone",
    "headphones": "headphone",
    "telephone": "telephone",
    "laptop": "laptop",
    "magnifying glass": "magnifying glass tilted left",
    "candle": "candle",
    "scissors": "scissors",
    "pencil": "pencil",
    "shield": "shield",
    "magnet": "magnet",
    "door": "door",
    "hourglass": "hourglass done",
    "kite": "kite",
    "puzzle piece": "puzzle piece",
    "diamond": "gem stone",
    "glasses": "glasses",
    "top hat": "top hat",
    "t-shirt": "t-shirt",
    "dress": "dress",
    "football": "american football",
    "skull": "skull",
    "alien": "alien",
    "envelope": "envelope",
    "lock": "locked",
    "ladder": "ladder",
    "chair": "chair",
}

# The word a person types -> the set the drawing comes from.
STYLES = {"cartoon": "noto", "flat": "flat", "3d": "3d", "ink": "ink"}
# Whose drawings the judge knows, of other sets; like ink they are kept for adapters.
UNSEEN_STYLES = {"fx": "fx", "blob": "noto-v1"}
_KEPT = [
    *("red apple", "cherries", "carrot", "hamburger", "birthday cake", "lion", "frog", "duck", "crab", "ladybug"),
    *("tulip", "house", "rocket", "tractor", "balloon", "guitar", "alarm clock", "crown", "pumpkin", "corn"),
    *("taco", "mouse", "chick", "dragon", "cloud", "ambulance", "headphones", "scissors", "diamond", "football"),
]
# The styles that an adapter may teach, and the subjects that it is not trained on, so that they can be asked for.
KEPT_FROM_ADAPTERS = {
    "ink": _KEPT,
    "blob": _KEPT,
    "fx": [
        *("red apple", "cherries", "eggplant", "cookie", "panda", "frog", "dolphin", "bee", "tulip", "house"),
        *("airplane", "sailboat", "gift", "key", "hammer", "pumpkin", "hot pepper", "mouse", "chick", "tree"),
        *("lightning bolt", "anchor", "magnifying glass", "hourglass", "football"),
    ],
}
# What a drawing does not tell from another: in ink, both apples are one, fire is a drop and a kiwi a ring.
NOT_DRAWN = {("green apple", "ink"), ("kiwi", "ink"), ("fire", "ink")}
# What nano is not taught: lines of a pixel or two, and the subjects that are little else.
UNTAUGHT_STYLES = {"ink"}
UNTAUGHT_SUBJECTS = {
    *("bat", "camel", "crocodile", "flamingo", "giraffe", "hedgehog", "kiwi", "parrot", "shark", "snake", "spider"),
    *("chair", "glasses", "kite", "ladder", "motorcycle", "rainbow", "skateboard", "snowflake"),
}
TAUGHT_SUBJECTS = [subject for subject in SUBJECTS if subject not in UNTAUGHT_SUBJECTS]
TAUGHT_STYLES = [style for style in STYLES if style not in UNTAUGHT_STYLES]

SIZES = ("small", "plain", "large")
COUNTS = {1: "one", 2: "two", 3: "three"}

PLURAL_ALREADY = {"cherries", "grapes", "french fries", "headphones", "scissors", "glasses"}
NO_ARTICLE = {"broccoli", "fire", "ice cream", "bread", "cheese", "corn", "popcorn"}
THE = {"moon", "sun"}
# Whose drawings cannot be counted, or are several things by themselves.
UNCOUNTED = PLURAL_ALREADY | NO_ARTICLE | THE | {"rainbow"}
IRREGULAR = {
    "mouse": "mice",
    "sheep": "sheep",
    "tropical fish": "tropical fish",
    "maple leaf": "maple leaves",
    "snowman": "snowmen",
    "tomato": "tomatoes",
    "volcano": "volcanoes",
}
HELD_OUT_SHARE = 10  # per cent


@dataclass(frozen=True)
class Scene:
    """One picture's content. kind is single, pair or count; colour is the background's.

    other and relation are of pairs ("subject is RELATION other"), size of singles, count of all but pairs.
    """

    kind: str
    subject: str
    style: str
    colour: str
    size: str = "plain"
    other: str | None = None
    relation: str | None = None
    count: int = 1

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subject, and the other one of a pair."""
        return (self.subject,) if self.other is None else (self.subject, self.other)


def with_article(subject: str) -> str:
    """'a fox', 'an owl', 'cherries', 'the moon'."""
    if subject in PLURAL_ALREADY | NO_ARTICLE:
        return subject
    if subject in THE:
        return f"the {subject}"
    return f"{article(subject)} {subject}"


def article(word: str) -> str:
    """'a' or 'an', by the sound that the word begins with (of the words that are used here)."""
    return "an" if word[0] in "aeio" or word in ("umbrella", "hourglass") else "a"


def plural(subject: str) -> str:
    """'foxes', 'birthday cakes', 'mice'. Only for subjects that can be counted."""
    if subject in IRREGULAR:
        return IRREGULAR[subject]
    if subject.endswith("y") and subject[-2] not in "aeiou":
        return subject[:-1] + "ies"
    return subject + ("es" if subject.endswith(("s", "x", "ch", "sh")) else "s")


def plurals() -> dict[str, str]:
    """Each subject that can be counted -> its plural."""
    return {subject: plural(subject) for subject in SUBJECTS if subject not in UNCOUNTED}


def drawn(subject: str, style: str) -> bool:
    """Whether the subject exists in this style."""
    return (subject, style) not in NOT_DRAWN


def taught(subject: str, style: str) -> bool:
    """Whether nano is trained on the subject in this style."""
    return subject in TAUGHT_SUBJECTS and style in TAUGHT_STYLES


def looks() -> list[tuple[str, str, str]]:
    """Every (subject, style, colour) that can be drawn, in a fixed order."""
    return [(s, style, colour) for s in SUBJECTS for style in STYLES if drawn(s, style) for colour in COLOURS]


def held_out_look(subject: str, style: str, colour: str) -> bool:
    """Whether this look is kept out of training (never the README's own pictures)."""
    return (subject, style, colour) != ("red apple", "3d", "blue") and _out(subject, style, colour)


def held_out_placement(subject: str, relation: str, other: str) -> bool:
    """Whether these two are never shown so placed. Says the same of the sentence turned round."""
    if relation in ("right of", "below"):
        subject, relation, other = other, OPPOSITE[relation], subject
    return _out(subject, relation, other)


def held_out_count(count: int, subject: str, style: str) -> bool:
    """Whether this number (two or three) of the subject is never shown in the style."""
    return count > 1 and _out(str(count), subject, style)


def why_held_out(scene: Scene) -> list[str]:
    """What of the scene no training picture shows: of look, placement and count. Empty for scenes of the training."""
    why = []
    if any(held_out_look(subject, scene.style, scene.colour) for subject in scene.subjects):
        why.append("look")
    if scene.kind == "pair" and held_out_placement(scene.subject, scene.relation, scene.other):
        why.append("placement")
    if scene.kind == "count" and held_out_count(scene.count, scene.subject, scene.style):
        why.append("count")
    return why


def _out(*names: str) -> bool:
    digest = hashlib.sha256("|".join(names).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_SHARE
