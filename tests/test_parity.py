"""Pictures equal diffusers' own pipelines on the same weights: txt2img and img2img, with and without CFG."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageImg2ImgPipeline, ZImagePipeline
from PIL import Image

from llm_dit.encoders.tiny import tiny_text_encoder
from llm_dit.families.z_image.tiny import tiny_transformer, tiny_vae
from llm_dit.render.draw import render

TOLERANCE = 1e-5
SHORT, LONG = "a cat", "a cat that sleeps on a very long red sofa in the sun, and then some more words to pass a bucket"
# (prompt, negative prompt): equal padded lengths share a forward, unequal ones do not; diffusers masks those.
PROMPTS = [(SHORT, "blurry"), (LONG, ""), (SHORT, LONG)]
GUIDANCE = [
    {"guidance_scale": 0.0},
    {"guidance_scale": 3.0},
    {"guidance_scale": 5.0, "cfg_normalization": 1.0, "cfg_truncation": 0.3},
]


@pytest.fixture(scope="module")
def components():
    text_encoder, tokenizer = tiny_text_encoder()
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": tiny_vae().eval(),
        "text_encoder": text_encoder.eval(),
        "tokenizer": tokenizer,
        "transformer": tiny_transformer().eval(),
    }


def ours(tiny, prompt, negative, guidance, *more, steps=5):
    keys = [f"guidance.{k}={v}" for k, v in guidance.items()]
    config = tiny("width=64", "height=48", f"sampler.steps={steps}", "seed=11", *keys, *more, prompt=prompt)
    config.prompt.negative = negative
    (picture,) = render(config)
    return picture


def theirs(pipe, prompt, negative, guidance, **more):
    pipe.set_progress_bar_config(disable=True)
    call = {
        "prompt": prompt,
        "negative_prompt": negative,
        "num_inference_steps": 5,
        "generator": torch.Generator("cpu").manual_seed(11),
        **guidance,
        **more,
    }
    latents = pipe(**call, output_type="latent").images
    call["generator"] = torch.Generator("cpu").manual_seed(11)
    return latents[0], np.array(pipe(**call).images[0])


def assert_equal(picture, latents, pixels):
    assert (picture.latents - latents).abs().max() <= TOLERANCE
    # Rounding to whole pixel values can turn a difference of 1e-6 into 1.
    assert np.abs(np.array(picture.image).astype(int) - pixels).max() <= 1
    assert (np.array(picture.image) == pixels).mean() > 0.999


@pytest.mark.parametrize("guidance", GUIDANCE, ids=["no cfg", "cfg", "capped and truncated cfg"])
@pytest.mark.parametrize(("prompt", "negative"), PROMPTS, ids=["equal lengths", "long prompt", "long negative"])
def test_text_to_image(tiny, components, prompt, negative, guidance):
    pipe = ZImagePipeline(**components)
    picture = ours(tiny, prompt, negative, guidance)
    assert_equal(picture, *theirs(pipe, prompt, negative, guidance, width=64, height=48))


def test_guidance_that_stops_at_a_step_s_own_time(tiny, components):
    """At sigma 0.9 the model's time is 0.1 in float32, a little above the number 0.1."""
    guidance = {"guidance_scale": 5.0, "cfg_truncation": 0.1}
    picture = ours(tiny, SHORT, "blurry", guidance, steps=8)
    pipe = ZImagePipeline(**components)
    assert_equal(picture, *theirs(pipe, SHORT, "blurry", guidance, width=64, height=48, num_inference_steps=8))


@pytest.mark.parametrize("strength", [0.35, 1.0])
@pytest.mark.parametrize("guidance", GUIDANCE[:2], ids=["no cfg", "cfg"])
def test_image_to_image(tiny, components, tmp_path, guidance, strength):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    start = Image.fromarray(noise)
    start.save(tmp_path / "start.png")
    pipe = ZImageImg2ImgPipeline(**components)
    path = f"init_image={tmp_path / 'start.png'}"
    picture = ours(tiny, SHORT, LONG, guidance, path, f"strength={strength}")
    assert_equal(picture, *theirs(pipe, SHORT, LONG, guidance, image=start, strength=strength))


def test_a_difference_would_be_seen(tiny, components):
    """The tolerance is far below what a wrong schedule does."""
    latents, _ = theirs(ZImagePipeline(**components), SHORT, "", {"guidance_scale": 0.0}, width=64, height=48)
    assert (ours(tiny, SHORT, "", {}, "sampler.shift=3.01").latents - latents).abs().max() > 10 * TOLERANCE
