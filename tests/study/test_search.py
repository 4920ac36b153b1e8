"""Optuna chooses cells by a number of the table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from llm_dit.study.search import NUMBERS, Stop, ends
from llm_dit.study.store import SweepFolder
from llm_dit.study.table import rows

pytest.importorskip("optuna", reason="needs: uv sync --extra search")


@pytest.fixture
def search(run_main):
    """Run a search of the tiny model in process: (exit code, stdout, stderr, files written)."""

    def run(*arguments: str, trials: int = 1):
        fixed = ["model=tiny", "hardware=cpu", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random"]
        fixed += ["hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_jobs=1", f"hydra.sweeper.n_trials={trials}"]
        fixed += [] if any(a.startswith("tracker=") for a in arguments) else ["tracker=none"]
        return run_main("-m", *arguments, *fixed)

    return run


def folders() -> list[str]:
    return sorted(p.name for p in Path("outputs/sweeps").iterdir())


def test_a_search_draws_cells_and_finds_the_least(search):
    code, out, err, _ = search(
        "x", "sampler.steps=choice(1,2,3)", "sampler.shift=interval(1,3)", "sweep.metric=nfe", "sweep.name=s", trials=6
    )
    assert (code, err) == (0, "")
    assert "outputs/sweeps/s/table.parquet" in out
    assert list(Path("outputs/sweeps/s/grids").glob("*.png"))
    cells = [json.loads(p.read_text()) for p in Path("outputs/sweeps/s").glob("cells/*/cell.json")]
    tried = sorted(int(c["labels"]["sampler.steps"]) for c in cells)
    results = OmegaConf.load("outputs/sweeps/s/optimization_results.yaml")
    assert results.best_value == min(tried)
    lines = out.splitlines()
    best = next(i for i, line in enumerate(lines) if line.startswith("best: "))
    shift = f"{results.best_params['sampler.shift']:.6g}"
    assert lines[best] == f"best: sampler.steps={min(tried)}, sampler.shift={shift}, with the lowest nfe, {min(tried)}"
    assert lines[best + 1 : best + 3] == [
        "outputs/sweeps/s/optimization_results.yaml",
        "outputs/sweeps/s/table.parquet",
    ]
    said = SweepFolder(Path("outputs/sweeps/s")).read()
    assert (said["axes"], said["search"]) == (["sampler.steps", "sampler.shift"], True)
    assert "hydra.sweeper.n_trials=6" in said["runs"][0]["arguments"]


def test_the_highest_is_called_the_highest(search):
    _, out, _, _ = search("x", "sampler.steps=choice(1,2)", "sweep.metric=nfe", "hydra.sweeper.direction=maximize")
    assert re.search(r"^best: sampler.steps=(\d), with the highest nfe, \1$", out, re.MULTILINE)


def test_a_setting_tried_twice_is_drawn_once(search):
    _, out, _, _ = search("x", "sampler.steps=choice(1,2)", "sweep.metric=nfe", "sweep.name=s", trials=4)
    assert out.count("1 drawn, 0 kept") + out.count("0 drawn, 1 kept") == 4
    assert len(list(Path("outputs/sweeps/s").glob("cells/*"))) == out.count("1 drawn, 0 kept") <= 2


REFUSED = [
    (["sampler.steps=choice(1,2)", "dry_run=true"], "dry_run lists"),
    (["sampler.steps=choice(1,2)", "resume=false"], "keeps the pictures .* trials anew .* another sweep.name"),
    (["sampler.steps=2"], "a search needs a key to vary"),
    (["seed=choice(0,1,2)"], "seed cannot be searched.*seeds="),
    (["seeds=choice([0],[1])"], "seeds cannot be searched"),
    (["num_images=range(1,3)"], "num_images cannot be searched"),
    (["tracker=choice(none,trackio)"], "tracker cannot be swept"),
    (["metrics.batch_size=interval(1,4)"], "metrics.batch_size cannot be swept"),
    (["guidance=glob(*)"], r"guidance=glob.*choice\(...\), range\(...\) or interval\(...\)"),
    (["sampler.shift=interval(-3,-1)"], "sampler.shift=-3.0: out of range"),
    (["sampler.steps=interval(1,3)"], r"whole numbers write 'sampler.steps=int\(interval\(1,3\)\)'"),
    (["sampler.steps=int(interval(0,3))"], "sampler.steps=0: out of range"),
    (["sampler.steps=choice(1.5,2)"], "sampler.steps=.*must be a whole number"),
    (["guidance=choice(cfg,aqg)"], "guidance=aqg: no such option"),
    (["sampler.stepz=choice(1,2)"], "unknown key 'sampler.stepz'"),
    (
        ["sampler.steps=choice(1,2)", "sweep.metric=secnds"],
        "secnds: no such number in the table. Did you mean 'seconds'",
    ),
    (["sampler.steps=choice(1,2)", "sweep.metric=clip"], "nothing scores it. Add metrics=clip"),
    (["sampler.steps=choice(1,2)", "sweep.metric=sharpnes", "metrics=sharpness"], "Did you mean 'sharpness'"),
    (["sampler.steps=choice(1,2)", "metrics=clip", "metrics.clip.weights=none.pt"], "metrics.clip"),
    (["sampler.steps=choice(1,2)", "hydra.sweeper.direction=maximise"], "direction=maximise: must be minimize or max"),
    (["sampler.steps=choice(1,2)", "hydra.sweeper.direction=[minimize,maximize]"], "minimize or maximize, of the one"),
    (["sampler.steps=choice(1,2)", "from_image=a.png"], "from_image draws one picture again"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_what_cannot_be_searched_is_refused_in_one_line_before_the_first_trial(search, settings, message):
    code, out, err, written = search("x", *settings, "sweep.name=s")
    assert (code, out, written) == (2, "", [])
    assert re.fullmatch(f"error: .*{message}.*\n", err), err


def test_a_search_without_a_prompt_is_refused(search):
    code, out, err, written = search("sampler.steps=choice(1,2)")
    assert (code, out, written) == (2, "", [])
    assert re.fullmatch("error: .*prompt.*\n", err), err


def test_a_study_is_refused_with_the_words_that_search_it(run_main):
    code, out, err, written = run_main("sweep=hidden_layer", "hydra/sweeper=optuna", "model=tiny")
    assert (code, out, written) == (2, "", [])
    assert err.startswith("error: sweep=hidden_layer lists its cells")
    assert "Write instead: -m model=nano prompts=nano_heldout 'seeds=[0,1,2]' metrics=nano_judge" in err
    assert "'encoder_layer.index=choice(-1,-2,-3,-4,-6,-8,-12,-16,-20,-24,-28,-31)'" in err
    assert err.count("\n") == 1


def test_a_trial_that_cannot_be_composed_stops_the_search_with_one_line(search):
    # Both ends fit, and no number between them does.
    code, out, err, _ = search("x", "width=int(interval(64,80))", "height=64", "sweep.name=s", trials=3)
    assert code == 2
    assert re.fullmatch(r"error: width=\d+: not a multiple of 16; .*\n", err), err
    assert out.count("cell ") == 1


def test_a_cell_that_fails_stops_the_search_with_one_line(search, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("llm_dit.study.cell.render", fail)
    code, _, err, _ = search("x", "sampler.steps=choice(1,2)", "sweep.name=s", trials=3)
    assert code == 1
    assert re.fullmatch(
        r"error: the search stops: RuntimeError: out of memory \(traceback in .*failed.json\)\n", err
    ), err


def test_a_metric_without_an_answer_stops_the_search_with_one_line(search):
    code, _, err, _ = search("x", "sampler.steps=choice(1,2)", "sweep.metric=sharpness_x", "metrics=sharpness")
    assert code == 1
    assert err == "error: the search stops: sweep.metric=sharpness_x has no value for any picture of the cell.\n"


def test_failures_that_are_allowed_are_trials_without_a_value(search):
    code, out, _, _ = search(
        "x", "sampler.shift=choice(-1,2)", "hydra.sweeper.max_failure_rate=1", "sweep.metric=nfe", trials=6
    )
    assert code == 0
    assert "out of range" in out
    assert "best: sampler.shift=2" in out


def test_a_search_of_failures_alone_says_so_in_one_line(search):
    code, _, err, _ = search("x", "sampler.shift=choice(-1,-2)", "hydra.sweeper.max_failure_rate=1", trials=2)
    assert code == 2
    assert [line for line in err.splitlines() if line.startswith("error")] == ["error: No trials are completed yet."]
    assert "Traceback" not in err


def test_a_stop_crosses_a_process_and_ends_the_next_one(tmp_path):
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[2] / "experiments" / "run.py", "-m", "x", "model=tiny", "hardware=cpu",
         "tracker=none", "hydra/sweeper=optuna", "hydra/launcher=processes", "hydra.sweeper.n_jobs=2",
         "hydra.sweeper.n_trials=2", "hydra/sweeper/sampler=random",
         "hydra.sweeper.sampler.seed=1", "width=int(interval(64,80))", "height=64"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(r"error: width=\d+: not a multiple of 16; .*\n", done.stderr), done.stderr


def test_reading_a_stop_as_a_number_ends_the_process(capsys):
    with pytest.raises(SystemExit) as end:
        float(Stop("no more", 1))
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: no more\n"


def test_different_searches_have_folders_of_their_own(search):
    search("x", "sampler.steps=choice(1,2)")
    first = folders()
    assert re.fullmatch(r"search-sampler\.steps-\w{6}", first[0])
    search("x", "sampler.steps=choice(1,2)", trials=2)  # the same search goes on
    assert folders() == first
    search("x", "sampler.shift=interval(1,2)")
    search("x", "sampler.steps=choice(1,2)", "guidance=none")
    search("x", "sampler.steps=choice(1,2)", "sweep.metric=nfe")
    assert len(folders()) == 4
    said = {name: SweepFolder(Path("outputs/sweeps") / name).read() for name in folders()}
    assert all(values["axes"] == [name.split("-")[1]] for name, values in said.items())
    assert all(values["name"] == name for name, values in said.items())
    assert len(said[first[0]]["runs"]) == 2


def test_a_search_that_goes_on_over_other_axes_names_them_all(search):
    search("x", "sampler.steps=choice(1,2)", "sweep.name=s")
    search("x", "sampler.shift=interval(1,2)", "sweep.name=s")
    assert SweepFolder(Path("outputs/sweeps/s")).read()["axes"] == ["sampler.steps", "sampler.shift"]


def test_the_tracker_gets_a_summary_run(search, monkeypatch):
    told = []
    monkeypatch.setattr("llm_dit.study.track.track_summary", lambda *a: told.append(a) or "look there")
    _, out, _, _ = search("x", "sampler.steps=choice(1)", "sweep.name=s")
    assert out.endswith("look there\n")
    assert [p.name for p in told[0][2]] == ["grid.png"]
    search("x", "sampler.steps=choice(1)", "sweep.name=s")
    assert len(told) == 1, "a search that draws nothing has nothing new to tell"


def test_the_numbers_that_a_search_may_follow_are_the_tables(search):
    search("x", "sampler.steps=choice(1)", "sweep.name=s")
    row = rows(SweepFolder(Path("outputs/sweeps/s")))[0]
    numeric = {k for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    assert numeric - {"sampler.steps"} <= set(NUMBERS)
    assert set(NUMBERS) - numeric <= {"seconds_load"}  # only the picture that a model was loaded for has it


@pytest.mark.parametrize(
    ("override", "expected"),
    [("a=1,2", ["1", "2"]), ("a=interval(-3,1.5)", ["-3.0", "1.5"]), ("a=range(4,9,2)", ["4"]), ("a=choice(x)", ["x"])],
)
def test_ends_of_an_axis(override, expected):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert ends(OverridesParser.create().parse_override(override)) == expected


def test_hardware_arms_are_cells_of_their_own(sweep):
    _, out, _, folder = sweep("x", "hardware.batch_size=1,2", "seed=1,2")
    assert "2 cells (2 complete), 4 pictures drawn" in out
    assert sorted(r["axes"]["hardware.batch_size"] for c in folder.cells() for r in c.records()) == ["1", "1", "2", "2"]
