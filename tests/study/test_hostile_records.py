"""Files that a stranger or a damaged disk gives: each ends in one line and exit code 2, or is read as it was."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llm_dit.base.errors import RecordError
from llm_dit.cli.command import main
from llm_dit.records.schema import (
    Cell,
    Failure,
    LogLine,
    PictureRecord,
    ScoreLine,
    Sweep,
    SweepLine,
    lines_of,
    read_object,
)
from llm_dit.train.checkpoint import (
    State,
    check_optimizer_tensors,
    check_tensors,
    optimizer_tensors,
    read_checkpoint,
)

DEEP = "[" * 10_000 + "]" * 10_000
ODD = ["null", "[]", "{}", '"x"', "1e999", "-1", "NaN", "1" * 400, '"\\ud800"', DEEP, "[" * 200 + "]" * 200]
SWEEP = ("-m", "prompt.text=a red apple", "sampler.steps=1,2", "height=64", "width=64", "metrics=sharpness")
MACHINE = ("model=tiny", "hardware=cpu", "tracker=none", "sweep.dir=.", "sweep.name=s")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A sweep of two cells with scores."""
    root = tmp_path_factory.mktemp("drawn")
    before = Path.cwd()
    os.chdir(root)
    try:
        assert main([*SWEEP, *MACHINE]) == 0
    finally:
        os.chdir(before)
    return root / "s"


