"""What README and docs tell people to type runs, in the order of each page, with what the page tells them to have."""

from __future__ import annotations

import shlex

import pytest

from docs_commands import Command, commands, make_workplace, small
from llm_dit.cli.command import main

COMMANDS = commands()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the files that the pages name."""
    root = tmp_path_factory.mktemp("docs")
    make_workplace(root)
    return root


# What a command may name that another one made: a path in the folder, and the command.
MADE = {
    "outputs/images/PICTURE.png": '"a red apple, 3d style, blue background" output.name=PICTURE',
    "outputs/sweeps/hidden_layer/sweep.json": "sweep=hidden_layer",
    "outputs/train/ink4/lora.safetensors": (
        "task=train train=lora data=docs/examples/training/captions.jsonl train.name=ink4"
    ),
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.page}: {c.line[:70]}")
def test_a_command_of_the_docs_runs(command, workplace, monkeypatch, capsys):
    if command.why_not:
        pytest.skip(command.why_not)
    monkeypatch.chdir(workplace)
    for path, maker in MADE.items():
        is_named = path in command.line or ("sweep.name=hidden_layer" in command.line and "sweeps" in path)
        if is_named and not (workplace / path).exists():
            assert main(small(Command("", maker), workplace)) == 0, maker
    code = main(small(command, workplace))
    assert code == 0, f"{shlex.join(small(command, workplace))}\n{capsys.readouterr().err}"
