"""Writes the prompt sets for nano, prompts/starter.yaml and prompts/nano_heldout.yaml, from its vocabulary.

    uv run python experiments/nano/write_prompts.py

starter is what nano was trained on. nano_heldout has one scene that no training picture shows for each style and
background colour, every subject once; a third of it in the phrasing that was never trained on. A test compares the
committed files with what this writes.
"""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path
from typing import Any

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


def as_yaml(content: dict[str, Any]) -> str:
    """A set as the text of its file."""
    import yaml

    head = "# Written by experiments/nano/write_prompts.py from nano's vocabulary; change it there.\n"
    return head + yaml.safe_dump(content, sort_keys=False, width=110)


def main() -> None:
    """Write both files."""
    for make in (starter, nano_heldout):
        (PROMPTS / f"{make.__name__}.yaml").write_text(as_yaml(make()), encoding="utf-8")


if __name__ == "__main__":
    main()
