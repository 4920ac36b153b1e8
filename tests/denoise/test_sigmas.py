"""Noise levels: golden values of the real models, and equality with diffusers' scheduler."""

from __future__ import annotations

import math

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageImg2ImgPipeline
from diffusers.pipelines.z_image.pipeline_z_image import (
    calculate_shift,
    get_default_z_image_sigmas,
    retrieve_timesteps,
)

from llm_dit.base.errors import ConfigError
from llm_dit.config import SamplerConfig, parameters, problem_of
from llm_dit.diffusion.sigmas import SPACINGS, flow_sigmas, noise_levels, resolution_shift, start_at_strength, steps_of

TURBO = [1, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3, 0]


def test_turbos_eight_steps():
    assert flow_sigmas(8, 3.0) == pytest.approx(TURBO, abs=5e-5)


def pipelines_levels(steps, mu=1.0, **settings):
    """The levels of ZImagePipeline by its own path: its sigmas, through its retrieve_timesteps, to its scheduler."""
    scheduler = FlowMatchEulerDiscreteScheduler(**settings)
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=get_default_z_image_sigmas(steps), mu=mu)
    return scheduler.sigmas.tolist()


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0, 2.3, 3.0, 6.0])
@pytest.mark.parametrize("spacing", ["uniform", *SPACINGS])
def test_equal_to_the_pipelines_bit_for_bit(shift, spacing):
    spaced = {} if spacing == "uniform" else {f"use_{spacing}_sigmas": True}
    for steps in range(1, 51):
        assert in_float32(flow_sigmas(steps, shift, spacing)) == pipelines_levels(steps, shift=shift, **spaced), steps


def in_float32(sigmas):
    return [float(np.float32(s)) for s in sigmas]


@pytest.mark.parametrize("spacing", ["uniform", "karras"])
@pytest.mark.parametrize("size", [(128, 128), (256, 256), (1024, 768), (1024, 1024), (2048, 2048)])
def test_a_shift_that_follows_the_resolution_equals_the_pipelines_bit_for_bit(spacing, size):
    spaced = {} if spacing == "uniform" else {f"use_{spacing}_sigmas": True}
    mu = calculate_shift(size[0] * size[1] // 256)
    for steps in range(1, 51):
        sampler = SamplerConfig(steps=steps, spacing=spacing, shift_mode="resolution", shift=9.0)
        sigmas, shift = noise_levels(sampler, own_shift=lambda: pytest.fail("not asked for"), size=size)
        assert shift == math.exp(mu)
        assert in_float32(sigmas) == pipelines_levels(steps, mu, use_dynamic_shifting=True, **spaced), steps


def test_the_shift_at_both_ends_and_between():
    by_tokens = [resolution_shift(n, 0.5, 1.15, 256, 4096) for n in (256, 2176, 4096)]
    assert by_tokens == pytest.approx([math.exp(0.5), math.exp(0.825), math.exp(1.15)])
    assert resolution_shift(10**6, 0.5, 5.0, 1, 2) == math.inf


def test_a_shift_under_which_levels_fall_together_is_refused():
    sampler = SamplerConfig(shift_mode="resolution", steps=20)
    with pytest.raises(ConfigError, match="do not fall at shift"):
        noise_levels(sampler, lambda: 3.0, (8192, 8192))


def test_the_models_own_shift_holds_unless_another_is_given():
    assert noise_levels(SamplerConfig(steps=8), lambda: 3.0, (64, 64)) == (flow_sigmas(8, 3.0), 3.0)
    assert noise_levels(SamplerConfig(steps=8, shift=1.0), lambda: 3.0, (64, 64)) == (flow_sigmas(8, 1.0), 1.0)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 1000])
@pytest.mark.parametrize("spacing", ["uniform", *SPACINGS])
@pytest.mark.parametrize("shift", [0.1, 1.0, 100.0])
def test_every_spacing_falls_from_1_to_0(steps, spacing, shift):
    sigmas, _ = noise_levels(SamplerConfig(steps=steps, spacing=spacing), lambda: shift, (64, 64))
    assert len(sigmas) == steps + 1
    assert (sigmas[0], sigmas[-1]) == (1.0, 0.0)
    assert sigmas[-2] == pytest.approx(flow_sigmas(steps, shift)[-2])  # the last level above 0 stays where it is


@pytest.mark.parametrize("given", [[1.0, 0.8, 0.5], [1.0, 0.8, 0.5, 0.0]])
def test_explicit_levels_are_taken_as_they_are_and_end_in_0(given):
    sampler = SamplerConfig(sigmas=given, steps=8, spacing="karras", shift=3.0)
    assert noise_levels(sampler, lambda: 3.0, (64, 64)) == ([1.0, 0.8, 0.5, 0.0], None)
    assert steps_of(sampler) == 3
    assert steps_of(SamplerConfig(steps=8)) == 8


@pytest.mark.parametrize(
    ("given", "problem"),
    [([], None), ([1.0], None), ([0.4, 0.0], None), ([0.0], "no step"), ([0.5, 0.5], "below"), ([0.5, 0.8], "below"),
     ([1.0, 0.0, 0.0], "below"), ([0.5, float("nan")], "below"), ([0.5, 0.499999999], "below"), ([1e-60], "no step")],
)  # fmt: skip
def test_what_is_no_list_of_levels(given, problem):
    found = problem_of(given)
    assert found is None if problem is None else problem in found


def test_the_config_offers_every_spacing():
    (rule,) = [p.rule for p in parameters() if p.key == "sampler.spacing"]
    assert rule.choices == ("uniform", *SPACINGS)


def test_strength_keeps_as_many_steps_as_the_pipeline():
    pipe = ZImageImg2ImgPipeline(FlowMatchEulerDiscreteScheduler(shift=3.0), None, None, None, None)
    strengths = [i / 100 for i in range(1, 101)]
    for steps in range(2, 51):
        pipe.scheduler.set_timesteps(sigmas=get_default_z_image_sigmas(steps))
        theirs = [pipe.get_timesteps(steps, strength, "cpu")[1] for strength in strengths]
        assert [len(start_at_strength(flow_sigmas(steps, 3.0), s)) - 1 for s in strengths] == theirs, steps


@pytest.mark.parametrize(("strength", "left"), [(1.0, 8), (0.6, 5), (0.5, 4), (0.13, 2), (0.01, 1)])
def test_strength_keeps_the_last_steps_and_at_least_one(strength, left):
    tail = start_at_strength(flow_sigmas(8, 3.0), strength)
    assert len(tail) - 1 == left
    assert tail == flow_sigmas(8, 3.0)[-left - 1 :]
