"""A downloaded Z-Image folder in miniature, and ways to damage it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_dit.weights.place import Placement


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """The tiny model in diffusers' layout. Shared by all tests: read only."""
    from llm_dit.encoders.tiny import save_tiny_folder

    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny_folder(folder)
    return folder


@pytest.fixture
def own_folder(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "own"))


@pytest.fixture
def cpu() -> Placement:
    return Placement("cpu", "float32")


@pytest.fixture
def edit_weights() -> Callable[[Path, Callable[[dict], None]], None]:
    """edit_weights(file, change): apply change to the dict of tensors of a safetensors file."""
    from safetensors.torch import load_file, save_file

    def edit(file: Path, change: Callable[[dict], None]) -> None:
        tensors = load_file(file)
        change(tensors)
        save_file({k: v.clone() for k, v in tensors.items()}, file, metadata={"format": "pt"})

    return edit


@pytest.fixture
def transformer_inputs() -> tuple:
    """A latent, a time and a caption as the tiny transformer takes them."""
    import torch

    g = torch.Generator().manual_seed(0)
    return (
        [torch.randn(16, 1, 4, 6, generator=g)],
        torch.tensor([0.4]),
        [torch.randn(7, 32, generator=g)],
    )
