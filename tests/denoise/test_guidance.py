"""Guidance formulae: golden values by hand, the limits in which they are CFG, diffusers where it agrees."""

from __future__ import annotations

from math import inf

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance, ClassifierFreeZeroStarGuidance

from llm_dit.base.errors import ConfigError
from llm_dit.config import DiversityConfig, GuidanceConfig, MixConfig, NagConfig, SlgConfig
from llm_dit.diffusion.guidance import (
    Forwards,
    apg,
    away_from,
    cap_norm,
    cfg,
    cfg_is_on,
    cfg_zero,
    denoised,
    forwards_at,
    in_window,
    nag_is_given,
    normalized_attention,
    rescale_std,
    velocity_to,
    zero_init_above,
)
from llm_dit.diffusion.prompts_at import FIRST, SECOND, parts_at
from llm_dit.diffusion.sigmas import flow_sigmas, model_time
from llm_dit.families.z_image.tiny import tiny_vae


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pair():
    return random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)


def test_scale_zero_is_the_positive_prediction(pair):
    positive, negative = pair
    assert torch.equal(cfg(*pair, 0.0), positive)
    assert torch.equal(cfg_zero(*pair, 0.0), positive)
    assert torch.equal(apg(*pair, 0.0, eta=0.0)[0], positive)
    assert torch.equal(away_from(negative, positive, negative, 0.0), negative)


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_scale_s_is_the_usual_weight_s_plus_one(pair, scale):
    positive, negative = pair
    usual = negative + (scale + 1) * (positive - negative)
    assert torch.allclose(cfg(positive, negative, scale), usual, atol=1e-5)


def test_the_cap_is_per_picture_and_leaves_smaller_ones_alone():
    positive = torch.ones(2, 1, 2, 2)
    guided = torch.stack([torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), 0.5)])
    capped = cap_norm(guided, positive, 1.5)
    assert torch.allclose(capped[0], torch.full((1, 2, 2), 1.5))
    assert torch.equal(capped[1], guided[1])


@pytest.mark.parametrize(
    ("sigma", "truncation", "on"),
    [(1.0, 0.0, True), (0.9, 0.0, False), (0.5, 0.5, True), (0.49, 0.5, False), (0.01, 1.0, True)],
)
def test_truncation_is_strict_in_model_time(sigma, truncation, on):
    assert cfg_is_on(sigma, 1.0, truncation) is on
    assert not cfg_is_on(sigma, 0.0, truncation)


class Calls(torch.nn.Module):
    """In the transformer's place in diffusers' pipeline: predicts 0 and keeps how many pictures each call predicted."""

    in_channels, dtype, device = 16, torch.float32, torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, latents, *_, **__):
        self.sizes.append(len(latents))
        return ([torch.zeros_like(x) for x in latents],)


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0, 6.0])
def test_guidance_stops_at_the_step_at_which_it_stops_in_diffusers_pipeline(shift):
    pipe = ZImagePipeline(FlowMatchEulerDiscreteScheduler(shift=shift), tiny_vae(), None, None, Calls())
    pipe.set_progress_bar_config(disable=True)
    text = [torch.zeros(1, 8)]
    for steps in range(2, 51):
        sigmas = flow_sigmas(steps, shift)[:-1]
        for truncation in (0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0):
            pipe.transformer.sizes.clear()
            pipe(
                prompt_embeds=text, negative_prompt_embeds=text, num_inference_steps=steps, height=16, width=16,
                guidance_scale=2.0, cfg_truncation=truncation, output_type="latent",
            )  # fmt: skip
            theirs = [size == 2 for size in pipe.transformer.sizes]
            assert [cfg_is_on(s, 2.0, truncation) for s in sigmas] == theirs, (steps, truncation)


def test_the_models_time_is_rounded_as_torch_rounds_it():
    sigmas = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    assert [model_time(s) for s in sigmas.tolist()] == ((1000 - sigmas * 1000) / 1000).tolist()


