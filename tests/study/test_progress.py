"""The progress display reads the sweep's folder; on a terminal it shows cells, pictures and the last path."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

from llm_dit.study.progress import SweepProgress
from llm_dit.study.store import SweepFolder

ROOT = Path(__file__).parents[2]


def test_it_counts_what_is_asked_for_and_no_half_lines(tmp_path):
    sweep = SweepFolder(tmp_path)
    for name in ("old", "a"):
        (sweep.cell(name).path / "images").mkdir(parents=True)
    cell = sweep.cell("a")

    def draw(cell, seed):
        (cell.path / f"images/p_s{seed}.png").write_bytes(b"")
        fixed = {"prompt_id": "p", "prompt": "x", "pixels_sha256": "x", "axes": {}}
        cell.append(fixed | {"seed": seed, "path": f"images/p_s{seed}.png"})

    draw(sweep.cell("old"), 1)
    draw(cell, 1)
    draw(cell, 9)
    progress = SweepProgress(sweep, {"a": {("p", s, "x") for s in (1, 2, 3)}, "b": {("p", 1, "x")}})
    assert (progress.total, progress.kept) == (4, 1)
    assert progress.look() == (0, 1, "")
    draw(cell, 2)
    draw(sweep.cell("old"), 2)
    assert progress.look() == (0, 2, str(cell.path / "images/p_s2.png"))
    with (cell.path / "records.jsonl").open("ab") as file:
        file.write(b'{"prompt_id": "p", "se')
    assert progress.look()[1] == 2
    with (cell.path / "records.jsonl").open("ab") as file:
        file.write(b'ed": 3, "path": "images/p_s3.png"}\n')
    cell.write("cell.json", {})
    assert progress.look() == (1, 3, str(cell.path / "images/p_s3.png"))


def test_a_terminal_is_shown_a_bar(tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    command = [sys.executable, ROOT / "experiments" / "run.py", "-m", "x", "model=tiny", "tracker=none", "sweep.name=s"]
    process = subprocess.Popen([*command, "seed=1,2"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # what Linux says at the end of a closed terminal
        pass
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "1/1 cells" in text
    assert "2/2" in text
    assert "images/prompt_s2.png" in text
