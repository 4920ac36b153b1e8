"""One progress display for a whole sweep, whatever processes draw it: it watches the records on disk.

Quiet when stderr is not a terminal; the cells' own lines tell enough there.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_dit.base.errors import LabError
from llm_dit.study.store import SweepFolder

INTERVAL = 0.5  # seconds between looks
Wanted = set[tuple[str, int, str]]  # (prompt id, seed, prompt)


class SweepProgress:
    """Cells, pictures, time left, and the last picture's path, as a bar on stderr.

    wanted: cell id -> its pictures. Other cells of the folder, from earlier commands, do not count.
    """

    def __init__(self, folder: SweepFolder, wanted: Mapping[str, Wanted]):
        self.folder = folder
        self.wanted = wanted
        self.total = sum(map(len, wanted.values()))
        self.active = sys.stderr.isatty()
        self._done: dict[str, set[tuple[str, int]]] = {}
        self._read: dict[str, int] = {}
        self._last = ""
        for cell_id, pictures in wanted.items():
            records = folder.cell(cell_id).records()
            there = {(r["prompt_id"], r["seed"], r["prompt"]) for r in records} & pictures
            self._done[cell_id] = {(prompt, seed) for prompt, seed, _ in there}
            self._read[cell_id] = size_of(self._records(cell_id))
        self.kept = sum(map(len, self._done.values()))
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
        """(cells done, pictures there, path of the newest picture drawn since the start) of those wanted."""
        for cell_id in self.wanted:
            records = self._records(cell_id)
            if size_of(records) == self._read[cell_id]:
                continue
            with records.open("rb") as file:
                file.seek(self._read[cell_id])
                added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._read[cell_id] += len(whole)
            for line in whole.splitlines():
                self._count(cell_id, line)
        cells = sum(
            len(self._done[i]) >= len(pictures) and (self.folder.cell(i).path / "cell.json").exists()
            for i, pictures in self.wanted.items()
        )
        return cells, sum(map(len, self._done.values())), self._last

    def _count(self, cell_id: str, line: bytes) -> None:
        try:
            record = json.loads(line)
            picture = (record["prompt_id"], record["seed"])
            self._last = str(self.folder.cell(cell_id).path / record["path"])
        except (LabError, ValueError, KeyError, TypeError, RecursionError):  # half a line that a killed process left
            return
        if any(picture == wanted[:2] for wanted in self.wanted[cell_id]):
            self._done[cell_id].add(picture)

    def _records(self, cell_id: str) -> Path:
        return self.folder.cell(cell_id).path / "records.jsonl"

    def _watch(self) -> None:
        from tqdm import tqdm

        with tqdm(total=self.total, unit="picture", initial=self.kept, smoothing=0.1) as bar:
            while not self._stop.wait(INTERVAL):
                self._show(bar)
            self._show(bar)

    def _show(self, bar: Any) -> None:
        cells, pictures, last = self.look()
        bar.set_description(f"{cells}/{len(self.wanted)} cells", refresh=False)
        bar.set_postfix_str(last[-60:], refresh=False)
        bar.update(pictures - bar.n)
        bar.refresh()


def size_of(path: Path) -> int:
    """Bytes of a file, 0 when it is not there."""
    return path.stat().st_size if path.exists() else 0