def test_a_window_s_ends_are_compared_in_float32():
    """The level 0.6666667 is 2 / 3 in float32, on whichever side of the fraction it lies."""
    assert in_window(0.6666667, 0.0, 2 / 3)
    assert not in_window(0.6666667, 2 / 3, 1.0)
    assert parts_at(0.6666667, MixConfig(), DiversityConfig(blank_sigma=2 / 3))[0].text == FIRST
    assert parts_at(0.6666667, MixConfig(mode="switch", sigma=2 / 3), DiversityConfig())[0].text == SECOND


def test_a_window_holds_its_upper_end_and_not_its_lower_one():
    assert [s for s in (1.0, 0.9, 0.7, 0.5) if in_window(s, 0.5, 0.9)] == [0.9, 0.7]
    assert cfg_is_on(0.9, 1.0, 1.0, 0.5, 0.9)
    assert not cfg_is_on(0.5, 1.0, 1.0, 0.5, 0.9)
    assert not in_window(0.0, 0.0, 1.0)


# CFG-Zero*


def test_cfg_zero_by_hand():
    """pos (3, 1), neg (1, 1): a = 4 / 2 = 2; pos + 1 (pos - 2 neg) = (4, 0)."""
    positive, negative = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    assert torch.equal(cfg_zero(positive, negative, 1.0), torch.tensor([[4.0, 0.0]]))


def test_what_cfg_zero_subtracts_is_orthogonal_to_the_negative_prediction(pair):
    positive, negative = pair
    difference = cfg_zero(positive, negative, 1.0) - positive
    assert (difference * negative).sum(dim=(1, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(cfg_zero(positive, 7 * negative, 2.0), cfg_zero(positive, negative, 2.0), atol=1e-4)


def test_cfg_zero_equals_diffusers(pair):
    guider = ClassifierFreeZeroStarGuidance(guidance_scale=3.0, zero_init_steps=0, use_original_formulation=True)
    guider.set_state(step=1, num_inference_steps=8, timestep=torch.tensor(500))
    assert torch.allclose(cfg_zero(*pair, 3.0), guider.forward(*pair).pred, atol=1e-5)


# APG


def test_apg_by_hand():
    """pos (2, 0), neg (1, -2): d = (1, 2), of which (1, 0) is along pos. eta 0 keeps (0, 2), eta .5 adds half of it."""
    positive, negative = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, -2.0]])
    assert torch.equal(apg(positive, negative, 3.0, eta=0.0)[0], torch.tensor([[2.0, 6.0]]))
    assert torch.equal(apg(positive, negative, 3.0, eta=0.5)[0], torch.tensor([[3.5, 6.0]]))


def test_apg_cuts_the_difference_before_it_projects():
    """d = (3, 4) has norm 5; cut to 2.5 it is (1.5, 2), of which (0, 2) is not along pos."""
    positive, negative = torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, -4.0]])
    guided, average = apg(positive, negative, 1.0, eta=0.0, norm_threshold=2.5)
    assert torch.allclose(guided, torch.tensor([[1.0, 2.0]]))
    assert torch.equal(average, torch.tensor([[3.0, 4.0]]))
    assert torch.allclose(apg(positive, negative, 1.0, 0.0, 5.1)[0], apg(positive, negative, 1.0, 0.0)[0])


def test_apg_remembers_what_was_not_cut():
    """d1 = 1, d2 = 1 - .5 = .5, d3 = 1 - .25 = .75."""
    positive, negative, average, seen = torch.ones(1, 1), torch.zeros(1, 1), None, []
    for _ in range(3):
        guided, average = apg(positive, negative, 1.0, 1.0, 0.0, -0.5, average)
        seen.append(float(guided))
    assert seen == [2.0, 1.5, 1.75]


def test_apg_with_eta_one_alone_is_cfg_to_the_bit(pair):
    assert torch.equal(apg(*pair, 4.0, eta=1.0)[0], cfg(*pair, 4.0))


