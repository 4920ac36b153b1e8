"""One cell: a config drawn for every prompt and seed, only what is missing, each picture kept as it is finished."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from llm_dit.base.errors import LabError, OutputError, RenderError, told
from llm_dit.base.files import write_whole
from llm_dit.conditioning.encode import settle_prompt
from llm_dit.config import Config, PromptsConfig, get, parameters, seeds_of, to_dict
from llm_dit.models.cache import PARTS, PartCache
from llm_dit.prompts.sets import Prompt, load_prompts
from llm_dit.records.picture import Picture, identity, is_own_picture, png_bytes
from llm_dit.render.draw import render
from llm_dit.study.store import CellFolder, sweep_of

LEFT = "left to another process"
AT_ONCE = 16  # pictures that one call of render() holds


@dataclass
class Outcome:
    """What became of a cell: complete, failed, or LEFT. error, unscored: one line on what went wrong with it."""

    cell: str
    status: str
    drawn: int = 0
    kept: int = 0
    seconds: float = 0.0
    error: str = ""
    unscored: str = ""
    labels: dict[str, str] = field(default_factory=dict)


def prompts_of(config: Config) -> list[Prompt]:
    """The prompts a cell draws: the chosen set's, or prompt.text alone, with the id 'prompt'."""
    p = config.prompts
    if p.set is None:
        text = settle_prompt(config).prompt.text or ""
        return [Prompt("prompt", "", text, (), "", "")]
    return load_prompts(p.set, ids=p.ids, categories=p.categories, difficulties=p.difficulties, count=p.count)


def cell_id(config: Config) -> str:
    """The cell's name: its identity without the prompt when a set of prompts is drawn."""
    if config.prompts.set is None:
        name = identity(settle_prompt(config))
    else:
        name = identity(replace(config, prompt=replace(config.prompt, text=None), prompt_file=None))
    told_apart = axes_beside_the_picture(config)
    if not told_apart:
        return name
    return f"{name}-{hashlib.sha256(json.dumps(told_apart, sort_keys=True).encode()).hexdigest()[:6]}"


def axes_beside_the_picture(config: Config) -> dict[str, Any]:
    """Swept keys that the identity leaves out, such as hardware or the seeds of an A/A study, and their values."""
    rules = {p.key: p.rule for p in parameters()}
    apart = {}
    for key in config.sweep.axes:
        below = [rule for k, rule in rules.items() if k == key or k.startswith(f"{key}.")]
        if key == "seeds" or not any(rule.image for rule in below):
            value = get(config, key)
            apart[key] = to_dict(value) if is_dataclass(value) else value
    return apart


def axis_labels(config: Config, choices: dict[str, str]) -> dict[str, str]:
    """What the swept keys are in this cell, from the config that runs. choices: the options chosen of each group."""
    values = {key: get(config, key) for key in config.sweep.axes}
    if values.get("lora") == []:
        values["lora"] = "none"
    return {key: choices[key] if is_dataclass(value) else json_label(value) for key, value in values.items()}


