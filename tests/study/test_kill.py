"""A sweep killed with SIGKILL at random points, again and again, ends with the pictures of an unbroken one.

The sweeps run in forks of a process that has imported everything, so that a kill hits drawing and writing rather
than imports.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

KILLS = 20

FORKS = """
import os, random, signal, sys, time
from llm_dit.cli import main
import llm_dit.render, llm_dit.study.run, llm_dit.study.job, llm_dit.models.load, llm_dit.models.tiny
import diffusers.models.transformers.transformer_z_image, diffusers.models.autoencoders.autoencoder_kl
import transformers.models.qwen3.modeling_qwen3, pyarrow.parquet, PIL.PngImagePlugin

def run():
    pid = os.fork()
    if pid == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        os._exit(main(sys.argv[3:]))
    return pid

draw = random.Random(int(sys.argv[2]))
killed = 0
for _ in range(int(sys.argv[1])):
    pid = run()
    time.sleep(draw.uniform(0.2, 1.2))
    os.kill(pid, signal.SIGKILL)
    killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
status = os.waitstatus_to_exitcode(os.waitpid(run(), 0)[1])
print(killed, status)
"""


def sweep(folder: Path, kills: int) -> tuple[int, int]:
    """Run the sweep with that many kills before the last, unbroken run: (kills that hit, last exit code)."""
    arguments = ["-m", "x", "model=tiny", "hardware=cpu", "tracker=none", "sweep.name=s"]
    arguments += ["encoder_layer.index=-1,-2,-3", "sampler.steps=12,16", "seed=0,1,2,3,4,5,6,7"]
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(kills), "7", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    killed, status = done.stdout.split()
    return int(killed), int(status)


def pixels(folder: Path) -> dict[str, str]:
    from PIL import Image

    found = {}
    for path in sorted(folder.glob("outputs/sweeps/s/cells/*/images/*")):
        found[str(path.relative_to(folder))] = hashlib.sha256(Image.open(path).tobytes()).hexdigest()
    return found


def test_a_killed_sweep_ends_as_an_unbroken_one(tmp_path):
    assert sweep(tmp_path / "whole", 0) == (0, 0)
    killed, status = sweep(tmp_path / "killed", KILLS)
    assert status == 0
    assert killed >= KILLS // 2  # the last ones may find nothing left to do and end by themselves
    assert len(pixels(tmp_path / "whole")) == 48
    assert pixels(tmp_path / "killed") == pixels(tmp_path / "whole")
    leftovers = [p for p in (tmp_path / "killed").rglob(".*") if p.is_file()]
    assert leftovers == []
