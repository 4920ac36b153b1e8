"""Training of the VAE: its loss against the formulae, one that learns to reconstruct, and what is saved."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from small_training import log_of, settings

from llm_dit.families.z_image.tiny import tiny_vae
from llm_dit.train.task import train
from llm_dit.train.vae import edge_loss, kl_loss, psnr


class Pictures:
    """Flat pictures of random colours with a bright square."""

    fingerprint, problems, notes, count = "pictures", (), (), 16

    def pictures(self, step, micro, batch_size, seed, rank, world):
        g = torch.Generator().manual_seed(1000 * step + micro + seed)
        x = torch.rand(batch_size, 3, 1, 1, generator=g).mul(2).sub(1).expand(-1, -1, 32, 32).clone()
        x[:, :, 8:24, 8:24] = 1
        return x


def test_losses_are_those_of_the_formulae():
    a = torch.zeros(1, 1, 2, 3)
    b = torch.tensor([[[[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]]])
    # vertical differences of a - b: 0, 1, 1 (mean 2/3); horizontal: -1, 0, 0, 0 (mean 1/4)
    assert edge_loss(a, b).item() == pytest.approx(2 / 3 + 1 / 4)
    assert kl_loss(torch.zeros(3), torch.zeros(3)).item() == 0
    assert kl_loss(torch.tensor([2.0]), torch.tensor([math.log(4.0)])).item() == pytest.approx(
        0.5 * (4 + 4 - 1 - math.log(4))
    )
    assert psnr(torch.full((1, 3, 4, 4), 0.2), torch.zeros(1, 3, 4, 4)) == pytest.approx(20)


def test_it_learns_saves_and_resumes(tmp_path):
    more = [
        "train.method=vae", "train.batch_size=4", "train.optimizer=muon", "train.learning_rate=0.01",
        "train.ema_decay=0.5", "train.vae.rescale=true", "train.validate_every=20", "train.vae.shrink_share=0.2",
    ]  # fmt: skip
    saved = train(settings(tmp_path, *more, "train.steps=40", "train.checkpoint_every=10"), dataset=Pictures())
    losses = [line["loss"] for line in log_of(tmp_path)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert not any(key.startswith("loss_sigma") for line in log_of(tmp_path) for key in line)
    scores = [line["score_psnr"] for line in log_of(tmp_path) if "score_psnr" in line]
    assert len(scores) == 2
    assert (saved / "validation" / "step-00000040.png").is_file()
    config = json.loads((saved / "vae" / "config.json").read_text())
    assert config["scaling_factor"] != tiny_vae().config.scaling_factor
    assert (saved / "transformer" / "config.json").is_file()
    train(settings(tmp_path / "two", *more, "train.steps=20", "train.checkpoint_every=10"), dataset=Pictures())
    train(settings(tmp_path / "two", *more, "train.steps=40", "train.checkpoint_every=10"), dataset=Pictures())
    name = "t/checkpoints/step-00000040/weights.safetensors"
    whole, resumed = load_file(tmp_path / name), load_file(tmp_path / "two" / name)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_part_alone_can_be_trained(tmp_path):
    saved = train(
        settings(tmp_path, "train.method=vae", "train.steps=1", "train.trainable=decoder.*"), dataset=Pictures()
    )
    after, before = load_file(saved / "vae" / "diffusion_pytorch_model.safetensors"), tiny_vae().state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder"}
