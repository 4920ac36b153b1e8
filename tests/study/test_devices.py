"""Processes of one machine take different cards, and a card is free again when its process is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = (
    "import sys, time; from pathlib import Path; from llm_dit.study.devices import claim\n"
    "print(claim(3, folder=Path(sys.argv[1])), claim(3, folder=Path(sys.argv[1])), flush=True); time.sleep(60)"
)


def start(folder: Path) -> tuple[subprocess.Popen, int]:
    process = subprocess.Popen([sys.executable, "-c", CODE, folder], stdout=subprocess.PIPE, text=True)
    first, again = process.stdout.readline().split()
    assert first == again
    return process, int(first)


def test_every_process_has_a_card_of_its_own(tmp_path):
    running = []
    try:
        for expected in range(3):
            process, card = start(tmp_path)
            running.append(process)
            assert card == expected
        running[1].kill()
        running[1].wait()
        process, card = start(tmp_path)
        running.append(process)
        assert card == 1
        process, card = start(tmp_path)
        running.append(process)
        assert card in range(3)  # all taken: shared rather than refused
    finally:
        for process in running:
            process.kill()
            process.wait()
