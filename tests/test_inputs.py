"""Files that a user names: text with a byte-order mark, bytes that are not UTF-8, FIFOs and devices, deep nesting."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_dit.base.errors import ConfigError, DataError, LabError, ModelError, PromptError
from llm_dit.base.inputs import read_bytes, read_text
from llm_dit.conditioning.encode import read_prompt
from llm_dit.config import DataConfig
from llm_dit.encoders.gguf import load_gguf_tokenizer
from llm_dit.prompts.sets import load_prompt_set
from llm_dit.prompts.templates import load_template
from llm_dit.study.definition import load_study
from llm_dit.train.data.rows import read_rows
from llm_dit.weights.folder import component_folder, read_json
from llm_dit.weights.lora_file import find_lora
from llm_dit.weights.tensors import safetensors_shapes

MARK = b"\xef\xbb\xbf"
PROMPTS = b"prompts:\n- id: a\n  category: c\n  prompt: a red fox\n"
STUDY = b"question: which?\naxes:\n  seed: [1, 2]\n"


def rows(path: Path) -> object:
    return read_rows(DataConfig(path=str(path))).rows[0].prompts


@pytest.fixture
def prompt(tiny) -> Callable[[Path], str]:
    return lambda path: read_prompt(tiny(f"prompt_file={path}", prompt=None))


def readers(prompt) -> dict[str, tuple[str, bytes, object, Callable[[Path], object]]]:
    """Per input: its argument, a sound file, what is read of it, and the reader."""
    return {
        "prompt.txt": ("prompt_file=", b"a red fox\r\n", "a red fox", prompt),
        "style.md": (
            "prompt.template=", b"---\ncategory: x\n---\nDraw in ink.", "Draw in ink.",
            lambda path: load_template(str(path)).system,
        ),
        "set.yaml": ("prompts.set=", PROMPTS, "a red fox", lambda path: load_prompt_set(path).prompts[0].prompt),
        "study.yaml": ("sweep=", STUDY, {"seed": [1, 2]}, lambda path: load_study(str(path)).axes),
    }  # fmt: skip


NAMES = ["prompt.txt", "style.md", "set.yaml", "study.yaml"]
DATA = {
    "rows.jsonl": b'{"image": "a.png", "prompt": "a red fox"}\n',
    "rows.json": b'[{"image": "a.png", "prompt": "a red fox"}]',
    "rows.csv": b"image,prompt\na.png,a red fox\n",
}


def error_of(read: Callable[[], object], seconds: float = 10) -> str:
    """The message of the error that read raises; it must come in time."""
    said: list[str] = []

    def attempt() -> None:
        try:
            read()
        except LabError as error:
            said.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it blocks"
    assert len(said) == 1
    assert "\n" not in said[0]
    return said[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mark", [b"", MARK])
def test_a_byte_order_mark_is_no_part_of_a_text(name, mark, prompt, tmp_path):
    _, content, wanted, read = readers(prompt)[name]
    (tmp_path / name).write_bytes(mark + content)
    assert read(tmp_path / name) == wanted


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mark", [b"", MARK])
def test_text_that_is_not_utf8_is_told_with_its_byte(name, mark, prompt, tmp_path):
    argument, content, _, read = readers(prompt)[name]
    path = tmp_path / name
    path.write_bytes(mark + content[:5] + b"\xff" + content[5:])
    assert error_of(lambda: read(path)) == f"{argument}{path}: not UTF-8 text (byte {5 + len(mark)})."


def test_utf16_is_named(prompt, tmp_path):
    (tmp_path / "a.txt").write_bytes("a red fox".encode("utf-16"))
    assert "It looks like UTF-16; save it as UTF-8." in error_of(lambda: prompt(tmp_path / "a.txt"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a folder"])
def test_what_is_no_file_is_named_and_never_waited_for(name, kind, prompt, tmp_path):
    argument, _, _, read = readers(prompt)[name]
    make_special(tmp_path / name, kind)
    assert error_of(lambda: read(tmp_path / name)) == (
        f"{argument}{tmp_path / name}: {kind}, not a file that can be read."
    )


def make_special(path: Path, kind: str) -> None:
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("name", [*DATA, "rows.tar"])
@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
def test_training_data_that_is_no_file_is_named(name, kind, tmp_path):
    path = tmp_path / name
    make_special(path, kind)
    assert error_of(lambda: rows(path)) == f"data.path={path}: {kind}, not a file that can be read."


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
@pytest.mark.parametrize("beside", ["a.png", "a.txt", "a.json"])
def test_special_files_in_a_folder_of_pictures_cost_their_row(kind, beside, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("a fox")
    (tmp_path / beside).unlink(missing_ok=True)
    make_special(tmp_path / beside, kind)
    found: list = []
    thread = threading.Thread(target=lambda: found.append(read_rows(DataConfig(path=str(tmp_path)))), daemon=True)
    thread.start()
    thread.join(10)
    assert found
    assert not found[0].rows
    assert len(found[0].problems) == 1


@pytest.mark.parametrize("name", DATA)
def test_training_data_may_begin_with_a_mark(name, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / name).write_bytes(MARK + DATA[name])
    assert rows(tmp_path / name) == ("a red fox",)


def test_deep_nesting_in_training_data_is_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    deep = "[" * 200_000
    (tmp_path / "a.jsonl").write_text(f'{{"image": "a.png", "prompts": {deep}\n')
    assert "nested too deeply" in read_rows(DataConfig(path=str(tmp_path / "a.jsonl"))).problems[0]
    (tmp_path / "a.csv").write_text(f"image,prompts\na.png,{deep[:100_000]}\n")
    assert "must be a JSON list" in read_rows(DataConfig(path=str(tmp_path / "a.csv"))).problems[0]
    (tmp_path / "a.json").write_text(f'[{{"image": "a.png", "prompts": {deep}')
    assert "nested too deeply" in error_of(lambda: read_rows(DataConfig(path=str(tmp_path / "a.json"))))


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(b'{"image": "' + b"a" * (9 * 2**20) + b'"}\n' + DATA["rows.jsonl"])
    found = read_rows(DataConfig(path=str(tmp_path / "a.jsonl")))
    assert found.problems == ["a.jsonl:1: a line of more than 4,194,304 bytes."]
    assert [row.where for row in found.rows] == ["a.jsonl:2"]


@pytest.mark.parametrize("opening", ["[", "- ", "{a: "])
@pytest.mark.parametrize(("name", "error"), [("a.yaml", PromptError), ("b.yaml", ConfigError), ("c.md", PromptError)])
def test_deep_nesting_in_yaml_is_one_line(opening, name, error, tmp_path):
    """libyaml's loader ends the process on 100,000 brackets."""
    path = tmp_path / name
    text = opening * 100_000
    path.write_text(f"---\n{text}\n---\nx" if name == "c.md" else text)
    read = {"a.yaml": load_prompt_set, "b.yaml": load_study, "c.md": load_template}[name]
    with pytest.raises(error, match="nested too deeply"):
        read(str(path))


