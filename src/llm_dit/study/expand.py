"""Axes to cells: lists of overrides for Hydra, in an order that changes the expensive parts rarely.

Pure functions over strings; the sweeper plugin feeds them, a launcher runs what comes out.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import Any

from llm_dit.base.errors import ConfigError
from llm_dit.compose import quote
from llm_dit.study.definition import Study

# What a change costs, dearest first: other weights, another device, texts to encode, and the rest for nothing.
COST = ("hardware", "model", "lora_fuse", "lora", "encoder_layer", "long_prompt", "prompts", "prompt")


def expand(study: Study, fixed: dict[str, str], swept: dict[str, list[str]]) -> list[dict[str, str]]:
    """The cells, each as {key: value in Hydra's grammar}: the study's own, with the command line's laid over it.

    fixed and swept: keys to values, as given on the command line. A swept key replaces the study's axis of
    that name, a fixed one pins it. Every cell holds the fixed keys too. Equal cells are listed once.
    """
    axes = {key: [grammar(v) for v in column] for key, column in study.axes.items()} | swept
    zips = [{k: [grammar(v) for v in column] for k, column in group.items()} for group in study.zip]
    for group in zips:
        for key in list(group):
            if key in fixed or key in swept:
                del group[key]
    columns = [[{key: value} for value in column] for key, column in axes.items() if key not in fixed]
    for group in filter(None, zips):
        columns.append([dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)])
    columns.sort(key=lambda column: min(cost(key) for key in column[0]))
    cells = [dict(kv for part in row for kv in part.items()) for row in itertools.product(*columns)]
    if not columns and study.cells:
        cells = []  # only explicit cells: an empty product would add a cell of its own
    cells += [{k: grammar(v) for k, v in cell.items() if k not in fixed} for cell in study.cells]
    whole = [fixed | cell for cell in cells]
    return [cell for i, cell in enumerate(whole) if cell not in whole[:i]]


def cost(key: str) -> int:
    """Rank of a key by what its change costs; 0 is dearest."""
    root = key.lstrip("+~").split(".")[0]
    return COST.index(root) if root in COST else len(COST)


def grammar(value: Any) -> str:
    """A plain value in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(grammar(v) for v in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", value)
        return value if plain and value not in ("null", "true", "false", "nan", "inf") else quote(value)
    raise ConfigError(f"{value!r} cannot be the value of a cell: only numbers, texts, true, false, null and lists.")


def fold_seeds(swept: dict[str, list[str]], fixed: dict[str, str]) -> None:
    """Turn a swept seed into the cell's list of seeds: pictures of one cell differ by prompt and seed alone."""
    if "seed" in swept:
        if "seeds" in fixed:
            raise ConfigError("seed and seeds are both given; leave one out.")
        fixed["seeds"] = "[" + ",".join(swept.pop("seed")) + "]"


def sweep_name(study_name: str | None, fixed: dict[str, str], swept: dict[str, list[str]]) -> str:
    """A study's name, or one made of the axes and a hash of all that was asked for, so that a command finds its own."""
    if study_name:
        return study_name
    # How many pictures, how and where they are drawn does not make another sweep: it continues the same cells.
    aside = (
        "hardware",
        "tracker",
        "metrics",
        "report",
        "sweep.",
        "seed",
        "num_images",
        "dry_run",
        "resume",
        "trust_record",
        "task",
        "output",
    )
    aside += ("prompts.ids", "prompts.categories", "prompts.difficulties", "prompts.count")
    text = repr(sorted((k, v) for k, v in (fixed | swept).items() if not k.startswith(aside)))
    axes = "-".join(re.sub(r"[^\w.]+", "_", key) for key in swept) or "cell"
    return f"{axes[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
