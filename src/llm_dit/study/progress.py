"""One progress display for a whole sweep, whatever processes draw it: it watches the records on disk.

Quiet when stderr is not a terminal; the cells' own lines tell enough there.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from llm_dit.compose import seeds_of
from llm_dit.config import Config
from llm_dit.study.cell import prompts_of
from llm_dit.study.store import SweepFolder

INTERVAL = 0.5  # seconds between looks
PER_CELL = ("seed", "num_images", "prompts")  # an axis of one of these gives cells different numbers of pictures


class SweepProgress:
    """Cells, pictures, time left, and the last picture's path, as a bar on stderr."""

    def __init__(self, folder: SweepFolder, first: Config, jobs: list[list[str]]):
        self.folder = folder
        self.cells = len(jobs)
        varies = any(key.split(".")[0].rstrip("s") in [k.rstrip("s") for k in PER_CELL] for key in first.sweep.axes)
        self.total = None if varies else self.cells * len(prompts_of(first)) * len(seeds_of(first))
        self.active = sys.stderr.isatty()
        self._read: dict[Path, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SweepProgress:
        if self.active:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self.active:
            self._thread.join()

    def look(self) -> tuple[int, int, str]:
        """(cells complete, pictures recorded, path of the newest picture) as the folder has them now."""
        newest, last = 0.0, ""
        pictures = cells = 0
        for cell in (self.folder.path / "cells").glob("*"):
            cells += (cell / "cell.json").exists()
            records = cell / "records.jsonl"
            try:
                stat = records.stat()
            except FileNotFoundError:
                continue
            size, lines = self._read.get(records, (0, 0))
            if stat.st_size != size:
                with records.open("rb") as file:
                    file.seek(size)
                    added = file.read()
                self._read[records] = (size + len(added), lines := lines + added.count(b"\n"))
            pictures += lines
            if stat.st_mtime > newest:
                newest, last = stat.st_mtime, last_path(records)
        return cells, pictures, last

    def _watch(self) -> None:
        from tqdm import tqdm

        with tqdm(total=self.total, unit="picture", desc=f"0/{self.cells} cells", smoothing=0.1) as bar:
            bar.update(self.look()[1])
            bar.initial = bar.n
            while not self._stop.wait(INTERVAL):
                self._show(bar)
            self._show(bar)

    def _show(self, bar: Any) -> None:
        cells, pictures, last = self.look()
        bar.set_description(f"{cells}/{self.cells} cells", refresh=False)
        bar.set_postfix_str(last[-60:], refresh=False)
        bar.update(pictures - bar.n)
        bar.refresh()


def last_path(records: Path) -> str:
    """The picture of the last whole line of a records file, or an empty text."""
    tail = records.read_bytes()[-65536:].split(b"\n")[:-1]
    try:
        return str(records.parent / json.loads(tail[-1])["path"])
    except (ValueError, IndexError, KeyError):
        return ""
