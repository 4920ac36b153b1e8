"""A whole sweep: arguments to cells, cells through a launcher, then the table, the grids and the last lines.

Drawing is cell.py's job, in whatever process the launcher chose; this module runs once, in the process that was
started.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from os.path import expanduser
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from llm_dit.compose import check, compose, prepare_overrides, quote
from llm_dit.config import Config, OutputConfig
from llm_dit.errors import ConfigError, LabError, nearest
from llm_dit.picture import check_writable
from llm_dit.study.cell import Outcome, prompts_of
from llm_dit.study.definition import Study, load_study
from llm_dit.study.expand import expand, fold_seeds, grammar, sweep_name
from llm_dit.study.store import SweepFolder
from llm_dit.study.track import label_of, track_summary

SEEDS = {"seed", "seeds", "num_images"}
Launch = Callable[[list[list[str]]], Sequence[Any]]


class CellsFailedError(LabError):
    """A sweep ran to its end and some of its cells did not."""

    exit_code = 1


def run_sweep(parser: Any, arguments: list[str], master: DictConfig, launch: Launch) -> list[Outcome]:
    """Run or continue a sweep. parser: Hydra's override parser; launch: override lists to JobReturns.

    Raises ConfigError for a study or an axis that is wrong before anything is written, CellsFailedError at the end.
    """
    master_config = check(master_without_hydra(master))
    study = load_study(master_config.sweep.file) if master_config.sweep.file else Study("")
    fixed, swept = read_overrides(parser, prepare_overrides(study.settings), arguments)
    if "seed" in study.axes and not SEEDS & (fixed.keys() | swept.keys()):
        swept["seed"] = [grammar(seed) for seed in study.axes["seed"]]
    study = replace(study, axes={k: v for k, v in study.axes.items() if k != "seed"})
    fold_seeds(swept, fixed)
    cells = expand(study, fixed, swept)
    keys = [k for k in dict.fromkeys([*swept, *study.keys]) if k not in fixed]
    refuse_single_settings(keys)
    own = ("sweep.name", "sweep.axes", "sweep.dir")
    jobs = [[f"{k}={v}" for k, v in cell.items() if k not in own] for cell in cells]
    first = compose_job([f"{k}={v}" for k, v in cells[0].items()])
    check_axes(cells, keys)
    if first.output != OutputConfig():
        raise ConfigError("output.* is for single pictures; a sweep goes to sweep.dir under sweep.name.")
    prompts_of(first)  # no prompt, no such set: told before anything is written
    name = first.sweep.name or sweep_name(study.name, fixed, swept)
    root = Path(expanduser(first.sweep.dir))
    if not first.resume:
        name = unused_name(root, name)
    folder = SweepFolder(root / name)
    # Workers of a cluster start in folders of their own, so the sweep's place is told whole.
    told = [f"sweep.name={quote(name)}", f"sweep.dir={quote(str(root.resolve()))}", f"sweep.axes=[{','.join(keys)}]"]
    jobs = [[*job, *told] for job in jobs]
    labels = [{k: cell[k] for k in keys if k in cell} for cell in cells]
    if first.dry_run:
        from llm_dit.study.plan import print_plan

        print_plan(folder, labels, [compose_job(job) for job in jobs])
        return []
    check_writable(folder.path)
    folder.write(describe_sweep(study, name, keys, arguments, labels))
    from llm_dit.study.progress import SweepProgress

    begin = time.time()
    with SweepProgress(folder, compose_job(jobs[0]), jobs):
        returns = launch(jobs)
    outcomes = [Outcome(**r.return_value) for r in returns]
    print(last_lines(folder, outcomes, time.time() - begin))
    written = finish_sweep(folder)
    print(*written, sep="\n")
    if any(o.drawn for o in outcomes):
        shown = track_summary(first, folder, [p for p in written if p.suffix == ".png"])
        print(shown, end="\n" if shown else "")
    failed = [o for o in outcomes if o.status == "failed"]
    if failed:
        where = f" (traceback in {folder.cell(failed[0].cell).path / 'failed.json'})" if failed[0].cell else ""
        raise CellsFailedError(
            f"{len(failed)} of {len(outcomes)} cells failed; the first, {label(failed[0])}: {failed[0].error}{where}"
        )
    return outcomes


def refuse_single_settings(keys: list[str]) -> None:
    """What belongs to a run or to a single picture would reach nothing as an axis. Raises ConfigError."""
    for key in keys:
        if key in ("task", "from_image", "resume", "dry_run") or key.startswith(("output", "sweep", "tracker")):
            raise ConfigError(f"{key} cannot be swept: it belongs to the run, not to a cell.")


def check_axes(cells: list[dict[str, str]], keys: list[str]) -> None:
    """Compose every value of every axis once: a wrong one is told before anything is drawn. Raises ConfigError."""
    seen = {(key, cells[0].get(key)) for key in keys}
    for cell in cells[1:]:
        new = {(key, cell.get(key)) for key in keys} - seen
        if new:
            compose_job([f"{k}={v}" for k, v in cell.items()])
            seen |= new


def master_without_hydra(master: DictConfig) -> dict[str, Any]:
    """The sweep's shared settings; swept keys are still at their defaults here. Refuses what is not a sweep."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(master, resolve=False)
    values.pop("hydra", None)
    if values["task"] != "render":
        raise ConfigError(f"task={values['task']} cannot be swept; leave -m out.")
    if values["from_image"]:
        raise ConfigError("from_image draws one picture again and cannot be swept; leave -m out.")
    return values