@pytest.mark.parametrize("read", [load_prompt_set, load_study])
def test_aliases_that_stand_for_a_billion_values_are_one_line(read, tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    with pytest.raises((PromptError, ConfigError), match="more than 1,000,000 values"):
        read(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
def test_special_files_as_model_and_lora_files_are_named(kind, tmp_path):
    lora, weights, gguf, config = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "a.gguf", "a.json"))
    for path in (lora, weights, gguf, config):
        make_special(path, kind)
    assert error_of(lambda: find_lora(str(lora))) == f"lora={lora}: {kind}, not a file that can be read."
    for path, read in ((weights, safetensors_shapes), (gguf, load_gguf_tokenizer), (config, read_json)):
        assert error_of(lambda path=path, read=read: read(path)) == f"{path}: {kind}, not a file that can be read."


def test_a_fifo_in_a_model_folder_is_named(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    os.mkfifo(tmp_path / "tokenizer" / "tokenizer.json")
    said = error_of(lambda: component_folder(str(tmp_path), "tokenizer"))
    assert said == f"{tmp_path}/tokenizer/tokenizer.json: a FIFO, a device or a socket, not a file of a model."


def test_a_file_that_does_not_say_its_size_is_read_within_the_limit(tmp_path):
    assert read_bytes("/proc/self/cmdline", "x", ModelError, 10**6)
    (tmp_path / "a").write_bytes(b"x" * 11)
    with pytest.raises(DataError, match=r"here=a: more than 10 bytes"):
        read_text(tmp_path / "a", "here=a", DataError, 10)


def test_a_nul_in_a_name_is_one_line():
    with pytest.raises(DataError, match="x: cannot be read"):
        read_text("a\0b", "x", DataError)
