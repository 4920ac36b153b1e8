"""A sweep on disk, safe to kill at any moment:

    outputs/sweeps/NAME/
        sweep.json              question, axes, baseline, the cells asked for
        cells/ID/images/*.png   pictures, each written whole
        cells/ID/records.jsonl  one line a picture, appended after the picture is on disk
        cells/ID/scores.jsonl   one line a picture and metric (score.py)
        cells/ID/cell.json      written last: its presence means that the cell was finished
        cells/ID/failed.json    the traceback of the last failure, gone after a success
        cells/ID/lock           held by the process that draws the cell; the system frees it when that process dies

A picture counts as drawn when its line is whole and its file is there. Locks are flock: on network file systems that
do not support it a warning says so: let one process work on a sweep there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_dit.config import Config
from llm_dit.paths import user_path
from llm_dit.picture import write_whole

LEFTOVER_AGE = 3600  # seconds after which a half-written file of the sweep can only be a killed process's

_warned = False


class CellFolder:
    """One cell's files."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def id(self) -> str:
        return self.path.name

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Whether this process has the cell to itself until the block ends; False if another one is at it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                    raise
                _warn_unlocked()
            yield True

    def records(self) -> list[dict[str, Any]]:
        """The records of pictures whose files are there, the last one of each prompt and seed, in order."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for record in self.lines("records.jsonl"):
            if (self.path / record["path"]).is_file():
                found[record["prompt_id"], record["seed"]] = record
        return list(found.values())

    def append(self, record: dict[str, Any], name: str = "records.jsonl") -> None:
        """Add a line to a file of lines; on return it is on disk. Records only under the lock."""
        data = (json.dumps(record, ensure_ascii=False) + "\n").encode()
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
        """A JSON file of the cell, or None when it is not there."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    @property
    def status(self) -> str:
        """complete, failed, or unfinished."""
        if (self.path / "cell.json").exists():
            return "complete"
        return "failed" if (self.path / "failed.json").exists() else "unfinished"


def _warn_unlocked() -> None:
    global _warned
    if not _warned:
        print("warning: this file system has no locks; let one process at a time work on the sweep", file=sys.stderr)
    _warned = True


class SweepFolder:
    """All cells of one sweep."""

    def __init__(self, path: Path):
        self.path = path

    def cell(self, cell_id: str) -> CellFolder:
        return CellFolder(self.path / "cells" / cell_id)

    def cells(self) -> list[CellFolder]:
        """The cells that have a folder, oldest first."""
        folders = [p for p in (self.path / "cells").glob("*") if p.is_dir()]
        return [CellFolder(p) for p in sorted(folders, key=lambda p: (p.stat().st_ctime_ns, p.name))]

    def clear_leftovers(self) -> None:
        """Remove what killed processes were in the middle of writing beside the cells. Others may be at work now."""
        for folder in (self.path, self.path / "grids"):
            for path in folder.glob(".*.*"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > LEFTOVER_AGE:
                        path.unlink()

    def write(self, values: dict[str, Any]) -> None:
        """Write sweep.json, whole."""
        write_whole({self.path / "sweep.json": json.dumps(values, indent=2, ensure_ascii=False).encode()})

    def read(self) -> dict[str, Any]:
        """sweep.json, or an empty dict when it is not there."""
        try:
            return json.loads((self.path / "sweep.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}


def sweep_of(config: Config) -> SweepFolder:
    """The folder that a config's cells go to."""
    return SweepFolder(user_path(config.sweep.dir) / str(config.sweep.name))
