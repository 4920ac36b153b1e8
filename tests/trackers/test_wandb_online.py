"""W&B online: what the real client sends, to a server on this machine, when all goes well and when uploads hang."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fake_wandb import FakeWandb
from readback import wandb_runs

CELLS = ("encoder_layer.index=-2", "encoder_layer.index=-8")


@pytest.fixture
def server():
    fake = FakeWandb()
    yield fake
    fake.close()


@pytest.fixture
def account(server):
    return {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url}


def by_label(server: FakeWandb) -> dict[str, str]:
    """Display names to ids, each once."""
    found = {run["displayName"]: run_id for run_id, run in server.runs.items()}
    assert len(found) == len(server.runs)
    return found


def check_the_whole_sweep(server: FakeWandb, folder) -> None:
    ids = by_label(server)
    assert set(ids) == {*CELLS, "hidden_layer summary"}
    first, failed, summary = (ids[name] for name in (*CELLS, "hidden_layer summary"))
    assert {run["groupName"] for run in server.runs.values()} == {"hidden_layer"}
    assert [server.runs[i]["jobType"] for i in (first, failed, summary)] == ["cell", "cell", "summary"]
    assert server.exit_codes == {first: 0, failed: 1, summary: 0}
    steps = server.history[first]
    assert [step["picture"]["caption"] for step in steps] == ["a fox, seed 0", "a fox, seed 1"]
    assert server.files[first, steps[0]["picture"]["path"]] == (folder / "c0_0.png").read_bytes()
    assert server.summary[first]["mean/sharpness"] == 0.5
    grid = server.history[summary][0]["grid/grid_1"]["path"]
    assert server.files[summary, grid] == (folder / "grid_1.png").read_bytes()


def test_logged_in_means_online(sweep, server, account):
    done = sweep("wandb", "whole", **account)
    assert done.out == ""
    assert done.err == [f"W&B: {server.url}/somebody/llm-dit"]
    assert done.outside() == []
    check_the_whole_sweep(server, done.folder)


def test_a_cell_logged_again_keeps_its_id(sweep, server, account):
    done = sweep("wandb", "again", **account)
    assert done.warnings == []
    ids = by_label(server)
    assert set(ids) == {CELLS[0]}
    assert len(server.history[ids[CELLS[0]]]) == 2


def test_uploads_that_hang_do_not_hold_the_sweep(sweep, server, account):
    server.stall = True
    done = sweep("wandb", "whole", **account, WANDB_FINISH_TIMEOUT="1")
    (warning,) = done.warnings
    assert warning.startswith(
        "warning: W&B did not take all data of a run in time, so the next runs are written offline"
    )
    assert set(wandb_runs(done.wandb)) == {CELLS[1], "hidden_layer summary"}
    assert any("not all uploaded: uv run wandb sync --include-online" in line for line in done.err)


def test_offline_then_the_printed_command_uploads_everything(sweep, server, account):
    done = sweep("wandb", "whole")
    assert server.runs == {}
    sync = f"{sys.executable} -m " + done.err[0].partition("upload with: uv run ")[2]
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(done.folder / "home"), "WANDB_ERROR_REPORTING": "false"}
    for name in ("DATA", "CACHE", "CONFIG"):
        clean[f"WANDB_{name}_DIR"] = str(done.folder / "home" / name)
    subprocess.run(
        sync, shell=True, cwd=done.folder, env={**clean, **account}, capture_output=True, timeout=120, check=True
    )
    check_the_whole_sweep(server, done.folder)


def test_an_unfinished_online_run_is_uploaded_by_the_printed_command(sweep, server, account):
    server.stall = True
    done = sweep("wandb", "cell0", **account, WANDB_FINISH_TIMEOUT="1")
    server.stall = False
    server.files.clear()
    (line,) = [line for line in done.err if "not all uploaded" in line]
    sync = f"{sys.executable} -m " + line.partition("not all uploaded: uv run ")[2]
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(done.folder / "home"), "WANDB_ERROR_REPORTING": "false"}
    subprocess.run(
        sync, shell=True, cwd=done.folder, env={**clean, **account}, capture_output=True, timeout=120, check=True
    )
    (run_id,) = server.runs
    assert len([name for run, name in server.files if run == run_id and name.startswith("media/images/")]) == 2
    assert len(server.history[run_id]) == 2
