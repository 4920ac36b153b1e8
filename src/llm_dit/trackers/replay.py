"""A finished sweep, logged again from its records: for task=sync, to a tracker that was off or failed while it ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_dit.trackers.base import Tracker


@dataclass(frozen=True)
class CellRecord:
    """What a tracker needs of one cell. images: (path, caption, values) in the order they were drawn."""

    cell: str
    config: dict[str, Any]
    status: str
    images: Sequence[tuple[Path, str, Mapping[str, float | None]]]
    label: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Replayed:
    """What was handed over. missing: pictures that the records name and the disk does not hold. ok: whether the tracker
    took it all; a guarded one that failed has said why, and the counts are then of what it was offered."""

    cells: int = 0
    images: int = 0
    missing: list[Path] = field(default_factory=list)
    ok: bool = True


def replay(
    records: Iterable[CellRecord | tuple],
    tracker: Tracker,
    sweep: str,
    grids: Sequence[Path] = (),
    table: Sequence[Mapping[str, Any]] = (),
) -> Replayed:
    """Log every cell, and the summary if there are grids or a table; closes the tracker.

    records: CellRecords, or tuples of their fields. Cells that the tracker already has are replaced, not doubled.
    """
    done = Replayed()
    for record in records:
        record = record if isinstance(record, CellRecord) else CellRecord(*record)
        tracker.start_cell(sweep, record.cell, dict(record.config), record.label)
        for path, caption, values in record.images:
            if not Path(path).is_file():
                done.missing.append(Path(path))
                continue
            tracker.log_image(Path(path), caption, values)
            done.images += 1
        tracker.finish_cell(record.status, record.scores)
        done.cells += 1
    if grids or table:
        tracker.summary(sweep, [Path(grid) for grid in grids], table)
    tracker.close()
    done.ok = getattr(tracker, "on", True)
    return done
