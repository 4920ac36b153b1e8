"""Samplers on a field whose solution is known."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from llm_dit.denoise.samplers import sample_euler
from llm_dit.denoise.sigmas import flow_sigmas


def error_after(steps: int) -> float:
    """Integrate dx/dsigma = x from sigma 1 to 0, whose solution is x(0) = x(1) / e."""
    x = sample_euler(lambda x, sigma: x, torch.ones(1, 1, dtype=torch.float64), flow_sigmas(steps, 1.0))
    return abs(x.item() - math.exp(-1))


def test_euler_converges_with_order_one():
    orders = [math.log2(error_after(n) / error_after(2 * n)) for n in (32, 64, 128)]
    assert orders == pytest.approx([1, 1, 1], abs=0.05)


def test_euler_is_exact_where_the_velocity_is_constant():
    x, target = torch.randn(2, 3), torch.randn(2, 3)
    velocity = x - target  # the straight path from noise x to target
    assert torch.allclose(sample_euler(lambda *_: velocity, x, flow_sigmas(5, 3.0)), target, atol=1e-6)


def test_euler_equals_diffusers_scheduler():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=[1 - i / 6 for i in range(6)])
    theirs = ours = torch.randn(1, 4, 8, 8)

    def velocity(x, sigma):
        return torch.sin(x) * (0.5 + sigma)

    for t in scheduler.timesteps:
        theirs = scheduler.step(velocity(theirs, t.item() / 1000), t, theirs).prev_sample
    assert torch.allclose(sample_euler(velocity, ours, flow_sigmas(6, 3.0)), theirs, atol=1e-5)


def test_each_step_is_reported_with_its_result():
    seen = []
    end = sample_euler(lambda x, s: x, torch.ones(1), [1.0, 0.5, 0.0], lambda i, x: seen.append((i, x.item())))
    assert seen == [(0, 0.5), (1, 0.25)]
    assert end.item() == 0.25
