"""Scores of a sweep: added later or as it draws, kept, and made again when what they were made from has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import parquet

from llm_dit.metrics import image_statistics
from llm_dit.metrics.base import Score
from llm_dit.study.grids.pages import decimals_of, primary_of, tiles_of
from llm_dit.study.score import score_cell
from llm_dit.study.store import SweepFolder


def table(folder=Path("outputs/sweeps/s")):
    return parquet.read_table(folder / "table.parquet").to_pylist()


def test_metrics_are_added_to_a_finished_sweep_and_kept(sweep, run_main):
    sweep("x", "sampler.steps=1,2", "seed=1,2")
    assert "sharpness" not in table()[0]
    code, out, _, _ = run_main("task=score", "sweep.name=s", "metrics=[sharpness,entropy]")
    assert code == 0
    assert "8 new scores by entropy, sharpness, 0 kept" in out or "8 new scores by sharpness, entropy, 0 kept" in out
    rows = table()
    assert len({row["sharpness"] for row in rows}) == 4
    assert all(0 < row["entropy"] <= 8 for row in rows)
    assert {row["identity_sharpness"] for row in rows} == {image_statistics.Sharpness(None, "cpu", 1).identity}
    folder = SweepFolder(Path("outputs/sweeps/s"))
    assert primary_of(folder, None) == "sharpness"
    _, out, _, _ = run_main("task=score", "sweep.name=s", "metrics=[sharpness,entropy]")
    assert "0 new scores" in out
    assert table() == rows


def test_a_sweep_scores_as_it_draws_and_shows_the_primary_score(sweep):
    code, _, err, folder = sweep("x", "sampler.steps=1,2", "metrics=[sharpness,entropy]", "metrics.primary=entropy")
    assert (code, err) == (0, "")
    assert folder.read()["primary"] == "entropy"
    rows = table()
    captions = {tile.caption for tile in tiles_of(folder, folder.read()["cells"], "entropy")}
    assert captions == {f"{row['entropy']:.{decimals_of([r['entropy'] for r in rows], 'entropy')}f}" for row in rows}
    assert (folder.path / "report.html").is_file()


def test_a_picture_drawn_anew_is_scored_anew(sweep, run_main):
    folder = sweep("x", "sampler.steps=1,2", "metrics=sharpness")[3]
    cell = folder.cells()[0]
    record = cell.records()[0]
    cell.append(record | {"pixels_sha256": "other"})  # as a redrawn picture is recorded
    _, out, _, _ = run_main("task=grid", "sweep.name=s")
    assert sum(row["sharpness"] is None for row in table()) == 1
    _, out, _, _ = run_main("task=score", "sweep.name=s", "metrics=sharpness")
    assert "1 new scores by sharpness, 1 kept" in out


def test_going_back_to_an_earlier_version_of_a_metric_shows_its_scores_again(sweep, run_main, monkeypatch):
    sweep("x", "sampler.steps=1,2", "metrics=sharpness")
    before = [row["sharpness"] for row in table()]
    with monkeypatch.context() as patch:
        patch.setattr(image_statistics.Sharpness, "identity", property(lambda self: "another version"))
        patch.setattr(image_statistics.Sharpness, "score", lambda self, s: [Score({"sharpness": 7.0}) for _ in s])
        run_main("task=score", "sweep.name=s", "metrics=sharpness")
    assert [row["sharpness"] for row in table()] == [7.0, 7.0]
    _, out, _, _ = run_main("task=score", "sweep.name=s", "metrics=sharpness")
    assert "0 new scores by sharpness, 2 kept" in out
    assert [row["sharpness"] for row in table()] == before


def test_a_damaged_picture_costs_its_own_score_alone(sweep, run_main):
    folder = sweep("x", "sampler.steps=1,2", "seed=1,2")[3]
    path = sorted(folder.path.glob("cells/*/images/*"))[0]
    path.write_bytes(path.read_bytes()[:100])
    code, out, err, _ = run_main("task=score", "sweep.name=s", "metrics=sharpness")
    assert code == 2
    assert "3 new scores" in out
    assert str(path) in err
    assert "Delete it and run the sweep again" in err
    path.unlink()
    assert "1 pictures drawn" in sweep("x", "sampler.steps=1,2", "seed=1,2", "metrics=sharpness")[1]
    assert all(row["sharpness"] > 0 for row in table())


def test_missing_weights_of_one_metric_are_told_before_another_begins(sweep, run_main):
    folder = sweep("x", "sampler.steps=1,2")[3]
    code, _, err, _ = run_main("task=score", "sweep.name=s", "metrics=[sharpness,clip]", "metrics.clip.weights=no.pt")
    assert code == 2
    assert "metrics.clip.weights=no.pt" in err
    assert not list(folder.path.glob("cells/*/scores.jsonl"))


def test_a_cell_that_another_process_scores_is_left_to_it(sweep):
    folder = sweep("x", "sampler.steps=1,2")[3]
    cell = folder.cells()[0]
    with cell.lock("score.lock"):
        assert score_cell(cell, [image_statistics.Sharpness(None, "cpu", 4)]).new == 0
    assert score_cell(cell, [image_statistics.Sharpness(None, "cpu", 4)]).new == 1


def test_scores_of_all_seeds_together_follow_new_seeds(sweep):
    sweep("a red apple", "sampler.steps=4,6", "seed=1,2", "metrics=diversity")
    before = {(r["cell"], r["seed"]): r["diversity"] for r in table()}
    sweep("a red apple", "sampler.steps=4,6", "seed=1,2,3", "metrics=diversity")
    after = {(r["cell"], r["seed"]): r["diversity"] for r in table()}
    assert len(after) == 6
    assert all(after[key] != value for key, value in before.items())


def test_pictures_come_in_batches_of_the_size_asked_for(sweep, run_main, monkeypatch):
    sweep("x", "sampler.steps=1", "seed=1,2,3,4,5")
    sizes = []
    real = image_statistics.Sharpness.score
    monkeypatch.setattr(
        image_statistics.Sharpness, "score", lambda self, samples: sizes.append(len(samples)) or real(self, samples)
    )
    run_main("task=score", "sweep.name=s", "metrics=sharpness", "metrics.batch_size=2")
    assert sizes == [2, 2, 1]


def test_weights_that_are_not_there_are_told_before_anything_is_drawn(sweep):
    pytest.importorskip("open_clip", reason="needs: uv sync --extra metrics")
    code, out, err, folder = sweep("x", "sampler.steps=1,2", "metrics=clip", "metrics.clip.weights=gone.safetensors")
    assert (code, out) == (2, "")
    assert "metrics.clip.weights=gone.safetensors" in err
    assert not list(folder.path.glob("cells/*"))


def test_a_metric_that_fails_costs_no_pictures(sweep, run_main, monkeypatch):
    def broken(self, samples):
        raise ValueError("no number came out")

    with monkeypatch.context() as patch:
        patch.setattr(image_statistics.Sharpness, "score", broken)
        code, out, err, folder = sweep("x", "sampler.steps=1,2", "metrics=sharpness")
    assert code == 1
    assert "2 cells (2 complete), 2 pictures drawn" in out
    assert "2 of 2 cells are drawn but not scored: ValueError: no number came out" in err
    assert "task=score sweep.name=s" in err
    run_main("task=score", "sweep.name=s", "metrics=sharpness")
    assert all(row["sharpness"] > 0 for row in table(folder.path))


def test_what_is_not_a_number_is_no_answer(sweep, monkeypatch):
    monkeypatch.setattr(
        image_statistics.Sharpness, "score", lambda self, samples: [Score({"sharpness": float("nan")}) for _ in samples]
    )
    code, _, _, folder = sweep("x", "sampler.steps=1,2", "metrics=sharpness")
    assert code == 0
    lines = [json.loads(line) for p in folder.path.glob("cells/*/scores.jsonl") for line in p.read_text().splitlines()]
    assert [line["values"] for line in lines] == [{"sharpness": None}] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metrics=none"], "task=score needs metrics="),
        (["metrics=sharpness", "metrics.primary=sharpnes"], "Did you mean 'sharpness'?"),
        (["metrics=[sharpness,entropi]"], "metrics=entropi: no such option. Did you mean 'entropy'?"),
    ],
)
def test_what_is_wrong_is_named(sweep, run_main, arguments, message):
    sweep("x", "sampler.steps=1,2")
    code, out, err, _ = run_main("task=score", "sweep.name=s", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_trackers_run_holds_the_means(sweep, monkeypatch):
    from llm_dit.study import job
    from llm_dit.trackers.base import NoTracker

    finished = []

    class Listening(NoTracker):
        def finish_cell(self, status, scores=None):
            finished.append((status, sorted(scores)))

    monkeypatch.setattr(job, "process_tracker", lambda *a: Listening())
    sweep("x", "sampler.steps=1,2", "seed=1,2", "metrics=sharpness")
    assert finished == [("complete", ["sharpness"])] * 2
