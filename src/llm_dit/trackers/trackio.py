"""Trackio: a local dashboard without an account. A project per sweep, a run per cell, in one folder on this disk.

Trackio reads its folder from TRACKIO_DIR once, when it is first imported, so one process has one folder. It reports
trouble by warnings and goes on, from a thread of its own; here they are collected and raised.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.trackers.base import Tally, ensure_writable, file_name, numbers, shown, warn

if TYPE_CHECKING:
    from trackio.run import Run

MARK = "llm_dit_sweep"  # in the config of every run of ours: only what has it is ever replaced
DEFAULT_FOLDER = "outputs/trackio"


class TrackioError(RuntimeError):
    """Trackio could not write."""


class TrackioTracker:
    """folder: where all projects lie; None takes TRACKIO_DIR, or outputs/trackio."""

    def __init__(self, folder: Path | None = None):
        self.folder = Path(folder or os.environ.get("TRACKIO_DIR") or DEFAULT_FOLDER).absolute()
        self._project = ""
        self._run: Run | None = None
        self._tally = Tally()
        self._troubles: list[str] = []

    def start_cell(self, sweep: str, cell: str, config: dict[str, Any], label: str = "") -> None:
        plain = {key: value for key, value in config.items() if not key.startswith("_")}  # reserved by Trackio
        self._open(sweep, f"{label} {cell}".strip(), plain)

    def log_image(self, path: Path, caption: str, values: Mapping[str, float | None]) -> None:
        given = numbers(values)
        self._tally.add(given)
        with self._watched() as trackio:
            self._run.log({"picture": trackio.Image(str(path), caption=caption), **given})

    def log_values(self, step: int, values: Mapping[str, float | None]) -> None:
        with self._watched():
            self._run.log(numbers(values), step=step)

    def finish_cell(self, status: str, scores: Mapping[str, float] | None = None) -> None:
        with self._watched() as trackio:
            self._run.log(self._tally.row(status, scores))  # logged once a run, the means become bars, one a cell
            if status != "complete":  # runs have no state, and words among the metrics are not shown
                self._run.alert(f"cell {status}", level=trackio.AlertLevel.ERROR)
        self._finish()

    def summary(self, sweep: str, grids: Sequence[Path], table: Sequence[Mapping[str, Any]]) -> None:
        self._open(sweep, "summary", {})
        with self._watched() as trackio:

            def cell(value: Any) -> Any:
                if isinstance(value, Path):
                    return trackio.Image(str(value))
                return value if value is None or isinstance(value, bool | int | float | str) else str(value)

            # One key per grid: a list of images is dropped by Trackio.
            logged: dict[str, Any] = {f"grid/{grid.stem}": trackio.Image(str(grid), grid.stem) for grid in grids}
            if table:
                columns = list(dict.fromkeys(key for row in table for key in row))
                rows = [[cell(row.get(key)) for key in columns] for row in table]
                logged["arms"] = trackio.Table(columns=columns, data=rows)
            self._run.log(logged)
        self._finish()

    def where(self) -> str:
        if not self._project:
            return ""
        if elsewhere := os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL"):
            return f"Trackio: project {self._project} at {elsewhere.split('?')[0]}"
        folder = shown(self.folder)
        return f"Trackio: look at it with: TRACKIO_DIR={folder} trackio show --project {self._project}"

    def close(self) -> None:
        if self._run is not None:
            self._finish()

    def _open(self, sweep: str, name: str, config: dict[str, Any]) -> None:
        if self._run is not None:
            self._finish()
        self._tally = Tally()
        if sys.modules.get("trackio"):
            from trackio.utils import TRACKIO_DIR

            if (loaded := Path(TRACKIO_DIR).absolute()) != self.folder:
                warn(f"Trackio was loaded before with {loaded}, so this sweep goes there, not to {self.folder}")
                self.folder = loaded
        os.environ["TRACKIO_DIR"] = str(self.folder)
        ensure_writable(self.folder)
        # Trackio drops other characters from the file's name, so that a.b and ab would share one database.
        project = re.sub(r"[^A-Za-z0-9_-]", "-", sweep)[:100]
        run_name = file_name(name)  # Trackio makes a folder of it
        with self._watched() as trackio:
            forget(trackio, project, run_name, self.folder)
            keep_the_account_out()
            self._run = trackio.init(
                project=project,
                name=run_name,
                group=sweep,
                config={**config, MARK: sweep},
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
            # Its thread reports by this method, when nobody listens for warnings.
            self._run._warn_once = lambda key, message: self._troubles.append(message)
        self._project = project

    def _finish(self) -> None:
        run, self._run = self._run, None
        with self._watched() as trackio:
            try:
                run.finish()
            finally:
                trackio.context_vars.current_run.set(None)  # else the next init finishes it once more

    @contextlib.contextmanager
    def _watched(self) -> Iterator[Any]:
        """The trackio module, its prints hidden. Raises TrackioError if it warned, here or in its thread."""
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            import trackio

            yield trackio
        warned = [w for w in caught if w.category is UserWarning and "trackio" in Path(w.filename).parts]
        troubles = [t for t in (*self._troubles, *(str(w.message) for w in warned)) if "keys renamed" not in t]
        self._troubles = []
        if troubles:
            raise TrackioError(troubles[0])


def forget(trackio: Any, project: str, run_name: str, folder: Path) -> None:
    """Remove the run that an earlier attempt at this cell left, with its copies of pictures.

    Raises TrackioError for a run or pictures of that name that are not this program's.
    """
    if not (folder / f"{project}.db").exists():
        return
    before = [run for run in trackio.Api().runs(project) if run.name == run_name]
    media = folder / "media" / project / run_name
    if any(MARK not in (run.config or {}) for run in before) or (not before and os.path.lexists(media)):
        raise TrackioError(
            f"the project {project} in {folder} has a run {run_name!r} that llm-dit did not write, so it is kept and "
            "nothing is sent there; take another sweep.name or TRACKIO_DIR."
        )
    for run in before:
        run.delete()
    if not any(place.is_symlink() for place in (media, media.parent, media.parent.parent)):
        shutil.rmtree(media, ignore_errors=True)


def keep_the_account_out() -> None:
    """Keep Trackio from asking the Hugging Face hub for the user's name at every init, which it does if a token is at
    hand: for a local folder that is a network call for nothing, and a long wait on a machine that is cut off."""
    if os.environ.get("TRACKIO_SPACE_ID"):
        return
    from trackio.run import Run

    if hasattr(Run, "_get_username"):
        Run._get_username = lambda self: None
