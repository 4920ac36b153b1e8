"""AdamW for vectors, Muon for matrices and convolution kernels: the optimiser of both trainings.

Muon (Jordan et al. 2024) steps along the orthogonalised momentum of a matrix. For these small networks it learns
about as much in a step as AdamW does in two, and costs a few per cent of the step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Nearest semi-orthogonal matrix, roughly: five Newton-Schulz iterations. [..., rows, columns]."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16().contiguous()
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """`matrices` by Muon at `rate`, `others` by AdamW at `other_rate`. Schedules scale the groups' "lr"."""

    def __init__(
        self,
        matrices: Iterable[torch.nn.Parameter],
        others: Iterable[torch.nn.Parameter],
        rate: float,
        other_rate: float,
        decay: float = 0.01,
    ):
        groups = [
            {"params": list(matrices), "lr": rate, "base": rate},
            {"params": list(others), "lr": other_rate, "base": other_rate},
        ]
        super().__init__(groups, {"decay": decay})

    def scale_rates(self, factor: float) -> None:
        """Set every group's rate to `factor` times its base."""
        for group in self.param_groups:
            group["lr"] = group["base"] * float(factor)

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        matrices, others = self.param_groups
        by_shape: dict[torch.Size, list] = defaultdict(list)
        for p in matrices["params"]:
            if p.grad is not None:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                look_ahead = p.grad.lerp(momentum, 0.95).flatten(1)
                by_shape[look_ahead.shape].append((p, look_ahead))
        for shape, pairs in by_shape.items():  # equal shapes together: few large products instead of many small ones
            updates = orthogonalise(torch.stack([look_ahead for _, look_ahead in pairs]))
            size = matrices["lr"] * 0.2 * max(shape) ** 0.5  # the spread of an AdamW step
            for (p, _), update in zip(pairs, updates, strict=True):
                p.mul_(1 - matrices["lr"] * matrices["decay"]).sub_(update.view_as(p), alpha=size)
        for p in others["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            first = state.setdefault("first", torch.zeros_like(p)).lerp_(p.grad, 0.1)
            second = state.setdefault("second", torch.zeros_like(p)).lerp_(p.grad.square(), 0.01)
            state["count"] = state.get("count", 0) + 1
            mean = first / (1 - 0.9 ** state["count"])
            spread = (second / (1 - 0.99 ** state["count"])).sqrt_().add_(1e-8)
            p.addcdiv_(mean, spread, value=-others["lr"])
