"""A sweep on disk, safe to kill at any moment:

    outputs/sweeps/NAME/
        sweep.json              question, axes, baseline, the cells asked for
        cells/ID/images/*.png   pictures, each written whole
        cells/ID/records.jsonl  one line a picture, appended after the picture is on disk
        cells/ID/scores.jsonl   one line a picture and metric (score.py)
        cells/ID/cell.json      written last: its presence means that the cell was finished
        cells/ID/failed.json    the traceback of the last failure, gone after a success
        cells/ID/lock           held by the process that draws the cell; the system frees it when that process dies
        cells/ID/score.lock     the same for the process that scores it
        cells/ID/started        when the cell was first taken up; cells are told in this order

A picture counts as drawn when its line is whole and its file is there.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from llm_dit.base.errors import LabError, OutputError, RecordError
from llm_dit.base.files import append_lines, remove_known, remove_leftovers, write_whole
from llm_dit.base.lock import locked
from llm_dit.base.paths import user_path
from llm_dit.config import Config
from llm_dit.records.picture import is_own_picture
from llm_dit.records.schema import (
    OF_EVERY_LINE,
    Cell,
    Failure,
    Sweep,
    SweepLine,
    lines_of,
    read_bytes,
    read_object,
    stays_inside,
)

AGAIN = "Delete it and run the sweep again."
REFUSED = "refused-"  # begins the folder of a cell whose settings contradict each other: it holds failed.json alone
REFUSED_ID = re.compile(rf"{REFUSED}[0-9a-f]{{6}}")
CELL_FILES = ("cell.json", "failed.json", "records.jsonl", "scores.jsonl", "started", "lock", "score.lock")
LONGEST = f"cells/{'x' * 20}/images/{'x' * 90}.png"  # no path below a sweep's folder is longer
# What a process that was killed while it made a sweep's folder leaves in it; version 0.2.0 named it the second way.
HALF_MADE = re.compile(r"\.llm-dit-tmp-.*|\.sweep\.json\.\w{8}")


class CellFolder:
    """One cell's files."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def id(self) -> str:
        return self.path.name

    @contextmanager
    def lock(self, name: str = "lock") -> Iterator[bool]:
        """Whether this process has the cell to itself until the block ends; False if another one is at it."""
        for folder in (self.path.parent, self.path):  # not the sweep's: one that was removed is not made again
            folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError), (self.path / "started").open("x") as file:
            file.write(str(time.time_ns()))
        with locked(self.path / name) as mine:
            yield mine

    def records(self, whole: bool = False) -> list[dict[str, Any]]:
        """The records of pictures whose files are there, the last one of each prompt and seed, in order.

        Raises RecordError for a record of another version, or one that lacks what every record has; with whole, one
        that lacks what the table and a tracker read.
        """
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for record in lines_of(self.path / "records.jsonl", SweepLine, None if whole else OF_EVERY_LINE):
            if (self.path / record["path"]).is_file():
                found[record["prompt_id"], record["seed"]] = record
        return list(found.values())

    def append(self, *records: dict[str, Any], name: str = "records.jsonl") -> None:
        """Add lines to a file of lines; on return they are on disk. Only under the lock."""
        data = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        append_lines(self.path / name, data)

    def lines(self, name: str, shape: type) -> list[dict[str, Any]]:
        """The whole lines of a file of lines; none when it is not there.

        Raises RecordError for a line of another shape or version, or whose path leads out of the cell's folder.
        """
        return lines_of(self.path / name, shape)

    def clear_leftovers(self) -> None:
        """Remove what a killed process was in the middle of writing. Only under the lock."""
        if not any(p.is_symlink() for p in (self.path.parent, self.path)):
            remove_leftovers(self.path, self.path / "images")

    def delete(self) -> None:
        """Remove the cell: its pictures, and the files that every cell has. What else lies there stays."""
        if any(p.is_symlink() for p in (self.path.parent, self.path)):
            return
        images = self.path / "images"
        if not images.is_symlink():
            names = [PurePath(r["path"]).name for r in self.records() if PurePath(r["path"]).parent.name == "images"]
            remove_known(images, [name for name in names if is_own_picture(images / name)])
        remove_known(self.path, CELL_FILES)

    def check_there(self) -> None:
        """Raises OutputError when the cell's folder is gone."""
        if not self.path.is_dir():
            raise OutputError(f"{self.path}: the folder was removed while the sweep ran.")

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file of the cell, whole. Raises OutputError when the cell's folder is gone."""
        self.check_there()
        write_whole({self.path / name: json.dumps(values, indent=2, ensure_ascii=False).encode()})

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the cell, or None when it is not there. Raises RecordError when it is damaged."""
        return read_object(self.path / name, Cell if name == "cell.json" else Failure, AGAIN)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    @property
    def status(self) -> str:
        """complete, failed, or unfinished."""
        if (self.path / "cell.json").exists():
            return "complete"
        return "failed" if (self.path / "failed.json").exists() else "unfinished"


class SweepFolder:
    """All cells of one sweep."""

    def __init__(self, path: Path):
        self.path = path

    def cell(self, cell_id: str) -> CellFolder:
        """Raises RecordError for an id that is no name of a folder."""
        if not cell_id.strip(".") or not stays_inside(cell_id) or len(PurePath(cell_id).parts) != 1:
            raise RecordError(f"{self.path}: a cell cannot be called {cell_id[:80]!r}.")
        return CellFolder(self.path / "cells" / cell_id)

    def cells(self) -> list[CellFolder]:
        """The cells that have a folder, in the order in which they were taken up."""
        folders = [p for p in (self.path / "cells").glob("*") if p.is_dir()]
        return [CellFolder(p) for p in sorted(folders, key=lambda p: (started(p), p.name))]

    def clear_leftovers(self) -> None:
        """Remove what killed processes were in the middle of writing beside the cells. Others may be at work now."""
        remove_leftovers(self.path, self.path / "grids")

    def forget_refused(self) -> None:
        """Remove the failures of cells that never had a config; what is still refused will say so again."""
        cells = self.path / "cells"
        if not cells.is_symlink() and cells.is_dir():
            for folder in cells.iterdir():
                if REFUSED_ID.fullmatch(folder.name):
                    remove_known(folder, ["failed.json"])

    def refuse_foreign(self, key: str = "sweep.name") -> None:
        """Raises OutputError for a folder that holds something and is no sweep, RecordError for a damaged sweep.json.

        key: the setting that would name another one.
        """
        if not self.path.is_dir() or self.is_sweep():
            return
        others = sorted(p.name for p in self.path.iterdir() if not HALF_MADE.fullmatch(p.name))
        if others:
            raise OutputError(
                f"{self.path}: holds {others[0]!r} and no sweep of llm-dit, so nothing is written there. "
                f"Take another {key}."
            )

    def is_sweep(self) -> bool:
        """Whether a sweep was begun here: by its sweep.json or, where that was deleted, by its cells."""
        if isinstance(self.read().get("axes"), list):
            return True
        marks = ("started", "records.jsonl", "cell.json", "failed.json")
        return any((cell / mark).is_file() for cell in (self.path / "cells").glob("*") for mark in marks)

    def check_there(self) -> None:
        """Raises OutputError when sweep.json is gone, which is written before the first cell."""
        if not (self.path / "sweep.json").is_file():
            raise OutputError(f"{self.path}: the sweep's folder was removed while the sweep ran.")

    def write(self, values: dict[str, Any]) -> None:
        """Write sweep.json, whole."""
        write_whole({self.path / "sweep.json": json.dumps(values, indent=2, ensure_ascii=False).encode()})

    def read(self) -> dict[str, Any]:
        """sweep.json, or an empty dict when it is not there. Raises RecordError when it is damaged."""
        return read_object(self.path / "sweep.json", Sweep, AGAIN) or {}


def started(folder: Path) -> int:
    """When a cell was first taken up, in nanoseconds; 0 when that is not known."""
    try:
        return int(read_bytes(folder / "started"))
    except (LabError, OSError, ValueError):
        return 0


def sweep_of(config: Config) -> SweepFolder:
    """The folder that a config's cells go to."""
    return SweepFolder(user_path(config.sweep.dir) / str(config.sweep.name))
