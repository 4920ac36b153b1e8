"""Every shipped study runs on nano, shortened to one prompt, one seed and at most two steps a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_dit.study.definition import load_study, sweeps_dir
from llm_dit.study.expand import expand

STUDIES = sorted(p.stem for p in sweeps_dir().glob("*.yaml"))


@pytest.mark.parametrize("name", STUDIES)
def test_it_runs(name, run_main):
    study = load_study(name)
    short = ["prompts.count=1", "tracker=none", "hardware=cpu", "width=64", "height=64"]
    short += [] if "seeds" in study.keys else ["seeds=[0]"]
    short += ["sampler.steps=1,2"] if "sampler.steps" in study.keys else ["sampler.steps=1"]
    code, out, err, _ = run_main(f"sweep={name}", *short)
    shortened = "sampler.steps" in study.baseline
    assert (code, "no cell is the baseline" in err, err.count("\n")) == (0, shortened, int(shortened))
    axes = json.loads(Path(f"outputs/sweeps/{name}/sweep.json").read_text())["axes"]
    assert set(axes) == set(study.keys)
    swept = {"sampler.steps": ["1", "2"]} if "sampler.steps" in study.keys else {}
    cells = len(expand(study, {}, swept))
    assert f"{cells} cells ({cells} complete)" in out
    assert list(Path(f"outputs/sweeps/{name}/grids").glob("*.png"))
