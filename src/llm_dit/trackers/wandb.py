"""Weights & Biases: online when logged in, otherwise offline without a question.

Cells become runs of one group; everything is written below the sweep's folder, in wandb/. Offline runs are uploaded
later by `wandb sync`. Nothing is asked, printed or sent that the sweep did not log: no prompt for a key, no console
capture, no git, no machine statistics, no error reports.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import told
from llm_dit.trackers.base import Tally, ensure_writable, nested, numbers, shown, warn

if TYPE_CHECKING:
    import wandb

# How long a server out of reach may hold a sweep up, each once at most: at a run's start, and at its end while uploads
# go on; what is not uploaded stays on disk. WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT override.
INIT_SECONDS = 30.0
FINISH_SECONDS = 120.0

_out_of_reach = False  # for the whole process: the wait for a server that does not answer is not repeated


class WandbTracker:
    """folder: of the sweep. project: the W&B project; the entity is the account's own or WANDB_ENTITY."""

    def __init__(self, folder: Path, project: str):
        self.folder = Path(folder).absolute()
        self.project = project
        self.mode: str | None = None  # known at the first run: online, shared, offline or disabled
        self._run: wandb.Run | None = None
        self._tally = Tally()
        self._online_url = ""
        self._unfinished: list[Path] = []  # online runs whose upload was cut short

    def start_cell(self, sweep: str, cell: str, config: dict[str, Any], label: str = "") -> None:
        self._open(sweep, cell, label or cell, "cell", nested(config))

    def log_image(self, path: Path, caption: str, values: Mapping[str, float | None]) -> None:
        given = numbers(values)
        self._tally.add(given)
        if self._run is None:
            return
        import wandb

        # One step per picture under one key: the page shows step i of all cells side by side, the same prompt and seed.
        self._run.log({"picture": wandb.Image(str(path), caption=caption), **given})

    def log_values(self, step: int, values: Mapping[str, float | None]) -> None:
        if self._run is not None:
            # As a value of its own: W&B's step must never fall, and pictures count theirs.
            self._run.log({"train_step": step, **numbers(values)})

    def finish_cell(self, status: str, scores: Mapping[str, float] | None = None) -> None:
        if self._run is None:
            return
        self._run.summary.update(self._tally.row(status, scores))
        self._finish(failed=status != "complete")

    def summary(self, sweep: str, grids: Sequence[Path], table: Sequence[Mapping[str, Any]]) -> None:
        self._open(sweep, "", f"{sweep} summary", "summary", {})
        if self._run is None:
            return
        import wandb

        logged: dict[str, Any] = {f"grid/{grid.stem}": wandb.Image(str(grid), caption=grid.stem) for grid in grids}
        if table:
            logged["arms"] = make_table(table, images=self.mode != "offline")
        self._run.log(logged)
        self._run.summary.update({"status": "complete", "cells": len(table)})
        self._finish(failed=False)

    def where(self) -> str:
        lines = []
        if self._online_url:
            lines.append(f"W&B: {self._online_url}")
        for folder in self._unfinished:
            lines.append(f"W&B: not all uploaded: uv run wandb sync --include-online {shown(folder)}")
        if self.mode and any((self.folder / "wandb").glob("offline-run-*")):
            runs = shown(self.folder / "wandb")
            lines.append(f"W&B: offline, in {runs}; upload with: uv run wandb sync {runs}/offline-run-*")
        return "\n".join(lines)

    def close(self) -> None:
        if self._run is not None:
            self._finish(failed=True)

    def _open(self, sweep: str, cell: str, name: str, job: str, config: dict[str, Any]) -> None:
        global _out_of_reach
        if self._run is not None:
            self._finish(failed=True)
        self._tally = Tally()
        folder = self.folder / "wandb"
        ensure_writable(folder)
        # Read by the library and by its helper process; without them tables are staged in the home folder, and every
        # exit looks up the name of the vendor's error collector.
        os.environ["WANDB_DATA_DIR"] = str(folder / "data")
        os.environ["WANDB_CACHE_DIR"] = str(folder / "cache")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        if self.mode is None:
            self.mode = choose_mode()
        if _out_of_reach and self.mode != "disabled":
            self.mode = "offline"
        if self.mode == "disabled":
            return
        run_id = self._run_id(folder, sweep, cell, job)
        put_aside(folder, run_id)
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,  # the records hold the versions
            symlink=False,  # several processes of one sweep would fight over latest-run
            init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT") or INIT_SECONDS),
            finish_timeout=float(os.environ.get("WANDB_FINISH_TIMEOUT") or FINISH_SECONDS),
            finish_timeout_raises=True,
        )

        def start(run_id: str) -> wandb.Run:
            return wandb.init(
                project=self.project,
                dir=str(self.folder),
                id=run_id,
                name=name[:128],
                group=sweep[:128],
                job_type=job,
                config=config,
                mode=self.mode,
                # The default returns the run that is already open, and two cells become one.
                reinit="create_new",
                settings=settings,
            )

        try:
            self._run = start(run_id)
        except Exception as error:
            if self.mode == "offline":
                raise
            _out_of_reach, self.mode = True, "offline"
            warn(f"W&B cannot be reached, so its runs are written offline: {told(error)}")
            # The library's helper still holds the id of the run that did not start.
            self._run = start(f"{run_id}-offline")
        if self.mode != "offline":
            self._online_url = self._run.project_url or ""

    def _finish(self, failed: bool) -> None:
        global _out_of_reach
        run, self._run = self._run, None
        try:
            run.finish(exit_code=int(failed))
        except TimeoutError:
            self._unfinished.append(Path(run.dir).parent)
            _out_of_reach, self.mode = True, "offline"
            warn(f"W&B did not take all data of a run in time, so the next runs are written offline: {run.name}")
        ensure_writable(self.folder / "wandb")  # W&B loses what it cannot write without a word

    @staticmethod
    def _run_id(folder: Path, sweep: str, cell: str, job: str) -> str:
        """The same for the same cell of this folder, so that a run logged again replaces itself.

        A random part, kept in the folder, keeps two people's sweeps of one name from replacing each other online.
        """
        salt = folder / "salt"
        try:
            with salt.open("x") as new:
                new.write(secrets.token_hex(8))
        except FileExistsError:
            pass
        return hashlib.sha256("\0".join((salt.read_text(), sweep, job, cell)).encode()).hexdigest()[:16]


