"""The shipped model through the whole path: it loads strictly, follows the prompt, and equals diffusers' pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_dit.compose import compose
from llm_dit.metrics.base import Sample
from llm_dit.metrics.nano_judge import NanoJudge
from llm_dit.prompts.sets import Element
from llm_dit.render.draw import prepare, render
from llm_dit.weights.folder import SHIPPED

COLOURS = {"blue": (40, 100, 230), "red": (220, 40, 40), "green": (40, 160, 70), "yellow": (250, 210, 60)}


def draw(prompt, *overrides):
    return render(compose(["hardware=cpu", *overrides], prompt=prompt))[0]


def border(picture):
    """Median colour of the outermost 6 pixels, where only the background is."""
    pixels = np.array(picture.image)
    edge = [pixels[:6], pixels[-6:], pixels[:, :6].transpose(1, 0, 2), pixels[:, -6:].transpose(1, 0, 2)]
    return np.median(np.concatenate([e.reshape(-1, 3) for e in edge]), axis=0)


@pytest.mark.parametrize("colour", COLOURS)
def test_the_background_is_the_one_asked_for(colour):
    seen = border(draw(f"a cat, cartoon style, {colour} background"))
    distance = {name: float(np.abs(seen - rgb).sum()) for name, rgb in COLOURS.items()}
    assert min(distance, key=distance.get) == colour, seen


@pytest.mark.parametrize("model", ["nano", "nano_turbo"])
def test_the_apple_of_the_readme_is_red_on_blue(model):
    picture = draw("a red apple, 3d style, blue background", f"model={model}")
    centre = np.array(picture.image)[48:96, 40:88].reshape(-1, 3).mean(axis=0)
    assert centre[0] > centre[2] + 40  # red over blue in the middle
    assert border(picture)[2] > border(picture)[0] + 40  # blue over red around it
    assert picture.image.size == (128, 128)


def test_without_guidance_and_with_another_layer_it_draws_something_else():
    base = draw("a fox, flat style, green background").latents
    for change in ("guidance=none", "encoder_layer.index=-8"):
        assert (draw("a fox, flat style, green background", change).latents - base).abs().mean() > 0.05


def test_it_equals_diffusers_pipeline():
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

    config = compose(["hardware=cpu", "a red apple, 3d style, blue background"])
    run = prepare(config)
    pipe = ZImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=run.models.shift), run.models.vae, None, None, run.models.transformer
    )
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(
        prompt_embeds=[run.positive.embeds],
        negative_prompt_embeds=[run.negative.embeds],
        guidance_scale=config.guidance.guidance_scale,
        num_inference_steps=config.sampler.steps,
        height=128,
        width=128,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).images
    assert (render(config)[0].latents - latents[0]).abs().max() < 1e-4


def test_the_weights_are_small_enough_to_ship():
    assert 10 * 2**20 < sum(p.stat().st_size for p in SHIPPED.parent.rglob("*.safetensors")) < 32 * 2**20


def test_the_distilled_model_draws_near_its_teacher_s_picture_at_a_third_of_the_forwards():
    prompt = "a red apple, 3d style, blue background"
    goal = draw(prompt, "sampler.steps=16").latents
    student = draw(prompt, "model=nano_turbo")
    plain = draw(prompt, "sampler.steps=8", "guidance=none").latents
    assert (student.record["nfe"], draw(prompt).record["nfe"]) == (8, 24)
    assert (student.latents - goal).abs().mean() < 0.75 * (plain - goal).abs().mean()


def test_the_shipped_lora_draws_in_lines_and_without_it_nobody_does():
    """A skull is a subject that the LoRA was trained on."""
    judge = NanoJudge(None, "cpu", 2)
    asked = tuple(Element(*pair) for pair in (("subject", "skull"), ("style", "ink"), ("colour", "yellow")))
    prompt = "a skull, ink style, yellow background"
    drawn = [draw(prompt, *more).image for more in ([], ["lora=shipped:ink"])]
    plain, ink = (score.values for score in judge.score([Sample(image, prompt, asked) for image in drawn]))
    assert plain["nano_judge_style"] < 0.1 < 0.5 < ink["nano_judge_style"]
