"""Tasks on a finished sweep: the table and grids again, and sending it to a tracker later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_dit.study.grids.sheet import Sheet, write_sheet

ROOT = Path(__file__).parents[2]


def test_the_grid_task_makes_table_and_grids_again_from_the_records(sweep, run_main):
    folder = sweep("x", "sampler.steps=1,2")[3]
    grid = folder.path / "grids" / "grid.png"
    before = grid.read_bytes()
    write_sheet(Sheet((8, 8)), grid)
    write_sheet(Sheet((8, 8)), folder.path / "grids" / "grid-stale.png")
    theirs = folder.path / "grids" / "gridlock_photo.png"
    theirs.write_bytes(b"theirs")
    (folder.path / "table.parquet").unlink()
    code, out, _, _ = run_main("task=grid", "sweep.name=s")
    assert code == 0
    assert out.split() == ["outputs/sweeps/s/table.parquet", "outputs/sweeps/s/grids/grid.png"]
    assert grid.read_bytes() == before
    assert not (folder.path / "grids" / "grid-stale.png").exists()
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=grid"], "task=grid needs sweep.name"),
        (["task=grid", "sweep.name=ss"], "Did you mean 's'?"),
        (["task=sync", "sweep.name=s", "tracker=none"], "add tracker=wandb or tracker=trackio"),
    ],
)
def test_what_is_missing_is_named(sweep, run_main, arguments, message):
    sweep("x", "sampler.steps=1,2")
    code, out, err, _ = run_main(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_sweep_is_sent_to_a_tracker_later(sweep, tmp_path):
    """In a process of its own: Trackio reads its folder from the environment when it is imported."""
    sweep("x", "sampler.steps=1,2", "seed=1,2")
    command = [sys.executable, ROOT / "experiments" / "run.py", "task=sync", "sweep.name=s", "tracker=trackio"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 cells, 4 pictures sent to trackio")
    assert "trackio show" in done.stdout
    assert len(list((tmp_path / "outputs" / "trackio").rglob("*.png"))) >= 4
