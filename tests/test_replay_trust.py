"""A record is input from strangers: what it names beyond the shipped files is read only when the user says so."""

from __future__ import annotations

import json
import os
import threading
from functools import cache

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from llm_dit.base.errors import printable
from llm_dit.compose import compose, conf_dir
from llm_dit.config import Config, get, parameters, put, to_dict
from llm_dit.records.picture import PNG_KEY, read_record
from llm_dit.records.replay import OF_THE_RUN, config_from_image
from llm_dit.render.draw import render

# Parameters of text that make the program read, fetch and write nothing.
PLAIN_TEXTS = {
    "prompt.text",
    "prompt.negative",
    "prompt.system",
    "prompt.thinking",
    "prompt.assistant",
    "mix.text",
    "model.name",
    "model.vocabulary",  # a shipped name, or refused
    "prompts.ids",
    "prompts.categories",
    "prompts.difficulties",
    "train.trainable",
    "train.lora.targets",
    "tracker.project",
    "sweep.axes",
    "sweep.metric",
    "metrics.primary",
    "report.baseline",
}
OF_THE_PICTURE = [p.key for p in parameters() if p.rule.place and p.key.split(".")[0] not in OF_THE_RUN]
# What a command without any of these draws with, where "null" is none.
INSTEAD = {
    "model.path": "random:tiny",
    "encoder_layer.fit_prompts": "starter",
    "lora": "[]",
    "prompt.template": "photograph",
}


@cache
def tiny_record():
    """The record of a picture that was drawn."""
    return render(compose(["model=tiny", "hardware=cpu", "x", "seed=5"]))[0].record


@pytest.fixture(autouse=True, scope="module")
def drawn_once():
    """Before any test looks at what is printed."""
    tiny_record()


def write_picture(path, config):
    """A PNG with the record of a drawn picture whose config was replaced by this one."""
    info = PngInfo()
    info.add_itxt(PNG_KEY, json.dumps(tiny_record() | {"config": config}))
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)
    return path


def recorded(**keys):
    """A recorded config of the tiny model, with single keys changed."""
    values = to_dict(compose(["model=tiny", "x"]))
    for key, value in keys.items():
        put(values, key, value)
    return values


@pytest.fixture
def trap(tmp_path):
    """A path that nobody may open: (path, was it opened). Whoever reads it gets an end of file at once."""
    path = tmp_path / "trap.safetensors"
    os.mkfifo(path)
    opened = threading.Event()

    def wait():
        with open(path, "wb"):
            opened.set()

    threading.Thread(target=wait, daemon=True).start()
    yield path, opened
    if not opened.is_set():
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def test_every_text_is_declared_a_place_or_known_to_be_none():
    texts = {p.key for p in parameters() if p.type in (str, list[str]) and not p.rule.choices}
    places = {p.key for p in parameters() if p.rule.place}
    assert places <= texts
    assert not places & PLAIN_TEXTS
    assert texts - places == PLAIN_TEXTS


@pytest.mark.parametrize("key", OF_THE_PICTURE)
def test_a_strange_place_is_named_and_not_read(key, run_main, trap, tmp_path):
    path, opened = trap
    value = [str(path)] if key == "lora" else str(path)
    changes = {"prompt.text": None} if key == "prompt_file" else {}
    write_picture(tmp_path / "x.png", recorded(**{key: value} | changes))
    code, out, err, written = run_main("from_image=x.png")
    assert (code, out, written, err.count("\n")) == (2, "", [], 1)
    assert f"{key}=" in err
    assert path.name[:5] in err or "..." in err
    assert "trust_record=true" in err
    assert f"{key}=..." in err
    assert not opened.is_set()


