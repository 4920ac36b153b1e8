"""Sweeps of real pictures: what is drawn, continued, left alone, and told when it fails."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from llm_dit.encoders.tiny import save_tiny_folder
from llm_dit.records.picture import read_record
from llm_dit.study.definition import Study
from llm_dit.study.evidence.analysis import analyse
from llm_dit.study.plan import Plan, PlannedCell
from llm_dit.study.run import launched
from llm_dit.study.store import SweepFolder

ROOT = Path(__file__).parents[2]


def pictures(folder):
    """Hash of every picture's bytes by its path below the sweep, metadata's seconds aside."""
    found = {}
    for path in sorted(folder.path.glob("cells/*/images/*.png")):
        found[str(path.relative_to(folder.path))] = read_record(path)["pixels_sha256"]
    return found


def file_hashes(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.path.glob("cells/*/images/*")}


def test_a_sweep_becomes_pictures_a_table_and_grids(sweep, prompt_file):
    prompts = f"prompts.set={prompt_file({'cat': 'a cat, red', 'dog': 'a dog'})}"
    code, out, err, folder = sweep("encoder_layer.index=-1,-2", "sampler.steps=1,2", prompts, "seed=3,4")
    assert (code, err) == (0, "")
    assert "4 cells (4 complete), 16 pictures drawn" in out
    assert len(pictures(folder)) == 16
    table = parquet.read_table(folder.path / "table.parquet").to_pylist()
    assert len(table) == 16
    assert {(r["encoder_layer.index"], r["sampler.steps"]) for r in table} == {
        (-1, 1),
        (-1, 2),
        (-2, 1),
        (-2, 2),
    }
    assert {(r["prompt_id"], r["prompt"], r["seed"]) for r in table} == {
        (i, t, s) for i, t in (("cat", "a cat, red"), ("dog", "a dog")) for s in (3, 4)
    }
    for row in table:
        record = read_record(folder.path / row["path"])
        assert record["config"]["prompt"]["text"] == row["prompt"]
        assert record["axes"]["encoder_layer.index"] == str(record["config"]["encoder_layer"]["index"])
    assert list((folder.path / "grids").glob("*.png"))
    described = folder.read()
    assert (described["axes"], len(described["cells"])) == (["encoder_layer.index", "sampler.steps"], 4)


def test_the_same_command_again_draws_nothing_and_more_seeds_draw_only_themselves(sweep):
    first = sweep("x", "encoder_layer.index=-1,-2", "seed=1,2")[3]
    before = file_hashes(first)
    _, out, _, folder = sweep("x", "encoder_layer.index=-1,-2", "seed=1,2")
    assert "0 pictures drawn" in out
    assert "4 kept" in out
    _, out, _, folder = sweep("x", "encoder_layer.index=-1,-2", "seed=1,2,3")
    assert "2 pictures drawn" in out
    after = file_hashes(folder)
    assert len(after) == 6
    assert before.items() <= after.items()


def test_a_name_is_made_of_the_axes_and_found_again(run_main):
    for drawn in (2, 0):
        _, out, _, _ = run_main("-m", "x", "model=tiny", "encoder_layer.index=-1,-2", "tracker=none")
        assert f"{drawn} pictures drawn" in out
    (folder,) = Path("outputs/sweeps").iterdir()
    assert folder.name.startswith("encoder_layer.index-")


def test_resume_false_draws_anew_in_a_new_folder(sweep):
    first = file_hashes(sweep("x", "sampler.steps=1,2")[3])
    _, out, _, _ = sweep("x", "sampler.steps=1,2", "resume=false")
    assert "outputs/sweeps/s-2: 2 cells (2 complete), 2 pictures drawn" in out
    assert {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in first} == first


def test_a_picture_that_was_lost_and_a_prompt_that_was_changed_are_drawn_again(sweep, prompt_file):
    prompts = f"prompts.set={prompt_file({'cat': 'a cat', 'dog': 'a dog'})}"
    folder = sweep("sampler.steps=1,2", prompts)[3]
    next(iter(file_hashes(folder))).unlink()
    assert "1 pictures drawn" in sweep("sampler.steps=1,2", prompts)[1]
    prompt_file({"cat": "a cat", "dog": "another dog"})
    assert "2 pictures drawn" in sweep("sampler.steps=1,2", prompts)[1]
    assert {r["prompt"] for cell in folder.cells() for r in cell.records()} == {"a cat", "another dog"}


def test_a_failed_cell_is_told_and_the_rest_goes_on(sweep):
    code, out, err, folder = sweep("x", "encoder_layer.index=-2,9,-1", "seed=1,2")
    assert code == 1
    assert "3 cells (2 complete, 1 failed), 4 pictures drawn" in out
    assert "failed: encoder_layer.index=9: encoder_layer.index=9: this encoder has hidden states -5 to 4." in out
    assert err.startswith("error: 1 of 3 cells failed; the first, encoder_layer.index=9:")
    assert err.count("\n") == 1
    (failed,) = [c for c in folder.cells() if c.status == "failed"]
    assert "Traceback" in failed.read("failed.json")["traceback"]
    assert sweep("x", "encoder_layer.index=-2,9,-1", "seed=1,2")[0] == 1


def test_a_cell_that_cannot_be_composed_is_told_before_anything_is_written(sweep):
    code, _, err, folder = sweep("x", "sampler.stpes=1,2")
    assert (code, folder.path.exists()) == (2, False)
    assert "unknown key 'sampler.stpes'" in err


def test_models_are_loaded_once_for_all_cells(sweep, monkeypatch):
    from llm_dit.encoders import load as encoders
    from llm_dit.families.z_image import load
    from llm_dit.models.cache import PARTS

    loads = []
    for module, name in ((load, "load_transformer"), (load, "load_vae"), (encoders, "load_text_encoder")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, name=name: loads.append(name) or real(*a))
    PARTS.clear()
    sweep("never said before", "encoder_layer.index=-1,-2,-3", "sampler.steps=1,2", "seed=1,2")
    assert sorted(loads) == ["load_text_encoder", "load_transformer", "load_vae"]


def test_a_dry_run_lists_and_writes_nothing(sweep):
    code, out, _, folder = sweep("x", "encoder_layer.index=-1,-2", "seed=1,2", "dry_run=true")
    assert (code, folder.path.exists()) == (0, False)
    assert "encoder_layer.index=-1: 2 of 2 pictures to draw" in out
    assert "2 cells, 4 pictures to draw" in out
    assert "time: unknown" in out
    assert "GB of weights" in out
    sweep("x", "encoder_layer.index=-1", "seed=1,2")
    _, out, _, _ = sweep("x", "encoder_layer.index=-1,-2", "seed=1,2", "dry_run=true")
    assert "encoder_layer.index=-1: 0 of 2 pictures to draw" in out
    assert "2 cells, 2 pictures to draw" in out
    assert "minutes at the" in out


def test_weights_that_changed_in_between_are_not_mixed(sweep, tmp_path):
    save_tiny_folder(tmp_path / "model")
    arguments = ("x", "sampler.steps=1,2", f"model.path={tmp_path / 'model'}")
    folder = sweep(*arguments, "seed=1")[3]
    from safetensors.torch import load_file, save_file

    from llm_dit.models.cache import PARTS

    weights = tmp_path / "model" / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({k: v + 0.1 for k, v in load_file(weights).items()}, weights, {"format": "pt"})
    PARTS.clear()
    code, _, err, _ = sweep(*arguments, "seed=1,2")
    assert code == 1
    assert "weights are not those of the cell's other pictures" in err
    assert len(pictures(folder)) == 2


def test_a_sweeps_picture_is_drawn_again_from_itself(sweep, run_main, prompt_file):
    folder = sweep("encoder_layer.index=-1,-2", f"prompts.set={prompt_file({'cat': 'a cat, red'})}", "seed=3,4")[3]
    path = sorted(folder.path.glob("cells/*/images/cat_s4.png"))[0]
    _, out, _, _ = run_main(f"from_image={path}")
    assert out.splitlines()[1] == "the same pixels as the original"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task=preview", "cannot be swept"),
        ("from_image=a.png", "cannot be swept"),
        ("output.name=a", "a sweep goes to sweep.dir"),
        ("output.name=a,b", "output.name cannot be swept"),
        ("sweep.name=a,b", "sweep.name cannot be swept"),
        ("prompts=starter", "a prompt and a set of prompts are both given"),
    ],
)
def test_settings_of_a_single_picture_are_refused(sweep, setting, message):
    code, out, err, folder = sweep("x", "sampler.steps=1,2", setting)
    assert (code, out, folder.path.exists()) == (2, "", False)
    assert message in err


def test_a_set_of_prompts_is_a_sweep_of_one_cell(run_main, prompt_file):
    prompts = f"prompts.set={prompt_file({'cat': 'a cat', 'dog': 'a dog', 'fox': 'a fox'})}"
    code, out, _, _ = run_main(prompts, "prompts.ids=[cat,fox]", "model=tiny", "tracker=none", "sweep.name=s")
    assert code == 0
    assert "outputs/sweeps/s: 1 cells (1 complete), 2 pictures drawn" in out
    assert sorted(p.name for p in Path("outputs/sweeps/s").glob("cells/*/images/*")) == ["cat_s0.png", "fox_s0.png"]
    _, out, _, _ = run_main(prompts, "prompts.count=3", "model=tiny", "tracker=none", "sweep.name=s")
    assert "1 pictures drawn" in out


def test_a_count_continues_with_more_prompts_and_keeps_those_that_an_earlier_version_chose(sweep):
    first = [f"heldout_{i:03}" for i in (1, 2, 3)]  # count=3 was the first three of the file
    _, out, _, folder = sweep("sampler.steps=1,2", "prompts=nano_heldout", f"prompts.ids=[{','.join(first)}]")
    assert "6 pictures drawn" in out
    before = file_hashes(folder)
    _, out, _, _ = sweep("sampler.steps=1,2", "prompts=nano_heldout", "prompts.count=3")
    assert "4 pictures drawn" in out, "two prompts, new to both cells"
    assert before.items() <= file_hashes(folder).items()
    assert {len(cell.read("cell.json")["prompts"]) for cell in folder.cells()} == {5}
    assert {arm["pictures"] for arm in analyse([folder])["arms"]} == {5}
    _, out, _, _ = sweep("sampler.steps=1,2", "prompts=nano_heldout", "prompts.count=3")
    assert "0 pictures drawn" in out
    _, out, _, folder = sweep("sampler.steps=1", "prompts=nano_heldout", "prompts.count=2", name="more")
    _, out, _, _ = sweep("sampler.steps=1", "prompts=nano_heldout", "prompts.count=5", name="more")
    assert "3 pictures drawn" in out


def test_arms_of_an_a_a_study_are_cells_of_their_own(sweep):
    _, out, _, folder = sweep("x", "seeds=[1,2],[3,4]")
    assert "2 cells (2 complete), 4 pictures drawn" in out
    assert sorted(sorted(c.read("cell.json")["seeds"]) for c in folder.cells()) == [[1, 2], [3, 4]]


def test_a_study_file_runs_by_name_and_its_axes_can_be_replaced(run_main, tmp_path):
    study = tmp_path / "my.yaml"
    study.write_text(
        "question: Why?\nsettings: [model=tiny, prompt.text=x, tracker=none]\n"
        "zip:\n  - {sampler.steps: [1, 2], sampler.shift: [1.0, 3.0]}\ncells:\n  - {sampler.steps: 3}\n"
    )
    code, out, _, _ = run_main(f"sweep={study}")
    assert code == 0
    assert "outputs/sweeps/my: 3 cells (3 complete), 3 pictures drawn" in out
    assert json.loads(Path("outputs/sweeps/my/sweep.json").read_text())["question"] == "Why?"
    _, out, _, _ = run_main(f"sweep={study}", "sampler.steps=1", "sweep.name=pinned")
    assert "outputs/sweeps/pinned: 3 cells" in out


def test_two_processes_on_one_sweep_draw_every_picture_once(tmp_path):
    command = [sys.executable, ROOT / "experiments" / "run.py", "-m", "x", "model=tiny", "hardware=cpu", "tracker=none"]
    command += ["sweep.name=s", "encoder_layer.index=-1,-2,-3,-4", "seed=1,2,3,4", "sampler.steps=20"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [p.communicate(timeout=120)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    lines = [
        json.loads(line)
        for path in (tmp_path / "outputs/sweeps/s").glob("cells/*/records.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(lines) == len({(r["cell"], r["seed"]) for r in lines}) == 16, outs


def test_a_disk_that_fills_up_is_told_and_holds_only_whole_pictures(sweep, small_disk):
    code, _, err, _ = sweep("x", "sampler.steps=1,2", f"sweep.dir={small_disk}", "seed=1,2,3,4")
    assert code in (1, 2)
    assert "No space left on device" in err
    for path in small_disk.rglob("*.png"):
        read_record(path)
    assert not [p for p in small_disk.rglob(".*") if p.is_file()]


@pytest.mark.parametrize("place", ["file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_told_before_drawing(sweep, tmp_path, place):
    (tmp_path / "file").write_text("")
    code, out, err, _ = sweep("x", "sampler.steps=1,2", f"sweep.dir={place}")
    assert (code, out) == (2, "")
    assert "cannot be written" in err


def test_cells_that_draw_the_same_are_drawn_once_and_told(sweep):
    code, out, err, _ = sweep("x", "guidance=none,cfg", "guidance.guidance_scale=0", "seed=1,2")
    assert code == 0
    assert err == "note: guidance=cfg draws the same as guidance=none; drawn once\n"
    assert "1 cells (1 complete), 2 pictures drawn" in out


def test_continuing_keeps_the_cells_and_arguments_of_earlier_runs(sweep):
    sweep("x", "sampler.steps=1,2")
    _, _, _, folder = sweep("x", "sampler.steps=3,2")
    described = folder.read()
    assert described["cells"] == [{"sampler.steps": "3"}, {"sampler.steps": "2"}, {"sampler.steps": "1"}]
    assert [next(a for a in run["arguments"] if "steps" in a) for run in described["runs"]] == [
        "sampler.steps=1,2",
        "sampler.steps=3,2",
    ]


def test_a_metric_named_once_pictures_are_there_was_not_named_before_the_run(sweep):
    folder = sweep("x", "sampler.steps=1,2")[3]
    sweep("x", "sampler.steps=1,2", "metrics=sharpness")
    assert folder.read()["primary"] is None


def test_a_baseline_that_no_cell_is_is_told(run_main, tmp_path):
    study = tmp_path / "my.yaml"
    text = "settings: [model=tiny, prompt.text=x, tracker=none]\naxes: {sampler.shift: [1.0, 2.0]}\n"
    study.write_text(text + "baseline: {sampler.shift: 3.0}\n")
    code, _, err, _ = run_main(f"sweep={study}", "dry_run=true")
    assert (code, "sampler.shift=3.0 is none of its cells. Swept are sampler.shift: 1.0, 2.0." in err) == (2, True)
    study.write_text(text + "baseline: {sampler.shift: 2.0}\n")
    code, _, err, _ = run_main(f"sweep={study}", "sampler.shift=4,5", "dry_run=true")
    assert (code, "no cell is the baseline sampler.shift=2.0" in err) == (0, True)
    study.write_text(text + "baseline: {sampler.shift: 2}\n")
    assert run_main(f"sweep={study}", "dry_run=true")[2] == ""


@pytest.mark.parametrize("steps", [1, 2])
def test_an_axis_that_is_pinned_is_no_part_of_the_baseline(run_main, tmp_path, steps):
    study = tmp_path / "my.yaml"
    study.write_text(
        "settings: [model=tiny, prompt.text=x, tracker=none]\n"
        "axes: {sampler.shift: [1.0, 2.0], sampler.steps: [1, 3]}\n"
        "baseline: {sampler.shift: 2.0, sampler.steps: 1}\n"
    )
    code, _, err, _ = run_main(f"sweep={study}", f"sampler.steps={steps}", "metrics=sharpness")
    assert (code, "baseline" in err) == (0, False)
    analysis = analyse([SweepFolder(tmp_path / "outputs/sweeps/my")], resamples=100)
    assert [arm["is_baseline"] for arm in analysis["arms"]] == [False, True]
    assert not any("baseline" in warning for warning in analysis["warnings"])


def test_a_cell_that_fails_midway_shows_what_it_lacks(sweep, monkeypatch):
    from llm_dit.base.errors import RenderError
    from llm_dit.study import cell
    from llm_dit.study.grids.pages import tiles_of

    real = cell.render

    def render(config, **more):
        if config.sampler.steps == 2 and 2 in config.seeds:
            real(config.__class__(**{**vars(config), "seeds": [1]}), **more)
            raise RenderError("broke down")
        return real(config, **more)

    monkeypatch.setattr(cell, "render", render)
    code, _, _, folder = sweep("x", "sampler.steps=1,2", "seed=1,2")
    assert code == 1
    tiles = tiles_of(folder, folder.read()["cells"])
    assert sorted((t.place["sampler.steps"], t.place["seed"], t.reason) for t in tiles if t.path is None) == [
        ("2", "2", "failed")
    ]


def test_a_new_axis_is_a_label_of_the_cells_that_were_there(sweep):
    sweep("x", "sampler.steps=1,2")
    _, out, _, folder = sweep("x", "sampler.steps=1,2", "encoder_layer.index=-2,-3")
    assert "4 cells (4 complete), 2 pictures drawn" in out
    labels = {frozenset(r["axes"].items()) for c in folder.cells() for r in c.records()}
    assert len(labels) == 4
    assert {frozenset(cell.items()) for cell in folder.read()["cells"]} == labels
    _, out, _, _ = sweep("x", "sampler.steps=3")
    assert "1 cells (1 complete), 1 pictures drawn" in out
    analysis = analyse([folder], resamples=100)
    assert (analysis["status"], len(analysis["arms"])) == ("complete", 5)


def test_a_cell_whose_settings_contradict_each_other_is_a_failed_arm_until_it_is_mended(sweep, tmp_path):
    save_tiny_folder(tmp_path / "model")
    axes = (f"model.path=nobody/nothing,{tmp_path / 'model'}", "model.revision=null,main")
    code, _, _, folder = sweep("x", *axes)
    assert code == 1
    (refused,) = [c for c in folder.cells() if c.id.startswith("refused-")]
    assert refused.read("failed.json")["labels"] == {"model.path": str(tmp_path / "model"), "model.revision": "main"}
    assert "only a hub id" in refused.read("failed.json")["error"]
    assert analyse([folder], resamples=100)["status"] == "complete"
    sweep("x", axes[0])
    assert not [c for c in folder.cells() if c.id.startswith("refused-")]


def test_a_metric_makes_no_other_sweep(run_main):
    names = []
    for more in ([], ["metrics=sharpness"], ["report.thumbnail_size=64"]):
        _, out, _, _ = run_main("-m", "x", "model=tiny", "sampler.steps=1,2", "tracker=none", *more)
        names.append(next(line for line in out.splitlines() if "cells (" in line).split(":")[0])
    assert len(set(names)) == 1


def test_a_worker_that_is_killed_ends_no_sweep(sweep):
    """What a launcher raises when the system kills a worker; the cells' state is then read from the disk."""
    from llm_dit.compose import compose

    folder = sweep("x", "sampler.steps=1,2")[3]
    done, failed = folder.cells()
    failed.remove("cell.json")
    failed.write("failed.json", {"error": "no memory", "labels": {"sampler.steps": "2"}})
    planned = [
        PlannedCell([], {"sampler.steps": s}, compose(["x"]), i) for s, i in ((1, done.id), (2, failed.id), (3, "new"))
    ]
    plan = Plan(folder, Study("s"), ["sampler.steps"], planned)

    def dies(jobs):
        raise RuntimeError("A worker process was killed\nby signal 9")

    outcomes = launched(plan, dies)
    assert [(o.status, o.error) for o in outcomes] == [
        ("complete", ""),
        ("failed", "no memory"),
        (
            "failed",
            "its process ended before it did (RuntimeError: A worker process was killed by signal 9); "
            "the same command continues",
        ),
    ]
    assert outcomes == launched(plan, lambda jobs: [Dead() for _ in jobs])


class Dead:
    """Hydra's return value of a job that did not come back raises what ended it when it is asked."""

    @property
    def return_value(self):
        raise RuntimeError("A worker process was killed\nby signal 9")
