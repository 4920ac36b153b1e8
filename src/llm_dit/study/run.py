"""A whole sweep: arguments to cells, cells through a launcher, then the table, the grids and the last lines.

Drawing is cell.py's job, in whatever process the launcher chose; this module runs once, in the process that was
started.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from llm_dit.compose import check, compose, prepare_overrides, quote
from llm_dit.config import Config, OutputConfig
from llm_dit.errors import ConfigError, LabError, nearest
from llm_dit.picture import check_writable
from llm_dit.study.cell import Outcome
from llm_dit.study.definition import Study, load_study
from llm_dit.study.expand import expand, fold_seeds, sweep_name
from llm_dit.study.store import SweepFolder
from llm_dit.study.track import label_of, track_summary

Launch = Callable[[list[list[str]]], Sequence[Any]]


class CellsFailedError(LabError):
    """A sweep ran to its end and some of its cells did not."""

    exit_code = 1


def run_sweep(parser: Any, arguments: list[str], master: DictConfig, launch: Launch) -> list[Outcome]:
    """Run or continue a sweep. parser: Hydra's override parser; launch: override lists to JobReturns.

    Raises ConfigError for a study or an axis that is wrong before anything is written, CellsFailedError at the end.
    """
    config = check(master_without_hydra(master))
    refuse_single_settings(config)
    study = load_study(config.sweep.file) if config.sweep.file else Study("")
    fixed, swept = read_overrides(parser, [*prepare_overrides(study.settings), *arguments])
    fold_seeds(swept, fixed)
    cells = expand(study, fixed, swept)
    keys = [k for k in dict.fromkeys([*swept, *study.keys]) if k not in fixed]
    name = config.sweep.name or sweep_name(study.name, fixed, swept)
    root = Path(config.sweep.dir).expanduser()
    if not config.resume:
        name = unused_name(root, name)
    common = [f"sweep.name={quote(name)}", "sweep.axes=[" + ",".join(keys) + "]"]
    jobs = [[f"{k}={v}" for k, v in cell.items() if k != "sweep.name"] + common for cell in cells]
    # The first cell stands for all in what can be wrong with settings; the rest is told cell by cell.
    first = compose_job(jobs[0])
    folder = SweepFolder(root / name)
    if config.dry_run:
        from llm_dit.study.plan import print_plan

        print_plan(folder, [compose_job(job) for job in jobs])
        return []
    check_writable(folder.path)
    folder.write(describe_sweep(study, name, keys, arguments, len(jobs)))
    from llm_dit.study.progress import SweepProgress

    begin = time.time()
    with SweepProgress(folder, first, jobs):
        returns = launch(jobs)
    outcomes = [Outcome(**r.return_value) for r in returns]
    written = finish_sweep(folder)
    print(last_lines(folder, outcomes, time.time() - begin, written))
    if any(o.drawn for o in outcomes):
        shown = track_summary(first, folder, [p for p in written if p.suffix == ".png"])
        print(shown, end="\n" if shown else "")
    failed = [o for o in outcomes if o.status == "failed"]
    if failed:
        raise CellsFailedError(
            f"{len(failed)} of {len(outcomes)} cells failed; the first, {label(failed[0])}: {failed[0].error} "
            f"(traceback in {folder.cell(failed[0].cell).path / 'failed.json'})"
        )
    return outcomes


def refuse_single_settings(config: Config) -> None:
    """What belongs to a single picture would reach nothing in a sweep. Raises ConfigError."""
    if config.task != "render":
        raise ConfigError(f"task={config.task} cannot be swept; leave -m out.")
    if config.from_image:
        raise ConfigError("from_image draws one picture again and cannot be swept; leave -m out.")
    if config.output != OutputConfig():
        raise ConfigError("output.* is for single pictures; a sweep goes to sweep.dir under sweep.name.")


def master_without_hydra(master: DictConfig) -> dict[str, Any]:
    """The sweep's shared settings; swept keys are still at their defaults here."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(master, resolve=False)
    values.pop("hydra", None)
    return values


def read_overrides(parser: Any, arguments: list[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Hydra's overrides as fixed {key: value} and swept {key: values}; later ones win."""
    fixed: dict[str, str] = {}
    swept: dict[str, list[str]] = {}
    for override in parser.parse_overrides(arguments):
        key = override.get_key_element()
        fixed.pop(key, None), swept.pop(key, None)
        if override.is_sweep_override():
            swept[key] = list(override.sweep_string_iterator())
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


def describe_sweep(study: Study, name: str, axes: list[str], arguments: list[str], cells: int) -> dict[str, Any]:
    """The content of sweep.json."""
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

    table = write_table(folder)
    return [*([table] if table else []), *write_grids(folder)]


def existing_sweep(config: Config) -> SweepFolder:
    """The folder of sweep.name. Raises ConfigError when there is none, with the nearest that is there."""
    root = Path(config.sweep.dir).expanduser()
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


def last_lines(folder: SweepFolder, outcomes: list[Outcome], seconds: float, written: list[Path]) -> str:
    """What a sweep says at its end."""
    count = {s: sum(o.status == s for o in outcomes) for s in ("complete", "failed", "left to another process")}
    cells = ", ".join(f"{n} {status}" for status, n in count.items() if n or status == "complete")
    drawn, kept = sum(o.drawn for o in outcomes), sum(o.kept for o in outcomes)
    lines = [f"{folder.path}: {len(outcomes)} cells ({cells}), {drawn} pictures drawn in {seconds:.0f} s, {kept} kept"]
    lines += [f"failed: {label(o)}: {o.error}" for o in outcomes if o.status == "failed"]
    return "\n".join([*lines, *map(str, written)])


def report_cell(number: int, outcome: Outcome) -> None:
    """One line for a cell that is done, from the process that drew it."""
    what = outcome.error if outcome.status == "failed" else f"{outcome.drawn} drawn, {outcome.kept} kept"
    print(f"cell {number + 1} {outcome.status}: {label(outcome)}: {what}, {outcome.seconds:.1f} s", flush=True)
    sys.stdout.flush()
