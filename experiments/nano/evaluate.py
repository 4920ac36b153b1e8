"""How often does nano draw what was asked? The 700 held-out scenes of heldout.json, judged by the metric nano_judge.

    uv run python experiments/nano/evaluate.py NAME [--every N] [override ...]
    uv run python experiments/nano/evaluate.py nano && uv run python experiments/nano/evaluate.py turbo model=nano_turbo
    uv run python experiments/nano/evaluate.py true --true

NAME is the run's own; overrides are the laboratory's (model=, model.path=, sampler.steps=, ...). The pictures are a
sweep's cell in assets/nano/v1/evaluation/NAME, so that a stopped run goes on and another judge scores what is there.
With --true they are the icons themselves, composed and through the VAE: what the judge gives when all is right.
Prints the share of pictures in which the judge gives what is asked more than one half, with Wilson's 95 % interval,
by what is asked and by what of it was held out, and that in which the style asked for is the likeliest (style_first);
the commonest misses; and writes sheets NAME_single.png, ... and NAME.jpg, some of each, with a red frame where the
judge says no.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

import numpy as np
import yaml
from common import shipped_vae, through_vae, to_pictures, to_tensor
from layouts import load_sprites, picture
from make_data import SEED, scene_of
from paths import V1
from PIL import Image
from scipy.stats import binomtest
from sheets import in_words, labelled
from write_prompts import asked_pairs, held_out_prompt

from llm_dit.compose import compose
from llm_dit.metrics.base import Sample
from llm_dit.metrics.nano_judge import KINDS, NanoJudge
from llm_dit.metrics.nano_judge.metric import pixels_of
from llm_dit.metrics.registry import ready_metrics
from llm_dit.study.cell import run_cell
from llm_dit.study.score import score_cell, scores_of
from llm_dit.study.store import SweepFolder

Scores = dict[str, float | None]
COLUMNS = 12
SHARES = {"single": 4, "pair": 2, "count": 2}  # rows of each kind in the sheet of all


def write_set(entries: list[dict[str, Any]], every: int) -> str:
    """The scenes as a prompt set beside the data; its path."""
    prompts = [held_out_prompt(f"scene_{i:03d}", entry) for i, entry in enumerate(entries) if i % every == 0]
    path = V1 / "heldout.yaml"
    about = {"version": 1, "description": "Scenes that nano's training never shows.", "prompts": prompts}
    path.write_text(yaml.safe_dump(about, sort_keys=False))
    return str(path)


def right(values: list[float]) -> str:
    """Per cent above one half, with its interval and how many there are."""
    good = sum(value > 0.5 for value in values)
    low, high = binomtest(good, len(values)).proportion_ci(method="wilson")
    return f"{100 * good / len(values):5.1f} [{100 * low:4.1f}, {100 * high:5.1f}] {len(values):4d}"


def table(rows: list[tuple[dict[str, Any], Scores]], kinds: dict[str, list[int]]) -> None:
    """Shares by what is asked: of all, of each kind, and by whether the wording is known. kinds: each one's rows."""
    groups = {
        "all": rows,
        **{kind: [rows[i] for i in numbers] for kind, numbers in kinds.items()},
        "known words": [row for row in rows if "phrasing" not in row[0]["held_out"]],
        "unknown words": [row for row in rows if "phrasing" in row[0]["held_out"]],
    }
    for name, members in groups.items():
        print(name)
        for part in ("everything", *KINDS, "style_first"):
            column = "nano_judge" if part == "everything" else f"nano_judge_{part}"
            values = [scores[column] for _, scores in members if scores.get(column) is not None]
            if values:
                print(f"   {part:12s} {right(values)}   mean {sum(values) / len(values):.3f}")


def misses(rows: list[tuple[dict[str, Any], Scores]]) -> None:
    """Which subjects, styles, colours, relations and counts fail most."""
    for part in KINDS:
        failed = Counter(
            str(entry.get(part) or "+".join(entry["subjects"]))
            for entry, scores in rows
            if (value := scores.get(f"nano_judge_{part}")) is not None and value <= 0.5
        )
        if failed:
            print(f"{part}: " + ", ".join(f"{word} {count}" for word, count in failed.most_common(16)))


