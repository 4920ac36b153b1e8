"""Does the judge agree with a person? 100 pictures of nano, good to hopeless, labelled by looking before any score.

    uv run python experiments/nano/judge_labels.py --draw     # the pictures and numbered sheets, in assets/nano
    uv run python experiments/nano/judge_labels.py            # draw what is missing, score, print the agreement

judge_labels.json holds for each picture what is needed to draw it again, what is asked of it (for some, on purpose,
not what it was drawn for), and three labels: is the asked subject, style, colour to be seen? 1 or 0.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from paths import ASSETS
from PIL import Image, ImageDraw
from vocabulary import COLOURS, HELD_OUT_PHRASING, PHRASINGS, STYLES, SUBJECTS, caption

from llm_dit.compose import compose
from llm_dit.metrics.base import Sample
from llm_dit.metrics.nano_judge import KINDS, NanoJudge
from llm_dit.render import render
from llm_dit.study.prompts import Element

LABELS = Path(__file__).with_name("judge_labels.json")
PICTURES = ASSETS / "judge_labels"
SEED = 61
# What a fifth to a third of the pictures are drawn with: (how many, overrides to choose from).
SETTINGS = [
    (28, [[]]),
    (20, [[f"encoder_layer.index={i}"] for i in (-4, -8, -12, -16)]),
    (16, [[f"encoder_layer.index={i}"] for i in (-20, -24, -28, -31)]),
    (18, [[f"sampler.steps={n}"] for n in (1, 2, 3, 4)]),
    (18, [["guidance=none", f"encoder_layer.index={i}"] for i in (-2, -6, -10)]),
]
SWAPPED = 12  # pictures of which something else is asked than they were drawn for


def plan() -> list[dict]:
    """What is drawn and asked, without labels: the same list on every call."""
    rng = np.random.default_rng(SEED)
    settings = [choices[i % len(choices)] for count, choices in SETTINGS for i in range(count)]
    rng.shuffle(settings)
    swapped = set(rng.choice(len(settings), SWAPPED, replace=False).tolist())
    kinds, result = (list(SUBJECTS), list(STYLES), list(COLOURS)), []
    subjects = rng.permutation(np.concatenate([np.arange(len(SUBJECTS)), rng.integers(len(SUBJECTS), size=4)]))
    for number, overrides in enumerate(settings):
        scene = [kinds[0][subjects[number]], *(str(rng.choice(words)) for words in kinds[1:])]
        phrasing = rng.choice([*PHRASINGS, HELD_OUT_PHRASING])
        asked = list(scene)
        if number in swapped:
            kind = int(rng.integers(3))
            asked[kind] = str(rng.choice([word for word in kinds[kind] if word != scene[kind]]))
        entry = {"prompt": caption(phrasing, *scene), "overrides": [*overrides, f"seed={rng.integers(1000)}"]}
        result.append({**entry, "asked": dict(zip(KINDS, asked, strict=True))})
    return result


def picture(number: int, entry: dict) -> Image.Image:
    """The picture of an entry, drawn unless it is there."""
    path = PICTURES / f"{number:03d}.png"
    if not path.exists():
        PICTURES.mkdir(parents=True, exist_ok=True)
        config = compose(["hardware=cpu", "hardware.threads=1", *entry["overrides"]], prompt=entry["prompt"])
        render(config)[0].image.save(path)
    return Image.open(path).convert("RGB")


def draw_sheets(entries: list[dict], columns: int = 5, rows: int = 4, side: int = 192) -> None:
    """assets/nano/judge_labels/sheet_N.png: numbered pictures with what is asked of them."""
    for start in range(0, len(entries), columns * rows):
        sheet = Image.new("RGB", (columns * (side + 8), rows * (side + 20)), "white")
        pen = ImageDraw.Draw(sheet)
        for i, entry in enumerate(entries[start : start + columns * rows]):
            x, y = i % columns * (side + 8), i // columns * (side + 20)
            sheet.paste(picture(start + i, entry).resize((side, side), Image.Resampling.BICUBIC), (x, y))
            pen.text((x + 2, y + side + 3), f"{start + i}: {', '.join(entry['asked'].values())}", fill="black")
        sheet.save(PICTURES / f"sheet_{start // (columns * rows)}.png")


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two lists of 0 and 1; nan when both say always the same."""
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return float(((a == b).mean() - chance) / (1 - chance)) if chance < 1 else float("nan")


def main() -> None:
    """Draw, or compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draw", action="store_true")
    if parser.parse_args().draw:
        draw_sheets(plan())
        return
    entries = json.loads(LABELS.read_text())["pictures"]
    judge = NanoJudge(None, "cpu", 32)
    samples = [
        Sample(picture(i, entry), entry["prompt"], tuple(Element(*item) for item in entry["asked"].items()))
        for i, entry in enumerate(entries)
    ]
    scores = [score.values for score in judge.score(samples)]
    # The last row: of the pictures in which the person saw the subject.
    print(f"{judge.identity}\n{'':18s} pictures  there  agree  kappa  missed  wrongly seen")
    for row in ("all", *KINDS, "style, if subject"):
        kind = row.partition(",")[0]
        column = "nano_judge" if kind == "all" else f"nano_judge_{kind}"
        kept = np.array([row == kind or entry["seen"]["subject"] == 1 for entry in entries])
        seen = np.array([score[column] for score in scores])
        kinds = KINDS if kind == "all" else (kind,)
        there = np.array([all(entry["seen"][k] for k in kinds) for entry in entries])
        said = seen >= 0.5
        missed, wrong = np.flatnonzero(kept & there & ~said), np.flatnonzero(kept & ~there & said)
        agree = 100 * (there == said)[kept].mean()
        print(f"{row:18s} {kept.sum():8d} {(kept & there).sum():6d} {agree:6.0f} {kappa(there[kept], said[kept]):6.2f} "
              f"{len(missed):7d} {len(wrong):13d}   mean score {seen[kept & there].mean():.2f} where there, "
              f"{seen[kept & ~there].mean():.2f} where not")  # fmt: skip
        for what, numbers in (("missed", missed), ("wrongly seen", wrong)):
            for i in numbers if row in KINDS else ():
                print(f"   {what} {i} {entries[i]['asked'][kind]} {seen[i]:.2f}: {entries[i]['prompt']} "
                      f"{' '.join(entries[i]['overrides'])}")  # fmt: skip


if __name__ == "__main__":
    main()
