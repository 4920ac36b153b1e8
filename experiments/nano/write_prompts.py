"""Writes nano's prompt sets in prompts/ from its words: starter, nano_heldout, nano_fit, nano_long, nano_emphasis,
nano_v1_heldout and nano_ink.

    uv run python experiments/nano/write_prompts.py

starter is what nano was trained on. nano_heldout has one scene that no training picture shows for each style and
background colour, every subject once; a third of it in the phrasing that was never trained on. nano_fit is what maps
between layers are fitted on: every subject once, in scenes of the training. nano_long holds the scenes of nano_heldout
in many words, nano_emphasis with two words at odds, one of them in parentheses. nano_v1_heldout is of the wider domain
of version 1: singles, pairs and counts that no training picture shows. nano_ink asks for a style that nano has never
seen, for subjects that are kept from LoRAs that teach it. A test compares the committed files with what this writes.
"""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from domain import COUNTS, KEPT_FROM_ADAPTERS, Scene
from make_data import SEED, heldout_entries
from phrasings import FRAMES, fill, noun_phrase
from vocabulary import COLOURS, HELD_OUT_PHRASING, PHRASINGS, STYLES, SUBJECTS, caption, held_out

PROMPTS = Path(__file__).resolve().parents[2] / "prompts"

# Each colour once, each style four times, kinds of subject mixed. The first is the README's own.
STARTER = [
    ("food", "red apple", "3d", "blue"),
    ("animals", "fox", "cartoon", "green"),
    ("food", "pizza", "flat", "yellow"),
    ("animals", "penguin", "3d", "teal"),
    ("vehicles", "rocket", "cartoon", "purple"),
    ("nature", "cactus", "flat", "orange"),
    ("animals", "octopus", "3d", "grey"),
    ("nature", "house", "cartoon", "pink"),
    ("things", "guitar", "flat", "brown"),
    ("things", "balloon", "3d", "white"),
    ("nature", "snowman", "cartoon", "red"),
    ("things", "crown", "flat", "black"),
]


def scene_prompt(phrasing: str, subject: str, style: str, colour: str, **rest: str) -> dict[str, Any]:
    """One entry: the caption, and its subject, style and colour as elements in the vocabulary's own words."""
    return {
        "id": rest["id"],
        "category": rest["category"],
        "difficulty": rest["difficulty"],
        "prompt": caption(phrasing, subject, style, colour),
        "elements": [{"subject": subject}, {"style": style}, {"colour": colour}],
    }


def starter() -> dict[str, Any]:
    """12 prompts for first tries and quick sweeps: known scenes, known phrasings."""
    entries = []
    for number, (category, *scene) in enumerate(STARTER):
        if scene[0] not in SUBJECTS or scene[1] not in STYLES or scene[2] not in COLOURS or held_out(*scene):
            raise ValueError(f"{scene} is not a scene that nano was trained on: choose another for starter.")
        phrasing = PHRASINGS[number % len(PHRASINGS)]
        entries.append(
            scene_prompt(phrasing, *scene, id=f"starter_{number + 1:03d}", category=category, difficulty="easy")
        )
    return {
        "version": 1,
        "description": "12 prompts that nano can draw: scenes and phrasings that it was trained on.",
        "prompts": entries,
    }


def heldout_scenes() -> list[tuple[str, str, str]]:
    """One held-out scene for each colour and style, no subject twice, in an order that depends on names alone."""

    def rank(subject: str, style: str, colour: str) -> str:
        return hashlib.sha256(f"prompts|{subject}|{style}|{colour}".encode()).hexdigest()

    chosen: list[tuple[str, str, str]] = []
    for colour, style in product(COLOURS, STYLES):
        used = {scene[0] for scene in chosen}
        free = [s for s in SUBJECTS if s not in used and held_out(s, style, colour)]
        chosen.append((min(free, key=lambda s: rank(s, style, colour)), style, colour))
    return chosen


