"""Small pictures and captions on disk, and datasets of the tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from made_pictures import noise
from safetensors.torch import load_file, save_file

from llm_dit.compose import compose
from llm_dit.encoders.tiny import save_tiny_folder
from llm_dit.train.data import embeddings, latents
from llm_dit.train.data.dataset import open_dataset


@pytest.fixture
def write_rows(tmp_path):
    """Write n pictures and a captions.jsonl; more: keys of every row. Returns the path of the .jsonl."""

    def write(count: int = 6, sizes=((64, 64),), prompts=None, **more) -> Path:
        lines = []
        for i in range(count):
            noise(*sizes[i % len(sizes)], seed=i).save(tmp_path / f"{i}.png")
            said = prompts[i] if prompts else f"picture {i}"
            key = "prompts" if isinstance(said, list) else "prompt"
            lines.append(json.dumps({"image": f"{i}.png", key: said, **more}))
        path = tmp_path / "captions.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def dataset(tmp_path):
    """open_dataset with the tiny model: dataset(path, 'data.flip=true', ...)."""

    def make(path, *overrides: str, encode: bool = True, **options):
        cached = [] if any(o.startswith("data.cache=") for o in overrides) else [f"data.cache={tmp_path / 'cache'}"]
        config = compose(["model=tiny", "hardware=cpu", f"data={path}", *cached, *overrides])
        return open_dataset(config.data, config, encode=encode, **options)

    return make


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Path:
    """The tiny model on disk. Shared by all tests: read only."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny_folder(folder)
    return folder


@pytest.fixture(scope="session")
def other_model_folder(tmp_path_factory, tiny_model_folder) -> Path:
    """A model of the same shape with other weights."""
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("model") / "other"))
    generator = torch.Generator().manual_seed(1)
    for part in ("vae", "text_encoder"):
        for path in (folder / part).glob("*.safetensors"):
            moved = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in load_file(path).items()}
            save_file(moved, path, {"format": "pt"})
    return folder


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures and texts were encoded: a dict that counts."""
    counts = {"pictures": 0, "texts": 0}
    pictures, texts = latents.encode_batch, embeddings._embed

    def count_pictures(vae, pixels, *rest):
        counts["pictures"] += len(pixels)
        return pictures(vae, pixels, *rest)

    def count_texts(batch, *rest):
        counts["texts"] += len(batch)
        return texts(batch, *rest)

    monkeypatch.setattr(latents, "encode_batch", count_pictures)
    monkeypatch.setattr(embeddings, "_embed", count_texts)
    return counts
