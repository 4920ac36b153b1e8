"""What the record says of guidance: what ran at which noise levels, and what was given and could not act."""

from __future__ import annotations

import json

import pytest

from llm_dit.base.errors import ConfigError
from llm_dit.compose import compose
from llm_dit.records.describe import idle_settings
from llm_dit.render.draw import render
from llm_dit.study.dry_run import forwards_of

SIGMAS = [1.0, 0.9, 0.75, 0.5, 0.0]  # of the tiny model at its 4 steps
ON = "guidance.guidance_scale=2"


def record(tiny, *overrides):
    return json.loads(json.dumps(render(tiny(*overrides))[0].record))


def test_it_holds_what_ran_and_at_which_noise_levels(tiny):
    said = record(tiny, "slg=block", "slg.sigma_low=0.6", "nag=z_image", "guidance=interval", ON)
    assert said["sigmas"] == SIGMAS
    assert said["guidance"] == {
        "guidance_scale": 2.0, "cfg_weight": 3.0, "method": "cfg", "sigmas": [0.75, 0.5], "zero_sigmas": [],
        "slg": {"scale": 2.5, "kind": "block", "rescale": 0.0, "layers": [1], "sigmas": [0.9, 0.75]},
        "nag": {"scale": 2.0, "tau": 2.5, "alpha": 0.25, "sigmas": [1.0, 0.9]},
    }  # fmt: skip
    assert said["nfe"] == 1 + 2 + 3 + 2
    assert (said["negative"]["token_count"], said["warnings"]) == (19, [])


def test_steps_of_zero_init_cost_nothing(tiny):
    said = record(tiny, "guidance=cfg_zero", "guidance.zero_init_steps=2", ON)
    assert (said["nfe"], said["guidance"]["zero_sigmas"], said["guidance"]["sigmas"]) == (4, [1.0, 0.9], [0.75, 0.5])
    with pytest.raises(ConfigError, match=r"guidance.zero_init_steps=4: leaves nothing of the run's 4 steps"):
        render(tiny("guidance=cfg_zero", "guidance.zero_init_steps=4", ON))


def test_a_negative_prompt_acts_through_nag_alone(tiny):
    plain, fog, other = (record(tiny, "nag=z_image", f"prompt.negative={text}") for text in ("''", "fog", "other"))
    assert len({r["pixels_sha256"] for r in (plain, fog, other)}) == 3
    assert [r["nfe"] for r in (plain, fog, other)] == [4, 4, 4]
    assert fog["negative"]["formatted_prompt"].startswith("<|im_start|>user\nfog<|im_end|>")
    assert fog["warnings"] == []


def test_an_unknown_layer_is_an_error_with_the_range(tiny):
    with pytest.raises(ConfigError, match=r"slg.layers=\[3\]: this model has layers 0 to 2\."):
        render(tiny("slg.scale=1", "slg.layers=[3]"))


@pytest.mark.parametrize("group", ["guidance", "slg", "nag"])
def test_a_window_upside_down_is_an_error(group):
    with pytest.raises(ConfigError, match=f"{group}.sigma_low=0.5 must be below {group}.sigma_high=0.5"):
        compose(["x", f"{group}.sigma_low=0.5", f"{group}.sigma_high=0.5"])


WINDOW = "no step's sigma is above {} and at most {} (they are 1, 0.9, 0.75, 0.5)."


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        ([], []),
        (["prompt.negative=fog"], ["prompt.negative has no effect: guidance.guidance_scale is 0 and nag is off."]),
        (["prompt.negative=fog", "nag.scale=2"], []),
        (["prompt.negative=fog", ON], []),
        (["guidance=apg"], ["guidance.method has no effect: guidance.guidance_scale is 0."]),
        (["guidance.sigma_high=0.5"], ["guidance.sigma_high has no effect: guidance.guidance_scale is 0."]),
        ([ON, "guidance.apg_eta=1"], ["guidance.apg_eta has no effect: guidance.method is cfg."]),
        (
            [ON, "guidance=apg", "guidance.zero_init_steps=1"],
            ["guidance.zero_init_steps has no effect: guidance.method is apg."],
        ),
        ([ON, "guidance=apg", "guidance.apg_eta=1"], []),
        ([ON, "guidance.sigma_high=0.4"], ["guidance has no effect: " + WINDOW.format("0", "0.4")]),
        (["slg.layers=[0]"], ["slg.layers has no effect: slg.scale is 0."]),
        (["slg.kind=ff", "slg.rescale=1"], [f"slg.{k} has no effect: slg.scale is 0." for k in ("kind", "rescale")]),
        (
            ["slg.scale=1", "slg.sigma_low=0.91", "slg.sigma_high=0.99"],
            ["slg has no effect: " + WINDOW.format("0.91", "0.99")],
        ),
        (["slg=block"], []),
        (["nag.tau=3"], ["nag.tau has no effect: nag.scale is 1."]),
        (["nag.scale=2", "nag.alpha=0"], ["nag has no effect: nag.alpha is 0."]),
        (["nag.scale=2", "nag.sigma_high=0.3"], ["nag has no effect: " + WINDOW.format("0", "0.3")]),
    ],
)
def test_what_cannot_act_is_told_in_one_line_each(tiny, overrides, lines):
    assert idle_settings(tiny(*overrides), SIGMAS) == lines


def test_truncation_that_leaves_no_step_is_told(tiny):
    config = tiny(ON, "guidance.cfg_truncation=0.1")
    assert idle_settings(config, [0.5, 0.0]) == [
        "guidance has no effect: cfg_truncation=0.1 switches it off at every step."
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        ["slg=block", "slg.sigma_low=0.6", "nag=z_image", "guidance=interval", ON],
        ["guidance=cfg_zero", "guidance.zero_init_steps=2", ON],
        ["slg=stg", "sampler=flow_heun"],
    ],
)
def test_a_dry_run_knows_the_forwards(tiny, overrides):
    config = tiny("sampler.shift=3", *overrides)
    assert forwards_of(config) == render(config)[0].record["nfe"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["strength=0.5"], "strength has no effect: there is no init_image."),
        (["tiling.tile_size=64"], "tiling.tile_size has no effect: tiling.enabled is false."),
        (["tiling=tiled"], "tiling has no effect: the picture is no larger than tiling.tile_size=512."),
        (
            ["guidance.guidance_scale=2", "prompt.negative=a_red_apple", "prompt.text=a_red_apple"],
            "the negative prompt has no effect: it is the prompt itself, and its forwards are paid for nothing.",
        ),
        (
            ["emphasis=attention", "prompt.text=aaaaaaaaaa_(red:2)", "long_prompt.max_tokens=29"],
            "emphasis.mode=attention has no effect: the weighted words were cut off, or weigh 1.",
        ),
    ],
)
def test_a_plain_setting_that_cannot_act_is_told(tiny, overrides, line):
    assert line in render(tiny("sampler.steps=1", *overrides))[0].record["warnings"]


def test_all_texts_of_a_run_share_the_positions_that_ran(tiny):
    slowed = ["long_prompt=extend", "long_prompt.max_tokens=28", "long_prompt.positions=pi", "sampler.steps=1"]
    record = render(tiny(*slowed, "guidance.guidance_scale=2", prompt="a red apple on a long wooden table"))[0].record
    assert record["long_prompt"]["positions"]["stretch"] > 1
    assert record["negative"]["long_prompt"]["positions"] == record["long_prompt"]["positions"]
