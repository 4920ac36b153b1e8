"""Samples to score, and the tiny CLIP that several metrics share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_metrics import TINY_CLIP, picture, save_open_clip

from llm_dit.metrics.base import Sample


@pytest.fixture
def samples() -> list[Sample]:
    """Five pictures of three prompts, one prompt longer than any text tower reads."""
    prompts = [
        "a red fox",
        "a red fox",
        "two barn owls on a beam",
        "a red fox",
        "a very long prompt of many words " * 20,
    ]
    return [Sample(picture(seed), prompt) for seed, prompt in enumerate(prompts)]


@pytest.fixture
def randomize() -> Callable:
    """randomize(module, seed=0): every parameter drawn anew, so that no wrong mapping hides behind zeros and ones."""
    import torch

    def draw(module, seed: int = 0, scale: float = 0.1):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += scale * torch.randn(parameter.shape, generator=generator)
        return module.eval()

    return draw


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A tiny random CLIP. Shared by all tests: read only."""
    import torch

    open_clip = pytest.importorskip("open_clip", reason="needs: uv sync --extra metrics")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    return save_open_clip(folder, open_clip.CLIP(**TINY_CLIP), TINY_CLIP)
