"""A sweep of the tiny model from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_dit.study.store import SweepFolder


@pytest.fixture
def sweep(run_main):
    """Run `run.py -m ...` with the tiny model, without a tracker: (exit code, stdout, stderr, SweepFolder)."""

    def run(*arguments: str, name: str = "s"):
        named = [] if any(a.startswith("sweep") for a in arguments) else [f"sweep.name={name}"]
        code, out, err, _ = run_main("-m", *arguments, *named, "model=tiny", "hardware=cpu", "tracker=none")
        return code, out, err, SweepFolder(Path("outputs/sweeps") / name)

    return run


@pytest.fixture
def prompt_file(tmp_path):
    """Write a set of prompts: {id: text} to its path."""

    def write(prompts: dict[str, str]) -> str:
        entries = [
            {"id": i, "category": "animals", "difficulty": "easy", "prompt": text, "elements": [{"subject": "x"}]}
            for i, text in prompts.items()
        ]
        path = tmp_path / "set.yaml"
        path.write_text(json.dumps({"version": 1, "description": "for a test", "prompts": entries}))
        return str(path)

    return write
