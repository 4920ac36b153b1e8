"""How often does nano draw what was asked? The 700 held-out scenes of heldout.json, judged by the metric nano_judge.

    uv run python experiments/nano/evaluate.py NAME [--every N] [override ...]
    uv run python experiments/nano/evaluate.py nano && uv run python experiments/nano/evaluate.py turbo model=nano_turbo

NAME is the run's own; overrides are the laboratory's (model=, model.path=, sampler.steps=, ...). The pictures are a
sweep's cell in assets/nano/v1/evaluation/NAME, so that a stopped run goes on and another judge scores what is there.
Prints the share of pictures in which the judge gives what is asked more than one half, with Wilson's 95 % interval,
by what is asked and by what of it was held out; the commonest misses; and writes sheets NAME_single.png, ... and
NAME.jpg, some of each, with a red frame where the judge says no.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

import numpy as np
import yaml
from paths import V1
from PIL import Image
from scipy.stats import binomtest
from sheets import in_words, labelled
from write_prompts import asked_pairs, held_out_prompt

from llm_dit.compose import compose
from llm_dit.metrics.nano_judge import KINDS
from llm_dit.metrics.registry import ready_metrics
from llm_dit.study.cell import run_cell
from llm_dit.study.score import score_cell, scores_of
from llm_dit.study.store import SweepFolder

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


def table(rows: list[tuple[dict[str, Any], dict[str, float | None]]], kinds: dict[str, list[int]]) -> None:
    """Shares by what is asked: of all, of each kind, and by whether the wording is known. kinds: each one's rows."""
    groups = {
        "all": rows,
        **{kind: [rows[i] for i in numbers] for kind, numbers in kinds.items()},
        "known words": [row for row in rows if "phrasing" not in row[0]["held_out"]],
        "unknown words": [row for row in rows if "phrasing" in row[0]["held_out"]],
    }
    for name, members in groups.items():
        print(name)
        for part in ("everything", *KINDS):
            column = "nano_judge" if part == "everything" else f"nano_judge_{part}"
            values = [scores[column] for _, scores in members if scores.get(column) is not None]
            if values:
                print(f"   {part:12s} {right(values)}   mean {sum(values) / len(values):.3f}")


def misses(rows: list[tuple[dict[str, Any], dict[str, float | None]]]) -> None:
    """Which subjects, styles, colours, relations and counts fail most."""
    for part in KINDS:
        failed = Counter(
            str(entry.get(part) or "+".join(entry["subjects"]))
            for entry, scores in rows
            if (value := scores.get(f"nano_judge_{part}")) is not None and value <= 0.5
        )
        if failed:
            print(f"{part}: " + ", ".join(f"{word} {count}" for word, count in failed.most_common(16)))


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--every", type=int, default=1, help="only each N-th scene")
    args = parser.parse_intermixed_args()
    entries = json.loads((V1 / "heldout.json").read_text())
    chosen = ["hardware=cpu", "metrics=nano_judge", f"prompts.set={write_set(entries, args.every)}", "seeds=[7]"]
    config = compose([*args.overrides, *chosen])
    folder = SweepFolder(V1 / "evaluation" / args.name)
    cell = folder.cell("pictures")
    outcome = run_cell(config, cell, {})
    if outcome.error:
        raise SystemExit(outcome.error)
    score_cell(cell, ready_metrics(config))
    records = cell.records()
    scores = scores_of(cell, records)
    rows = [(entries[int(r["prompt_id"].split("_")[1])], scores[r["prompt_id"], r["seed"]]) for r in records]
    kinds = {kind: [i for i, row in enumerate(rows) if row[0]["kind"] == kind] for kind in SHARES}
    print(f"{len(rows)} scenes; per cent right [95 %] of how many")
    table(rows, kinds)
    misses(rows)
    sheets = {f"{args.name}_{kind}.png": numbers[: 8 * COLUMNS] for kind, numbers in kinds.items()}
    sheets[f"{args.name}.jpg"] = [i for kind, many in SHARES.items() for i in kinds[kind][: many * COLUMNS]]
    for name, numbers in sheets.items():
        labelled(
            [np.asarray(Image.open(cell.path / records[i]["path"]).convert("RGB")) for i in numbers],
            [in_words(asked_pairs(rows[i][0])) for i in numbers],
            V1 / "evaluation" / name,
            COLUMNS,
            [(rows[i][1]["nano_judge"] or 0.0) <= 0.5 for i in numbers],
        )


if __name__ == "__main__":
    main()
