"""Several processes train one model: two on this CPU, each with its own pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from llm_dit.train.checkpoint import checkpoints

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pictures(tmp_path):
    """A folder of eight pictures of one colour each, with captions beside them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(np.full((64, 64, 3), rng.integers(0, 256, 3), np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture number {i}")
    return folder


def launch(tmp_path, data, *overrides):
    """Two processes on a machine without a GPU, by torchrun: accelerate's own launcher starts one alone there."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
           "experiments/run.py", "task=train", "model=tiny", "hardware=auto", "hardware.threads=1", "tracker=none",
           f"data={data}", f"data.cache={tmp_path / 'cache'}", f"train.dir={tmp_path}", "train.name=t",
           "train.batch_size=2", "train.log_every=1", "train.ema_decay=0.5", *overrides]  # fmt: skip
    blind = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(run, cwd=ROOT, env=blind, capture_output=True, text=True, timeout=400)


def test_two_processes_make_one_model_and_go_on_where_they_stopped(tmp_path, pictures):
    done = launch(tmp_path, pictures, "train.steps=2")
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "t" / "train.json").read_text())
    assert (record["processes"], record["cost"]["pictures_seen"]) == (2, 2 * 2 * 2)
    done = launch(tmp_path, pictures, "train.steps=3")
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in (tmp_path / "t" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]  # one process writes
    kept = load_file(checkpoints(tmp_path / "t" / "checkpoints")[-1] / "average.safetensors")
    saved = load_file(tmp_path / "t" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert all((saved[name] == value).all() for name, value in kept.items())
