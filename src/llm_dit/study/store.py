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
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_dit.config import Config
from llm_dit.errors import RecordError
from llm_dit.lock import locked
from llm_dit.paths import user_path
from llm_dit.picture import RECORD_VERSION, write_whole

REFUSED = "refused-"  # begins the folder of a cell whose settings contradict each other: it holds failed.json alone
LEFTOVER_AGE = 3600  # seconds after which a half-written file of the sweep can only be a killed process's


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
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), (self.path / "started").open("x") as file:
            file.write(str(time.time_ns()))
        with locked(self.path / name) as mine:
            yield mine

    def records(self) -> list[dict[str, Any]]:
        """The records of pictures whose files are there, the last one of each prompt and seed, in order.

        Raises RecordError for a record of another version, or one that lacks what every record has.
        """
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for record in self.lines("records.jsonl"):
            self._check(record)
            if (self.path / record["path"]).is_file():
                found[record["prompt_id"], record["seed"]] = record
        return list(found.values())

    def _check(self, record: dict[str, Any]) -> None:
        path, version = self.path / "records.jsonl", record.get("record_version", RECORD_VERSION)
        if version != RECORD_VERSION:
            raise RecordError(f"{path}: a record has version {version}; this release reads version {RECORD_VERSION}.")
        lacking = [key for key in ("path", "prompt_id", "seed", "pixels_sha256", "axes") if key not in record]
        if lacking:
            raise RecordError(f"{path}: a line is no record of a picture (it lacks {', '.join(lacking)}); delete it.")

    def append(self, *records: dict[str, Any], name: str = "records.jsonl") -> None:
        """Add lines to a file of lines; on return they are on disk. Only under the lock."""
        data = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        path = self.path / name
        with path.open("ab") as file:
            # A process killed in the middle of a write leaves half a line, which must not swallow the next one.
            if file.tell():
                with path.open("rb") as before:
                    before.seek(-1, os.SEEK_END)
                    if before.read(1) != b"\n":
                        data = b"\n" + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The whole lines of a file of lines; none when it is not there."""
        try:
            text = (self.path / name).read_bytes()
        except FileNotFoundError:
            return
        for line in text.split(b"\n"):
            with contextlib.suppress(ValueError):  # half a line, half a character
                values = json.loads(line.decode())
                if isinstance(values, dict):
                    yield values

    def clear_leftovers(self) -> None:
        """Remove what a killed process was in the middle of writing. Only under the lock."""
        for folder in (self.path, self.path / "images"):
            for path in folder.glob(".*"):
                path.unlink(missing_ok=True)

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file of the cell, whole."""
        write_whole({self.path / name: json.dumps(values, indent=2, ensure_ascii=False).encode()})

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the cell, or None when it is not there. Raises RecordError when it is damaged."""
        return read_json(self.path / name)

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
        return CellFolder(self.path / "cells" / cell_id)

    def cells(self) -> list[CellFolder]:
        """The cells that have a folder, in the order in which they were taken up."""
        folders = [p for p in (self.path / "cells").glob("*") if p.is_dir()]
        return [CellFolder(p) for p in sorted(folders, key=lambda p: (started(p), p.name))]

    def clear_leftovers(self) -> None:
        """Remove what killed processes were in the middle of writing beside the cells. Others may be at work now."""
        for folder in (self.path, self.path / "grids"):
            for path in folder.glob(".*.*"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > LEFTOVER_AGE:
                        path.unlink()

    def forget_refused(self) -> None:
        """Remove the failures of cells that never had a config; what is still refused will say so again."""
        for folder in (self.path / "cells").glob(f"{REFUSED}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def write(self, values: dict[str, Any]) -> None:
        """Write sweep.json, whole."""
        write_whole({self.path / "sweep.json": json.dumps(values, indent=2, ensure_ascii=False).encode()})

    def read(self) -> dict[str, Any]:
        """sweep.json, or an empty dict when it is not there. Raises RecordError when it is damaged."""
        return read_json(self.path / "sweep.json") or {}


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, None when there is no file. Raises RecordError when it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise RecordError(f"{path}: cannot be read ({error}); delete it and run the sweep again.") from error
    if not isinstance(values, dict):
        raise RecordError(f"{path}: holds no JSON object; delete it and run the sweep again.")
    return values


def started(folder: Path) -> int:
    """When a cell was first taken up, in nanoseconds; 0 when that is not known."""
    try:
        return int((folder / "started").read_text())
    except (OSError, ValueError):
        return 0


def sweep_of(config: Config) -> SweepFolder:
    """The folder that a config's cells go to."""
    return SweepFolder(user_path(config.sweep.dir) / str(config.sweep.name))
