"""Optuna chooses cells by a number of the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("optuna")


def test_a_search_draws_cells_and_finds_the_least(run_main):
    code, _, _, _ = run_main(
        "-m", "x", "model=tiny", "tracker=none", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random",
        "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=1",
        "sampler.steps=choice(1,2,3)", "sweep.metric=nfe", "sweep.name=s",
    )  # fmt: skip
    assert code == 0
    cells = [json.loads(p.read_text()) for p in Path("outputs/sweeps/s").glob("cells/*/cell.json")]
    tried = sorted(int(c["labels"]["sampler.steps"]) for c in cells)
    assert tried == sorted(set(tried))  # a setting tried twice is drawn once
    results = next(Path("outputs/sweeps").glob("**/optimization_results.yaml")).read_text()
    assert f"best_value: {min(tried)}.0" in results or f"best_value: {min(tried)}\n" in results


def test_a_metric_that_is_not_in_the_table_is_named(run_main):
    code, _, err, _ = run_main(
        "-m", "x", "model=tiny", "tracker=none", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1",
        "hydra.sweeper.n_jobs=1", "sampler.steps=choice(1,2)", "sweep.metric=secnds",
    )  # fmt: skip
    assert code == 2
    assert "Did you mean 'seconds'?" in err


def test_hardware_arms_are_cells_of_their_own(sweep):
    _, out, _, folder = sweep("x", "hardware.batch_size=1,2", "seed=1,2")
    assert "2 cells (2 complete), 4 pictures drawn" in out
    assert sorted(r["axes"]["hardware.batch_size"] for c in folder.cells() for r in c.records()) == ["1", "1", "2", "2"]
