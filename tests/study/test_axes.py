"""Values of axes as labels."""

import pytest

from llm_dit.study.axes import as_written, axis_value, label_of, range_values


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