def read_overrides(
    parser: Any, settings: list[str], arguments: list[str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """A study's settings and the command line as fixed {key: value} and swept {key: values}; the command line wins.

    Seeds in any of their three forms on the command line replace the study's.
    """
    fixed: dict[str, str] = {}
    swept: dict[str, list[str]] = {}
    for source in (settings, arguments):
        parsed = parser.parse_overrides(source)
        keys = {o.get_key_element() for o in parsed}
        for key in keys | (SEEDS if keys & SEEDS else set()):
            fixed.pop(key, None)
            swept.pop(key, None)
        for override in parsed:
            key = override.get_key_element()
            if override.is_sweep_override():
                swept[key] = list(override.sweep_string_iterator())
                if not swept[key]:
                    raise ConfigError(f"{key}: the axis has no values.")
            else:
                fixed[key] = override.get_value_element_as_str()
    return fixed, swept


def compose_job(job: list[str]) -> Config:
    """The config that a list of overrides will run with."""
    return compose([o for o in job if not o.lstrip("+~").startswith("hydra")])


def unused_name(root: Path, name: str) -> str:
    """The name, with the first number behind it that no folder has."""
    number, free = 2, name
    while (root / free).exists():
        free, number = f"{name}-{number}", number + 1
    return free


def describe_sweep(
    study: Study, name: str, axes: list[str], arguments: list[str], cells: list[dict[str, str]]
) -> dict[str, Any]:
    """The content of sweep.json. cells: the swept keys' values of each cell, in the order asked for."""
    return {
        "sweep_version": 1,
        "name": name,
        "study": study.name,
        "question": study.question,
        "axes": axes,
        "baseline": study.baseline,
        "arguments": arguments,
        "cells": cells,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def finish_sweep(folder: SweepFolder) -> list[Path]:
    """Write the long table and the grids from the records that are there. Returns what was written."""
    from llm_dit.study.pages import write_grids
    from llm_dit.study.table import write_table

    try:
        table = write_table(folder)
        return [*([table] if table else []), *write_grids(folder)]
    except LabError as error:  # the pictures are safe; task=grid tries again
        print(f"warning: table or grids could not be written: {error}", file=sys.stderr)
        return []


def existing_sweep(config: Config) -> SweepFolder:
    """The folder of sweep.name. Raises ConfigError when there is none, with the nearest that is there."""
    root = Path(expanduser(config.sweep.dir))
    there = [p.parent.name for p in root.glob("*/sweep.json")]
    if config.sweep.name is None:
        raise ConfigError(f"task={config.task} needs sweep.name=... {nearest('', there)}".strip())
    if config.sweep.name not in there:
        raise ConfigError(
            f"sweep.name={config.sweep.name}: no such sweep in {root}. {nearest(config.sweep.name, there)}"
        )
    return SweepFolder(root / config.sweep.name)


def label(outcome: Outcome) -> str:
    """A cell as people say it."""
    return label_of(outcome.labels) or outcome.cell


def last_lines(folder: SweepFolder, outcomes: list[Outcome], seconds: float) -> str:
    """What a sweep says at its end."""
    count = {s: sum(o.status == s for o in outcomes) for s in ("complete", "failed", "left to another process")}
    cells = ", ".join(f"{n} {status}" for status, n in count.items() if n or status == "complete")
    drawn, kept = sum(o.drawn for o in outcomes), sum(o.kept for o in outcomes)
    lines = [f"{folder.path}: {len(outcomes)} cells ({cells}), {drawn} pictures drawn in {seconds:.0f} s, {kept} kept"]
    lines += [f"failed: {label(o)}: {o.error}" for o in outcomes if o.status == "failed"]
    return "\n".join(lines)
