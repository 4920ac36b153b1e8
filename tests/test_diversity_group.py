"""The group diversity in whole pictures: noise on embeddings, a variation seed, an empty prompt at first."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from llm_dit.base.errors import ConfigError
from llm_dit.cli.tasks import run_task
from llm_dit.compose import compose
from llm_dit.config import DiversityConfig
from llm_dit.records.describe_prompts import idle_prompts
from llm_dit.records.picture import save_picture
from llm_dit.render.draw import render
from llm_dit.study.dry_run import forwards_of

SIGMAS = [1.0, 0.9, 0.75, 0.5, 0.0]
NOISE = ["diversity.embed_strength=2"]
VARIED = ["diversity.variation_seed=9", "diversity.variation_strength=0.4"]
BLANK = ["diversity.blank_sigma=0.8"]
ALL = [*NOISE, *VARIED, *BLANK]
WITH = {
    "plain": [],
    "guided": ["guidance.guidance_scale=2", "prompt.negative=fog", "slg=block", "nag.scale=4"],
    "lcm": ["sampler=lcm"],
    "two stages": ["width=128", "highres=two_stage"],
    "latent": ["width=128", "highres=two_stage", "highres.upscale=latent"],
    "image to image": ["init_image=start.png", "strength=0.9"],
    "user's tokens": ["encoder_layer.tokens=user"],
    "a second prompt": ["mix=velocity", "mix.text=two_yellow_pears_on_a_table"],
}


@pytest.fixture(autouse=True)
def start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save("start.png")


def same(a, b):
    return torch.equal(a.latents, b.latents) and a.record["pixels_sha256"] == b.record["pixels_sha256"]


def but(config, *, seeds=(5,), batch=1, **diversity):
    """A config with other seeds and settings of the group; composing each anew would take most of the tests' time."""
    hardware = replace(config.hardware, batch_size=batch)
    return replace(config, seeds=list(seeds), hardware=hardware, diversity=DiversityConfig(**diversity))


NOISY = {"embed_strength": 2.0}
MOVED = {"variation_seed": 9, "variation_strength": 0.4}
EMPTY = {"blank_sigma": 0.9}


@pytest.mark.parametrize("name", WITH)
def test_a_variation_of_strength_1_is_the_other_seeds_picture_to_the_bit(tiny, name):
    config = tiny(*WITH[name], "sampler.steps=2")
    own, other = render(but(config, seeds=(4, 9), **NOISY))

    def varied(strength):
        return render(but(config, seeds=(4,), variation_seed=9, variation_strength=strength, **NOISY))[0]

    assert same(varied(1.0), other)
    assert same(varied(0.0), own)
    half = varied(0.5)
    assert not torch.allclose(half.latents, own.latents, atol=1e-2)
    assert not torch.allclose(half.latents, other.latents, atol=1e-2)
    for strength, end in ((0.002, own), (0.998, other)):
        near = (varied(strength).latents - end.latents).square().mean().sqrt()
        assert near < 0.1 * (own.latents - other.latents).square().mean().sqrt()


@pytest.mark.parametrize("name", WITH)
def test_a_picture_changes_and_does_not_depend_on_its_batch(tiny, name):
    config = tiny(*WITH[name], "sampler.steps=2")
    plain = render(but(config))[0]
    for how in (NOISY, MOVED, EMPTY, NOISY | MOVED | EMPTY):
        alone = render(but(config, **how))[0]
        assert not torch.allclose(alone.latents, plain.latents, atol=1e-3)
        assert torch.isfinite(alone.latents).all()
        together = render(but(config, seeds=(3, 5, 8), batch=3, **how))
        assert torch.allclose(together[1].latents, alone.latents, atol=1e-4)
        assert same(render(but(config, seeds=(3, 5), **how))[1], alone)


@pytest.mark.parametrize("name", WITH)
def test_it_costs_no_forward(tiny, name):
    config = tiny("sampler.shift=3", "sampler.steps=2", *WITH[name])
    plain, noisy = but(config), but(config, **NOISY, **MOVED)
    cost = render(plain)[0].record["nfe"]
    assert render(noisy)[0].record["nfe"] == cost
    assert forwards_of(plain) == forwards_of(noisy)
    # Of two prompts mixed at every step, the empty one takes the place of both.
    saved = 1 if name == "a second prompt" else 0
    assert render(but(config, **EMPTY))[0].record["nfe"] == cost - saved


def test_an_empty_prompt_at_every_step_is_the_empty_prompt(tiny):
    assert same(render(tiny("diversity.blank_sigma=0"))[0], render(tiny("prompt.text=''"))[0])


def test_outside_their_windows_nothing_changes_to_the_bit(tiny):
    plain = render(tiny())[0]
    for how in (
        ["diversity.embed_strength=2", "diversity.embed_sigma_high=0.4"],
        ["diversity.embed_strength=2", "diversity.embed_share=0"],
        ["diversity.embed_strength=2", "diversity.embed_sigma_low=0.6", "diversity.embed_sigma_high=0.7"],
        ["diversity.blank_sigma=1"],
        ["diversity.variation_seed=9"],
    ):
        assert same(render(tiny(*how))[0], plain), how


