"""Axes to cells: combinations, zips, single cells, and what the command line lays over a study."""

from __future__ import annotations

import pytest

from llm_dit.base.errors import ConfigError
from llm_dit.compose import compose
from llm_dit.study.axes import same
from llm_dit.study.cell import json_label
from llm_dit.study.definition import Study, load_study, parse_study
from llm_dit.study.expand import expand, fold_seeds, grammar, sweep_name


def test_axes_are_combined_and_the_dear_one_changes_rarely():
    cells = expand(Study(""), {"seed": "1"}, {"sampler.steps": ["4", "8"], "model": ["nano", "tiny"]})
    assert [(c["model"], c["sampler.steps"]) for c in cells] == [
        ("nano", "4"),
        ("nano", "8"),
        ("tiny", "4"),
        ("tiny", "8"),
    ]
    assert all(c["seed"] == "1" for c in cells)


def test_zipped_axes_move_together_and_combine_with_the_others():
    study = Study(
        "", axes={"encoder_layer.index": [-1, -2]}, zip=[{"sampler.steps": [4, 8], "sampler.shift": [1.0, 3.0]}]
    )
    cells = expand(study, {}, {})
    assert [(c["encoder_layer.index"], c["sampler.steps"], c["sampler.shift"]) for c in cells] == [
        ("-1", "4", "1.0"),
        ("-1", "8", "3.0"),
        ("-2", "4", "1.0"),
        ("-2", "8", "3.0"),
    ]


def test_single_cells_stand_beside_the_combinations_or_alone():
    study = Study("", axes={"sampler.steps": [4]}, cells=[{"sampler.steps": 50}, {"sampler.steps": 4}])
    assert [c["sampler.steps"] for c in expand(study, {}, {})] == ["4", "50"]
    assert expand(Study("", cells=[{"seed": 1}]), {"width": "64"}, {}) == [{"width": "64", "seed": "1"}]


def test_the_command_line_replaces_or_pins_an_axis_of_the_study():
    study = Study(
        "", axes={"sampler.steps": [4, 8]}, zip=[{"sampler.shift": [1.0, 3.0], "guidance.guidance_scale": [0, 2]}]
    )
    replaced = expand(study, {}, {"sampler.steps": ["2"]})
    assert {c["sampler.steps"] for c in replaced} == {"2"}
    pinned = expand(study, {"sampler.steps": "3", "sampler.shift": "6.0"}, {})
    assert [(c["sampler.steps"], c["sampler.shift"], c["guidance.guidance_scale"]) for c in pinned] == [
        ("3", "6.0", "0"),
        ("3", "6.0", "2"),
    ]


@pytest.mark.parametrize("value", [None, True, 3, -2, 0.5, 1e-5, "nano", "a, b = 'c'", [1, 2], "outputs/a.png", ""])
def test_values_pass_through_hydras_grammar(value):
    key = {list: "seeds", str: "prompt.system", float: "strength", bool: "resume"}.get(
        type(value), "encoder_layer.index"
    )
    key = "sampler.shift" if value is None else key
    config = compose([f"{key}={grammar(value)}"])
    for part in key.split("."):
        config = getattr(config, part)
    assert config == value


def test_a_swept_seed_becomes_the_cells_list_of_seeds():
    swept, fixed = {"seed": ["0", "1"], "sampler.steps": ["4"]}, {}
    fold_seeds(swept, fixed)
    assert (swept, fixed) == ({"sampler.steps": ["4"]}, {"seeds": "[0,1]"})
    with pytest.raises(ConfigError, match="seed and seeds"):
        fold_seeds({"seed": ["0"]}, {"seeds": "[1]"})


def test_the_same_command_finds_its_own_folder_and_another_does_not():
    name = sweep_name(None, {"prompt.text": "x"}, {"encoder_layer.index": ["-1", "-2"]})
    assert name.startswith("encoder_layer.index-")
    assert name == sweep_name(
        None, {"prompt.text": "x", "hardware.threads": "1"}, {"encoder_layer.index": ["-1", "-2"]}
    )
    assert name != sweep_name(None, {"prompt.text": "y"}, {"encoder_layer.index": ["-1", "-2"]})
    assert sweep_name("cfg", {}, {}) == "cfg"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "a study is keys and values"),
        ({"axis": {}}, "Did you mean 'axes'"),
        ({"axes": {"sampler.steps": 4}}, "must be a list of values"),
        ({"axes": {"sampler.steps": []}}, "must be a list of values"),
        ({"zip": [{"seed": [1, 2], "width": [16]}]}, r"equally many values \(seed: 2, width: 1\)"),
        ({"question": "why?"}, "nothing is swept"),
    ],
)
def test_a_mistake_in_a_study_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_study("x", values, "x.yaml")


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'hidden_layer'"):
        load_study("hiden_layer")


@pytest.mark.parametrize("value", ["", "two words", "50 mm, f/2.8", "plain", None, True, -2, 1.0, [-2], [0.5, 0.5]])
def test_a_value_is_found_among_cells_and_among_their_labels(value):
    """check_baseline looks for a study's baseline in both."""
    written = grammar(value)
    assert same(written, written)
    assert same(json_label(value), written)
    assert not same("another", written)
