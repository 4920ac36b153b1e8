"""What is made of a sweep's records, again and again if need be: the table, the grids, the report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from llm_dit.base.errors import ConfigError, LabError, nearest, printable
from llm_dit.base.paths import user_path
from llm_dit.config import Config
from llm_dit.study.store import SweepFolder


def finish_sweep(folder: SweepFolder, config: Config) -> list[Path]:
    """Write the long table, the grids and the report from what is there. Returns what was written."""
    written = write_table_and_grids(folder)
    return written + guarded("the report", lambda: [write_sweep_report(folder, config)] if written else [])


def write_table_and_grids(folder: SweepFolder) -> list[Path]:
    """Write table.parquet and grids/. Returns what was written, nothing when no picture is there yet."""
    from llm_dit.study.grids.pages import write_grids
    from llm_dit.study.table import write_table

    def table() -> list[Path]:
        path = write_table(folder)
        return [path] if path else []

    return guarded("the table", table) + guarded("the grids", lambda: write_grids(folder))


def guarded(what: str, write: Callable[[], list[Path]]) -> list[Path]:
    """What write() has written. A part that cannot be written is a warning: the pictures are safe, and the task of
    that name tries again."""
    try:
        return write()
    except LabError as error:
        print(f"warning: {what} could not be written: {printable(error)}", file=sys.stderr)
        return []


def write_sweep_report(folder: SweepFolder, config: Config) -> Path:
    """Write report.html into the sweep's folder. Raises LabError: an unknown baseline, metric or further sweep."""
    from llm_dit.study.evidence.analysis import analyse
    from llm_dit.study.report.write import collect_pictures, provenance, write_report

    settings = config.report
    folders = [folder, *(existing_sweep(config, name) for name in settings.sweeps if name != folder.path.name)]
    analysis = analyse(
        folders, primary=config.metrics.primary, baseline=settings.baseline, resamples=settings.resamples
    )
    pictures = collect_pictures(
        folders, analysis, thumbnail_size=settings.thumbnail_size, max_pictures=settings.max_pictures
    )
    return write_report(analysis, pictures, folder.path / "report.html", facts=provenance(folders))


def existing_sweep(config: Config, name: str | None = None) -> SweepFolder:
    """The folder of a sweep, of sweep.name by default. Raises ConfigError when there is none of ours."""
    root = user_path(config.sweep.dir)
    there = [p.parent.name for p in root.glob("*/sweep.json")]
    key, name = ("report.sweeps", name) if name else ("sweep.name", config.sweep.name)
    if name is None:
        raise ConfigError(f"task={config.task} needs sweep.name=... {nearest('', there)}".strip())
    if name not in there:
        raise ConfigError(f"{key}={name}: no such sweep in {root}. {nearest(name, there)}")
    folder = SweepFolder(root / name)
    if not folder.is_sweep():
        raise ConfigError(f"{key}={name}: {folder.path / 'sweep.json'} is not of a sweep of llm-dit.")
    return folder
