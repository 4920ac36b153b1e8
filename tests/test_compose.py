"""Overrides to a checked Config: prompts survive whatever they hold, mistakes are named with their cure."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from llm_dit.base.errors import ConfigError
from llm_dit.compose import changed_keys, check, compose, conf_dir, prepare_overrides
from llm_dit.config import MAX_PROMPT_CHARACTERS, Config, get, parameters, seeds_of, to_dict

PROMPTS = [
    "A cat, sleeping",
    "a=b",
    "x: y",
    "say \"hello\" and 'bye'",
    "two\nlines\tand a tab",
    "漢字、猫 и кот",
    "${seed} and \\${seed} and \\\\${seed}",
    "???",
    "null",
    "true",
    "1e5",
    "[1,2]",
    "{a:1}",
    "\\",
    '\\"',
    "ends in \\",
    "",
    "  spaces around  ",
    "~tilde",
    "+plus",
    "--not-a-flag",
    "seed=7",
    "a,b,c=d",
    "$(rm) `x` ; & | < >",
    "choice(1,2)",
    "range(1,3)",
    "glob(*)",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_any_prompt_arrives_unchanged(prompt):
    assert compose(prompt=prompt).prompt.text == prompt


def test_random_prompts_arrive_unchanged():
    draw = random.Random(0)
    alphabet = "a\"'\\$}{,=[]()\n\t :#~+é漢%@?|*!&<>;^`"
    prompts = ["".join(draw.choices(alphabet, k=draw.randint(1, 14))) for _ in range(40)]
    assert [compose(prompt=p).prompt.text for p in prompts] == prompts


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_is_never_read_as_a_sweep(prompt):
    """With -m, Hydra splits 'key=a,b' into two runs; a quoted prompt must stay one value."""
    (override,) = OverridesParser.create().parse_overrides(prepare_overrides(["--", prompt]))
    assert not override.is_sweep_override()


def test_a_bare_argument_is_the_prompt_and_the_rest_are_settings():
    config = compose(["a red apple, 3d style", "seed=7"])
    assert (config.prompt.text, config.seed) == ("a red apple, 3d style", 7)


@pytest.mark.parametrize("sentence", ["E=mc2 on a blackboard", "price = 5", "a poster that says x=1", "~ a wave"])
def test_a_sentence_with_an_equals_sign_is_a_prompt(sentence):
    assert compose([sentence]).prompt.text == sentence


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("prompt.negative=blurry, low quality", "blurry, low quality"),
        ("prompt.negative='blurry, low quality'", "blurry, low quality"),
        ('prompt.system=say "no" (twice) = ${no}', 'say "no" (twice) = ${no}'),
        ("init_image=my cat (1), final=2.png", "my cat (1), final=2.png"),
        ("output.dir=${oc.env:LAB_TEST}/x", "there/x"),
        ("prompt.negative=", ""),
        ("prompt_file=null", None),
    ],
)
def test_texts_and_paths_need_no_quoting_for_hydra(override, value, monkeypatch):
    monkeypatch.setenv("LAB_TEST", "there")
    assert get(compose([override]), override.split("=")[0]) == value


def test_in_a_sweep_commas_part_values():
    assert prepare_overrides(["prompt.negative=a,b"], sweep=True) == ["prompt.negative=a,b"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seeed=3"], "unknown key 'seeed'. Did you mean 'seed'?"),
        (["+slg.scael=2"], "unknown key 'slg.scael'. Did you mean 'slg.scale'?"),
        (["+guidance.guidance_scael=2"], "Did you mean 'guidance.guidance_scale'?"),
        (["sampler.stpes=3"], "unknown key 'sampler.stpes'. Did you mean 'sampler.steps'?"),
        (["steps=4"], "unknown key 'steps'. Did you mean 'sampler.steps'?"),
        (["step=4"], "unknown key 'step'. Did you mean 'sampler.steps'?"),
        (["modle=tiny"], "unknown key 'modle'. Did you mean 'model'?"),
        (["seed=abc"], "seed='abc': must be a whole number."),
        (["seed=null"], "seed=null: must be a whole number."),
        (["sampler.steps=1.5"], "sampler.steps='1.5': must be a whole number."),
        (["sampler.shift=x"], "sampler.shift='x': must be a number or null."),
        (["sampler.steps=0"], "sampler.steps=0: out of range; 1 to 1000."),
        (["guidance.guidance_scale=nan"], "guidance.guidance_scale=nan: out of range"),
        (["seeds=[1,-2]"], "seeds=-2: out of range"),
        (["seeds=[1,1]"], "a seed stands twice"),
        (["width=100"], "width=100: not a multiple of 16; the nearest are 96 and 112."),
        (["hardware.dtype=float16"], "black pictures"),
        (["hardware.device=gpu"], "Did you mean 'cpu'?"),
        (["model=nan"], "a group takes the name of one of its options"),
        (["model=nanoo"], "model=nanoo: no such option. Did you mean 'nano'?"),
        (["model=nano,tiny"], "add -m to sweep them"),
        (["prompt=a cat"], "pass it bare"),
        (["+sampler=flow_euler"], "leave the plus sign out"),
        (["sampler.steps=[1"], "sampler.steps=[1': the value cannot be read"),
        (["a", "b"], "two prompts: 'a' and 'b'"),
        (["a", "prompt_file=b.txt"], "two prompts: prompt_file and prompt.text"),
        (["seed=9223372036854775807", "num_images=2"], "runs past the largest seed"),
        (["output.name=a/b"], "not a plain name"),
        (["E=mc2"], "unknown key 'E'"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_cure(overrides, message):
    with pytest.raises(ConfigError) as raised:
        compose(overrides)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_prompt_of_ten_million_characters_is_refused():
    with pytest.raises(ConfigError, match="10,000,000 characters"):
        compose(prompt="x" * 10_000_000)
    assert len(compose(prompt="x" * MAX_PROMPT_CHARACTERS).prompt.text) == MAX_PROMPT_CHARACTERS


OPTIONS = sorted(
    f"{path.parent.name}={path.stem}" for path in conf_dir().glob("*/*.yaml") if path.parent.name != "local"
)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes(option):
    # nano's chat format has no think block, and says so; a second prompt has to be given.
    more = ["model=z_image"] if option == "prompt=think" else []
    more += ["mix.text=pears"] if option.startswith("mix=") and option != "mix=none" else []
    config = compose([option, *more])
    if option.startswith("model="):
        assert config.model.name == option.removeprefix("model=")


def test_a_think_block_that_the_models_format_lacks_is_told_before_anything_is_loaded():
    with pytest.raises(ConfigError, match=r"a think block needs model\.chat_format=qwen3"):
        compose(["prompt=think", "model=nano"])


def test_an_option_given_beats_the_models_own_setting():
    config = compose(["encoder_layer=final", "guidance=none"])
    assert (config.encoder_layer.index, config.guidance.guidance_scale) == (-1, 0.0)
    assert compose(["guidance=none", "guidance.guidance_scale=3"]).guidance.guidance_scale == 3.0


def test_a_recorded_config_comes_back_equal():
    config = compose(["model=z_image", "seeds=[4,2]", "hardware=low_vram", "sampler.shift=2"], prompt="${x} ???")
    assert check(to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": True}, "seed=True: must be a whole number"),
        ({"sampler": 3}, "sampler is a group of settings"),
        ({"sampler": {"shift": "3"}}, "must be a number or null"),
        ({"seeds": "1"}, "a list, each item a whole number"),
        ({"prompt": {"txt": "a"}}, "Did you mean 'prompt.text'?"),
    ],
)
def test_values_from_elsewhere_are_checked_like_overrides(values, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        check(values)


def test_a_whole_number_may_stand_for_a_float():
    assert check({"strength": 1}).strength == 1.0


def test_every_parameter_has_help_and_a_default_within_its_own_range():
    assert check(to_dict(Config())) == Config()
    assert all(len(p.rule.help) > 10 for p in parameters())


def test_composing_from_threads_and_inside_a_hydra_application_works():
    with ThreadPoolExecutor(4) as pool:
        seeds = list(pool.map(lambda n: compose([f"seed={n}"]).seed, range(12)))
    assert seeds == list(range(12))
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        compose(["seed=1"])
        assert GlobalHydra.instance().hydra is outer


def test_seeds_are_a_run_from_seed_or_the_list_given():
    assert seeds_of(compose(["seed=5", "num_images=3"])) == [5, 6, 7]
    assert seeds_of(compose(["seeds=[9,2]"])) == [9, 2]


def test_changed_keys_sees_through_the_grammars_signs():
    assert changed_keys(["seed=1", "++sampler.steps=2", "model=tiny", "~sampler"]) == ["seed", "sampler.steps", "model"]


def test_settings_of_one_machine_come_from_a_local_file(tmp_path):
    import shutil

    shutil.copytree(conf_dir(), tmp_path / "conf")
    local = tmp_path / "conf" / "local"
    local.mkdir(exist_ok=True)
    (local / "default.yaml").write_text("# @package _global_\nhardware:\n  threads: 3\n")
    assert compose(config_dir=tmp_path / "conf").hardware.threads == 3
