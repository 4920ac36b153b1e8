"""One job of a sweep, in whatever process a launcher runs it: draw the cell, say one line, tell what became of it."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from llm_dit.config import Config
from llm_dit.errors import LabError
from llm_dit.study.cell import Outcome, axis_labels, open_cell, run_cell
from llm_dit.study.devices import use_own_card
from llm_dit.study.run import report_cell
from llm_dit.study.track import CellTracking
from llm_dit.trackers.base import Tracker
from llm_dit.trackers.load import make_tracker


def cell_job(config: Config, hydra_config: Any) -> dict[str, Any]:
    """Run a cell under Hydra. Returns its Outcome as plain values, which every launcher can carry between processes."""
    choices = {group: str(option) for group, option in hydra_config.runtime.choices.items()}
    labels = axis_labels(config, choices)
    try:
        folder = open_cell(config)
    except LabError as error:  # no prompt, no such set of prompts, no start picture: there is no cell to speak of
        outcome = Outcome("", "failed", error=str(error), labels=labels)
    else:
        sweep = folder.path.parents[1]
        tracking = CellTracking(
            process_tracker(config.tracker.name, sweep, config.tracker.project), sweep.name, folder, config
        )
        use_own_card()
        outcome = run_cell(config, folder, labels, tracking.picture)
        tracking.finish(outcome.status)
    report_cell(int(hydra_config.job.num), outcome)
    return asdict(outcome)


@cache
def process_tracker(name: str, folder: Path, project: str) -> Tracker:
    """The process's tracker of a sweep: one that was switched off by an error stays off for all of its cells."""
    return make_tracker(name, folder, project)
