"""What a sweep tells its tracker, live or later, always from the records. Trackers themselves are in trackers/."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from llm_dit.config import Config, get, parameters
from llm_dit.study.store import CellFolder, SweepFolder
from llm_dit.study.table import row_of
from llm_dit.trackers.base import Tracker
from llm_dit.trackers.load import make_tracker
from llm_dit.trackers.replay import CellRecord, Replayed, replay


class CellTracking:
    """Tells the tracker of one cell, from its first new picture on; a cell that draws nothing is not told again."""

    def __init__(self, tracker: Tracker, sweep: str, cell: CellFolder, config: Config, labels: dict[str, str]):
        self.tracker, self.sweep, self.cell, self.config = tracker, sweep, cell, config
        self.label = label_of(labels)
        self.started = False

    def picture(self, record: dict[str, Any], path: Path) -> None:
        """A new picture is on disk. The first one brings the earlier ones of an interrupted run along."""
        if self.started:
            self.tracker.log_image(path, caption(record), numbers(record))
            return
        self.start()
        for known in self.cell.records():
            self.tracker.log_image(self.cell.path / known["path"], caption(known), numbers(known))

    def start(self) -> None:
        self.started = True
        self.tracker.start_cell(self.sweep, self.cell.id, flat_config(self.config), label=self.label)

    def finish(self, status: str) -> None:
        """The cell has ended; a failure is told even when no picture came of it."""
        if status == "failed" and not self.started:
            self.start()
        if self.started:
            self.tracker.finish_cell(status)


def label_of(axes: dict[str, str]) -> str:
    """A cell as a tracker names it."""
    return ", ".join(f"{key}={value}" for key, value in axes.items())


def flat_config(config: Config) -> dict[str, Any]:
    """Dotted keys to values."""
    return {p.key: get(config, p.key) for p in parameters()}


def caption(record: dict[str, Any]) -> str:
    """A picture's line in a tracker."""
    return f"{record['prompt']} (seed {record['seed']})"


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """A picture's numbers."""
    counts = {key: record[key] for key in ("nfe", "token_count", "padded_length", "seed")}
    return counts | {f"seconds.{stage}": s for stage, s in record["seconds"].items()}


def arms_table(folder: SweepFolder) -> list[dict[str, Any]]:
    """One row a cell: its labels, status, pictures and mean seconds of a picture."""
    rows = []
    for cell in folder.cells():
        records = cell.records()
        if not records:
            continue
        seconds = [row_of(cell, r)["seconds"] for r in records]
        row = {"cell": cell.id, **records[0]["axes"], "status": cell.status, "pictures": len(records)}
        rows.append(row | {"seconds a picture": round(sum(seconds) / len(seconds), 4)})
    return rows


@cache
def process_tracker(name: str, folder: Path, project: str) -> Tracker:
    """The process's tracker of a sweep: one that was switched off by an error stays off for all that follows."""
    return make_tracker(name, folder, project)


def track_summary(config: Config, folder: SweepFolder, grids: Sequence[Path]) -> str:
    """Log the sweep's summary run. Returns where the runs are, for a person; empty without a tracker."""
    tracker = process_tracker(config.tracker.name, folder.path, config.tracker.project)
    tracker.summary(folder.path.name, grids, arms_table(folder))
    tracker.close()
    return tracker.where()


def sync(config: Config, folder: SweepFolder, grids: Sequence[Path]) -> tuple[Replayed, str]:
    """Log a whole sweep from its records. Returns what was handed over and where it is."""
    from llm_dit.compose import check

    cells = []
    for cell in folder.cells():
        records = cell.records()
        if records:
            summary = cell.read("cell.json") or records[0]
            settings = flat_config(check(summary["config"]))
            images = [(cell.path / r["path"], caption(r), numbers(r)) for r in records]
            cells.append(CellRecord(cell.id, settings, cell.status, images, label=label_of(records[0]["axes"])))
    tracker = make_tracker(config.tracker.name, folder.path, config.tracker.project)
    done = replay(cells, tracker, folder.path.name, grids, arms_table(folder))
    return done, tracker.where()
