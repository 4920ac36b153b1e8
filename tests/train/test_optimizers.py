"""Optimisers, the course of the rate, and the average of weights against torch's and diffusers' own."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from llm_dit.base.errors import ConfigError
from llm_dit.config import TrainConfig
from llm_dit.train.ema import Average, decay_at
from llm_dit.train.optimizers import Muon, make_optimizers, orthogonalised, rate_factor, set_rates


def parameters(*shapes):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def test_muon_takes_torchs_steps():
    shapes = ((6, 4), (4, 6), (6, 4), (5, 5))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    a, b = Muon(ours, **settings), torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    torch.manual_seed(1)
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = q.grad = torch.randn_like(p)
        a.step()
        b.step()
    # bfloat16 products in another order: a few units of its last place, of steps of 0.02 * 0.2 * sqrt(6)
    for p, q in zip(ours, theirs, strict=True):
        assert torch.allclose(p, q, atol=2e-3)
    assert not torch.allclose(ours[0], parameters(*shapes)[0], atol=2e-2)


def test_muon_takes_kernels_as_matrices():
    (kernel,), (matrix,) = parameters((6, 2, 3, 3)), parameters((6, 18))
    kernel.grad = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(2))
    matrix.grad = kernel.grad.flatten(1)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    Muon([kernel], **settings).step()
    Muon([matrix], **settings).step()
    assert torch.equal(kernel.flatten(1), matrix)


def test_orthogonalised_matrices_have_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalised(torch.randn(3, 8, 5)).float())
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_muon_leaves_embeddings_outputs_and_vectors_to_adamw():
    trained = {
        name: nn.Parameter(torch.zeros(shape))
        for name, shape in {
            "layers.0.attention.to_q.weight": (4, 4),
            "layers.0.attention_norm1.weight": (4,),
            "cap_embedder.1.weight": (4, 3),
            "all_final_layer.2-1.linear.weight": (4, 4),
            "cap_pad_token": (1, 4),
        }.items()
    }
    made = make_optimizers(trained, TrainConfig(optimizer="muon", learning_rate=0.1, other_learning_rate=0.01))
    assert [p is trained["layers.0.attention.to_q.weight"] for p in made["muon"].param_groups[0]["params"]] == [True]
    assert len(made["adamw"].param_groups[0]["params"]) == 4
    assert (made["muon"].param_groups[0]["lr"], made["adamw"].param_groups[0]["lr"]) == (0.1, 0.01)
    set_rates(made, 0.5)
    set_rates(made, 0.25)
    assert (made["muon"].param_groups[0]["lr"], made["adamw"].param_groups[0]["lr"]) == (0.025, 0.0025)


def test_adamw_is_given_its_settings():
    made = make_optimizers(
        {"w": nn.Parameter(torch.zeros(2))},
        TrainConfig(learning_rate=0.1, beta1=0.5, beta2=0.6, epsilon=1e-3, weight_decay=0.3),
    )
    group = made["adamw"].param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.1, (0.5, 0.6), 1e-3, 0.3)


def test_the_8_bit_optimizer_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="uv sync --extra adamw8bit"):
        make_optimizers({"w": nn.Parameter(torch.zeros(2))}, TrainConfig(optimizer="adamw8bit"))


@pytest.mark.parametrize("name", ["constant", "constant_with_warmup", "linear", "cosine"])
def test_rates_equal_diffusers_schedulers(name):
    from diffusers.optimization import get_scheduler

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=30)
    settings = TrainConfig(scheduler=name, warmup_steps=5, steps=30)
    for step in range(30):
        assert rate_factor(step, settings) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12), step
        optimizer.step()
        theirs.step()


def test_a_trapezoid():
    settings = TrainConfig(scheduler="trapezoid", warmup_steps=4, steps=20, cooldown=0.5)
    rates = [rate_factor(step, settings) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:11] == [1.0] * 7
    assert rates[11:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_the_average_equals_diffusers():
    from diffusers.training_utils import EMAModel

    (p,) = parameters((3, 2))
    theirs, ours = EMAModel([p], decay=0.8), Average({"w": p}, 0.8)
    torch.manual_seed(2)
    for step in range(1, 30):
        with torch.no_grad():
            p.add_(torch.randn_like(p))
        theirs.step([p])
        ours.update(step)
        assert decay_at(step, 0.8) == pytest.approx(theirs.cur_decay_value)
        assert torch.allclose(ours.values["w"], theirs.shadow_params[0], atol=1e-6)
    own = p.detach().clone()
    with ours.in_place():
        assert torch.equal(p, ours.values["w"])
    assert torch.equal(p, own)
