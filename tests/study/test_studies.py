"""Every shipped study of nano runs, shortened to one prompt, one seed and at most two steps a picture.

The studies of real models, whose weights are not here, compose in all their cells.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_dit.study.definition import load_study, sweeps_dir
from llm_dit.study.expand import expand

STUDIES = sorted(p.stem for p in sweeps_dir().glob("*.yaml"))
REAL = [name for name in STUDIES if any(s.startswith("model=z_image") for s in load_study(name).settings)]


@pytest.mark.parametrize("name", sorted(set(STUDIES) - set(REAL)))
def test_it_runs(name, run_main):
    study = load_study(name)
    short = ["prompts.count=1", "tracker=none", "hardware=cpu"]
    # A study of large pictures has nothing to show on small ones.
    short += [] if any(s.startswith("width=") for s in study.settings) else ["width=64", "height=64"]
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


@pytest.mark.parametrize("name", REAL)
def test_all_cells_of_a_real_models_study_compose(name, run_main):
    study = load_study(name)
    code, out, err, _ = run_main(f"sweep={name}", "dry_run=true", "tracker=none")
    assert (code, err) == (0, "")
    cells = len(expand(study, {}, {}))
    assert f"{cells} cells, " in out
    assert "contradict" not in out
