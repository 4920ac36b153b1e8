"""What a sweep tells its tracker, live or later, always from the records. Trackers themselves are in trackers/."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from llm_dit.config import Config, get, parameters
from llm_dit.study.axes import label_of
from llm_dit.study.score import mean_scores, scores_of
from llm_dit.study.store import CellFolder, SweepFolder
from llm_dit.study.table import rows_of
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
        for known in self.cell.records(whole=True):
            self.tracker.log_image(self.cell.path / known["path"], caption(known), numbers(known))

    def start(self) -> None:
        self.started = True
        self.tracker.start_cell(self.sweep, self.cell.id, flat_config(self.config), label=self.label)

    def finish(self, status: str) -> None:
        """The cell has ended; a failure is told even when no picture came of it."""
        if status == "failed" and not self.started:
            self.start()
        if self.started:
            scores = scores_of(self.cell, self.cell.records(whole=True))
            self.tracker.finish_cell(status, mean_scores(scores.values()))


def flat_config(config: Config) -> dict[str, Any]:
    """Dotted keys to values."""
    return {p.key: get(config, p.key) for p in parameters()}


def caption(record: dict[str, Any]) -> str:
    """A picture's line in a tracker."""
    return f"{record['prompt']} (seed {record['seed']})"


def numbers(record: dict[str, Any], scores: dict[str, Any] | None = None) -> dict[str, float]:
    """A picture's numbers: what it cost, and its scores where they are there already."""
    scored = {f"score.{k}": v for k, v in (scores or {}).items() if isinstance(v, float)}
    counts = {key: record[key] for key in ("nfe", "token_count", "padded_length", "seed")}
    return counts | {f"seconds.{stage}": s for stage, s in record["seconds"].items()} | scored


def arms_table(folder: SweepFolder) -> list[dict[str, Any]]:
    """One row a cell: its labels, status, pictures, mean seconds of a picture, and mean scores."""
    arms = []
    for cell in folder.cells():
        rows = rows_of(cell)
        if not rows and cell.status != "failed":
            continue
        seconds = round(fmean(row["seconds"] for row in rows), 4) if rows else None
        arm = {"cell": cell.id, **labels_of(cell), "status": cell.status, "pictures": len(rows)}
        arms.append(arm | {"seconds a picture": seconds, **mean_scores(rows)})
    return arms


def labels_of(cell: CellFolder) -> dict[str, str]:
    """The swept keys' values of a cell, also of one that failed before its first picture."""
    records = cell.records(whole=True)
    return records[0]["axes"] if records else (cell.read("failed.json") or {}).get("labels", {})


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
        records = cell.records(whole=True)
        if records or cell.status == "failed":
            summary = cell.read("cell.json") or (records or [{}])[0]
            settings = flat_config(check(summary["config"])) if "config" in summary else labels_of(cell)
            scores = scores_of(cell, records)
            known = [(r, scores.get((r["prompt_id"], r["seed"]))) for r in records]
            images = [(cell.path / r["path"], caption(r), numbers(r, s)) for r, s in known]
            label, means = label_of(labels_of(cell), cell.id), mean_scores(scores.values())
            cells.append(CellRecord(cell.id, settings, cell.status, images, label, means))
    tracker = make_tracker(config.tracker.name, folder.path, config.tracker.project)
    done = replay(cells, tracker, folder.path.name, grids, arms_table(folder))
    return done, tracker.where()
