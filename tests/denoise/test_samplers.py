"""Samplers: orders of convergence on a flow whose solution is known, and equality with diffusers' schedulers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from flows import STARTS, even_in_lambda, solution, velocity

from llm_dit.config import parameters
from llm_dit.diffusion.samplers import (
    SAMPLERS,
    STOCHASTIC,
    is_euler,
    sample_dpm_solver,
    sample_euler,
    sample_heun,
    sample_lcm,
    sample_unipc,
    velocities,
)
from llm_dit.diffusion.sigmas import flow_sigmas

DETERMINISTIC = [name for name in SAMPLERS if name not in STOCHASTIC]


def field(x, sigma):
    """Not linear in x, and of another slope at every sigma."""
    return torch.sin(2 * x) * (0.5 + sigma) - 0.3 * x


@pytest.fixture
def x():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def orders(name, sigmas_of, counts):
    """log2 of the ratio of errors between each two counts of steps, of which one is twice the other."""
    errors = []
    for n in counts:
        sigmas = sigmas_of(n)
        start = solution(STARTS, 1.0, sigmas[0])
        end = SAMPLERS[name](velocity, start, sigmas)
        errors.append((end - solution(start, sigmas[0], sigmas[-1])).abs().max().item())
    return [math.log2(a / b) for a, b in pairwise(errors)]


@pytest.mark.parametrize(("name", "order"), [("flow_euler", 1), ("flow_heun", 2), ("dpm_solver", 2), ("unipc", 3)])
def test_the_order_of_convergence(name, order):
    assert orders(name, even_in_lambda, (32, 64, 128)) == pytest.approx([order] * 2, abs=0.1)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("name", "order"), [("flow_euler", 1), ("flow_heun", 2), ("dpm_solver", 2), ("unipc", 2)])
def test_the_order_on_the_levels_of_a_run(name, order, shift):
    """From pure noise to the picture; lambda is infinite at both ends, which costs UniPC its third order."""
    # The ends make dpm_solver's error h^2 log(1 / h), whose slope nears 2 slowly: 1.81 and 1.74 here.
    tolerance = 0.3 if name == "dpm_solver" else 0.1
    assert orders(name, lambda n: flow_sigmas(n, shift), (1024, 2048)) == pytest.approx([order], abs=tolerance)


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_exact_where_the_velocity_is_constant(name, steps, x):
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    end = SAMPLERS[name](lambda *_: x - target, x, flow_sigmas(steps, 3.0))  # the straight path from x to target
    assert torch.allclose(end, target, atol=2e-6)


def drive(scheduler, sigmas, x):
    """A scheduler's own loop, on its sigmas as they are set in it."""
    scheduler.set_begin_index(0)
    for sigma, t in zip(sigmas, scheduler.timesteps, strict=True):
        x = scheduler.step(field(x, sigma), t, x).prev_sample
    return x


@pytest.mark.parametrize("steps", [1, 3, 8, 40])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_equals_diffusers_bit_for_bit(steps, shift, x):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    sigmas = flow_sigmas(steps, shift)
    scheduler.set_timesteps(sigmas=get_default_z_image_sigmas(steps))
    assert torch.equal(sample_euler(field, x, sigmas), drive(scheduler, sigmas[:-1], x))


@pytest.mark.parametrize("steps", [1, 3, 8, 40])
def test_heun_equals_diffusers(steps, x):
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(steps)
    # Its own table cannot be given levels, and applies its shift twice; its steps are right.
    sigmas = torch.tensor(flow_sigmas(steps, 3.0))
    scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    asked = [sigmas[0].item(), *sigmas[1:-1].repeat_interleave(2).tolist()]
    theirs = drive(scheduler, asked, x)
    assert len(asked) == velocities("flow_heun", steps)
    assert torch.allclose(sample_heun(field, x, flow_sigmas(steps, 3.0)), theirs, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_dpm_solver_equals_diffusers(steps, shift, x):
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(steps)
    assert scheduler.sigmas[0] == pytest.approx(0.999)  # its own table, which also cannot be given levels
    sigmas = flow_sigmas(steps, shift)
    scheduler.sigmas = torch.tensor(sigmas)
    assert torch.allclose(sample_dpm_solver(field, x, sigmas), drive(scheduler, sigmas[:-1], x), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("from_one", [True, False])
def test_unipc_equals_diffusers(steps, shift, from_one, x):
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    assert 0 < 1 - scheduler.sigmas[0].item() < 2e-6  # moved off 1
    if from_one:
        scheduler.sigmas = torch.tensor(flow_sigmas(steps, shift))
    sigmas = scheduler.sigmas.tolist()
    assert torch.allclose(sample_unipc(field, x, sigmas), drive(scheduler, sigmas[:-1], x), atol=1e-5)


def test_lcm_equals_diffusers_with_the_same_noise(x):
    scheduler = FlowMatchLCMScheduler(shift=3.0)
    sigmas = flow_sigmas(5, 3.0)
    scheduler.set_timesteps(sigmas=[1 - i / 5 for i in range(5)])
    generator, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    theirs = x
    for sigma, t in zip(sigmas, scheduler.timesteps, strict=False):
        theirs = scheduler.step(field(theirs, sigma), t, theirs, generator=generator).prev_sample
    ours = sample_lcm(field, x, sigmas, noise=lambda: torch.randn(x.shape, generator=again))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_lcm_draws_no_noise_for_the_last_step(x):
    drawn = []
    sample_lcm(field, x, [1.0, 0.6, 0.3, 0.0], noise=lambda: drawn.append(1) or torch.zeros_like(x))
    assert len(drawn) == 2


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("sigmas", [[1.0, 0.0], [1.0, 0.7, 0.4, 0.2, 0.0], [0.6, 0.3, 0.0], [0.9, 0.2]])
def test_each_step_is_reported_and_every_velocity_counted(name, sigmas, x):
    asked, seen = [], []
    noise = {"noise": lambda: torch.zeros_like(x)} if name in STOCHASTIC else {}
    end = SAMPLERS[name](
        lambda x, s: asked.append(s) or field(x, s), x, sigmas, lambda i, x: seen.append((i, x)), **noise
    )
    assert [i for i, _ in seen] == list(range(len(sigmas) - 1))
    assert torch.equal(seen[-1][1], end)
    assert end.isfinite().all()
    assert 0.0 not in asked
    assert set(asked) >= set(sigmas[:-1])
    if sigmas[-1] == 0:
        assert len(asked) == velocities(name, len(sigmas) - 1)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("first", [1.0, 0.8])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_what_is_told_to_be_euler_is_euler(name, first, steps, x):
    sigmas = [first * s for s in flow_sigmas(steps, 1.0)]
    noise = {"noise": lambda: torch.zeros_like(x)} if name in STOCHASTIC else {}
    same = torch.allclose(SAMPLERS[name](field, x, sigmas, **noise), sample_euler(field, x, sigmas), atol=1e-6)
    assert same == (is_euler(name, sigmas) or name == "flow_euler")


def test_the_config_offers_every_sampler():
    (rule,) = [p.rule for p in parameters() if p.key == "sampler.name"]
    assert rule.choices == tuple(SAMPLERS)