@pytest.fixture
def copied(drawn, tmp_path, monkeypatch):
    """The sweep in a folder of its own, and its first cell."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawn, tmp_path / "s")
    return sorted((tmp_path / "s" / "cells").iterdir())[0]


def refusal(read, *arguments) -> str | None:
    """The one line with which a reader refuses, None when it reads."""
    try:
        read(*arguments)
    except RecordError as error:
        return str(error) if "\n" not in str(error) else "more than one line"
    return None


def mutations(text: str):
    """(what, text) with each key, one after the other, replaced by each odd value, or left out."""
    values = json.loads(text)
    for key in values:
        rest = {k: v for k, v in values.items() if k != key}
        yield f"without {key}", json.dumps(rest)
        for odd in ODD:
            yield f"{key}={odd[:20]}", json.dumps(rest)[:-1] + ("," if rest else "") + f"{json.dumps(key)}: {odd}}}"


@pytest.mark.parametrize(
    ("name", "shape"),
    [("cell.json", Cell), ("records.jsonl", SweepLine), ("scores.jsonl", ScoreLine), ("../../sweep.json", Sweep)],
)
def test_every_odd_value_is_read_as_its_type_or_refused_in_one_line(copied, name, shape):
    path = copied / name
    lines = path.suffix == ".jsonl"
    text = path.read_text().splitlines()[0] if lines else path.read_text()
    refused = 0
    for what, mutated in mutations(text):
        path.write_text(mutated)
        said = refusal(lines_of if lines else read_object, path, shape)
        refused += said is not None
        assert said is None or said.startswith(f"{path}:1: " if lines else f"{path}: "), what
        assert said is None or len(said) < 400, what
    assert refused > 4 * len(json.loads(text))  # at least what no value may be: infinite, too long, too deep


def run(capsys, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    return main(list(arguments)), capsys.readouterr().err


FAULTS = {
    "deep": DEEP.encode(),
    "bytes": b'{"path": "\xff\xfe"}',
    "a list": b"[]",
    "a number": b"1e999",
    "an empty object": b"{}",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["records.jsonl", "scores.jsonl", "cell.json", "../../sweep.json"])
def test_tasks_on_a_damaged_sweep_say_one_line(copied, capsys, name, fault):
    (copied / name).write_bytes(FAULTS[fault] + b"\n")
    for task in ("report", "score"):
        code, err = run(capsys, f"task={task}", *MACHINE, "metrics=sharpness")
        assert code in (0, 2)
        assert err.count("error:") <= 1
        assert "Traceback" not in err
        assert "a fault of llm-dit" not in err
        if code:
            assert f"{Path(name).name}" in err


@pytest.mark.parametrize("name", ["records.jsonl", "scores.jsonl", "cell.json", "../../sweep.json", "started"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_special_files_in_place_of_a_sweeps_are_refused_at_once(copied, capsys, name, make):
    (copied / name).unlink()
    make(copied / name)
    code, err = run(capsys, "task=report", *MACHINE)
    assert code in (0, 2)
    assert err.count("error:") == (code == 2)
    assert "a fault of llm-dit" not in err
    assert code == (0 if name == "started" else 2)


def test_a_sweep_goes_on_only_over_records_that_are_sound(copied, capsys):
    path = copied / "records.jsonl"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": [0]'))
    code, err = run(capsys, *SWEEP, *MACHINE)
    assert code == 2
    assert err.count("error:") == 1
    assert f"{path.name}:1: 'seed' must be a whole number, got a list" in err


def test_half_a_line_of_a_killed_process_is_left_out(copied):
    path = copied / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"\xc3\n" + whole)
    assert len(lines_of(path, SweepLine)) == 1


@pytest.mark.parametrize("odd", ["null", '{"model": 3}', "[]", DEEP])
def test_a_picture_with_an_odd_record_is_refused_in_one_line(copied, capsys, odd):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("llm_dit", '{"record_version": 1, "seed": 0, "config": ' + odd + "}")
    Image.new("RGB", (8, 8)).save("odd.png", pnginfo=info)
    code, err = run(capsys, "from_image=odd.png")
    assert code == 2
    assert err.count("error:") == 1
    assert "odd.png" in err


def made(weights: dict[str, torch.Tensor]):
    trained = {name: torch.nn.Parameter(w.clone()) for name, w in weights.items()}
    optimizer = torch.optim.AdamW(trained.values())
    for p in trained.values():
        p.grad = torch.ones_like(p)
    optimizer.step()
    return trained, {"adamw": optimizer}


@pytest.mark.parametrize(
    ("key", "value"),
    [("a", torch.ones(1)), ("a", torch.ones(3, 1)), ("a", torch.ones(2, 3).int()), ("a", None), ("c", torch.ones(1))],
)
@pytest.mark.parametrize("group", ["weights", "average", "optimizer"])
def test_tensors_of_other_shapes_are_never_broadcast(tmp_path, group, key, value):
    trained, optimizers = made({"a": torch.ones(2, 3), "b": torch.ones(3)})
    weights = {name: p.detach() for name, p in trained.items()}
    groups = {"weights": weights, "average": dict(weights), "optimizer": optimizer_tensors(optimizers, trained)}
    sound = State(groups["weights"], groups["average"], groups["optimizer"], {})
    check_tensors(sound, trained, True, tmp_path)
    check_optimizer_tensors(optimizers, trained, sound.optimizer, tmp_path)
    name = f"adamw/{key}/exp_avg" if group == "optimizer" else key
    groups[group] = {k: v for k, v in groups[group].items() if k != name} | ({} if value is None else {name: value})
    state = State(groups["weights"], groups["average"], groups["optimizer"], {})
    if group == "optimizer":
        said = refusal(check_optimizer_tensors, optimizers, trained, state.optimizer, tmp_path)
    else:
        said = refusal(check_tensors, state, trained, True, tmp_path)
    assert f"{group}.safetensors: " in said


STATE = {
    "state_version": 1, "step": 3, "settings": {}, "data_fingerprint": "a", "base_fingerprint": "b", "processes": 1,
    "meter": [], "seconds": 1.0, "cpu_seconds": 1.0,
}  # fmt: skip


def test_a_checkpoint_of_odd_values_is_refused_in_one_line(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors")
    save_file({}, tmp_path / "optimizer.safetensors")
    path = tmp_path / "state.json"
    path.write_text(json.dumps(STATE))
    assert read_checkpoint(tmp_path).step == 3
    for what, mutated in mutations(json.dumps(STATE)):
        path.write_text(mutated)
        said = refusal(read_checkpoint, tmp_path)
        assert said is None or said.startswith(f"{path}: "), what
    path.write_text(json.dumps(STATE))
    (tmp_path / "weights.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(RecordError, match=r"weights\.safetensors: damaged"):
        read_checkpoint(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    os.mkfifo(tmp_path / "weights.safetensors")
    with pytest.raises(RecordError, match=r"weights\.safetensors: there is no such file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("line", [b"[]", b'{"step": "x"}', b"{}", DEEP.encode(), b'{"step": 1, "loss": NaN}'])
def test_an_odd_line_of_a_trainings_log_is_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(RecordError, match=r"log\.jsonl:2: "):
        lines_of(path, LogLine)


def test_what_0_2_0_wrote_is_read(tmp_path):
    """Without keys that came later, and with keys that are not known."""
    path = tmp_path / "failed.json"
    path.write_text('{"error": "x", "labels": {}, "traceback": "y"}')
    assert read_object(path, Failure)["traceback"] == "y"
    path.write_text("{}")
    assert "lacks 'config'" in refusal(read_object, path, PictureRecord)
    (tmp_path / "sweep.json").write_text('{"name": "s", "axes": ["seed"]}')
    assert read_object(tmp_path / "sweep.json", Sweep) == {"name": "s", "axes": ["seed"]}
