"""Sweeps whose cells a search chooses (hydra/sweeper=optuna): what it is told of a cell, and what it ends with."""

from __future__ import annotations

import statistics
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from llm_dit.config import Config
from llm_dit.errors import ConfigError, nearest
from llm_dit.study.store import CellFolder, SweepFolder
from llm_dit.study.table import rows_of


class SearchCallback(Callback):
    """Hydra calls this around every multirun; the sweeper `study` does all of it itself and is left alone."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write the table, the grids and the report of what the search drew."""
        if not is_search(config.hydra.sweeper):
            return
        from llm_dit.compose import check
        from llm_dit.study.finish import existing_sweep, finish_sweep

        values = OmegaConf.to_container(config, resolve=False)
        values.pop("hydra")
        checked = check(values)
        print(*finish_sweep(existing_sweep(checked), checked), sep="\n")


def is_search(sweeper: Any) -> bool:
    """Whether a sweeper's config is another one than ours."""
    return not str(sweeper.get("_target_", "")).endswith("StudySweeper")


def describe_search(folder: SweepFolder, config: Config) -> None:
    """Write the search's sweep.json once, so that other tasks find it."""
    from llm_dit.metrics.registry import primary

    if not folder.read():
        named = {"primary": primary(config.metrics), "cells": []}
        folder.write({"sweep_version": 1, "name": config.sweep.name, "axes": config.sweep.axes, **named})


def cell_metric(folder: CellFolder, metric: str) -> float:
    """Mean of a numeric column of the table over the cell's pictures; 'seconds' is all of them but loading."""
    rows = rows_of(folder)
    numeric = {k for row in rows for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if metric not in numeric:
        raise ConfigError(f"sweep.metric={metric}: no such number in the table. {nearest(metric, numeric)}")
    return statistics.fmean(row[metric] for row in rows if row.get(metric) is not None)
