"""Values of axes as labels."""

from llm_dit.study.axes import axis_value, label_of


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
