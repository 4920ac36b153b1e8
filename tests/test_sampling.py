"""Samplers and noise levels in whole pictures: batches, img2img, records, warnings, refusals, diffusers' pipeline."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from PIL import Image

from llm_dit.base.errors import ConfigError
from llm_dit.diffusion.noise import draw_noise, renoiser, seeded_generator
from llm_dit.diffusion.samplers import SAMPLERS, velocities
from llm_dit.diffusion.sigmas import SPACINGS
from llm_dit.encoders.tiny import tiny_text_encoder
from llm_dit.families.z_image.tiny import tiny_transformer, tiny_vae
from llm_dit.render.draw import render
from llm_dit.study.definition import load_study
from llm_dit.study.dry_run import forwards_of


def warnings_of(config):
    return render(config)[0].record["warnings"]


@pytest.fixture
def start(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "start.png")
    return f"init_image={tmp_path / 'start.png'}"


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("scale", [0, 2])
def test_forwards_are_counted_and_foreseen(tiny, name, scale):
    config = tiny(f"sampler={name}", "sampler.steps=5", f"guidance.guidance_scale={scale}")
    record = render(config)[0].record
    expected = (9 if name == "flow_heun" else 5) * (2 if scale else 1)
    assert record["nfe"] == expected == forwards_of(config)
    assert (record["sampler"], record["shift"], len(record["sigmas"]), record["warnings"]) == (name, 3.0, 6, [])


def test_the_study_of_samplers_compares_equal_forwards():
    (rows,) = load_study("samplers").zip
    arms = set(zip(rows["sampler.name"], rows["sampler.steps"], strict=True))
    assert {name for name, _ in arms} == set(SAMPLERS)
    spent = sorted((name, velocities(name, steps)) for name, steps in arms)
    assert spent == sorted((name, forwards) for name in SAMPLERS for forwards in (7, 11, 23))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_does_not_depend_on_its_batch(tiny, name):
    settings = (f"sampler={name}", "sampler.steps=5")
    together = render(tiny(*settings, "seeds=[4,7,5]", "hardware.batch_size=3"))
    alone = render(tiny(*settings, "seed=7"))[0]
    assert torch.allclose(together[1].latents, alone.latents, atol=1e-5)
    assert torch.equal(render(tiny(*settings, "seeds=[4,7]"))[1].latents, alone.latents)
    assert not torch.allclose(together[0].latents, alone.latents, atol=1e-2)


def test_samplers_draw_different_pictures_and_the_accurate_ones_agree(tiny):
    latents = {
        name: render(tiny(f"sampler={name}", "sampler.steps=40", "sampler.shift=1"))[0].latents for name in SAMPLERS
    }
    best = render(tiny("sampler=flow_heun", "sampler.steps=160", "sampler.shift=1"))[0].latents
    off = {name: float((z - best).abs().mean()) for name, z in latents.items()}
    assert max(off["flow_heun"], off["dpm_solver"], off["unipc"]) < off["flow_euler"] < off["lcm"]


def test_the_noise_between_steps_is_each_seeds_own_and_new_every_time():
    source = renoiser([3, 4], (4, 8, 8), "cpu")
    first, second = source(), source()
    assert not torch.equal(first, second)
    alone = renoiser([4], (4, 8, 8), "cpu")
    assert torch.equal(alone()[0], first[1])
    assert torch.equal(alone()[0], second[1])
    assert not torch.equal(first[1], draw_noise([seeded_generator(4)], (4, 8, 8))[0])
    assert (first.dtype, first.shape) == (torch.float32, (2, 4, 8, 8))
    assert not torch.equal(renoiser([3, 4], (4, 8, 8), "cpu", second_stage=True)(), first)


def test_seeds_that_share_their_low_32_bits_are_different_pictures(tiny):
    low, high = render(tiny("seeds=[5,4294967301]"))
    assert (low.latents - high.latents).abs().mean() > 0.1


LEVELS = [*(f"sampler.spacing={s}" for s in ("uniform", *SPACINGS)), "sampler.shift_mode=resolution"]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("levels", [*LEVELS, "sampler.sigmas=[0.9,0.7,0.5,0.3,0.1]"])
def test_image_to_image_with_every_sampler_and_spacing(tiny, start, name, levels):
    record = render(tiny(start, "strength=0.6", "sampler.steps=5", f"sampler={name}", levels))[0].record
    assert len(record["sigmas"]) == 4
    assert record["sigmas"][0] < 1
    assert record["nfe"] == (5 if name == "flow_heun" else 3)
    assert record["warnings"] == []


def test_explicit_levels_say_where_image_to_image_starts(tiny, start):
    record = render(tiny(start, "strength=1", "sampler.sigmas=[0.6,0.3]", "sampler.steps=2"))[0].record
    assert (record["sigmas"], record["shift"], record["nfe"], record["warnings"]) == ([0.6, 0.3, 0.0], None, 2, [])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["sampler.sigmas=[1,0.5]"], ["sampler.steps=4 has no effect: sampler.sigmas has 2 steps."]),
        (
            ["sampler.sigmas=[1,0.5]", "sampler.steps=2", "sampler.shift=2", "sampler.spacing=beta"],
            ["sampler.spacing has no effect: sampler.sigmas gives", "sampler.shift has no effect: sampler.sigmas"],
        ),
        (
            ["sampler.sigmas=[1,0.5]", "sampler.steps=2", "sampler.shift_mode=resolution", "sampler.max_shift=1"],
            ["sampler.shift_mode has no effect", "sampler.max_shift has no effect"],
        ),
        (["sampler.sigmas=[0.8,0.5]", "sampler.steps=2"], ["sampler.sigmas starts at 0.8: pure noise"]),
        (["sampler.shift_mode=resolution", "sampler.shift=2"], ["sampler.shift has no effect: sampler.shift_mode is"]),
        (["sampler.base_shift=1"], ["sampler.base_shift has no effect: sampler.shift_mode is static."]),
        (["sampler.steps=1", "sampler.shift=2"], ["sampler.shift has no effect: one step leads from 1 to 0."]),
        (["sampler.steps=3", "sampler=dpm_solver"], ["sampler.name=dpm_solver draws what flow_euler does: 3 steps"]),
        (["sampler.steps=2", "sampler=unipc"], ["sampler.name=unipc draws what flow_euler does: 2 steps"]),
        (["sampler.steps=1", "sampler=lcm"], ["sampler.name=lcm draws what flow_euler does: 1 step is too few."]),
        (["sampler.steps=4", "sampler=dpm_solver", "sampler.spacing=karras"], []),
        (["sampler.shift_mode=resolution", "sampler.base_shift=1"], []),
    ],
)  # fmt: skip
def test_settings_that_cannot_act_are_told(tiny, settings, expected):
    found = warnings_of(tiny(*settings))
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("sampler=euler", "Did you mean 'flow_euler'"),
        ("sampler.name=euler", "Did you mean 'flow_euler'"),
        ("sampler.spacing=karas", "Did you mean 'karras'"),
        ("sampler.shift_mode=dynamic", "sampler.shift_mode='dynamic': not a choice. Valid: resolution, static."),
        (
            "sampler.sigmas=[0.5,0.8]",
            "sampler.sigmas=[0.5, 0.8]: each level must be below the one before it, in float32.",
        ),
        ("sampler.sigmas=[0]", "no step is left"),
        ("sampler.sigmas=[1.5,0.8]", "sampler.sigmas=1.5: out of range"),
        ("sampler.sigmas=0.5", "sampler.sigmas"),
        ("sampler.max_image_tokens=256", "sampler.base_image_tokens must be below sampler.max_image_tokens"),
    ],
)
def test_what_is_refused_by_name(tiny, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        tiny(settings)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"shift": 3.0, "use_karras_sigmas": True}, ["sampler.spacing=karras"]),
        ({"shift": 3.0, "use_beta_sigmas": True}, ["sampler.spacing=beta"]),
        ({"use_dynamic_shifting": True}, ["sampler.shift_mode=resolution"]),
        ({"use_dynamic_shifting": True, "use_exponential_sigmas": True, "max_shift": 2.0},
         ["sampler.shift_mode=resolution", "sampler.spacing=exponential", "sampler.max_shift=2"]),
    ],
)  # fmt: skip
def test_pictures_equal_diffusers_pipeline(tiny, theirs, ours):
    text_encoder, tokenizer = tiny_text_encoder()
    parts = {"text_encoder": text_encoder.eval(), "tokenizer": tokenizer, "vae": tiny_vae().eval()}
    pipe = ZImagePipeline(FlowMatchEulerDiscreteScheduler(**theirs), transformer=tiny_transformer().eval(), **parts)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(11)
    size = {"width": 64, "height": 48}
    call = {"prompt": "a cat", "num_inference_steps": 5, "guidance_scale": 0.0, "generator": generator, **size}
    latents = pipe(**call, output_type="latent").images[0]
    (picture,) = render(tiny("width=64", "height=48", "sampler.steps=5", "seed=11", *ours, prompt="a cat"))
    assert (picture.latents - latents).abs().max() <= 1e-5
