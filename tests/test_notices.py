"""A command that lasts says on stderr what it is at; a short one, and stdout, stay as they are."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from llm_dit.base.stages import STAGES
from llm_dit.cli.notices import told_stages

ROOT = Path(__file__).parents[1]


def test_a_stage_that_lasts_is_told_once_and_a_short_one_is_not(capsys):
    with told_stages(0.2):
        STAGES.info("short")
        STAGES.info("long")
        time.sleep(1)
    STAGES.info("after the end")
    assert capsys.readouterr() == ("", "long ...\n")


def test_a_piped_command_says_what_it_is_at_before_it_is_done(tmp_path):
    from llm_dit.records.picture import read_record

    code = "import sys; from llm_dit.cli import main; sys.exit(main(sys.argv[1:], patience=0.0))"
    command = [sys.executable, "-c", code, "x", "model=tiny"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == "task=render: loading PyTorch, then random:tiny ...\n"
    assert read_record(tmp_path / done.stdout.strip())["seed"] == 0
