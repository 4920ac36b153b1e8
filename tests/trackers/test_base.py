"""A tracker that fails costs one warning and nothing else; and the small functions both trackers use."""

from __future__ import annotations

import pytest
from readback import trackio_runs, wandb_runs

from llm_dit.base.errors import ConfigError
from llm_dit.trackers.base import (
    GuardedTracker,
    NoTracker,
    Tally,
    ensure_writable,
    file_name,
    nested,
    numbers,
    shown,
)
from llm_dit.trackers.load import TRACKERS, make_tracker
from llm_dit.trackers.replay import replay

BOTH = pytest.mark.parametrize("tracker", ["wandb", "trackio"])


@BOTH
def test_a_missing_package_is_one_warning(sweep, tracker):
    done = sweep(tracker, "missing")
    (warning,) = done.warnings
    assert warning.startswith(f"warning: tracker {tracker} is off for the rest of this run, the records are whole: Mod")
    assert done.out == ""
    assert done.outside() == []


@BOTH
def test_a_folder_that_cannot_be_written_is_one_warning(sweep, tmp_path, tracker):
    (tmp_path / "outputs").write_text("in the way")
    done = sweep(tracker, "whole")
    assert len(done.warnings) == 1
    assert done.err == done.warnings
    assert done.outside() == []
    assert (tmp_path / "outputs").read_text() == "in the way"


@BOTH
def test_a_picture_that_fails_in_the_middle(sweep, tracker):
    done = sweep(tracker, "middle")
    (warning,) = done.warnings
    assert "nowhere.png" in warning
    # What was logged before it is there.
    if tracker == "wandb":
        (found,) = wandb_runs(done.wandb).values()
        assert len(found["history"]) == 1
        assert found["exit_code"] == 1
    else:
        (run,) = trackio_runs(done.trackio, "hidden_layer").values()
        assert len(run["logs"]) == 1


@BOTH
def test_a_folder_that_vanishes_in_the_middle(sweep, tracker):
    done = sweep(tracker, "vanishes")
    assert len(done.warnings) == 1
    assert done.out == ""


class Broken(NoTracker):
    """Raises in the method of that name, counts what comes after."""

    def __init__(self, method: str):
        self.closed = 0
        self.method = method
        setattr(self, method, self.fail)

    def fail(self, *args):
        raise RuntimeError(f"{self.method} broke\nsecond line")

    def close(self):
        self.closed += 1


@pytest.fixture(autouse=True)
def forget_what_was_said(monkeypatch):
    monkeypatch.setattr("llm_dit.trackers.base._said", set())


@pytest.mark.parametrize("method", ["start_cell", "log_image", "finish_cell", "summary", "close"])
def test_whatever_raises_is_switched_off(tmp_path, capsys, method):
    inner = Broken(method)
    tracker = GuardedTracker("mine", inner)
    for _ in range(2):
        tracker.start_cell("s", "c", {})
        tracker.log_image(tmp_path / "a.png", "a", {})
        tracker.finish_cell("complete")
    tracker.summary("s", [], [])
    tracker.close()
    tracker.close()
    assert not tracker.on
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "warning: tracker mine is off for the rest of this run, the records are whole: "
        f"RuntimeError: {method} broke second line\n"
    )
    assert inner.closed == (0 if method == "close" else 1)


def test_the_same_trouble_is_told_once_a_process(tmp_path, capsys):
    broken = Broken("start_cell")
    broken.method = "start_cell twice"
    for _ in range(2):
        GuardedTracker("mine", broken).start_cell("s", "c", {})
    assert capsys.readouterr().err.count("warning: ") == 1


def test_a_replay_into_a_broken_tracker_is_not_ok(tmp_path):
    done = replay([("c", {}, "complete", [])], GuardedTracker("mine", Broken("finish_cell")), "s")
    assert not done.ok


def test_a_broken_where_is_empty():
    assert GuardedTracker("mine", Broken("where")).where() == ""


def test_stopping_the_program_is_not_swallowed():
    class Stopped(NoTracker):
        def finish_cell(self, status, scores=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GuardedTracker("mine", Stopped()).finish_cell("complete")


def test_the_name_of_no_tracker(tmp_path):
    with pytest.raises(ConfigError, match=r"tracker=wanbd is unknown. Did you mean 'wandb'?"):
        make_tracker("wanbd", tmp_path)


def test_making_one_imports_and_writes_nothing(tmp_path):
    import subprocess
    import sys

    program = (
        "import sys\nfrom llm_dit.trackers.load import TRACKERS, make_tracker\n"
        "for name in TRACKERS: make_tracker(name, 'sweep').close()\n"
        "print({'wandb', 'trackio', 'torch', 'PIL'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, text=True, capture_output=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("set()\n", "")
    assert list(tmp_path.iterdir()) == []


def test_none_does_nothing(tmp_path):
    tracker = make_tracker("none", tmp_path)
    done = replay([("cell", {}, "complete", [(tmp_path / "gone.png", "", {})])], tracker, "s", grids=["grid.png"])
    assert (done.cells, done.images, len(done.missing)) == (1, 0, 1)
    assert tracker.where() == ""
    assert TRACKERS == ("none", "trackio", "wandb")


def test_tally():
    tally = Tally()
    tally.add({"a": 1.0, "b": float("nan")})
    tally.add({"a": 2.0, "seed": 7.0})
    assert tally.row("complete") == {"status": "complete", "pictures": 2, "mean/a": 1.5}


def test_numbers():
    assert numbers({"seconds.dit": 1, "nfe": 8, "x": None, "y": "a", "z": True}) == {"seconds/dit": 1.0, "nfe": 8.0}


def test_nested():
    assert nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    # A key that is a value and a group at once, in both orders.
    assert nested({"a": 1, "a.b": 2}) == {"a": 1, "a.b": 2}
    assert nested({"a.b": 2, "a": 1}) == {"a": 1, "a.b": 2}


def test_file_names_are_safe_short_and_distinct():
    assert file_name("encoder_layer.index=-2, seed=1") == "encoder_layer.index=-2, seed=1"
    labels = ["../../x", "a/b", "a_b", "a\\b", "..", "", "y" * 300, "y" * 301, "a\nb"]
    names = [file_name(label) for label in labels]
    assert len(set(names)) == len(labels)
    for name in names:
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert "\n" not in name
        assert len(name) < 120


def test_ensure_writable(tmp_path):
    ensure_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        ensure_writable(tmp_path / "file")


def test_a_path_to_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a b" / "c") == "'a b/c'"
    assert shown(tmp_path.parent) == str(tmp_path.parent)
