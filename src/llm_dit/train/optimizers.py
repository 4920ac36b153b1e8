"""Optimisers and the course of the learning rate.

AdamW is torch's, adamw8bit bitsandbytes'. Muon (Jordan et al. 2024) is torch's formula, here for matrices of equal
shape together, many small products being slow, and for convolution kernels as [out, in x height x width].
"""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from llm_dit.base.errors import ConfigError
from llm_dit.config import TrainConfig

# Newton-Schulz coefficients and the count of iterations, as in torch.optim.Muon.
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, roughly, in bfloat16. [..., rows, columns]."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.to(torch.bfloat16)
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon with adjust_lr_fn="match_rms_adamw", for parameters of two axes or more."""

    def __init__(self, params: Sequence[nn.Parameter], lr: float, momentum: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.flatten(1).shape].append(p)
            for shape, params in by_shape.items():
                for p in params:
                    if "momentum_buffer" not in self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                grads = [p.grad for p in params]
                means = [self.state[p]["momentum_buffer"] for p in params]
                torch._foreach_lerp_(means, grads, 1 - group["momentum"])
                ahead = torch._foreach_lerp(grads, means, group["momentum"])
                updates = orthogonalised(torch.stack([x.flatten(1) for x in ahead])).to(grads[0].dtype)
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                size = group["lr"] * 0.2 * math.sqrt(max(shape))  # the spread of an AdamW step
                torch._foreach_add_(params, [u.view_as(p) for u, p in zip(updates, params, strict=True)], alpha=-size)


def make_optimizers(trained: Mapping[str, nn.Parameter], settings: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    """The optimisers by name, each over its share of the trained parameters. Raises ConfigError.

    Muon takes matrices inside blocks; embeddings, output layers and vectors go to AdamW, as its author advises.
    """
    decay = {"weight_decay": settings.weight_decay}
    adam = {"betas": (settings.beta1, settings.beta2), "eps": settings.epsilon, **decay}
    if settings.optimizer == "muon":
        inner = [p for name, p in trained.items() if is_inner_matrix(name, p)]
        outer = [p for name, p in trained.items() if not is_inner_matrix(name, p)]
        rate = settings.learning_rate if settings.other_learning_rate is None else settings.other_learning_rate
        made: dict[str, torch.optim.Optimizer] = {}
        if inner:
            made["muon"] = Muon(inner, settings.learning_rate, settings.momentum, **decay)
        if outer:
            made["adamw"] = torch.optim.AdamW(outer, rate, **adam, fused=fused(outer))
        return made
    params = list(trained.values())
    if settings.optimizer == "adamw8bit":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ConfigError(
                "train.optimizer=adamw8bit needs bitsandbytes, which is not installed: uv sync --extra adamw8bit, or "
                "take train.optimizer=adamw."
            )
        if params[0].device.type == "mps":
            raise ConfigError("train.optimizer=adamw8bit does not work on mps; take train.optimizer=adamw.")
        import bitsandbytes

        return {"adamw8bit": bitsandbytes.optim.AdamW8bit(params, settings.learning_rate, **adam)}
    return {"adamw": torch.optim.AdamW(params, settings.learning_rate, **adam, fused=fused(params))}


def is_inner_matrix(name: str, p: nn.Parameter) -> bool:
    """Whether Muon takes a parameter: of two axes or more, and neither an embedding nor an output layer."""
    outside = ("embedder", "final_layer", "conv_in", "conv_out", "pad_token")
    return p.ndim >= 2 and not any(part in name for part in outside)


def fused(params: Sequence[nn.Parameter]) -> bool:
    """Whether torch has one kernel for all of an AdamW step on the parameters' device."""
    return params[0].device.type in ("cpu", "cuda")


def rate_factor(step: int, settings: TrainConfig) -> float:
    """Share of the learning rate at a step, from 0: as diffusers' schedulers of the same names have it.

    trapezoid: warm-up from the first step, flat, and linear to zero over the last cooldown x steps.
    """
    warm, steps = settings.warmup_steps, settings.steps
    if settings.scheduler == "constant":
        return 1.0
    if settings.scheduler == "trapezoid":
        return min(1.0, (step + 1) / max(1, warm), (steps - step) / (settings.cooldown * steps))
    if step < warm:
        return step / max(1, warm)
    if settings.scheduler == "constant_with_warmup":
        return 1.0
    gone = (step - warm) / max(1, steps - warm)
    if settings.scheduler == "linear":
        return max(0.0, 1 - gone)
    return max(0.0, 0.5 * (1 + math.cos(math.pi * gone)))


def set_rates(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    """Every group's rate at that share of its first one."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group.setdefault("base", group["lr"])
            group["lr"] = group["base"] * factor
