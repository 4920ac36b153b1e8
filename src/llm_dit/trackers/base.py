"""What a tracker is, the one that does nothing, and the guard that keeps a broken one from stopping a sweep.

A tracker gets a copy of what the records hold: one run per cell, grouped by the sweep, and one summary run with the
grids and the table of arms. Nothing reads it back, so whatever goes wrong in it costs one line on stderr, never a
picture.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from llm_dit.base.errors import printable, told


class Tracker(Protocol):
    """Calls come in the order start_cell, log_image..., finish_cell for each cell; then summary; then close.

    A training is one run between start_cell and finish_cell, with log_values at each line of its log.
    """

    def start_cell(self, sweep: str, cell: str, config: dict[str, Any], label: str = "") -> None:
        """Begin the run of one cell. cell: its identity within the sweep. config: dotted keys to plain values.
        label: what people see in place of the identity, such as "sampler.steps=8".

        A run that an earlier attempt left under the same sweep and cell is replaced, so a cell that is continued or
        replayed never appears twice: log all of its pictures again, those of the earlier attempt too.
        """

    def log_image(self, path: Path, caption: str, values: Mapping[str, float | None]) -> None:
        """One finished picture. values: seconds.*, nfe, token_count, metrics; what is no number is left out."""

    def log_values(self, step: int, values: Mapping[str, float | None]) -> None:
        """A training's numbers after a step; what is no number is left out. Steps rise from call to call."""

    def finish_cell(self, status: str, scores: Mapping[str, float] | None = None) -> None:
        """End the cell's run. status: complete or failed. scores: means over its pictures, by metric."""

    def summary(self, sweep: str, grids: Sequence[Path], table: Sequence[Mapping[str, Any]]) -> None:
        """The summary run: grid pictures, and the table of arms with one row a cell. A Path in a row is a picture."""

    def where(self) -> str:
        """Where the runs lie and the command that shows or uploads them, for a person; empty if there is nothing."""

    def close(self) -> None:
        """End whatever is open, a cell as failed. May be called twice."""


class NoTracker:
    """tracker=none."""

    def start_cell(self, sweep: str, cell: str, config: dict[str, Any], label: str = "") -> None:
        pass

    def log_image(self, path: Path, caption: str, values: Mapping[str, float | None]) -> None:
        pass

    def log_values(self, step: int, values: Mapping[str, float | None]) -> None:
        pass

    def finish_cell(self, status: str, scores: Mapping[str, float] | None = None) -> None:
        pass

    def summary(self, sweep: str, grids: Sequence[Path], table: Sequence[Mapping[str, Any]]) -> None:
        pass

    def where(self) -> str:
        return ""

    def close(self) -> None:
        pass


class GuardedTracker:
    """A tracker that cannot fail: the first exception becomes one warning, and the tracker is off from then on.

    on: False once that has happened.
    """

    def __init__(self, name: str, tracker: Tracker):
        self.name = name
        self.on = True
        self._tracker = tracker

    def start_cell(self, sweep: str, cell: str, config: dict[str, Any], label: str = "") -> None:
        self._try(lambda: self._tracker.start_cell(sweep, cell, config, label))

    def log_image(self, path: Path, caption: str, values: Mapping[str, float | None]) -> None:
        self._try(lambda: self._tracker.log_image(path, caption, values))

    def log_values(self, step: int, values: Mapping[str, float | None]) -> None:
        self._try(lambda: self._tracker.log_values(step, values))

    def finish_cell(self, status: str, scores: Mapping[str, float] | None = None) -> None:
        self._try(lambda: self._tracker.finish_cell(status, scores))

    def summary(self, sweep: str, grids: Sequence[Path], table: Sequence[Mapping[str, Any]]) -> None:
        self._try(lambda: self._tracker.summary(sweep, grids, table))

    def where(self) -> str:
        # Asked of a tracker that was switched off as well: what it wrote before is still there.
        with contextlib.suppress(Exception):
            return self._tracker.where()
        return ""

    def close(self) -> None:
        self._try(self._tracker.close)

    def _try(self, call: Callable[[], None]) -> None:
        if not self.on:
            return
        try:
            call()
        except Exception as error:
            self.on = False
            warn(f"tracker {self.name} is off for the rest of this run, the records are whole: {told(error)}")
            with contextlib.suppress(Exception):
                self._tracker.close()  # threads and files of a half-open run


class Tally:
    """Count and means of a cell's values, for the one row that the cell has in a table of runs."""

    def __init__(self) -> None:
        self.pictures = 0
        self._values: dict[str, list[float]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        self.pictures += 1
        for key, value in values.items():
            if math.isfinite(value) and key != "seed":  # a name, not a quantity
                self._values.setdefault(key, []).append(value)

    def row(self, status: str, scores: Mapping[str, float] | None = None) -> dict[str, Any]:
        """status, pictures, and mean/KEY over the pictures for every key that had a finite value, and every score."""
        means = {f"mean/{key}": math.fsum(values) / len(values) for key, values in self._values.items()}
        means |= {f"mean/score/{key}": value for key, value in (scores or {}).items()}
        return {"status": status, "pictures": self.pictures, **means}


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among values, named with slashes: seconds.dit becomes seconds/dit.

    Both pages put what shares the part before a slash under one heading; a dot means nothing to them, and W&B cannot
    filter by a name that holds one.
    """
    return {
        key.replace(".", "/"): float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested dicts; what would lie below a key that has a value itself keeps its dots."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, leaf = key.split(".")
        place = tree
        if any(".".join(groups[: i + 1]) in flat for i in range(len(groups))):
            groups, leaf = [], key
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return tree


def file_name(label: str, longest: int = 100) -> str:
    """label as the name of one folder: no separators, not too long, and still different for different labels."""
    safe = re.sub(r"[\x00-\x1f/\\]", "_", label)
    if safe == label and len(label) <= longest and label.strip(". ") != "":
        return label
    return f"{safe[:longest].strip('. ')}~{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def ensure_writable(folder: Path) -> None:
    """Make folder and write 256 KiB to a nameless file in it. Raises OSError: read-only, full, or a file in the way.

    W&B says nothing of a full disk, and in place of a folder that it cannot write it takes the system's temporary one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(1 << 18))


def shown(path: Path) -> str:
    """path for a person to type: relative to where they are if it lies below, quoted for a shell if need be."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


_said: set[str] = set()


def warn(text: str) -> None:
    """One line on stderr, once a process: a sweep and its summary may have a tracker each, with the same trouble."""
    if text not in _said:
        _said.add(text)
        print(f"warning: {printable(text)}", file=sys.stderr, flush=True)
