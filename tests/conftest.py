"""Shared pieces: a tiny config, and no network and no leftovers for every test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Two busy threads on two shared cores wait for each other; tests are small, and one thread is steady.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Helpers that several folders of tests share: golden_cases, golden_run.
sys.path.append(str(Path(__file__).parent / "golden"))

import pytest

from llm_dit.compose import compose


@pytest.fixture
def tiny():
    """compose() for the tiny random model, with a prompt unless one is given."""

    def make(*overrides: str, prompt: str | None = "a red apple"):
        given = prompt is not None and not any(o.startswith(("prompt.text=", "prompt_file=")) for o in overrides)
        return compose(["model=tiny", "hardware=cpu", *overrides], prompt=prompt if given else None)

    return make


@pytest.fixture
def run_main(tmp_path, monkeypatch, capsys):
    """Call the command line in a fresh folder: (exit code, stdout, stderr, files written)."""
    from llm_dit.cli.command import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        before = {p for p in tmp_path.rglob("*") if p.is_file()}
        code = main(list(arguments))
        captured = capsys.readouterr()
        written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and p not in before)
        return code, captured.out, captured.err, written

    return run


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 KiB, too small for a picture and its record."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root; test_picture.py has the same by a file size limit")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def check_golden():
    """Assert that a case's pictures are the stored ones, within what kernels of other machines round differently."""
    from golden_run import largest_difference, stored, summary

    golden = stored()

    def check(name: str, pictures: list) -> None:
        drawn = [summary(picture) for picture in pictures]
        assert name in golden, f"no golden picture {name!r}: run python tests/golden/golden_run.py write"
        kept = golden[name]
        assert [(d["size"], d["nfe"]) for d in drawn] == [(k["size"], k["nfe"]) for k in kept]
        assert max(map(largest_difference, drawn, kept)) <= 2

    return check