@pytest.mark.parametrize("key", OF_THE_PICTURE)
def test_a_strange_place_is_used_when_trusted_and_replaced_when_overridden(key, tmp_path):
    value = ["strange.safetensors"] if key == "lora" else "strange"
    changes = {"model.path": "some/hub"} if key == "model.revision" else {}
    changes |= {"prompt.text": None} if key == "prompt_file" else {}
    picture = write_picture(tmp_path / "x.png", recorded(**{key: value} | changes))
    trusting = [f"from_image={picture}", "trust_record=true"]
    assert get(config_from_image(compose(trusting), trusting), key) == value
    own = [f"from_image={picture}", f"{key}={INSTEAD.get(key, 'null')}"]
    own += ["model.path=random:tiny"] if key == "model.revision" else []
    config = config_from_image(compose(own), own)
    assert get(config, key) == get(compose(own), key) != value


def test_a_prompt_in_place_of_a_recorded_file_needs_no_leave(tmp_path):
    picture = write_picture(tmp_path / "x.png", recorded(prompt_file="secret.txt"))
    own = [f"from_image={picture}", "prompt.text=mine"]
    config = config_from_image(compose(own), own)
    assert (config.prompt.text, config.prompt_file) == ("mine", None)


def test_several_strange_places_are_named_at_once_and_shortened(run_main, tmp_path):
    values = recorded(**{"init_image": "/a/" + "b" * 500, "lora": ["shipped:ink", "/c/d"], "model.path": "evil/hub"})
    write_picture(tmp_path / "x.png", values)
    code, _, err, _ = run_main("from_image=x.png")
    assert code == 2
    for said in ("init_image='/a/bbb", "lora=['/c/d']", "model.path='evil/hub'", "init_image=... lora=... model.path"):
        assert said in err
    assert "shipped:ink" not in err
    assert len(err) < 600
    code, _, err, _ = run_main("from_image=x.png", "init_image=null", "lora=[]")
    assert code == 2
    assert "init_image" not in err
    assert "model.path='evil/hub'" in err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.path", "shipped:../nano"),
        ("model.path", "shipped:/etc"),
        ("lora", ["shipped:../ink:0.5"]),
        ("prompt.template", "../templates/photograph"),
        ("encoder_layer.fit_prompts", "./starter.yaml"),
        ("model.revision", "refs/pr/1"),
    ],
)
def test_what_only_looks_shipped_is_strange(key, value, run_main, tmp_path):
    write_picture(tmp_path / "x.png", recorded(**{"model.path": "Tongyi-MAI/Z-Image", key: value}))
    code, _, err, _ = run_main("from_image=x.png", "dry_run=true")
    assert code == 2
    assert f"{key}=" in err
    assert "trust_record=true" in err


@pytest.mark.parametrize("model", sorted(p.stem for p in conf_dir().glob("model/*.yaml")))
def test_a_record_of_a_shipped_model_needs_no_leave(model, tmp_path):
    drawn = compose([f"model={model}", "x", "lora=[shipped:ink:0.5]", "encoder_layer.fit_prompts=starter"])
    picture = write_picture(tmp_path / "x.png", to_dict(drawn))
    own = [f"from_image={picture}"]
    config = config_from_image(compose(own), own)
    assert (config.model, config.lora) == (drawn.model, drawn.lora)


def test_nano_with_the_shipped_lora_is_drawn_again(run_main):
    draw = ("width=32", "height=32", "sampler.steps=1", "guidance.guidance_scale=0")
    _, out, _, _ = run_main("a red apple in ink", "lora=shipped:ink", "output.name=first", *draw)
    code, again, err, _ = run_main(f"from_image={out.strip()}")
    assert code == 0, err
    assert again.splitlines()[1] == "the same pixels as the original"