def test_apg_of_clean_latents_with_eta_one_is_cfg(pair):
    x, sigma = random(2, 3, 4, 4, seed=2), 0.7
    clean = [denoised(x, v, sigma) for v in pair]
    guided = velocity_to(x, apg(*clean, 4.0, eta=1.0)[0], sigma)
    assert torch.allclose(guided, cfg(*pair, 4.0), atol=1e-5)


def test_apg_of_clean_latents_is_another_projection(pair):
    x, sigma = random(2, 3, 4, 4, seed=2), 0.7
    clean = [denoised(x, v, sigma) for v in pair]
    guided = velocity_to(x, apg(*clean, 4.0, eta=0.0)[0], sigma)
    assert not torch.allclose(guided, apg(*pair, 4.0, eta=0.0)[0], atol=1e-2)
    moved = denoised(x, guided, sigma) - clean[0]
    assert (moved * clean[0]).sum(dim=(1, 2, 3)).abs().max() < 1e-3


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 2.0, 100.0])
def test_apg_equals_diffusers_over_three_steps(eta, threshold):
    guider = AdaptiveProjectedGuidance(
        guidance_scale=3.0,
        adaptive_projected_guidance_momentum=-0.5,
        adaptive_projected_guidance_rescale=threshold,
        eta=eta,
        use_original_formulation=True,
    )
    average = None
    for step in range(3):
        positive, negative = random(2, 3, 4, 4, seed=10 + step), random(2, 3, 4, 4, seed=20 + step)
        guider.set_state(step=step, num_inference_steps=8, timestep=torch.tensor(500))
        guider.prepare_inputs({"x": (positive, negative)})  # makes the guider's momentum buffer at its first step
        guided, average = apg(positive, negative, 3.0, eta, threshold, -0.5, average)
        assert torch.allclose(guided, guider.forward(positive, negative).pred, atol=1e-5)


def test_cfg_equals_diffusers(pair):
    guider = ClassifierFreeGuidance(guidance_scale=4.0, use_original_formulation=True)
    guider.set_state(step=1, num_inference_steps=8, timestep=torch.tensor(500))
    assert torch.allclose(cfg(*pair, 4.0), guider.forward(*pair).pred, atol=1e-6)


# Away from a worse prediction


def test_away_from_is_the_formula_of_sd35(pair):
    positive, negative = pair
    skipped = random(2, 3, 4, 4, seed=3)
    w, s = 5.0, 2.5
    theirs = negative + w * (positive - negative) + s * (positive - skipped)
    assert torch.allclose(away_from(cfg(positive, negative, w - 1), positive, skipped, s), theirs, atol=1e-5)


def test_rescale_moves_the_standard_deviation(pair):
    positive, guided = pair[0], 3 * pair[1]
    assert torch.equal(rescale_std(guided, positive, 0.0), guided)
    whole = rescale_std(guided, positive, 1.0)
    assert torch.allclose(whole.std(dim=(1, 2, 3)), positive.std(dim=(1, 2, 3)))
    half = rescale_std(guided, positive, 0.5)
    assert torch.allclose(half, (whole + guided) / 2, atol=1e-6)


# NAG


