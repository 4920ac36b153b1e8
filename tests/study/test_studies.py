"""The shipped studies: every cell of each is a valid one of its own, nano's are run small, the others planned.

Run or planned are the cells that hold a word (a name, a mode) not seen before, and of numbers the first and the
last; with one prompt, one seed and at most two steps.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from llm_dit.cli.studies_doc import count, shared_config, studies_markdown
from llm_dit.compose import check, conf_dir
from llm_dit.conditioning.encode import chat_parts, settle_prompt
from llm_dit.config import put, to_dict
from llm_dit.study.cell import cell_id, prompts_of
from llm_dit.study.definition import load_study, sweeps_dir
from llm_dit.study.expand import expand
from llm_dit.text.chat import format_prompt

STUDIES = sorted(p.stem for p in sweeps_dir().glob("*.yaml"))
REAL = [name for name in STUDIES if any(s.startswith("model=z_image") for s in load_study(name).settings)]
NANO = sorted(set(STUDIES) - set(REAL))
TEXTS = ("prompt.thinking", "prompt.system")  # a sentence more is no other way through the code


def cells_of(study):
    """Every cell as {key: plain value}."""
    return [{k: yaml.safe_load(v) for k, v in cell.items()} for cell in expand(study, {}, {})]


def config_of(study, cell):
    """The config of a cell, by putting its values into that of the study's settings and its groups' options."""
    options = tuple(f"{k}={v}" for k, v in cell.items() if (conf_dir() / k).is_dir())
    values = to_dict(shared_config((*study.settings, *options)))
    for key, value in cell.items():
        if not (conf_dir() / key).is_dir():
            put(values, key, value)
    return check(values)


def some_cells(study, most_steps):
    """The cells that hold a new word, the first and the last of each kind, and the baseline; steps cut."""
    every = cells_of(study)
    for cell in every:
        if "sampler.steps" in cell:
            cell["sampler.steps"] = min(cell["sampler.steps"], most_steps)
    baseline = dict(study.baseline)
    if "sampler.steps" in baseline:
        baseline["sampler.steps"] = min(baseline["sampler.steps"], most_steps)
    last = len(every) - 1
    ends = {0, last, last - len(study.cells)}
    ends |= {i for i, c in enumerate(every) if baseline and baseline.items() <= c.items()}
    seen: set[tuple] = set()
    chosen = []
    for i, cell in enumerate(every):
        words = {(k, v) for k, v in cell.items() if isinstance(v, str | bool) and k not in TEXTS}
        if (i in ends or words - seen) and cell not in chosen:
            chosen.append(cell)
        seen |= words
    return chosen, baseline


@pytest.fixture
def shortened(tmp_path):
    """shortened(study, most_steps): a study of some of its cells, as a file, and how many they are."""

    def write(study, most_steps=1000):
        cells, baseline = some_cells(study, most_steps)
        content = {"question": study.question, "settings": study.settings, "cells": cells, "baseline": baseline}
        path = tmp_path / f"{study.name}.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True))
        return path, len(cells)

    return write


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_is_valid_and_draws_something_of_its_own(name):
    study = load_study(name)
    configs = [config_of(study, cell) for cell in cells_of(study)]
    if name != "seeds" and not name.endswith("_seeds"):
        assert len({cell_id(c) for c in configs}) == len(configs)
    assert study.question.endswith("?")
    assert len(configs) > 1
    assert study.baseline or name.endswith("seeds")
    assert not study.baseline or any(study.baseline.items() <= cell.items() for cell in cells_of(study))
    assert count(study) == (len(configs), sum(len(prompts_of(c)) * len(c.seeds) for c in configs))


@pytest.mark.parametrize("name", NANO)
def test_it_runs(name, run_main, shortened):
    study = load_study(name)
    path, cells = shortened(study, most_steps=2)
    short = ["prompts.count=1", "tracker=none", "hardware=cpu", "report.resamples=100"]
    # A study of large pictures has nothing to show on small ones.
    short += [] if any(s.startswith("width=") for s in study.settings) else ["width=64", "height=64"]
    short += [] if "seeds" in study.keys else ["seeds=[0]"]
    short += [] if "sampler.steps" in study.keys else ["sampler.steps=1"]
    code, out, err, _ = run_main(f"sweep={path}", *short)
    assert code == 0
    # The sizes are a test's, or the study's subject: nano was not made for them, and says so once.
    assert all("is outside the sides of" in line for line in err.splitlines())
    assert len(err.splitlines()) <= 1
    assert f"{cells} cells ({cells} complete)" in out
    told = json.loads(Path(f"outputs/sweeps/{name}/sweep.json").read_text())
    assert set(told["axes"]) == set(study.keys)
    assert list(Path(f"outputs/sweeps/{name}/grids").glob("*.png"))


@pytest.mark.parametrize("name", REAL)
def test_a_real_models_study_is_planned(name, run_main, shortened):
    path, cells = shortened(load_study(name))
    code, out, err, _ = run_main(f"sweep={path}", "dry_run=true", "tracker=none")
    assert (code, err) == (0, "")
    assert f"{cells} cells, " in out
    assert "contradict" not in out


@pytest.mark.parametrize(
    "name", ["think_block", "system_prompt", "z_image_turbo_think_block", "z_image_turbo_system_prompt"]
)
def test_no_two_arms_give_the_encoder_the_same_text(name):
    study = load_study(name)
    texts = []
    for cell in cells_of(study):
        config = config_of(study, {**cell, "prompt.text": "a fox", "prompts.set": None})
        config = settle_prompt(config)
        texts.append(format_prompt(chat_parts(config, "a fox"), config.model.chat_format).text)
    assert len(set(texts)) == len(texts) >= 8
    assert "a fox<|im_end|>\n<|im_start|>assistant\n" in texts[0]
    assert not any(part in texts[0] for part in ("<think>", "system"))


def test_the_page_of_studies_is_current():
    page = Path(__file__).parents[2] / "docs" / "studies.md"
    written = "run: uv run python -m llm_dit.cli.studies_doc > docs/studies.md"
    assert page.read_text(encoding="utf-8") == studies_markdown(), written
    assert all(f"`{name}`" in page.read_text(encoding="utf-8") for name in STUDIES)
