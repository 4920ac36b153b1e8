"""Values of axes as labels."""

import pytest

from llm_dit.base.errors import ConfigError
from llm_dit.study.axes import as_written, axis_value, label_of, range_values
from llm_dit.study.definition import parse_study


def test_a_cell_as_people_say_it():
    assert label_of({"sampler.steps": 8, "slg.layers": [7, 8], "guidance": "none"}) == (
        "sampler.steps=8, slg.layers=[7, 8], guidance=none"
    )
    assert label_of({}, "the only one") == "the only one"


def test_a_value_has_the_type_that_the_config_gave_it():
    config = {"sampler": {"steps": 8, "sigmas": [1.0, 0.0]}, "guidance": {"method": "cfg"}}
    assert axis_value(config, "sampler.steps", "8") == 8
    assert axis_value(config, "sampler.sigmas", "[1,0]") == "[1,0]"
    assert axis_value(config, "guidance", "none") == "none"
    assert axis_value(config, "sampler.shift", "null") is None


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ((0.7, 1.0, 0.1), [0.7, 0.8, 0.9]),
        ((0.1, 0.5, 0.1), [0.1, 0.2, 0.3, 0.4]),
        ((0, 0.3, 0.1), [0.0, 0.1, 0.2]),
        ((1.0, 0.7, -0.1), [1.0, 0.9, 0.8]),
        ((1, 4, 1), [1, 2, 3]),
        ((4, 1, -2), [4, 2]),
        ((1, 0, 1), []),
        ((0.1, 0.35, 0.1), [0.1, 0.2, 0.3]),
    ],
)
def test_a_range_counts_in_the_decimals_as_written(arguments, values):
    counted = range_values(*arguments)
    assert counted == values
    assert list(map(type, counted)) == list(map(type, values))
    assert sorted(range_values(*arguments, shuffled=True)) == sorted(values)


def test_a_number_that_is_a_decimal_but_for_its_last_bits_is_that_decimal():
    assert as_written(0.1 + 0.2) == 0.3
    assert as_written(0.7999999999999999) == 0.8
    for own in (1 / 3, 0.3, 1e-5, 0.123456789, 2.0, 0.12345678901234, float("inf")):
        assert as_written(own) == own


@pytest.mark.parametrize(
    "axis",
    ["range(0.7,1.0,0.1)", "range(0.7, stop=1.0, step=0.1)", "sort(range(0.7,1.0,0.1))", "tag(x,range(0.7,1.0,0.1))"],
)
@pytest.mark.parametrize("in_a_study", [False, True])
def test_every_form_of_a_range_has_the_cells_of_the_written_numbers(run_main, tmp_path, axis, in_a_study):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "s.yaml").write_text(f"settings: ['strength={axis}']\naxes: {{sampler.steps: [2]}}\n")
    swept = ["sweep=s.yaml"] if in_a_study else ["-m", f"strength={axis}", "sampler.steps=2"]
    common = ["x", "model=tiny", "init_image=a.png", "dry_run=true"]
    code, out, _, _ = run_main(*common, *swept)
    by_hand = run_main("-m", *common, "strength=0.7,0.7999999999999999,0.9", "sampler.steps=2")[1]

    def cells(told):
        return {line.split()[2] for line in told.splitlines() if line.startswith("cell ")}

    assert code == 0
    assert [f"strength={x}" in out for x in (0.7, 0.8, 0.9, 1.0)] == [True, True, True, False]
    assert cells(out) == cells(by_hand)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["init_image=a.png", "strength=0.3,0.4,0.5,0.6", "sampler.steps=2"],
         ["strength=0.4 draws the same as strength=0.3 (1 of 2 steps)",
          "strength=0.5 draws the same as strength=0.3 (1 of 2 steps)"]),
        (["strength=0.3,0.4"], ["strength=0.4 draws the same as strength=0.3"]),
        (["guidance.guidance_scale=0", "guidance.method=cfg,apg"],
         ["guidance.method=apg draws the same as guidance.method=cfg"]),
        (["guidance.guidance_scale=0,2", "prompt.negative=x,y"],
         ["guidance.guidance_scale=0.0, prompt.negative=y draws the same as guidance.guidance_scale=0.0, "
          "prompt.negative=x"]),
        (["slg.rescale=0,0.5"], ["slg.rescale=0.5 draws the same as slg.rescale=0.0"]),
        (["lora_scale=1,2"], ["lora_scale=2.0 draws the same as lora_scale=1.0"]),
        (["sampler.sigmas=[1,0.5,0]", "sampler.steps=2,3"], ["sampler.steps=3 draws the same as sampler.steps=2"]),
        (["sampler.steps=1,2", "seed=1,2"], []),
        (["hardware.batch_size=1,2"], []),
    ],
)  # fmt: skip
def test_cells_that_draw_the_same_are_told_before_anything_is_drawn(run_main, tmp_path, arguments, told):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    code, _, err, _ = run_main("-m", "x", "model=tiny", "dry_run=true", *arguments)
    assert code == 0
    assert err.splitlines() == [f"note: {line}; both are drawn, and their difference is 0" for line in told]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("range(0.7,1.0,0.1)", [0.7, 0.8, 0.9]),
        ("range(1, 4)", [1, 2, 3]),
        ("range(3)", [0, 1, 2]),
        ("range(3,0,-1)", [3, 2, 1]),
    ],
)
def test_an_axis_of_a_study_may_be_a_range(text, values):
    study = parse_study("s", {"axes": {"strength": text}, "zip": [{"seed": text, "sampler.steps": values}]}, "s.yaml")
    assert study.axes["strength"] == values
    assert study.zip[0]["seed"] == values


@pytest.mark.parametrize("text", ["range(0,1,0)", "range(a,b)", "0.1,0.2"])
def test_a_range_that_cannot_be_counted_names_its_axis(text):
    with pytest.raises(ConfigError, match=r"s\.yaml: the axis 'strength'"):
        parse_study("s", {"axes": {"strength": text}}, "s.yaml")
