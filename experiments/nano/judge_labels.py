"""Does the judge agree with a person? 100 pictures of nano, good to hopeless, labelled by looking before any score.

    uv run python experiments/nano/judge_labels.py --draw [NAME override ...]   # pictures, sheets, a template
    uv run python experiments/nano/judge_labels.py [NAME override ...]          # score, print the agreement

NAME (nano) is the pictures' folder in assets/nano/v1/judge_labels; overrides are the laboratory's, for another model
(turbo model.path=FOLDER sampler.steps=8 guidance=none), whose labels are beside its pictures. judge_labels.json holds
for each picture what is needed to draw it again, what is asked of it (for some, on purpose, not what it was drawn for),
and what a person saw of that, 1 or 0. --draw writes it without what was seen, unless it is there and tells that.

To label, look at the sheets and add to each entry "seen": {"subject": 1, "style": 1, ...}, a 1 or 0 for each kind
that is asked. Are the subjects, all of them, recognisable without being told? Is it in the manner of that style's
icons? Is the background of that colour? Do the subjects lie so, are there so many, is it small or large? Where a
subject is not to be seen these last are 0, and not compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from domain import COUNTS, SIZES, STYLES, SUBJECTS
from make_data import facts, heldout_scenes
from paths import V1
from phrasings import prompt
from PIL import Image
from sheets import in_words, labelled
from vocabulary import COLOURS
from write_prompts import asked_pairs

from llm_dit.compose import compose
from llm_dit.metrics.base import Sample
from llm_dit.metrics.nano_judge import KINDS, NanoJudge
from llm_dit.metrics.nano_judge.scene import OPPOSITE
from llm_dit.prompts.sets import Element
from llm_dit.render.draw import render

LABELS = Path(__file__).with_name("judge_labels.json")
PICTURES = V1 / "judge_labels"
SEED = 61
SINGLES, SIZED, PAIRS, COUNTED = 22, 18, 34, 26  # held-out scenes; SIZED are half small, half large
# What the pictures are drawn with: (how many, overrides to choose from).
SETTINGS = [
    (40, [[]]),
    (16, [[f"encoder_layer.index={i}"] for i in (-4, -8, -12, -16)]),
    (12, [[f"encoder_layer.index={i}"] for i in (-20, -24, -28, -31)]),
    (16, [[f"sampler.steps={n}"] for n in (1, 2, 3, 4)]),
    (16, [["guidance=none", f"encoder_layer.index={i}"] for i in (-2, -6, -10)]),
]
SWAPPED = 16  # pictures of which something else is asked than they were drawn for
SIDE, COLUMNS, ROWS = 192, 5, 4


def another(entry: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Facts of a scene with one thing changed."""
    kinds = ["subjects", "style", "colour", *(k for k in ("relation", "count") if k in entry)]
    if entry.get("size", "plain") != "plain":
        kinds.append("size")
    kind = str(rng.choice(kinds))
    if kind == "subjects":
        other = str(rng.choice([s for s in SUBJECTS if s not in entry["subjects"]]))
        return {**entry, "subjects": [other, *entry["subjects"][1:]]}
    if kind == "relation":
        return {**entry, "relation": OPPOSITE[entry["relation"]]}
    words = {"style": list(STYLES), "colour": list(COLOURS), "count": list(COUNTS), "size": list(SIZES[::2])}[kind]
    left = [word for word in words if word != entry[kind]]
    return {**entry, kind: left[int(rng.integers(len(left)))]}


def plan() -> list[dict[str, Any]]:
    """What is drawn and asked, without labels: the same list on every call."""
    rng = np.random.default_rng(SEED)
    scenes = heldout_scenes(SEED, SINGLES, SIZED, PAIRS, COUNTED)
    scenes = [scenes[i] for i in rng.permutation(len(scenes))]
    settings = [choices[i % len(choices)] for count, choices in SETTINGS for i in range(count)]
    settings = [settings[i] for i in rng.permutation(len(settings))]
    swapped = set(rng.choice(len(scenes), SWAPPED, replace=False).tolist())
    result = []
    for number, (scene, overrides) in enumerate(zip(scenes, settings, strict=True)):
        text = prompt(scene, rng, "held_out" if rng.random() < 0.2 else "full")
        entry = facts(scene)
        asked = [list(pair) for pair in asked_pairs(another(entry, rng) if number in swapped else entry)]
        result.append({"prompt": text, "overrides": [*overrides, f"seed={rng.integers(1000)}"], "asked": asked})
    return result


