"""Writes what nano was taught to prompts/vocabulary/nano.yaml: task=vocabulary lists it, and prompts are checked by it.

    uv run python experiments/nano/write_vocabulary.py

Subjects, styles, colours, sizes, relations and numbers are the domain's; the further words are those of the frames
that nano was trained on and of the phrasings of its prompt sets. RELATED leads from words that nano was not taught to
some that it was. A test compares the committed file with what this writes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from domain import COUNTS, TAUGHT_STYLES, TAUGHT_SUBJECTS, plurals
from phrasings import (
    COUNT_WORDINGS,
    FILLERS,
    FRAMES,
    HELD_OUT_FILLERS,
    HELD_OUT_FRAMES,
    LONG_FRAMES,
    NOUNS,
    OPEN_FRAMES,
    RELATION_WORDINGS,
    WORDY_FRAMES,
)
from vocabulary import COLOURS, HELD_OUT_PHRASING, PHRASINGS
from write_prompts import LONG_PHRASINGS

from llm_dit.metrics.nano_judge.words import SIZE_WORDS

TARGET = Path(__file__).resolve().parents[2] / "prompts" / "vocabulary" / "nano.yaml"
# The first subject of each stretch of domain.SUBJECTS -> its category.
FIRST_OF = {
    "red apple": "fruit and vegetables",
    "pizza": "other food",
    "fox": "animals",
    "cactus": "plants, sky and places",
    "airplane": "vehicles and traffic",
    "balloon": "things",
    "green apple": "fruit and vegetables",
    "bread": "other food",
    "monkey": "animals",
    "tree": "plants, sky and places",
    "ambulance": "vehicles and traffic",
    "microphone": "things",
}
# Words that were not taught -> subjects, styles, colours, sizes or numbers that were and come nearest in meaning.
RELATED = {
    "fruit": "red apple, banana, pear, lemon, strawberry, cherries, grapes, watermelon, pineapple, peach",
    "vegetable": "carrot, tomato, broccoli, eggplant, corn, hot pepper",
    "food": "pizza, hamburger, hot dog, taco, bread, cheese",
    "berry": "strawberry, cherries, grapes",
    "berries": "strawberry, cherries, grapes",
    "orange": "lemon, peach",
    "kiwi mango lime": "lemon, pear, peach",
    "cherry": "cherries",
    "grape": "grapes",
    "pepper chili": "hot pepper",
    "aubergine": "eggplant",
    "burger sandwich": "hamburger, hot dog",
    "fries chips": "french fries",
    "cake dessert": "birthday cake, cupcake, donut",
    "candy sweet sweets": "lollipop, donut, cookie",
    "biscuit": "cookie",
    "doughnut": "donut",
    "baguette loaf toast": "bread, croissant",
    "animal pet": "dog, cat, rabbit, horse, fox",
    "puppy wolf hound": "dog, fox",
    "kitten kitty": "cat",
    "bunny hare": "rabbit",
    "hamster rat": "mouse",
    "hedgehog squirrel": "mouse, rabbit",
    "ape gorilla chimpanzee": "monkey",
    "bull ox calf buffalo": "cow",
    "piglet hog boar": "pig",
    "pony donkey zebra giraffe camel deer": "horse, cow, unicorn",
    "goat lamb": "sheep",
    "hen rooster turkey": "chicken, chick",
    "bird eagle parrot flamingo crow pigeon bat": "owl, duck, chicken, penguin",
    "swan goose duckling": "duck",
    "toad": "frog",
    "tortoise": "turtle",
    "fish goldfish shark seal": "tropical fish, dolphin, whale",
    "squid": "octopus",
    "lobster spider": "crab",
    "insect bug beetle": "bee, butterfly, ladybug",
    "snake crocodile lizard": "dinosaur, dragon, turtle, frog",
    "worm": "snail",
    "leopard cheetah": "tiger, lion",
    "hippo rhino": "elephant",
    "flower plant daisy": "rose, tulip, sunflower, cactus",
    "leaf": "maple leaf, four leaf clover",
    "clover shamrock": "four leaf clover",
    "oak forest wood": "tree, pine tree",
    "palm": "palm tree",
    "pine fir": "pine tree",
    "mountain hill": "volcano",
    "building home cottage hut cabin tower church school": "house, castle",
    "palace fort": "castle",
    "flame campfire": "fire",
    "water rain drop teardrop": "water drop, cloud",
    "snow snowflake winter": "snowman, cloud",
    "lightning thunder storm": "lightning bolt, cloud",
    "sky weather rainbow": "sun, cloud, moon, star",
    "sunshine": "sun",
    "earth world": "globe, planet",
    "saturn mars": "planet",
    "camp": "tent",
    "vehicle automobile truck taxi van motorcycle motorbike skateboard": "car, bus, ambulance, bicycle",
    "bike cycle": "bicycle",
    "plane aeroplane jet aircraft": "airplane",
    "spaceship spacecraft ufo": "rocket, flying saucer",
    "ship boat yacht": "sailboat",
    "locomotive tram": "train",
    "present box parcel": "gift",
    "cup medal award prize": "trophy",
    "ball": "soccer ball, basketball, football",
    "violin piano instrument": "guitar, trumpet, drum",
    "clock watch": "alarm clock, hourglass",
    "lamp bulb light": "light bulb, candle",
    "axe tool screwdriver wrench": "hammer, scissors",
    "bag suitcase": "backpack",
    "hat cap": "top hat, crown",
    "king queen prince princess": "crown, castle, dress",
    "shirt jacket clothes": "t-shirt, dress",
    "glasses": "magnifying glass",
    "parasol": "umbrella",
    "kite": "balloon, umbrella",
    "phone smartphone": "telephone",
    "computer": "laptop, robot",
    "pen crayon": "pencil",
    "novel notebook": "book",
    "letter mail": "envelope",
    "padlock": "lock, key",
    "gem jewel ring": "diamond",
    "puzzle": "puzzle piece",
    "chair table ladder window": "door, house",
    "skeleton": "skull, ghost",
    "monster": "alien, ghost, dragon",
    "person man woman boy girl people child": "robot, snowman, alien",
    "love": "heart",
    "apple": "red apple, green apple",
    "photo photograph photorealistic realistic": "3d",
    "watercolor watercolour painting oil sketch anime comic pixel manga": "cartoon, flat",
    "gold golden": "yellow",
    "silver gray": "grey",
    "violet lilac": "purple",
    "navy cyan turquoise": "teal, blue",
    "beige": "brown, white",
    "giant enormous tall": "large, big, huge",
    "couple twosome": "two",
    "trio threesome": "three",
}
# Function words, and words of a request that ask for nothing to be seen.
PLAIN = """
a an the this that these those some any each every no not only just very quite rather really so too also again
and or but nor with without of for to from by as at in on into onto off out up upon about around between beside
besides behind near next is are be been being was were am has have had having do does did done can could may might
must shall should will would let i me my mine we us our you your he him his she her it its they them their who whose
which what where when how why if then than there here all both either neither more most much other another own same
such one's please draw drawn show shows showing shown give make made paint painted create generate render image
picture illustration drawing icon background style look looks looking like see seen want need one
"""


def words_of(texts: list[str]) -> set[str]:
    """The words of some texts, in lower case, without the places that are filled."""
    return {
        word for text in texts for word in re.findall(r"[a-z0-9][a-z0-9'-]*", re.sub(r"\{\w+\}", " ", text).lower())
    }


def categories() -> dict[str, list[str]]:
    """The taught subjects by category."""
    from domain import SUBJECTS

    found: dict[str, list[str]] = {}
    for subject in SUBJECTS:
        if subject in FIRST_OF:
            current = FIRST_OF[subject]
        if subject in TAUGHT_SUBJECTS:
            found.setdefault(current, []).append(subject)
    return found


def further_words() -> list[str]:
    """The words around what is asked for, of the training and of the prompt sets that nano handles."""
    texts = [*PHRASINGS, HELD_OUT_PHRASING, *FRAMES, *LONG_FRAMES, *WORDY_FRAMES, *OPEN_FRAMES, *HELD_OUT_FRAMES]
    texts += [*LONG_PHRASINGS, *FILLERS, *HELD_OUT_FILLERS, *(noun for nouns in NOUNS.values() for noun in nouns)]
    texts += [text for wordings in RELATION_WORDINGS.values() for text in wordings]
    texts += [
        text for count, wordings in COUNT_WORDINGS.items() for text in (wordings if count == 1 else wordings[:-1])
    ]
    return sorted(words_of([*texts, PLAIN]))


def vocabulary() -> dict[str, Any]:
    """The content of the file."""
    taught = {subject: many for subject, many in plurals().items() if subject in TAUGHT_SUBJECTS}
    return {
        "version": 1,
        "examples": [
            "a red apple, 3d style, blue background",
            "a fox on the left of a key, flat style, green background",
            "draw three bananas in the cartoon style, with a pink background",
        ],
        "subjects": categories(),
        "plurals": taught,
        "styles": TAUGHT_STYLES,
        "backgrounds": list(COLOURS),
        "sizes": SIZE_WORDS,
        "relations": {name: [w.format(a="A", b="B") for w in words[:-1]] for name, words in RELATION_WORDINGS.items()},
        "numbers": {
            COUNTS[count]: [text.format(one="X", many="X") for text in (wordings if count == 1 else wordings[:-1])]
            for count, wordings in COUNT_WORDINGS.items()
        },
        "spellings": {"gray": "grey", "3-d": "3d"},
        "words": further_words(),
        "related": {word: near.split(", ") for words, near in RELATED.items() for word in words.split()},
        "loras": {"ink": "shipped:ink"},
    }


def as_yaml(content: dict[str, Any]) -> str:
    """The text of the file."""
    head = "# Written by experiments/nano/write_vocabulary.py from nano's recipe; change it there.\n"
    return head + yaml.safe_dump(content, sort_keys=False, width=110, default_flow_style=None)


if __name__ == "__main__":
    TARGET.write_text(as_yaml(vocabulary()), encoding="utf-8")