def styles_first(entries: list[dict[str, Any]], pictures: list[np.ndarray]) -> list[float]:
    """1.0 for each picture whose style, of all that the judge knows, is the likeliest one; 0.0 for the others."""
    judge = NanoJudge(None, "cpu", 32)
    seen = judge.see(pixels_of([Image.fromarray(pixels) for pixels in pictures]))
    names = [*judge.config["labels"]["style"], None]
    return [float(names[sight.style.argmax()] == e["style"]) for e, sight in zip(entries, seen, strict=True)]


def drawn(entries: list[dict[str, Any]], args: argparse.Namespace) -> tuple[list[int], list[np.ndarray], list[Scores]]:
    """Each N-th scene's number, its picture as the model draws it (uint8 [h, w, 3]), and the judge's scores."""
    chosen = ["hardware=cpu", "metrics=nano_judge", f"prompts.set={write_set(entries, args.every)}", "seeds=[7]"]
    config = compose([*args.overrides, *chosen])
    cell = SweepFolder(V1 / "evaluation" / args.name).cell("pictures")
    outcome = run_cell(config, cell, {})
    if outcome.error:
        raise SystemExit(outcome.error)
    score_cell(cell, ready_metrics(config))
    records = cell.records()
    scores = scores_of(cell, records)
    return (
        [int(record["prompt_id"].split("_")[1]) for record in records],
        [np.asarray(Image.open(cell.path / record["path"]).convert("RGB")) for record in records],
        [scores[record["prompt_id"], record["seed"]] for record in records],
    )


def true(entries: list[dict[str, Any]], args: argparse.Namespace) -> tuple[list[int], list[np.ndarray], list[Scores]]:
    """The same of the icons themselves, composed as the training's pictures are and through the shipped VAE."""
    sprites, numbers = load_sprites(), list(range(0, len(entries), args.every))
    pixels = [picture(sprites, scene_of(entries[i]), np.random.default_rng((SEED, 7, i))) for i in numbers]
    pictures = list(to_pictures(through_vae(shipped_vae(), to_tensor(np.stack(pixels)))))
    samples = [
        Sample(Image.fromarray(pixels), entries[i]["prompt"], tuple(asked_pairs(entries[i])))
        for i, pixels in zip(numbers, pictures, strict=True)
    ]
    return numbers, pictures, [score.values for score in NanoJudge(None, "cpu", 32).score(samples)]


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--every", type=int, default=1, help="only each N-th scene")
    parser.add_argument("--true", action="store_true", help="the icons themselves in place of a model's pictures")
    args = parser.parse_intermixed_args()
    if args.true and args.overrides:
        parser.error(f"--true draws with no model, so that {' '.join(args.overrides)} would reach nothing")
    entries = json.loads((V1 / "heldout.json").read_text())
    numbers, pictures, scores = (true if args.true else drawn)(entries, args)
    asked = [entries[number] for number in numbers]
    firsts = styles_first(asked, pictures)
    rows = [(e, s | {"nano_judge_style_first": f}) for e, s, f in zip(asked, scores, firsts, strict=True)]
    kinds = {kind: [i for i, row in enumerate(rows) if row[0]["kind"] == kind] for kind in SHARES}
    print(f"{len(rows)} scenes; per cent right [95 %] of how many")
    table(rows, kinds)
    misses(rows)
    sheets = {f"{args.name}_{kind}.png": members[: 8 * COLUMNS] for kind, members in kinds.items()}
    sheets[f"{args.name}.jpg"] = [i for kind, many in SHARES.items() for i in kinds[kind][: many * COLUMNS]]
    for name, shown in sheets.items():
        labelled(
            [pictures[i] for i in shown],
            [in_words(asked_pairs(rows[i][0])) for i in shown],
            V1 / "evaluation" / name,
            COLUMNS,
            [(rows[i][1]["nano_judge"] or 0.0) <= 0.5 for i in shown],
        )


if __name__ == "__main__":
    main()
