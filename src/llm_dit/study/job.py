"""One job of a sweep, in whatever process a launcher runs it: draw the cell, say one line, tell what became of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from llm_dit.config import Config
from llm_dit.errors import ConfigError, LabError
from llm_dit.study.cell import LEFT, Outcome, axis_labels, label_of, open_cell, run_cell
from llm_dit.study.devices import use_own_card
from llm_dit.study.score import score_cell
from llm_dit.study.search import cell_metric, describe_search, is_search
from llm_dit.study.store import CellFolder, sweep_of
from llm_dit.study.track import CellTracking, process_tracker


def cell_job(config: Config, hydra_config: Any) -> dict[str, Any] | float:
    """Run a cell under Hydra. Returns its Outcome as plain values, which every launcher can carry between processes.

    A sweeper that searches (hydra/sweeper=optuna) gets the cell's sweep.metric instead, and an error for a failed cell.
    """
    searching = is_search(hydra_config.sweeper)
    if searching:
        describe_search(sweep_of(config), config)
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
        if outcome.status != LEFT:
            outcome.unscored = score_or_say_why_not(config, folder)
            tracking.finish(outcome.status)
    report_cell(int(hydra_config.job.num), outcome)
    if not searching:
        return asdict(outcome)
    if folder is None or outcome.status != "complete" or outcome.unscored:
        raise ConfigError(f"the search stops: {outcome.error or outcome.unscored or outcome.status}")
    return cell_metric(folder, config.sweep.metric)


def score_or_say_why_not(config: Config, folder: CellFolder) -> str:
    """Score the cell's pictures by the metrics that the sweep asks for. Returns what went wrong, empty if nothing did:
    a metric that fails costs scores, never pictures."""
    from llm_dit.metrics.registry import make_metrics

    try:
        score_cell(folder, make_metrics(config))
    except Exception as error:
        return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
    return ""


def refused_job(error: LabError, hydra_config: Any) -> dict[str, Any]:
    """The outcome of a cell whose settings cannot be checked into a config."""
    axes = [o for o in hydra_config.overrides.task if not o.startswith(("sweep.", "prompt.text"))]
    outcome = Outcome("", "failed", error=str(error), labels=dict(o.split("=", 1) for o in axes if "=" in o))
    report_cell(int(hydra_config.job.num), outcome)
    return asdict(outcome)


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