def nano_heldout() -> dict[str, Any]:
    """36 prompts for measuring: held-out scenes, 24 in known phrasings, 12 in the phrasing held out too."""
    entries = []
    known = 0
    for number, scene in enumerate(heldout_scenes()):
        # Colours come in rows of three styles; the shift by row gives each style four of the new phrasing.
        new = number % len(STYLES) == number // len(STYLES) % len(STYLES)
        phrasing = HELD_OUT_PHRASING if new else PHRASINGS[known % len(PHRASINGS)]
        known += not new
        entries.append(
            scene_prompt(
                phrasing,
                *scene,
                id=f"heldout_{number + 1:03d}",
                category="new_phrasing" if new else "known_phrasing",
                difficulty="hard" if new else "medium",
            )
        )
    return {
        "version": 1,
        "description": "36 scenes that no training picture of nano shows; 12 in a phrasing it was never trained on.",
        "prompts": entries,
    }


def nano_fit() -> dict[str, Any]:
    """One prompt for each subject; style, colour and phrasing by a hash of names, so that none goes with another."""

    def rank(*names: str) -> str:
        return hashlib.sha256("|".join(("fit", *names)).encode()).hexdigest()

    entries = []
    for number, subject in enumerate(SUBJECTS):
        looks = [look for look in product(STYLES, COLOURS) if not held_out(subject, *look)]
        look = min(looks, key=lambda look: rank(subject, *look))
        phrasing = min(PHRASINGS, key=lambda text: rank(subject, text))
        name = f"fit_{number + 1:03d}"
        entries.append(scene_prompt(phrasing, subject, *look, id=name, category="known", difficulty="easy"))
    return {
        "version": 1,
        "description": "96 scenes and phrasings of nano's training, each subject once: what maps are fitted on.",
        "prompts": entries,
    }


# What is asked for stands at the start, in the middle and at the end, so that no part of the text can be left out.
LONG_PHRASINGS = [
    "I would like to have one small picture in {style} style, the kind of icon that people put beside a word. It "
    "should be easy to read at a small size, so please leave out all details that do not help. What it shows is "
    "{a}, alone, in the middle of the square and filling most of it, seen as one would draw it from memory. There "
    "is no lettering, no frame and nothing else around it. All of this stands on a plain {colour} background.",
    "On a plain {colour} background, without a pattern, a shadow or a frame, there is one single thing to be "
    "seen, large and in the middle, and easy to recognise from far away. That thing is {a}. It has been drawn "
    "many times before by many people, and this drawing is a simple one, clean and friendly, with nothing written "
    "on it. The whole picture is made like an icon in {style} style.",
    "Draw {a}. Keep it simple: one thing, large, in the middle of the picture, with nothing in front of it and "
    "nothing beside it, so that everybody can tell at once what it is, even when the picture is no larger than a "
    "letter. Use a plain {colour} background that goes to all four edges. Do not write anything into the picture, "
    "and do not put a frame around it. The drawing as a whole should be in {style} style.",
]


