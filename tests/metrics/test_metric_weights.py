"""Finding, reading and hashing weights of metrics, and installs where a package is missing or broken."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from llm_dit.base.errors import ConfigError, ModelError
from llm_dit.config import ClipMetric
from llm_dit.metrics.open_clip_scores import Clip
from llm_dit.metrics.weights import describe, files_hash, find_file, find_folder, read_tensors


def test_the_hash_is_of_what_is_read(tmp_path):
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    assert files_hash(one) == hashlib.sha256(b"one").hexdigest()[:16]
    assert len({files_hash(one), files_hash(two), files_hash(one, two), files_hash(two, one)}) == 4
    before = files_hash(one)
    one.write_bytes(b"other")
    assert files_hash(one) != before


def test_a_folder_s_first_known_name_is_taken(tmp_path):
    for name in ("b.pt", "a.pt"):
        (tmp_path / name).write_bytes(b"x")
    assert find_file("k", str(tmp_path), ("none.pt", "a.pt", "b.pt")).name == "a.pt"
    assert find_file("k", f"local-dir:{tmp_path}", ("b.pt",)).name == "b.pt"
    assert find_file("k", str(tmp_path / "b.pt"), ("a.pt",)).name == "b.pt"
    with pytest.raises(ModelError, match=r"k=.*: holds none of c\.pt"):
        find_file("k", str(tmp_path), ("c.pt",))
    with pytest.raises(ModelError, match="a file, where a folder or a hub id is needed"):
        find_folder("k", str(tmp_path / "a.pt"), ())
    (tmp_path / "words.txt").write_text("x")
    with pytest.raises(ModelError, match="must end in"):
        find_file("k", str(tmp_path / "words.txt"), ())


@pytest.mark.parametrize(
    "value", ["", " ", "a\0b", "x" * 5000, "../x", "a/b/c", "~nobody/x", "local-dir:", "local-dir:a/b"]
)
def test_what_cannot_be_a_place_is_one_line(value, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for find in (
        lambda: find_file("metrics.x.weights", value, ("a.pt",)),
        lambda: find_folder("metrics.x.weights", value, ()),
    ):
        with pytest.raises(ModelError, match=r"^metrics\.x\.weights=") as caught:
            find()
        assert len(str(caught.value)) < 500


def test_a_download_that_is_in_the_cache_is_found(monkeypatch, tmp_path):
    """As the hub's client leaves it, without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--owner--name" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    save_file({"x": torch.ones(1)}, snapshot / "model.safetensors")
    assert find_file("k", "owner/name", ("model.safetensors",)) == snapshot / "model.safetensors"
    with pytest.raises(ModelError, match="holds none of other"):
        find_file("k", "owner/name", ("other.safetensors",))


def test_only_the_first_of_the_names_that_a_repository_has_is_fetched(monkeypatch, tmp_path):
    import huggingface_hub

    fetched = []
    (tmp_path / "model.safetensors").touch()
    files = [SimpleNamespace(rfilename=name) for name in ("pytorch_model.bin", "model.safetensors", "config.json")]
    monkeypatch.setattr(huggingface_hub, "model_info", lambda repo, timeout: SimpleNamespace(siblings=files))
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repo, allow_patterns: fetched.append(allow_patterns) or tmp_path
    )
    names = ("open_clip_model.safetensors", "model.safetensors", "pytorch_model.bin")
    assert find_file("k", "owner/name", names, ["config.json"]) == tmp_path / "model.safetensors"
    assert fetched == [["config.json", "model.safetensors"]]


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_only_tensors_are_read(tmp_path):
    def refused(content):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(ModelError) as caught:
            read_tensors(tmp_path / "x.pt")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "holds no named tensors" in refused([1, 2])
    assert "'epoch' in it is not a tensor" in refused({"x": torch.ones(1), "epoch": 3})
    assert "pickled code" in refused({"x": Path("x")})
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "script.pt"))
    with pytest.raises(ModelError, match="TorchScript are not read"):
        read_tensors(tmp_path / "script.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(ModelError, match="cut short"):
        read_tensors(tmp_path / "cut.safetensors")
    torch.save({"state_dict": {"module.x": torch.ones(1)}}, tmp_path / "x.pt")
    assert list(read_tensors(tmp_path / "x.pt")) == ["x"]


def test_paths_stand_in_no_identity(tmp_path):
    assert describe("m", 2, model=str(tmp_path / "none"), size=3) == f"m v2 model={tmp_path / 'none'} size=3"
    (tmp_path / "there").mkdir()
    assert describe("m", 2, model=f"local-dir:{tmp_path / 'there'}") == "m v2 model=there"


@pytest.mark.parametrize("package", ["open_clip", "torchvision"])
def test_without_the_packages_it_says_which_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"^metrics\.clip: needs open_clip and torchvision.*uv sync --extra metrics"):
        _ = Clip(ClipMetric(), "cpu", 1).identity


def test_a_torchvision_that_cannot_load_its_operators_is_enough(tmp_path):
    """One made for CUDA beside a torch that is not: it describes operators that are not there."""
    for name, text in {
        "torchvision": "import torch\ntorch.library.register_fake('torchvision::nms')(lambda *a: None)\n",
        "open_clip": "import torchvision\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    code = "from llm_dit.metrics.open_clip_model import import_open_clip as f; print(f('metrics.clip').__name__)"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "open_clip\n", done.stderr[-2000:]


def test_too_little_memory_says_what_helps(clip_folder, samples, monkeypatch):
    metric = Clip(ClipMetric(model=str(clip_folder)), "cpu", 4)

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(metric.net.model, "encode_image", full)
    with pytest.raises(ModelError, match=r"scoring 4 at once .* Try metrics\.batch_size=1, or hardware\.device=cpu"):
        metric.score(samples)
