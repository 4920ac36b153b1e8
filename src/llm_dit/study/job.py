"""One job of a sweep, in whatever process a launcher runs it: draw the cell, say one line, tell what became of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
import traceback
from dataclasses import asdict
from typing import Any

from llm_dit.base.errors import LabError, OutputError, told
from llm_dit.base.paths import user_path
from llm_dit.config import Config
from llm_dit.study.axes import label_of
from llm_dit.study.cell import LEFT, Outcome, axis_labels, open_cell, run_cell
from llm_dit.study.devices import use_own_card
from llm_dit.study.score import score_cell
from llm_dit.study.search import Stop, is_search, stop_search, trial_value
from llm_dit.study.store import REFUSED, CellFolder, SweepFolder, sweep_of
from llm_dit.study.track import CellTracking, process_tracker


def cell_job(config: Config, hydra_config: Any) -> dict[str, Any] | float | Stop:
    """Run a cell under Hydra. Returns its Outcome as plain values, which every launcher can carry between processes.

    A sweeper that searches (hydra/sweeper=optuna) gets the cell's sweep.metric instead, and a Stop for a failed cell.
    """
    searching = is_search(hydra_config.sweeper)
    choices = {group: str(option) for group, option in hydra_config.runtime.choices.items()}
    labels = axis_labels(config, choices)
    folder = None
    sweep = sweep_of(config)
    try:
        sweep.check_there()
        folder = open_cell(config)
    except LabError as error:  # no prompt, no such set of prompts, no start picture: there is no cell to speak of
        outcome = Outcome("", "failed", error=str(error), labels=labels)
    else:
        tracker = process_tracker(config.tracker.name, sweep.path, config.tracker.project)
        tracking = CellTracking(tracker, sweep.path.name, folder, config, labels)
        use_own_card()
        outcome = run_cell(config, folder, labels, tracking.picture)
        while searching and outcome.status == LEFT:  # another trial with these settings: its value is this one's too
            time.sleep(1)
            outcome = run_cell(config, folder, labels, tracking.picture)
        if outcome.status != LEFT and folder.path.is_dir():  # else it was removed, and nothing may bring it back
            outcome.unscored = score_or_say_why_not(config, folder)
            tracking.finish(outcome.status)
    report_cell(int(hydra_config.job.num), outcome)
    if not searching:
        return asdict(outcome)
    return trial_value(config, folder, outcome, hydra_config.sweeper)


def score_or_say_why_not(config: Config, folder: CellFolder) -> str:
    """Score the cell's pictures by the metrics that the sweep asks for. Returns what went wrong, empty if nothing did:
    a metric that fails costs scores, never pictures."""
    from llm_dit.metrics.registry import make_metrics

    try:
        problems = score_cell(folder, make_metrics(config)).problems
    except Exception as error:
        return told(error)
    return problems[0] if problems else ""


def refused_job(error: LabError, hydra_config: Any, composed: Any) -> dict[str, Any] | Stop:
    """The outcome of a cell whose settings cannot be checked into a config; it has a folder for its failure alone."""
    said = dict(o.split("=", 1) for o in hydra_config.overrides.task if "=" in o)
    labels = {axis: said[axis] for axis in composed.sweep.axes if axis in said}
    digest = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:6]
    sweep = SweepFolder(user_path(composed.sweep.dir) / str(composed.sweep.name))
    folder = sweep.cell(f"{REFUSED}{digest}")
    outcome = Outcome(folder.id, "failed", error=str(error), labels=labels)
    with contextlib.suppress(OutputError):  # the folder is gone; the outcome alone tells it
        sweep.check_there()
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write("failed.json", {"error": str(error), "traceback": traceback.format_exc(), "labels": labels})
    report_cell(int(hydra_config.job.num), outcome)
    return stop_search(error, hydra_config.sweeper) if is_search(hydra_config.sweeper) else asdict(outcome)


def report_cell(number: int, outcome: Outcome) -> None:
    """One line for a cell that is done, from the process that drew it."""
    from tqdm import tqdm

    what = outcome.error if outcome.status == "failed" else f"{outcome.drawn} drawn, {outcome.kept} kept"
    if outcome.unscored:
        what += f", not scored: {outcome.unscored}"
    name = label_of(outcome.labels, outcome.cell)
    # tqdm's own write keeps the line clear of the sweep's bar.
    tqdm.write(f"cell {number + 1} {outcome.status}: {name}: {what}, {outcome.seconds:.1f} s")
    sys.stdout.flush()
