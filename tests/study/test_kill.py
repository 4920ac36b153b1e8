"""A sweep killed with SIGKILL at random points, again and again, ends as an unbroken one: pictures, records and table.

The sweeps run in forks of a process that has imported everything. A kill comes a few pictures into the run, at a
moment that falls anywhere between drawing, writing and recording; all of them hit a sweep at work.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

KILLS = 20
CELLS, SEEDS = 3, 32  # few cells, because each of the runs composes them all

FORKS = """
import os, random, signal, sys, time
from pathlib import Path
from llm_dit.cli import main
import llm_dit.render.draw, llm_dit.study.run, llm_dit.study.job
import llm_dit.families.z_image.load, llm_dit.encoders.load, llm_dit.encoders.tiny
import diffusers.models.transformers.transformer_z_image, diffusers.models.autoencoders.autoencoder_kl
import transformers.models.qwen3.modeling_qwen3, pyarrow.parquet, PIL.PngImagePlugin

def run():
    pid = os.fork()
    if pid == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        os._exit(main(sys.argv[3:]))
    return pid

def pictures():
    return len(list(Path("outputs/sweeps/s").glob("cells/*/images/[!.]*")))

draw = random.Random(int(sys.argv[2]))
killed = 0
for _ in range(int(sys.argv[1])):
    target, pid = pictures() + draw.randint(0, 3), run()
    while pictures() < target and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(draw.uniform(0, 0.06 if target else 0.6))
    os.kill(pid, signal.SIGKILL)
    killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
status = os.waitstatus_to_exitcode(os.waitpid(run(), 0)[1])
print(killed, status)
"""


def sweep(folder: Path, kills: int) -> tuple[int, int]:
    """Run the sweep with that many kills before the last, unbroken run: (kills that hit, last exit code)."""
    arguments = ["-m", "x", "model=tiny", "hardware=cpu", "tracker=none", "sweep.name=s", "metrics=sharpness"]
    seeds = ",".join(map(str, range(SEEDS)))
    arguments += ["encoder_layer.index=-1,-2,-3", "sampler.steps=12", f"seed={seeds}"]
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


def table(folder: Path) -> list[tuple]:
    """What a picture's row says, but for how long it took."""
    from pyarrow import parquet

    columns = ("cell", "prompt_id", "seed", "encoder_layer.index", "nfe", "pixels_sha256", "sharpness")
    rows = parquet.read_table(folder / "outputs/sweeps/s/table.parquet").to_pylist()
    return sorted(tuple(row[c] for c in columns) for row in rows)


def test_a_killed_sweep_ends_as_an_unbroken_one(tmp_path):
    assert sweep(tmp_path / "whole", 0) == (0, 0)
    assert sweep(tmp_path / "killed", KILLS) == (KILLS, 0)
    assert len(pixels(tmp_path / "whole")) == CELLS * SEEDS
    assert pixels(tmp_path / "killed") == pixels(tmp_path / "whole")
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    assert len({row[:3] for row in table(tmp_path / "killed")}) == CELLS * SEEDS
    lines = b"".join(p.read_bytes() for p in (tmp_path / "killed").glob("outputs/sweeps/s/cells/*/records.jsonl"))
    assert lines.count(b'"pixels_sha256"') == CELLS * SEEDS  # none drawn twice
    leftovers = [p for p in (tmp_path / "killed").rglob(".*") if p.is_file() and p.parent.name != "grids"]
    assert leftovers == []