def test_settings_of_the_run_never_come_from_a_record(tmp_path):
    changes = {}
    for p in parameters():
        if p.key.split(".")[0] not in OF_THE_RUN:
            continue
        if p.type is bool:
            changes[p.key] = not p.default
        elif p.rule.choices:
            changes[p.key] = next(c for c in reversed(p.rule.choices) if c != p.default)
        elif p.type in (str, list[str]):
            changes[p.key] = "/strange" if p.type is str else ["/strange"]
    assert {"task", "output.dir", "tracker.name", "metrics.clip.enabled", "train.init", "trust_record"} <= set(changes)
    picture = write_picture(tmp_path / "x.png", recorded(**changes))
    own = [f"from_image={picture}", "output.dir=mine"]
    ours = compose(own)
    config = config_from_image(ours, own)
    for name in OF_THE_RUN:
        assert getattr(config, name) == getattr(ours, name), name


def test_a_setting_of_the_run_that_is_wrong_in_a_record_is_left_aside(tmp_path):
    picture = write_picture(tmp_path / "x.png", recorded() | {"metrics": {"of": "another release"}, "task": "erase"})
    own = [f"from_image={picture}"]
    assert config_from_image(compose(own), own).metrics == Config().metrics


def test_the_trust_of_a_record_is_not_swept(run_main):
    code, _, err, _ = run_main("-m", "x", "model=tiny", "trust_record=true,false", "tracker=none")
    assert code == 2
    assert "trust_record cannot be swept" in err


def test_a_picture_that_is_in_the_way_has_its_record_read_and_not_the_files_it_names(run_main, trap, tmp_path):
    path, opened = trap
    folder = tmp_path / "outputs/images"
    folder.mkdir(parents=True)
    for key, value in (("init_image", str(path)), ("lora", [str(path)])):
        write_picture(folder / "mine.png", recorded(**{key: value}))
        code, _, err, _ = run_main("x", "model=tiny", "seed=5", "output.name=mine")
        assert code == 2
        assert "is not this picture" in err
        assert not opened.is_set()


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202etxt"


def is_clean(text):
    return printable(text) == text


@pytest.mark.parametrize(
    "values",
    [
        {"init_image": HOSTILE},
        {"lora": [HOSTILE]},
        {"model.path": HOSTILE},
        {"model.chat_format": HOSTILE},
        {"sampler.name": HOSTILE},
        {HOSTILE: 1},
        {"prompt." + HOSTILE: 1},
    ],
)
def test_an_error_about_a_record_carries_no_control_characters(values, run_main, tmp_path):
    write_picture(tmp_path / "x.png", recorded(**values))
    code, out, err, _ = run_main("from_image=x.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "owned" in err
    assert is_clean(err)


def test_a_recorded_prompt_and_model_name_are_printed_without_control_characters(run_main, tmp_path):
    values = recorded(**{"prompt.text": f"(a:1.3) {HOSTILE}", "model.name": HOSTILE, "model.sizes": [128, 144]})
    write_picture(tmp_path / "x.png", values)
    for task in ("render", "preview", "vocabulary"):
        code, out, err, _ = run_main("from_image=x.png", f"task={task}")
        assert code in (0, 1) if task == "render" else code == 0, err
        assert "owned" in out + err
        assert is_clean(out)
        assert is_clean(err)


def test_printable_keeps_text_of_any_script_and_its_lines():
    text = "a\tb\nΩ 日本　語 שלום \N{FAMILY}\u200d"
    assert printable(text) == text
    assert printable("\x1b[2J\r\x85\u2066") == "\\x1b[2J\\r\\x85\\u2066"


def test_a_record_that_nobody_edited_needs_no_leave(tmp_path):
    picture = write_picture(tmp_path / "x.png", tiny_record()["config"])
    own = [f"from_image={picture}"]
    assert config_from_image(compose(own), own).seed == read_record(picture)["seed"] == 5


def test_what_this_command_is_set_to_anyway_needs_no_leave(tmp_path):
    picture = write_picture(tmp_path / "x.png", recorded(**{"model.path": "/models/mine"}))
    own = [f"from_image={picture}", "model.path=/models/mine"]
    assert config_from_image(compose(own), own[:1]).model.path == "/models/mine"