def json_label(value: Any) -> str:
    """A value as a label: text as it is, texts one after the other, the rest as JSON."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return " + ".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def run_cell(
    config: Config,
    folder: CellFolder,
    labels: dict[str, str],
    on_picture: Callable[[dict[str, Any], Path], None] | None = None,
    parts: PartCache = PARTS,
) -> Outcome:
    """Draw what the cell still misses. A failure is recorded in the cell and told in the outcome, never raised.

    on_picture(record, path) after each new picture is on disk. parts: where the model's parts come from.
    """
    begin = time.time()
    outcome = Outcome(folder.id, "complete", labels=labels)
    try:
        with folder.lock() as mine:
            if not mine:
                outcome.status = LEFT
                return outcome
            try:
                _draw_missing(config, folder, labels, outcome, on_picture, parts)
            except Exception as error:
                outcome.status, outcome.error = "failed", told(error)
                # The disk may be what failed; then the outcome alone tells it.
                with contextlib.suppress(LabError, OSError):
                    folder.remove("cell.json")
                    what = {"error": outcome.error, "traceback": traceback.format_exc(), "labels": labels}
                    folder.write("failed.json", what)
    except OSError as error:  # the lock itself
        outcome.status, outcome.error = "failed", told(error)
    outcome.seconds = round(time.time() - begin, 3)
    return outcome


def _draw_missing(
    config: Config,
    folder: CellFolder,
    labels: dict[str, str],
    outcome: Outcome,
    on_picture: Callable[[dict[str, Any], Path], None] | None,
    parts: PartCache,
) -> None:
    folder.clear_leftovers()
    prompts, seeds = prompts_of(config), seeds_of(config)
    known = {(r["prompt_id"], r["seed"]): r for r in folder.records(whole=True)}
    wanted = [(p, s) for p in prompts for s in seeds]
    kept = [known[p.id, s] for p, s in wanted if (p.id, s) in known and known[p.id, s]["prompt"] == p.prompt]
    outcome.kept = len(kept)
    # An axis that an earlier command did not have is a label of its pictures now.
    unlabelled = [r for r in kept if labels.items() - r["axes"].items()]
    folder.append(*(r | {"axes": r["axes"] | labels} for r in unlabelled))
    if len(kept) == len(wanted) and folder.status == "complete" and not unlabelled:
        return
    folder.remove("cell.json")  # its presence means that nothing is missing
    have = {(r["prompt_id"], r["seed"]) for r in kept}
    refuse_foreign_pictures(folder, [picture_path(p, s) for p, s in wanted if (p.id, s) not in have])
    fingerprint = kept[0]["model_fingerprint"] if kept else None

    for prompt in prompts:
        missing = [s for s in seeds if (prompt.id, s) not in have]
        # The picture's own config holds its prompt and not the set, so that it can be drawn again from its record.
        said = replace(config.prompt, text=prompt.prompt)
        drawn = replace(config, prompt=said, prompt_file=None, prompts=PromptsConfig())

        def keep(picture: Picture, prompt: Prompt = prompt) -> None:
            nonlocal fingerprint
            if fingerprint not in (None, picture.record["model_fingerprint"]):
                raise RenderError("the model's weights are not those of the cell's other pictures; use resume=false.")
            fingerprint = picture.record["model_fingerprint"]
            record = describe_in_sweep(picture, prompt, folder, labels)
            path = folder.path / record["path"]
            folder.check_there()
            write_whole({path: png_bytes(replace(picture, record=record))})
            folder.append(record)
            outcome.drawn += 1
            if on_picture:
                on_picture(record, path)

        # In parts, because render() holds on to its pictures until it returns.
        part = max(AT_ONCE, config.hardware.batch_size)
        for i in range(0, len(missing), part):
            render(replace(drawn, seeds=missing[i : i + part]), parts=parts, on_picture=keep)
    records = folder.records(whole=True)
    if {(p.id, s) for p, s in wanted} - {(r["prompt_id"], r["seed"]) for r in records}:
        raise OutputError(f"{folder.path}: pictures were removed while the cell was drawn; the same command continues.")
    summary = {
        "status": "complete",
        "cell": folder.id,
        "labels": records[0]["axes"] | labels if records else labels,
        "config": to_dict(config),
        # Of all that was ever asked of the cell: an earlier command may have had other prompts and seeds.
        "prompts": list(dict.fromkeys([*(p.id for p in prompts), *(r["prompt_id"] for r in records)])),
        "seeds": list(dict.fromkeys([*seeds, *(r["seed"] for r in records)])),
        "pictures": len(records),
        "seconds": round(sum(sum(r["seconds"].values()) for r in records), 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    folder.write("cell.json", summary)
    folder.remove("failed.json")


def describe_in_sweep(picture: Picture, prompt: Prompt, folder: CellFolder, labels: dict[str, str]) -> dict[str, Any]:
    """The picture's record with its place in the sweep. path is relative to the cell's folder."""
    return picture.record | {
        "cell": folder.id,
        "axes": labels,
        "prompt_id": prompt.id,
        "category": prompt.category,
        "prompt": prompt.prompt,
        "elements": [dict([element]) for element in prompt.elements],
        "path": picture_path(prompt, picture.record["seed"]),
    }


def picture_path(prompt: Prompt, seed: int) -> str:
    """Where a picture lies in its cell's folder."""
    return f"images/{prompt.id}_s{seed}.png"


def refuse_foreign_pictures(folder: CellFolder, paths: list[str]) -> None:
    """Raises OutputError when something that was not drawn here lies where a picture of the cell would go."""
    for path in (folder.path / p for p in paths):
        if os.path.lexists(path) and not is_own_picture(path):
            raise OutputError(f"{path}: not a picture of this program, so it is not written over; move it away.")


def open_cell(config: Config) -> CellFolder:
    """The folder of a config's cell in its sweep."""
    return sweep_of(config).cell(cell_id(config))
