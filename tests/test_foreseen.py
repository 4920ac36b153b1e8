"""What is told before it is drawn: sizes that the model draws badly, prompts that it was never taught."""

from __future__ import annotations

import pytest
from PIL import Image

from llm_dit.base.errors import ConfigError
from llm_dit.compose import compose
from llm_dit.records.foreseen import asked_size, prompt_warnings, reader_of, size_warnings
from llm_dit.records.picture import read_record


def about_size(*overrides):
    config = compose(["a fox", *overrides])
    return size_warnings(config, asked_size(config))


def about_prompt(prompt, *overrides):
    config = compose(list(overrides), prompt=prompt)
    return prompt_warnings(config, reader_of(config))


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (
            (512, 512),
            ("512 x 512 is outside", "128 to 144 px", "trained at 128 px", "dype=dy_yarn", "highres=two_stage"),
        ),
        ((256, 128), ("256 x 128 is outside", "repeated", "dype=dy_yarn")),
        ((96, 96), ("96 x 96 is outside", "cut off")),
        ((128, 144), ()),
        ((128, 128), ()),
    ],
)
@pytest.mark.parametrize("model", ["nano", "nano_turbo"])
def test_a_size_outside_the_model_s_is_told(model, size, says):
    lines = about_size(f"model={model}", f"width={size[0]}", f"height={size[1]}")
    assert len(lines) == (1 if says else 0)
    for part in says:
        assert part in lines[0]
    assert "96" not in str(size) or "dype" not in lines[0]  # below, dype does nothing


def test_dype_and_highres_are_trusted_as_far_as_they_help():
    for helping in ("dype=dy_yarn", "highres=two_stage"):
        assert about_size("width=256", "height=256", helping) == []
        assert "cannot be relied on above 288 px" in about_size("width=512", "height=512", helping)[0]
    (line,) = about_size("width=64", "height=256", "dype=dy_yarn")
    assert "cut off" in line


def test_sizes_are_the_model_option_s():
    assert about_size("model=tiny", "width=512") == []
    assert about_size("model=z_image_turbo", "width=1536") == []
    assert "512 to 2048 px" in about_size("model=z_image", "width=4096")[0]
    assert about_size("width=512", "model.sizes=[]") == []
    for wrong in ("[128]", "[256,128]", "[1,2,3]"):
        with pytest.raises(ConfigError, match=r"model\.sizes="):
            compose(["a fox", f"model.sizes={wrong}"])


def test_the_start_picture_s_size_counts(tmp_path):
    Image.new("RGB", (512, 256)).save(tmp_path / "start.png")
    assert about_size(f"init_image={tmp_path / 'start.png'}")[0].startswith("512 x 256 is outside")


def test_a_prompt_of_other_words_is_told_with_the_nearest_and_how_to_list_them():
    (line,) = about_prompt("a puppy, 3d style")
    assert line == (
        "the prompt names no subject that nano was taught ('puppy'); nearest: dog, fox; task=vocabulary lists what it "
        "knows."
    )
    (line,) = about_prompt("a golden fox")
    assert line.startswith("the prompt has words that nano was never taught: 'golden'; nearest: yellow;")
    (line,) = about_prompt("qwxyz")
    assert "it knows fruit and vegetables, other food, animals" in line
    assert about_prompt("a red apple, 3d style, blue background") == []


def test_an_empty_prompt_is_told_for_every_model():
    for model in ("nano", "tiny"):
        assert about_prompt(" ", f"model={model}") == [
            "the prompt is empty: what is drawn follows from the seed alone."
        ]
    assert about_prompt("", "prompt.system=Draw a fox.") == []


def test_the_second_prompt_is_read_and_the_negative_one_is_not():
    assert about_prompt("a fox", "prompt.negative=blurry") == []
    assert about_prompt("a fox", "mix.text=a puppy") == []  # it acts on nothing
    (line,) = about_prompt("a fox", "mix=lerp", "mix.text=a puppy")
    assert line.startswith("mix.text names no subject")


