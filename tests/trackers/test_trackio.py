"""Trackio: what a sweep leaves in its folder is complete, readable by its own command, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from readback import finish, start, trackio_runs

CELLS = ("encoder_layer.index=-2", "encoder_layer.index=-8")


def test_a_sweep_becomes_a_project_with_one_run_per_cell_and_a_summary(sweep):
    # A token at hand must not make it ask the hub for the user's name.
    done = sweep("trackio", "whole", HF_TOKEN="hf_" + "a" * 34)
    assert done.out == ""
    assert done.warnings == []
    assert done.network == ""
    assert done.outside() == []

    runs = trackio_runs(done.trackio, "hidden_layer")
    assert set(runs) == {*CELLS, "summary"}
    config = runs[CELLS[0]]["config"]
    assert {k: v for k, v in config.items() if not k.startswith("_")} == {
        "encoder_layer.index": -2,
        "sampler.steps": 8,
        "prompt.text": None,
        "seeds": [0, 1],
        "tiling.enabled": False,
        "llm_dit_sweep": "hidden_layer",
    }
    assert config["_Group"] == "hidden_layer"

    *pictures, row = runs[CELLS[0]]["logs"]
    assert [p["picture"]["caption"] for p in pictures] == ["a fox, seed 0", "a fox, seed 1"]
    assert [p["sharpness"] for p in pictures] == [0.0, 1.0]
    assert pictures[0]["seconds/total"] == 1.0
    assert "clip" not in pictures[0]
    for logged, name in zip(pictures, ("c0_0.png", "c0_1.png"), strict=True):
        copy = done.trackio / "media" / logged["picture"]["file_path"]
        assert copy.read_bytes() == (done.folder / name).read_bytes()
    assert row["status"] == "complete"
    assert row["pictures"] == 2
    assert row["mean/sharpness"] == 0.5
    assert runs[CELLS[0]]["alerts"] == []

    assert len(runs[CELLS[1]]["logs"]) == 2
    assert runs[CELLS[1]]["logs"][-1]["status"] == "failed"
    assert runs[CELLS[1]]["alerts"] == ["cell failed"]

    (summary,) = runs["summary"]["logs"]
    assert (done.trackio / "media" / summary["grid/grid_1"]["file_path"]).is_file()
    assert (done.trackio / "media" / summary["grid/grid_2"]["file_path"]).is_file()
    rows = summary["arms"]["_value"]
    assert [r["cell"] for r in rows] == list(CELLS)
    assert (done.trackio / "media" / rows[0]["sample"]["file_path"]).is_file()
    assert rows[1]["sample"] is None


def test_its_own_command_reads_it(sweep):
    done = sweep("trackio", "whole")
    (where,) = done.err
    assert where == "Trackio: look at it with: TRACKIO_DIR=outputs/trackio trackio show --project hidden_layer"
    env = {**os.environ, "TRACKIO_DIR": "outputs/trackio", "HOME": str(done.folder / "home")}
    program = Path(sys.executable).with_name("trackio")
    listed = subprocess.run(
        [program, "list", "runs", "--project", "hidden_layer"],
        cwd=done.folder, env=env, text=True, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    for cell in CELLS:
        assert cell in listed.stdout


def test_a_cell_logged_again_replaces_itself(sweep):
    done = sweep("trackio", "again")
    assert done.warnings == []
    assert done.err[0] == "1 2 ['gone.png'] True"
    runs = trackio_runs(done.trackio, "hidden_layer")
    assert {name: len(run["logs"]) for name, run in runs.items()} == {CELLS[0]: 3}
    assert len(list((done.trackio / "media").rglob("*.png"))) == 2


def test_a_process_that_ends_without_closing_keeps_its_pictures(sweep):
    done = sweep("trackio", "open")
    assert len(trackio_runs(done.trackio, "hidden_layer")[CELLS[0]]["logs"]) == 2


def test_two_processes_share_a_sweep(tmp_path):
    both = [start(tmp_path, "trackio", f"cell{i}") for i in range(2)]
    for process in both:
        assert finish(tmp_path, process).warnings == []
    runs = trackio_runs(tmp_path / "outputs" / "trackio", "hidden_layer")
    assert {name: len(run["logs"]) for name, run in runs.items()} == dict.fromkeys(CELLS, 3)


def test_labels_that_are_no_file_names(sweep):
    done = sweep("trackio", "odd")
    assert done.warnings == []
    runs = trackio_runs(done.trackio, "sweep-one-two")
    ((name, run),) = runs.items()
    assert name.startswith("for people prompt=.._.._a_b, xx")
    assert {k: v for k, v in run["config"].items() if not k.startswith("_")} == {
        "a": 1,
        "a.b": 2,
        "llm_dit_sweep": "sweep.one/two",
    }
    assert run["logs"][0]["nan"] == "NaN"
    assert run["logs"][0]["__step"] == 3.0
    assert "mean/nan" not in run["logs"][1]
    assert {p.parents[3] for p in done.folder.rglob("outputs/**/*.png")} == {done.trackio / "media"}


def test_the_folder_of_the_environment_counts_when_none_is_given(tmp_path, monkeypatch):
    from llm_dit.trackers.trackio import TrackioTracker

    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "mine"))
    assert TrackioTracker().folder == tmp_path / "mine"
    assert TrackioTracker(tmp_path / "given").folder == tmp_path / "given"


TWO_FOLDERS = """
import sys
from pathlib import Path
from llm_dit.trackers.load import make_tracker
for name in ("one", "two"):
    tracker = make_tracker("trackio", "sweep", trackio_dir=Path(name))
    tracker.start_cell("s", name, {})
    tracker.finish_cell("complete")
    tracker.close()