def test_noise_in_a_window_leaves_the_steps_before_it_alone(tiny):
    seen = {}
    from llm_dit.diffusion.prompts_at import PromptsAt

    own = PromptsAt.__call__

    def watched(self, sigma):
        seen[sigma] = own(self, sigma)
        return seen[sigma]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptsAt, "__call__", watched)
        render(tiny(*NOISE, "diversity.embed_sigma_high=0.9", "diversity.embed_sigma_low=0.5"))
    clean = {sigma: len(parts[0][1].unique(dim=0)) for sigma, parts in seen.items()}
    assert list(clean) == SIGMAS[:-1]
    assert torch.equal(seen[1.0][0][1], seen[0.5][0][1])
    assert torch.equal(seen[0.9][0][1], seen[0.75][0][1])
    assert not torch.equal(seen[1.0][0][1], seen[0.9][0][1])


def test_two_stages_take_the_same_noise_on_the_embeddings(tiny):
    seen = []
    from llm_dit.diffusion import embed_noise

    own = embed_noise.noised
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed_noise, "noised", lambda *a: seen.append(own(*a)) or seen[-1])
        render(tiny(*NOISE, "width=128", "highres=two_stage"))
    assert len(seen) == 2
    assert torch.equal(*seen)


def test_the_record_says_what_was_done_and_at_which_levels(tiny):
    record = json.loads(json.dumps(render(tiny(*ALL, "diversity.embed_sigma_low=0.5"))[0].record))
    said = record["diversity"]
    assert said["embeds"] == {"strength": 2.0, "share": 0.5, "unit": "values", "sigmas": [0.75]}
    assert said["variation"] == {"seed": 9, "strength": 0.4}
    assert said["blank"]["sigmas"] == [1.0, 0.9]
    assert said["blank"]["formatted_prompt"].startswith("<|im_start|>user\n<|im_end|>")
    assert said["blank"]["token_count"] == 19
    assert record["warnings"] == []
    alone = render(tiny(*VARIED))[0].record["diversity"]
    assert (alone["embeds"], alone["blank"]) == (None, None)
    assert render(tiny())[0].record["diversity"] is None


def test_a_picture_is_drawn_again_from_its_record(tiny, tmp_path, capsys):
    picture = render(tiny(*ALL, "seeds=[3,5]", "hardware.batch_size=1"))[1]
    again = f"from_image={save_picture(picture, tmp_path, 'one')}"
    run_task(compose([again, "output.name=two"]), [again, "output.name=two"])
    assert "the same pixels as the original" in capsys.readouterr().out


def test_a_strength_without_a_seed_is_an_error():
    with pytest.raises(ConfigError, match=r"diversity.variation_strength=0.2 needs diversity.variation_seed"):
        compose(["x", "diversity.variation_strength=0.2"])


def test_a_window_upside_down_is_an_error():
    with pytest.raises(
        ConfigError, match=r"diversity.embed_sigma_low=0.5 must be below diversity.embed_sigma_high=0.5"
    ):
        compose(["x", "diversity.embed_sigma_low=0.5", "diversity.embed_sigma_high=0.5"])


LEVELS = "(they are 1, 0.9, 0.75, 0.5)."


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        ([], []),
        (ALL, []),
        (
            ["diversity.embed_share=1", "diversity.embed_sigma_low=0.5"],
            [f"diversity.embed_{k} has no effect: diversity.embed_strength is 0." for k in ("share", "sigma_low")],
        ),
        (
            [*NOISE, "diversity.embed_share=0"],
            ["diversity.embed_strength has no effect: diversity.embed_share is 0."],
        ),
        (
            [*NOISE, "diversity.embed_share=1", "diversity.embed_unit=tokens"],
            ["diversity.embed_unit has no effect: diversity.embed_share is 1."],
        ),
        (
            [*NOISE, "diversity.embed_sigma_high=0.4"],
            [f"diversity.embed_strength has no effect: no step's sigma is above 0 and at most 0.4 {LEVELS}"],
        ),
        (
            [*NOISE, "diversity.embed_sigma_low=0.9", "diversity.blank_sigma=0.95"],
            [
                "diversity.embed_strength has no effect: no step's sigma is above 0.9 and at most 1 and at most "
                f"diversity.blank_sigma=0.95 {LEVELS}"
            ],
        ),
        (
            ["diversity.variation_seed=3"],
            ["diversity.variation_seed has no effect: diversity.variation_strength is 0."],
        ),
        (
            ["sampler.sigmas=[0.9,0.5]", "diversity.blank_sigma=0.95"],
            ["diversity.blank_sigma=0.95 has no effect: no step's sigma is above it (they are 0.9, 0.5)."],
        ),
        (
            ["diversity.blank_sigma=0.2"],
            ["prompt.text has no effect: diversity.blank_sigma=0.2 empties the prompt at every step."],
        ),
    ],
)  # fmt: skip
def test_what_cannot_act_is_told(tiny, overrides, lines):
    config = tiny(*overrides)
    sigmas = [*config.sampler.sigmas, 0.0] if config.sampler.sigmas else SIGMAS
    assert idle_prompts(config, sigmas) == lines
    said = render(config)[0].record["warnings"]
    assert [line for line in said if not line.startswith("sampler.")] == lines


def test_what_cannot_act_on_these_words_or_this_seed_is_told(tiny):
    own = render(tiny(*VARIED, "seeds=[8,9]"))
    assert own[0].record["warnings"] == []
    assert own[1].record["warnings"] == ["diversity.variation_seed=9 has no effect: it is the picture's own seed."]
    empty = render(tiny(*NOISE, *BLANK, "prompt.text=''"))[0]
    assert empty.record["warnings"] == [
        "the prompt is empty: what is drawn follows from the seed alone.",
        "diversity.embed_strength has no effect: the prompt has no words.",
        "diversity.blank_sigma=0.8 has no effect: the prompt is empty.",
    ]
    assert same(empty, render(tiny("prompt.text=''"))[0])
