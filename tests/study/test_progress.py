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

from llm_dit.compose import compose
from llm_dit.study.progress import SweepProgress
from llm_dit.study.store import SweepFolder

ROOT = Path(__file__).parents[2]


def test_it_counts_what_is_on_disk_and_no_half_lines(tmp_path):
    sweep = SweepFolder(tmp_path)
    progress = SweepProgress(sweep, compose(["x", "seeds=[1,2]"]), [[], [], []])
    assert progress.total == 6
    assert progress.look() == (0, 0, "")
    cell = sweep.cell("a")
    cell.path.mkdir(parents=True)
    cell.append({"prompt_id": "p", "seed": 1, "path": "images/p_s1.png"})
    assert progress.look() == (0, 1, str(cell.path / "images/p_s1.png"))
    with (cell.path / "records.jsonl").open("ab") as file:
        file.write(b'{"prompt_id": "p", "se')
    cell.write("cell.json", {})
    assert progress.look() == (1, 1, str(cell.path / "images/p_s1.png"))
    with (cell.path / "records.jsonl").open("ab") as file:
        file.write(b'ed": 2, "path": "images/p_s2.png"}\n')
    assert progress.look() == (1, 2, str(cell.path / "images/p_s2.png"))


def test_cells_of_different_sizes_have_no_total(tmp_path):
    config = compose(["x", "sweep.axes=[seeds]"])
    assert SweepProgress(SweepFolder(tmp_path), config, [[], []]).total is None


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