def test_a_lora_that_teaches_a_word_is_named_and_makes_it_known():
    prompt = "a skull, ink style, yellow background"
    assert "lora=shipped:ink teaches 'ink'" in about_prompt(prompt)[0]
    assert about_prompt(prompt, "lora=shipped:ink:0.5") == []


@pytest.mark.parametrize("change", ["model=tiny", "lora=mine.safetensors", "model.path=outputs/train/mine",
                                    "model.transformer_file=a.safetensors", "model.vocabulary=null"])  # fmt: skip
def test_of_other_weights_the_words_are_not_known(change):
    assert about_prompt("a puppy", change) == []


def test_a_vocabulary_that_is_none_is_an_error():
    with pytest.raises(ConfigError, match=r"model\.vocabulary=nan: no such vocabulary\. Did you mean 'nano'\?"):
        compose(["a fox", "model.vocabulary=nan"])


def test_the_command_line_says_it_once_and_the_record_keeps_it(run_main):
    code, _, err, written = run_main("a puppy", "width=160", "num_images=2", "sampler.steps=1", "hardware=cpu")
    assert code == 0
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("warning: 160 x 128 is outside")
    assert lines[1].startswith("warning: the prompt names no subject that nano was taught ('puppy')")
    record = read_record(next(w for w in written if w.endswith(".png")))
    assert [f"warning: {line}" for line in record["warnings"]] == lines


def test_a_dry_run_and_a_preview_say_it(run_main):
    code, _, err, written = run_main("a puppy", "width=512", "dry_run=true")
    assert (code, len(err.splitlines()), written) == (0, 2, [])
    code, _, err, _ = run_main("a puppy", "task=preview")
    assert code == 0
    assert sum(line.startswith("warning: ") for line in err.splitlines()) == 1


def test_a_sweep_says_each_kind_of_thing_once(run_main):
    sweep = ("-m", "prompts=standard", "width=128,256,512", "sampler.steps=1,2", "hardware=cpu", "tracker=none")
    code, _, err, _ = run_main(*sweep, "dry_run=true")
    assert code == 0
    size, prompt = err.splitlines()
    assert size.startswith("warning: 256 x 128 is outside")
    assert "1 more of the sweep's sizes" in size
    assert "never taught" in prompt
    assert "86 more of the sweep's prompts" in prompt


def test_a_sweep_that_draws_says_it_too_and_one_of_known_words_says_nothing(run_main):
    sweep = ("-m", "seed=1,2", "sampler.steps=1", "hardware=cpu", "tracker=none")
    code, _, err, _ = run_main("a puppy", *sweep)
    assert (code, err.count("warning")) == (0, 1)
    code, _, err, _ = run_main("a fox", *sweep)
    assert (code, err) == (0, "")


def test_the_vocabulary_is_listed_and_searched(run_main):
    code, out, err, written = run_main("task=vocabulary")
    assert (code, err, written) == (0, "", [])
    for part in ("150 subjects", "animals (35): fox, cat", "styles: cartoon, flat, 3d", "backgrounds: white", "left of",
                 "small (small, tiny, little)", "three X", "a red apple, 3d style, blue background"):  # fmt: skip
        assert part in out
    code, out, _, _ = run_main("task=vocabulary", "fru")
    assert code == 0
    assert out.startswith("fruit and vegetables: red apple, banana")
    assert "fox" not in out
    _, out, _, _ = run_main("task=vocabulary", "a puppy, ink or blue")
    assert out.splitlines() == ["animals: fox, dog", "backgrounds: blue"]
    _, out, _, _ = run_main("task=vocabulary", "qwxyz")
    assert out == "nothing like 'qwxyz'; task=vocabulary lists all.\n"
    code, out, _, _ = run_main("task=vocabulary", "model=tiny")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "no list of words" in out


def test_help_tells_how_to_list_it(run_main):
    assert "task=vocabulary" in run_main("--help")[1]
