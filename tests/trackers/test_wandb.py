"""W&B offline: what a sweep leaves on disk is complete, grouped, and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from readback import finish, start, wandb_records, wandb_runs

from llm_dit.trackers import wandb as ours

CELLS = ("encoder_layer.index=-2", "encoder_layer.index=-8")


def test_a_sweep_becomes_one_run_per_cell_and_a_summary(sweep):
    done = sweep("wandb", "whole")
    assert done.out == ""
    assert done.warnings == []
    assert done.network == ""
    assert done.outside() == []

    runs = wandb_runs(done.wandb)
    assert set(runs) == {*CELLS, "hidden_layer summary"}
    assert {found["run"].run_group for found in runs.values()} == {"hidden_layer"}
    assert {found["run"].project for found in runs.values()} == {"llm-dit"}
    assert [runs[cell]["run"].job_type for cell in CELLS] == ["cell", "cell"]
    assert len({found["run"].run_id for found in runs.values()}) == 3

    first = runs[CELLS[0]]
    # Nested, which the page shows with dots and can filter by; a key with dots in it cannot be filtered by.
    assert first["config"] == {
        "encoder_layer": {"index": -2},
        "sampler": {"steps": 8},
        "prompt": {"text": None},
        "seeds": [0, 1],
        "tiling": {"enabled": False},
    }
    assert first["exit_code"] == 0
    assert [step["picture/caption"] for step in first["history"]] == ["a fox, seed 0", "a fox, seed 1"]
    assert [step["sharpness"] for step in first["history"]] == [0.0, 1.0]
    assert first["history"][0]["seconds/total"] == 1.0
    assert "clip" not in first["history"][0]  # None: not measured
    assert first["summary"]["status"] == "complete"
    assert first["summary"]["pictures"] == 2
    assert first["summary"]["mean/sharpness"] == 0.5
    files = run_folder(done, first) / "files"
    for step, name in zip(first["history"], ("c0_0.png", "c0_1.png"), strict=True):
        assert (files / step["picture/path"]).read_bytes() == (done.folder / name).read_bytes()

    failed = runs[CELLS[1]]
    assert failed["exit_code"] == 1
    assert failed["summary"]["status"] == "failed"
    assert len(failed["history"]) == 1

    summary = runs["hidden_layer summary"]
    assert summary["run"].job_type == "summary"
    (logged,) = summary["history"]
    files = run_folder(done, summary) / "files"
    assert (files / logged["grid/grid_1/path"]).read_bytes() == (done.folder / "grid_1.png").read_bytes()
    assert (files / logged["grid/grid_2/path"]).is_file()
    table = json.loads((files / logged["arms/path"]).read_text())
    assert table["columns"] == ["cell", "index", "sharpness", "sample", "axis"]
    assert table["data"][0] == [CELLS[0], -2, 0.5, "c0_0.png", None]  # a picture offline is its name

    (where,) = done.err
    assert where.endswith("upload with: uv run wandb sync outputs/sweeps/hidden_layer/wandb/offline-run-*")


def test_the_command_that_is_printed_finds_every_run(sweep):
    done = sweep("wandb", "whole")
    command = done.err[0].partition("upload with: ")[2]
    program = command.replace("uv run wandb sync", f"{sys.executable} -m wandb sync --dry-run")
    shown = subprocess.run(
        program, shell=True, cwd=done.folder, text=True, capture_output=True, timeout=120, check=True
    )
    assert "Would sync 3 run(s)" in shown.stderr + shown.stdout


def test_a_cell_logged_again_replaces_itself(sweep):
    done = sweep("wandb", "again")
    assert done.warnings == []
    assert done.err[0] == "1 2 ['gone.png'] True"
    runs = wandb_runs(done.wandb)
    assert set(runs) == {CELLS[0]}
    assert len(runs[CELLS[0]]["history"]) == 2
    # What the attempts before left is out of the way of `wandb sync`, under the same id, and not lost.
    aside = [wandb_records(path) for path in (done.wandb / "replaced").iterdir()]
    assert {found["run"].run_id for found in aside} == {runs[CELLS[0]]["run"].run_id}
    assert sorted(len(found["history"]) for found in aside) == [1, 2]


def test_ids_differ_between_two_folders_of_one_sweep_name(tmp_path):
    ids = set()
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        ids |= {ours.WandbTracker._run_id(folder, "s", "c", "cell") for _ in range(2)}
    assert len(ids) == 2


def test_a_process_that_ends_without_closing_keeps_its_pictures(sweep):
    done = sweep("wandb", "open")
    (found,) = wandb_runs(done.wandb).values()
    assert len(found["history"]) == 2
    assert found["exit_code"] == 1


def test_two_processes_share_a_sweep(tmp_path):
    both = [start(tmp_path, "wandb", f"cell{i}") for i in range(2)]
    for process in both:
        assert finish(tmp_path, process).warnings == []
    runs = wandb_runs(tmp_path / "outputs" / "sweeps" / "hidden_layer" / "wandb")
    assert {name: len(found["history"]) for name, found in runs.items()} == dict.fromkeys(CELLS, 2)


def test_labels_that_are_no_file_names(sweep):
    done = sweep("wandb", "odd")
    assert done.warnings == []
    (found,) = wandb_runs(done.wandb).values()
    assert found["run"].display_name == "for people"
    assert found["config"] == {"_private": 1, "a": 1, "a.b": 2}
    assert "flag" not in found["history"][0]


def run_folder(done, found: dict) -> Path:
    (folder,) = done.wandb.glob(f"offline-run-*-{found['run'].run_id}")
    return folder


# Which mode


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    monkeypatch.setattr("llm_dit.trackers.base._said", set())
    import os

    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path


def test_an_unreachable_server_means_offline_after_one_warning(sweep):
    done = sweep("wandb", "whole", WANDB_API_KEY="a" * 40, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_INIT_TIMEOUT="2")
    (warning,) = done.warnings
    assert warning.startswith("warning: W&B cannot be reached, so its runs are written offline: ")
    assert done.out == ""
    assert len(wandb_runs(done.wandb)) == 3
    assert done.outside() == []


def test_the_wait_for_an_unreachable_server_is_not_repeated(sweep):
    account = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "2"}
    done = sweep("wandb", "two trackers", **account)
    assert len(done.warnings) == 1
    assert len(wandb_runs(done.wandb)) == 2
    assert len(list(done.wandb.glob("run-*"))) == 1  # one attempt online


def test_online_is_asked_for_but_nobody_is_logged_in(sweep):
    done = sweep("wandb", "cell0", WANDB_MODE="online")
    (warning,) = done.warnings
    assert "nobody is logged in" in warning
    assert len(wandb_runs(done.wandb)) == 1


def test_disabled_writes_no_run(sweep):
    done = sweep("wandb", "whole", WANDB_MODE="disabled")
    assert done.err == []
    assert not list(done.wandb.glob("*run-*"))


@pytest.mark.parametrize(("asked", "mode"), [("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled")])
def test_the_variable_decides(no_account, monkeypatch, asked, mode):
    monkeypatch.setenv("WANDB_MODE", asked)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert ours.choose_mode() == mode


def test_a_mode_that_is_none(no_account, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    assert ours.choose_mode() == "offline"
    assert "WANDB_MODE=onlin is not a mode" in capsys.readouterr().err


LOGGED_IN = """
import sys
from llm_dit.trackers.wandb import choose_mode
print(choose_mode())
"""


def ask_mode(folder: Path, **variables: str) -> str:
    import os

    clean = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "NETRC"))}
    env = {**clean, "HOME": str(folder), "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", **variables}
    answer = subprocess.run(
        [sys.executable, "-c", LOGGED_IN], cwd=folder, env=env, text=True, capture_output=True, timeout=120, check=True
    )
    return answer.stdout.strip() + answer.stderr


def test_logged_in_by_variable_netrc_or_not_at_all(tmp_path):
    assert ask_mode(tmp_path) == "offline"
    assert ask_mode(tmp_path, WANDB_API_KEY="a" * 40) == "online"
    assert ask_mode(tmp_path, WANDB_API_KEY="a" * 40, WANDB_MODE="offline") == "offline"
    assert ask_mode(tmp_path, WANDB_API_KEY="short").startswith("offlinewarning: W&B credentials cannot be used")
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {'b' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert ask_mode(tmp_path) == "online"
    assert ask_mode(tmp_path, WANDB_BASE_URL="http://other.example") == "offline"


def test_a_table_with_pictures_for_online(tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    rows = [{"cell": "a", "value": 1, "sample": tmp_path / "a.png"}, {"cell": "b", "value": "none", "extra": [1]}]
    table = ours.make_table(rows, images=True)
    assert table.columns == ["cell", "value", "sample", "extra"]
    assert type(table.data[0][2]).__name__ == "Image"
    assert table.data[1] == ["b", "none", None, "[1]"]
    assert table.data[0][1] == "1"  # one type a column


def test_a_training_is_one_run_with_its_steps(sweep):
    done = sweep("wandb", "training")
    assert done.warnings == []
    (run,) = wandb_runs(done.wandb).values()
    lines = [(line["train_step"], line["loss"]) for line in run["history"] if "loss" in line]
    assert lines == [(2, 0.5), (4, 0.25)]
    assert sum("picture/caption" in line for line in run["history"]) == 2
