"""One job of a sweep, in whatever process a launcher runs it: draw the cell, say one line, tell what became of it."""

from __future__ import annotations

import statistics
from dataclasses import asdict, replace
from os.path import expanduser
from pathlib import Path
from typing import Any

from llm_dit.config import Config
from llm_dit.errors import ConfigError, LabError, nearest
from llm_dit.study.cell import Outcome, axis_labels, open_cell, run_cell
from llm_dit.study.devices import use_own_card
from llm_dit.study.run import label
from llm_dit.study.store import CellFolder, SweepFolder
from llm_dit.study.table import row_of
from llm_dit.study.track import CellTracking, process_tracker


def cell_job(config: Config, hydra_config: Any) -> dict[str, Any] | float:
    """Run a cell under Hydra. Returns its Outcome as plain values, which every launcher can carry between processes.

    A sweeper that searches (hydra/sweeper=optuna) gets the cell's sweep.metric instead, and an error for a failed cell.
    """
    searching = not str(hydra_config.sweeper.get("_target_", "")).endswith("StudySweeper")
    if searching:
        config = replace(config, sweep=replace(config.sweep, name=config.sweep.name or "search"))
        describe_search(config)
    choices = {group: str(option) for group, option in hydra_config.runtime.choices.items()}
    labels = axis_labels(config, choices)
    folder = None
    try:
        folder = open_cell(config)
    except LabError as error:  # no prompt, no such set of prompts, no start picture: there is no cell to speak of
        outcome = Outcome("", "failed", error=str(error), labels=labels)
    else:
        sweep = folder.path.parents[1]
        tracker = process_tracker(config.tracker.name, sweep, config.tracker.project)
        tracking = CellTracking(tracker, sweep.name, folder, config, labels)
        use_own_card()
        outcome = run_cell(config, folder, labels, tracking.picture)
        tracking.finish(outcome.status)
    report_cell(int(hydra_config.job.num), outcome)
    if not searching:
        return asdict(outcome)
    if folder is None or outcome.status != "complete":
        raise ConfigError(f"the search stops: {outcome.error or outcome.status}")
    return cell_metric(folder, config.sweep.metric)


def refused_job(error: LabError, hydra_config: Any) -> dict[str, Any]:
    """The outcome of a cell whose settings cannot be checked into a config."""
    axes = [o for o in hydra_config.overrides.task if not o.startswith(("sweep.", "prompt.text"))]
    outcome = Outcome("", "failed", error=str(error), labels=dict(o.split("=", 1) for o in axes if "=" in o))
    report_cell(int(hydra_config.job.num), outcome)
    return asdict(outcome)


def describe_search(config: Config) -> None:
    """Write the search's sweep.json once, so that task=grid finds it."""
    folder = SweepFolder(Path(expanduser(config.sweep.dir)) / str(config.sweep.name))
    if not folder.read():
        folder.write({"sweep_version": 1, "name": config.sweep.name, "axes": config.sweep.axes, "cells": []})


def cell_metric(folder: CellFolder, metric: str) -> float:
    """Mean of a numeric column of the table over the cell's pictures; 'seconds' is all of them but loading."""
    rows = [row_of(folder, record) for record in folder.records()]
    numeric = {k for row in rows for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if metric not in numeric:
        raise ConfigError(f"sweep.metric={metric}: no such number in the table. {nearest(metric, numeric)}")
    return statistics.fmean(row[metric] for row in rows if row.get(metric) is not None)


def report_cell(number: int, outcome: Outcome) -> None:
    """One line for a cell that is done, from the process that drew it."""
    what = outcome.error if outcome.status == "failed" else f"{outcome.drawn} drawn, {outcome.kept} kept"
    print(f"cell {number + 1} {outcome.status}: {label(outcome)}: {what}, {outcome.seconds:.1f} s", flush=True)
