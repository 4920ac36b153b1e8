"""The wheel holds configs, templates and the shipped weights, and works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The built wheel, unpacked where nothing of the checkout is near."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_what_is_inside(installed):
    here = {str(p.relative_to(ROOT)) for folder in ("conf", "templates") for p in (ROOT / folder).rglob("*.*")}
    here = {p for p in here if not p.startswith("conf/local")}
    package = ROOT / "src" / "llm_dit"
    here |= {str(p.relative_to(package)) for p in package.rglob("*.safetensors")}
    here |= {str(p.relative_to(package)) for p in (package / "metrics/nano_judge/weights").iterdir()}
    assert here <= {str(p.relative_to(installed / "llm_dit")) for p in (installed / "llm_dit").rglob("*")}
    for part in ("transformer", "vae"):
        assert (
            installed / "llm_dit/models/nano" / part / "diffusion_pytorch_model.safetensors"
        ).stat().st_size > 100_000
    for folder, inside in (("prompts", "prompt_sets"), ("sweeps", "sweeps")):
        names = {p.name for p in (ROOT / folder).glob("*.yaml")}
        assert names == {p.name for p in (installed / "llm_dit" / inside).glob("*.yaml")}
    assert (installed / "hydra_plugins" / "llm_dit_sweeper.py").is_file()
    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert "llm-dit = llm_dit.cli:console" in entry.read_text()
    assert list(installed.glob("*.dist-info/licenses/NOTICE"))


def test_it_draws_from_any_folder(installed, tmp_path):
    """PYTHONPATH goes before the checkout's own editable install."""
    code = "import sys, llm_dit.cli as cli; print(cli.__file__); sys.argv[0] = 'llm-dit'; cli.console()"
    done = subprocess.run(
        [sys.executable, "-c", code, "a red apple", "model=tiny"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    module, picture = done.stdout.splitlines()
    assert module.startswith(str(installed))
    assert (tmp_path / picture).is_file()
