"""The same four cells through every launcher: the same pictures, each part of the model loaded once a worker."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SWEEP = ["-m", "a red apple, 3d style, blue background", "hardware=cpu", "tracker=none", "sweep.name=s"]
SWEEP += ["encoder_layer.index=-2,-6", "sampler.steps=2,3"]

LAUNCHERS = [
    pytest.param([], None, id="in process"),
    pytest.param(["hydra/launcher=processes", "hydra.launcher.n_jobs=2"], "joblib", id="processes"),
    pytest.param(["hydra/launcher=slurm_local"], "submitit", id="slurm, its local executor"),
    pytest.param(
        ["hydra/launcher=ray_cluster", "+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.remote.num_cpus=1"],
        "ray",
        id="ray",
        marks=pytest.mark.ray,
    ),
]


def run(folder: Path, launcher: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "experiments" / "run.py", *SWEEP, *launcher],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def pixels(folder: Path) -> dict[str, str]:
    images = sorted(folder.glob("outputs/sweeps/s/cells/*/images/*.png"))
    return {str(p.relative_to(folder)): hashlib.sha256(Image.open(p).tobytes()).hexdigest() for p in images}


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """The sweep without a launcher, which the others are compared with: what it said, and its folder."""
    folder = tmp_path_factory.mktemp("expected")
    return run(folder, []), folder


@pytest.mark.parametrize(("launcher", "package"), LAUNCHERS)
def test_four_cells(launcher, package, in_process, tmp_path):
    if package and find_spec(package) is None:
        pytest.skip(f"needs: uv sync --extra {'ray' if package == 'ray' else 'launch'}")
    done, folder = (run(tmp_path, launcher), tmp_path) if launcher else in_process
    assert done.returncode == 0, done.stderr
    assert "4 cells (4 complete), 4 pictures drawn" in done.stdout
    assert len(pixels(folder)) == 4
    assert pixels(folder) == pixels(in_process[1])
    assert (folder / "outputs/sweeps/s/table.parquet").is_file()
    loads = sum("load" in json.loads(line)["seconds"] for line in record_lines(folder))
    assert loads <= {"joblib": 2, "ray": 2, "submitit": 4}.get(package, 1)


def record_lines(folder: Path) -> list[str]:
    return [line for p in folder.glob("outputs/sweeps/s/cells/*/records.jsonl") for line in p.read_text().splitlines()]