def nano_long() -> dict[str, Any]:
    """The scenes of nano_heldout in 75 to 100 words, three wordings in turn."""
    entries = []
    for number, scene in enumerate(heldout_scenes()):
        phrasing = LONG_PHRASINGS[(number + number // len(STYLES)) % len(LONG_PHRASINGS)]
        name = f"verbose_{number + 1:03d}"
        entries.append(scene_prompt(phrasing, *scene, id=name, category="long", difficulty="hard"))
    return {
        "version": 1,
        "description": "The 36 scenes of nano_heldout in many words: too long for a small long_prompt.max_tokens.",
        "prompts": entries,
    }


# {marked} is a word of the scene in parentheses and another of its kind, in this order or the other one.
EMPHASIS_PHRASINGS = {
    "subject": "{marked}, {style} style, {colour} background",
    "style": "{a}, {marked} style, {colour} background",
    "colour": "{a}, {style} style, {marked} background",
}


def nano_emphasis() -> dict[str, Any]:
    """The scenes of nano_heldout with a second subject, style or colour in the way of one that is in parentheses."""
    entries = []
    for number, scene in enumerate(heldout_scenes()):
        row = number // len(STYLES)
        kind = tuple(EMPHASIS_PHRASINGS)[(number + row) % len(EMPHASIS_PHRASINGS)]
        words = dict(zip(("subject", "style", "colour"), scene, strict=True))
        every = {"subject": list(SUBJECTS), "style": list(STYLES), "colour": list(COLOURS)}[kind]
        wanted = words[kind]
        other = every[(every.index(wanted) + 1 + row) % len(every)]
        other = other if other != wanted else every[every.index(wanted) - 1]
        both = [f"({wanted})", other]
        marked = " and ".join(both if row % 2 == 0 else both[::-1])
        entry = scene_prompt(
            EMPHASIS_PHRASINGS[kind].replace("{marked}", marked),
            *scene,
            id=f"emphasis_{number + 1:03d}",
            category=kind,
            difficulty="hard",
        )
        entries.append(entry | {"notes": f"The word in parentheses against '{other}'."})
    return {
        "version": 1,
        "description": "36 scenes with two subjects, styles or colours, one of them in parentheses: for emphasis.",
        "prompts": entries,
    }


def elements_of(entry: dict[str, Any]) -> list[dict[str, str]]:
    """What one of make_data.heldout_entries asks for; its subjects are in the order of the sentence."""
    elements = [{"subject": subject} for subject in entry["subjects"]]
    elements += [{"relation": entry["relation"]}] if entry["kind"] == "pair" else []
    elements += [{"count": COUNTS[entry["count"]]}] if entry["kind"] == "count" else []
    elements += [{"size": entry["size"]}] if entry.get("size", "plain") != "plain" else []
    return [*elements, {"style": entry["style"]}, {"colour": entry["colour"]}]


def asked_pairs(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """The same as (tag, word), one after the other."""
    return [pair for element in elements_of(entry) for pair in element.items()]


def held_out_prompt(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """One of make_data.heldout_entries as an entry of a set."""
    return {
        "id": name,
        "category": entry["kind"],
        "difficulty": "hard" if "phrasing" in entry["held_out"] else "medium",
        "prompt": entry["prompt"],
        "elements": elements_of(entry),
    }


def nano_v1_heldout() -> dict[str, Any]:
    """48 prompts of version 1: 18 singles (6 of them small or large), 16 pairs, 14 counts; a third in new words.

    Elements of a pair: its two subjects in the order of the sentence, then the relation of the first to the second.
    """
    entries = []
    for number, entry in enumerate(heldout_entries(7, 12, 6, 16, 14)):
        notes = f"never trained on: {', '.join(entry['held_out'])}"
        entries.append({**held_out_prompt(f"v1_{number + 1:03d}", entry), "notes": notes})
    return {
        "version": 1,
        "description": "48 scenes of nano's version 1 that no training picture shows: singles, pairs, counts.",
        "prompts": entries,
    }


def nano_ink() -> dict[str, Any]:
    """One prompt for each subject that is kept from LoRAs of this style, on each background in turn."""
    rng, entries = np.random.default_rng(SEED), []
    for number, subject in enumerate(KEPT_FROM_ADAPTERS["ink"]):
        colour = list(COLOURS)[number * 5 % len(COLOURS)]
        scene = Scene("single", subject, "ink", colour)
        entries.append(
            {
                "id": f"ink_{number + 1:03d}",
                "category": "unseen_style",
                "difficulty": "hard",
                "prompt": fill(FRAMES[number % 5], scene, noun_phrase(subject), rng),
                "elements": [{"subject": subject}, {"style": "ink"}, {"colour": colour}],
            }
        )
    return {
        "version": 1,
        "description": "30 subjects in a style that nano has never seen, ink (lines in one colour): for a LoRA of it.",
        "prompts": entries,
    }


def as_yaml(content: dict[str, Any]) -> str:
    """A set as the text of its file."""
    import yaml

    head = "# Written by experiments/nano/write_prompts.py from nano's vocabulary; change it there.\n"
    return head + yaml.safe_dump(content, sort_keys=False, width=110)


SETS = (starter, nano_heldout, nano_fit, nano_long, nano_emphasis, nano_v1_heldout, nano_ink)


def main() -> None:
    """Write all files."""
    for make in SETS:
        (PROMPTS / f"{make.__name__}.yaml").write_text(as_yaml(make()), encoding="utf-8")


if __name__ == "__main__":
    main()
