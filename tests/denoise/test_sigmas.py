"""Noise levels: golden values of the real models, and equality with diffusers' scheduler."""

from __future__ import annotations

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

from llm_dit.denoise.sigmas import flow_sigmas, start_at_strength

TURBO = [1, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3, 0]


def test_turbos_eight_steps():
    assert flow_sigmas(8, 3.0) == pytest.approx(TURBO, abs=5e-5)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 6.0])
def test_equal_to_diffusers(steps, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist(), mu=1.0)
    assert flow_sigmas(steps, shift) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)


@pytest.mark.parametrize(("strength", "left"), [(1.0, 8), (0.6, 5), (0.5, 4), (0.13, 2), (0.01, 1)])
def test_strength_keeps_the_last_steps_and_at_least_one(strength, left):
    tail = start_at_strength(flow_sigmas(8, 3.0), strength)
    assert len(tail) - 1 == left
    assert tail == flow_sigmas(8, 3.0)[-left - 1 :]