def choose_mode() -> str:
    """online, shared, offline or disabled: WANDB_MODE if set, else by whether credentials are at hand. No network."""
    asked = os.environ.get("WANDB_MODE", "").strip().lower()
    asked = {"dryrun": "offline", "run": "online"}.get(asked, asked)
    if asked in ("offline", "disabled"):
        return asked
    if asked not in ("", "online", "shared"):
        warn(f"WANDB_MODE={asked} is not a mode of W&B (online, offline, disabled); its runs are written offline")
        return "offline"
    try:
        found = credentials_at_hand()
    except Exception as error:  # a malformed key
        warn(f"W&B credentials cannot be used, so its runs are written offline: {told(error)}")
        return "offline"
    if not found:
        if asked:
            # wandb.init would ask for a key here and wait.
            warn(f"WANDB_MODE={asked}, but nobody is logged in (wandb login); W&B runs are written offline")
        return "offline"
    return asked or "online"


def credentials_at_hand() -> bool:
    """Whether W&B would log in without asking. Raises wandb's AuthenticationError for a malformed key."""
    import wandb

    try:
        from wandb.sdk.lib.wbauth import authenticate_session
    except ImportError:  # not a public name; the variable is
        return bool(os.environ.get("WANDB_API_KEY"))
    host = wandb.setup().settings.base_url
    return authenticate_session(host=host, source="llm_dit", prompt=False, update_session=False) is not None


def put_aside(folder: Path, run_id: str) -> None:
    """Move offline runs of an earlier attempt at this cell out of what `wandb sync FOLDER/offline-run-*` uploads."""
    for old in folder.glob(f"offline-run-*-{run_id}*"):
        aside = folder / "replaced" / f"{old.name}-{secrets.token_hex(4)}"
        aside.parent.mkdir(exist_ok=True)
        old.rename(aside)


def make_table(rows: Sequence[Mapping[str, Any]], images: bool) -> wandb.Table:
    """A W&B table of rows. Pictures (values that are Paths) only when images: offline they would be lost, so they are
    named instead. A column that mixes numbers and words becomes words, as W&B wants one type a column."""
    import wandb

    columns = list(dict.fromkeys(key for row in rows for key in row))

    def column(key: str) -> list[Any]:
        values = [row.get(key) for row in rows]
        if any(isinstance(v, Path) for v in values):
            if images:
                return [wandb.Image(str(v)) if isinstance(v, Path) else None for v in values]
            return [v.name if isinstance(v, Path) else None for v in values]
        plain = [v if v is None or isinstance(v, bool | int | float | str) else str(v) for v in values]
        kinds = {float if type(v) is int else type(v) for v in plain if v is not None}
        return plain if len(kinds) <= 1 else [None if v is None else str(v) for v in plain]

    by_column = [column(key) for key in columns]
    return wandb.Table(columns=columns, data=[list(row) for row in zip(*by_column, strict=True)])
