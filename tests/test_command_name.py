"""The program speaks of itself as it was started: run.py of a checkout, or the installed llm-dit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ASK = "from llm_dit.base.paths import command_name, whole_command; print(command_name(), '|', whole_command())"


def test_in_a_checkout():
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert done.stdout == "run.py | uv run experiments/run.py\n"


def test_as_the_installed_command(tmp_path):
    script = tmp_path / "llm-dit"
    script.write_text(ASK)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "llm-dit | llm-dit\n"


def test_the_checkout_holds_the_entry_point_that_is_named():
    assert (ROOT / "experiments" / "run.py").is_file()