def pictures(entries: list[dict[str, Any]], folder: Path, overrides: list[str]) -> list[Image.Image]:
    """The picture of each entry, drawn into the folder unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.png" for number in range(len(entries))]
    for path, entry in zip(paths, entries, strict=True):
        if not path.exists():
            chosen = ["hardware=cpu", "hardware.threads=1", *overrides, *entry["overrides"]]
            render(compose(chosen, prompt=entry["prompt"]))[0].image.save(path)
    return [Image.open(path).convert("RGB") for path in paths]


def draw_sheets(entries: list[dict[str, Any]], images: list[Image.Image], folder: Path) -> None:
    """sheet_N.png in the folder: the pictures numbered, what is asked of them below."""
    large = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in images]
    texts = [f"{number}: {in_words(entry['asked'])}" for number, entry in enumerate(entries)]
    many = COLUMNS * ROWS
    for start in range(0, len(entries), many):
        page = slice(start, start + many)
        labelled(large[page], texts[page], folder / f"sheet_{start // many}.png", COLUMNS)


def write_template(entries: list[dict[str, Any]], path: Path) -> None:
    """The file of labels with what was seen left to tell; one that tells it is not touched."""
    if path.exists() and any("seen" in entry for entry in json.loads(path.read_text())["pictures"]):
        print(f"{path} has labels: left as it is")
        return
    rows = ",\n".join("  " + json.dumps(entry) for entry in entries)
    path.write_text(f'{{\n "note": "",\n "pictures": [\n{rows}\n ]\n}}\n')


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two lists of 0 and 1; nan when both say always the same."""
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return float(((a == b).mean() - chance) / (1 - chance)) if chance < 1 else float("nan")


def compare(entries: list[dict[str, Any]], scores: list[dict[str, float | None]]) -> None:
    """Agreement on all that is asked and on each kind, and where judge and person differ.

    Relation, count and size, and a last row of style, are of the pictures in which the person saw the subjects.
    """
    print(f"{'':18s} pictures  there  agree  kappa  missed  wrongly seen")
    for row in ("all", *KINDS, "style, if subject"):
        kind = row.partition(",")[0]
        column = "nano_judge" if kind == "all" else f"nano_judge_{kind}"
        given = row not in ("all", "subject", "style", "colour")
        at = [
            i for i, entry in enumerate(entries)
            if scores[i][column] is not None and (entry["seen"]["subject"] or not given)
        ]  # fmt: skip
        if not at:
            continue
        score = np.array([scores[i][column] for i in at])
        there = np.array([all(v for k, v in entries[i]["seen"].items() if kind in ("all", k)) for i in at])
        said = score >= 0.5
        missed, wrong = np.flatnonzero(there & ~said), np.flatnonzero(~there & said)
        means = [f"{score[of].mean():.2f} where {what}" for what, of in (("there", there), ("not", ~there)) if of.any()]
        print(f"{row:18s} {len(at):8d} {there.sum():6d} {100 * (there == said).mean():6.0f} {kappa(there, said):6.2f} "
              f"{len(missed):7d} {len(wrong):13d}   mean score {', '.join(means)}")  # fmt: skip
        for what, numbers in (("missed", missed), ("wrongly seen", wrong)):
            for i in numbers if row in KINDS else ():
                entry = entries[at[i]]
                print(f"   {what} {at[i]} {score[i]:.2f}: asked {in_words(entry['asked'])}; drawn for "
                      f"{entry['prompt']!r} {' '.join(entry['overrides'])}")  # fmt: skip


def main() -> None:
    """Draw, or compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", default="nano")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_intermixed_args()
    folder = PICTURES / args.name
    path = LABELS if args.name == "nano" else folder / LABELS.name
    if args.draw:
        entries = plan()
        draw_sheets(entries, pictures(entries, folder, args.overrides), folder)
        write_template(entries, path)
        return
    entries = json.loads(path.read_text())["pictures"]
    blank = [i for i, e in enumerate(entries) if set(e.get("seen", ())) != {tag for tag, _ in e["asked"]}]
    if blank:
        sys.exit(f"{path}: what is seen is not told, or not of what is asked, for {blank}. See the sheets.")
    judge = NanoJudge(None, "cpu", 32)
    print(judge.identity)
    samples = [
        Sample(image, entry["prompt"], tuple(Element(*pair) for pair in entry["asked"]))
        for image, entry in zip(pictures(entries, folder, args.overrides), entries, strict=True)
    ]
    compare(entries, [score.values for score in judge.score(samples)])


if __name__ == "__main__":
    main()
