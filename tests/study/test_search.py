"""Optuna chooses cells by a number of the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("optuna")


def test_a_search_draws_cells_and_finds_the_least(run_main):
    code, out, err, _ = run_main(
        "-m", "x", "model=tiny", "tracker=none", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random",
        "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=1",
        "sampler.steps=choice(1,2,3)", "sampler.shift=interval(1,3)", "sweep.metric=nfe", "sweep.name=s",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "outputs/sweeps/s/table.parquet" in out
    assert list(Path("outputs/sweeps/s/grids").glob("*.png"))
    cells = [json.loads(p.read_text()) for p in Path("outputs/sweeps/s").glob("cells/*/cell.json")]
    tried = sorted(int(c["labels"]["sampler.steps"]) for c in cells)
    results = Path("outputs/sweeps/s/optimization_results.yaml").read_text()
    assert len(tried) == 6
    assert f"best_value: {min(tried)}.0" in results or f"best_value: {min(tried)}\n" in results


def test_a_setting_tried_twice_is_drawn_once(run_main):
    _, out, _, _ = run_main(
        "-m", "x", "model=tiny", "tracker=none", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random",
        "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=1",
        "sampler.steps=choice(1,2)", "sweep.metric=nfe",
    )  # fmt: skip
    assert out.count("1 drawn, 0 kept") + out.count("0 drawn, 1 kept") == 4
    assert len(list(Path("outputs/sweeps/search").glob("cells/*"))) == out.count("1 drawn, 0 kept") <= 2


@pytest.mark.parametrize(("setting", "message"), [("dry_run=true", "dry_run lists"), ("resume=false", "another sweep")])
def test_what_a_search_cannot_follow_is_refused(run_main, setting, message):
    code, out, err, written = run_main(
        "-m", "x", "model=tiny", "tracker=none", "hydra/sweeper=optuna", "sampler.steps=choice(1,2)", setting
    )
    assert (code, out, written) == (2, "", [])
    assert message in err


def test_a_search_without_a_name_is_called_search(run_main):
    code, _, _, _ = run_main(
        "-m", "x", "model=tiny", "tracker=none", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1",
        "hydra.sweeper.n_jobs=1", "sampler.steps=choice(1,2)",
    )  # fmt: skip
    assert code == 0
    assert {p.name for p in Path("outputs/sweeps").iterdir()} == {"search"}


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