print(tracker.on, tracker.where(), file=sys.stderr)
"""


FOREIGN_RUN = """
import trackio
from pathlib import Path
from llm_dit.trackers.load import make_tracker
run = trackio.init(project="s", name="summary", embed=False)
run.log({"loss": 0.5})
trackio.finish()
media = Path("one/media/s/summary/theirs.png")
media.parent.mkdir(parents=True, exist_ok=True)
media.write_text("theirs")
tracker = make_tracker("trackio", "sweep", trackio_dir=Path("one"))
tracker.summary("s", [], [])
tracker.close()
"""


def test_a_users_own_run_of_the_same_name_is_kept(tmp_path):
    env = {**os.environ, "HOME": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "one")}
    ran = subprocess.run(
        [sys.executable, "-c", FOREIGN_RUN],
        cwd=tmp_path, env=env, text=True, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert "has a run 'summary' that llm-dit did not write" in ran.stderr
    assert [log["loss"] for log in trackio_runs(tmp_path / "one", "s")["summary"]["logs"]] == [0.5]
    assert (tmp_path / "one/media/s/summary/theirs.png").read_text() == "theirs"


def test_a_second_folder_in_one_process_is_said_to_be_the_first(tmp_path):
    env = {**os.environ, "HOME": str(tmp_path)}
    env.pop("TRACKIO_DIR", None)
    ran = subprocess.run(
        [sys.executable, "-c", TWO_FOLDERS],
        cwd=tmp_path, env=env, text=True, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    warning, last = ran.stderr.splitlines()
    assert warning.startswith("warning: Trackio was loaded before with ")
    assert last == "True Trackio: look at it with: TRACKIO_DIR=one trackio show --project s"
    assert set(trackio_runs(tmp_path / "one", "s")) == {"one", "two"}


def test_a_training_is_one_run_with_its_steps(sweep):
    done = sweep("trackio", "training")
    assert done.warnings == []
    logs = trackio_runs(done.trackio, "train")["mine"]["logs"]
    assert [log["loss"] for log in logs if "loss" in log] == [0.5, 0.25]
    assert [log["picture"]["caption"] for log in logs if "picture" in log] == ["step 2", "step 4"]
    assert not any("score_clip" in log for log in logs)