def test_nag_by_hand():
    """pos (2, 2), neg (0, 4), scale 3: z = (6, -2), L1 8, of pos 4: at most 1.5 x 4, so z = (4.5, -1.5)."""
    positive, negative = torch.tensor([[[2.0, 2.0]]]), torch.tensor([[[0.0, 4.0]]])
    assert torch.allclose(normalized_attention(positive, negative, 3.0, 1.5, 1.0), torch.tensor([[[4.5, -1.5]]]))
    assert torch.allclose(normalized_attention(positive, negative, 3.0, 1.5, 0.25), torch.tensor([[[2.625, 1.125]]]))
    assert torch.allclose(normalized_attention(positive, negative, 3.0, 9.0, 1.0), torch.tensor([[[6.0, -2.0]]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nag_that_guides_nowhere_is_the_positive_output_to_the_bit(dtype):
    positive, negative = random(2, 5, 8).to(dtype), random(2, 5, 8, seed=1).to(dtype)
    assert torch.equal(normalized_attention(positive, negative, 1.0, 2.5, 0.25), positive)
    assert torch.equal(normalized_attention(positive, positive, 4.0, 1.0, 0.25), positive)
    assert torch.equal(normalized_attention(positive, negative, 4.0, 2.5, 0.0), positive)
    assert normalized_attention(positive, negative, 4.0, 2.5, 0.25).dtype == dtype


def test_nag_equals_its_authors_formula():
    positive, negative, s, tau, alpha = random(2, 5, 8), random(2, 5, 8, seed=1), 4.0, 1.5, 0.25
    guided = positive * s - negative * (s - 1)
    ratio = guided.norm(p=1, dim=-1, keepdim=True) / positive.norm(p=1, dim=-1, keepdim=True)
    assert (ratio > tau).any()
    theirs = guided * ratio.clamp(max=tau) / ratio * alpha + positive * (1 - alpha)
    assert torch.allclose(normalized_attention(positive, negative, s, tau, alpha), theirs, atol=1e-5)


# What a step needs


def needs(sigma, guidance=None, slg=None, nag=None, zero_above=inf):
    return forwards_at(
        sigma, GuidanceConfig(**guidance or {}), SlgConfig(**slg or {}), NagConfig(**nag or {}), zero_above
    )


@pytest.mark.parametrize(
    ("settings", "expected", "nfe"),
    [
        ({}, Forwards(), 1),
        ({"guidance": {"guidance_scale": 2.0}}, Forwards(negative=True), 2),
        ({"slg": {"scale": 2.0}}, Forwards(skipped=True), 2),
        ({"nag": {"scale": 2.0}}, Forwards(nag=True), 1),
        ({"nag": {"scale": 2.0, "alpha": 0.0}}, Forwards(), 1),
        ({"guidance": {"guidance_scale": 2.0}, "slg": {"scale": 2.0}}, Forwards(negative=True, skipped=True), 3),
        ({"guidance": {"guidance_scale": 2.0}, "zero_above": 0.6}, Forwards(positive=False), 0),
        ({"guidance": {"guidance_scale": 2.0, "sigma_high": 0.6}}, Forwards(), 1),
        ({"guidance": {"guidance_scale": 2.0, "sigma_low": 0.7}}, Forwards(), 1),
        ({"slg": {"scale": 2.0, "sigma_high": 0.6}}, Forwards(), 1),
        ({"nag": {"scale": 2.0, "sigma_low": 0.7}}, Forwards(), 1),
    ],
)
def test_only_what_a_step_needs_is_paid(settings, expected, nfe):
    assert needs(0.7, **settings) == expected
    assert expected.nfe == nfe


def test_zero_init_covers_the_first_steps():
    sigmas = [1.0, 0.9, 0.75, 0.5, 0.0]
    settings = GuidanceConfig(guidance_scale=2.0, method="cfg_zero", zero_init_steps=2)
    above = zero_init_above(settings, sigmas)
    assert [needs(s, {"guidance_scale": 2.0}, zero_above=above).nfe for s in sigmas[:-1]] == [0, 0, 2, 2]
    for off in ({"zero_init_steps": 0}, {"method": "cfg"}, {"guidance_scale": 0.0}):
        assert zero_init_above(GuidanceConfig(**{**vars(settings), **off}), sigmas) == inf
    with pytest.raises(ConfigError, match=r"guidance.zero_init_steps=2: leaves nothing of the run's 2 steps"):
        zero_init_above(settings, [1.0, 0.5, 0.0])


def test_nag_is_given_by_a_scale_and_an_alpha():
    assert [nag_is_given(NagConfig(s, alpha=a)) for s, a in [(1.0, 0.25), (2.0, 0.0), (2.0, 0.25)]] == [0, 0, 1]
