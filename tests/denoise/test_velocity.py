"""The guided velocity: composed as the formulae say, paid for as counted, without masks, each picture by itself."""

from __future__ import annotations

from math import inf

import pytest
import torch

from llm_dit.base.errors import ConfigError
from llm_dit.config import GuidanceConfig, NagConfig, SlgConfig
from llm_dit.diffusion.guidance import away_from, cap_norm, cfg, cfg_zero, rescale_std
from llm_dit.families.z_image.rotary import install_computed_rotary
from llm_dit.families.z_image.skip import skipping
from llm_dit.families.z_image.tiny import TEXT_WIDTH, tiny_transformer
from llm_dit.families.z_image.velocity import ZImageVelocity

SIGMA = 0.7
CFG = GuidanceConfig(guidance_scale=3.0)
SLG = SlgConfig(scale=2.0, layers=[1])
NAG = NagConfig(scale=4.0)
OFF = {"guidance": GuidanceConfig(), "slg": SlgConfig(), "nag": NagConfig()}
# name: (settings, forwards of one picture)
COSTS = {
    "none": ({}, 1),
    "cfg": ({"guidance": CFG}, 2),
    "apg": ({"guidance": GuidanceConfig(guidance_scale=3.0, method="apg")}, 2),
    "cfg_zero": ({"guidance": GuidanceConfig(guidance_scale=3.0, method="cfg_zero")}, 2),
    "slg": ({"slg": SLG}, 2),
    "pag": ({"slg": SlgConfig(scale=2.0, kind="attention_identity")}, 2),
    "nag": ({"nag": NAG}, 1),
    "cfg + slg": ({"guidance": CFG, "slg": SLG}, 3),
    "cfg + nag": ({"guidance": CFG, "nag": NAG}, 2),
    "nag + slg": ({"nag": NAG, "slg": SLG}, 2),
    "all": ({"guidance": CFG, "nag": NAG, "slg": SlgConfig(scale=2.0, kind="attention_identity", rescale=0.7)}, 3),
    "zero": ({"guidance": GuidanceConfig(guidance_scale=3.0, method="cfg_zero"), "slg": SLG, "zero_above": 0.6}, 0),
    "outside": (
        {
            "guidance": GuidanceConfig(guidance_scale=3.0, sigma_high=0.69),
            "slg": SlgConfig(scale=2.0, sigma_low=0.7),
            "nag": NagConfig(scale=2.0, sigma_low=0.7),
        },
        1,
    ),
}


@pytest.fixture
def transformer():
    model = tiny_transformer().eval().requires_grad_(False)
    install_computed_rotary(model)
    return model


def texts(positive=9, negative=40):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, TEXT_WIDTH, generator=generator) for n in (positive, negative))


def latents(batch=2, seed=1):
    return torch.randn(batch, 16, 8, 6, generator=torch.Generator().manual_seed(seed))


def draw(model, settings, x=None, sigma=SIGMA, text=None):
    with torch.inference_mode():
        return ZImageVelocity(model, *(text or texts()), **settings)(latents() if x is None else x, sigma)


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("lengths", [(9, 20), (9, 40)], ids=["equal lengths", "unequal"])
def test_what_is_counted_is_what_is_run_and_no_attention_is_masked(transformer, name, lengths):
    settings, cost = COSTS[name]
    pictures, masks = [], []
    transformer.register_forward_pre_hook(lambda _, args: pictures.append(len(args[0])))
    for part in (*transformer.layers, *transformer.noise_refiner, *transformer.context_refiner):
        part.attention.register_forward_pre_hook(
            lambda _, args, kwargs: masks.append(kwargs.get("attention_mask")), with_kwargs=True
        )
    velocity = ZImageVelocity(transformer, *texts(*lengths), **settings)
    with torch.inference_mode():
        velocity(latents(), SIGMA)
    assert sum(pictures) == 2 * cost == 2 * velocity.nfe
    assert all(mask is None for mask in masks)
    if name == "cfg":
        assert pictures == ([4] if lengths[1] == 20 else [2, 2])


@pytest.mark.parametrize("name", COSTS)
def test_a_picture_does_not_depend_on_the_one_beside_it(transformer, name):
    settings, _ = COSTS[name]
    x = latents()
    together = draw(transformer, settings, x)
    for i in range(2):
        assert torch.allclose(draw(transformer, settings, x[i : i + 1])[0], together[i], atol=1e-5)


def test_each_scale_at_zero_is_no_guidance_to_the_bit(transformer):
    plain = draw(transformer, {})
    for settings in (
        {"guidance": GuidanceConfig(0.0, method="apg", cfg_normalization=1.0)},
        {"slg": SlgConfig(0.0, layers=[0], rescale=1.0)},
        {"nag": NagConfig(1.0, alpha=1.0)},
        {"nag": NagConfig(4.0, alpha=0.0)},
        COSTS["outside"][0],
    ):
        assert torch.equal(draw(transformer, settings), plain)


def test_zero_init_is_a_velocity_of_zero(transformer):
    assert not draw(transformer, COSTS["zero"][0]).any()


def predictions(transformer, layers, kind):
    """positive, negative and skipped velocities, each by itself."""
    positive = draw(transformer, {})
    negative = draw(transformer, {}, text=texts()[1:])
    with skipping(transformer, layers, kind):
        skipped = draw(transformer, {})
    return positive, negative, skipped


PAIR = (0.75, 0.25)


def two_prompts(lengths=(9, 40), batch=1):
    """A pair of prompts at shares of 3 to 1, the same at every sigma; each [batch, tokens, features]."""
    generator = torch.Generator().manual_seed(5)
    found = [torch.randn(batch, n, TEXT_WIDTH, generator=generator) for n in lengths]
    return found, lambda _sigma: [(share, text, None) for share, text in zip(PAIR, found, strict=True)]


@pytest.mark.parametrize("name", [name for name in COSTS if name != "zero"])
@pytest.mark.parametrize("lengths", [(9, 20), (9, 40)], ids=["equal lengths", "unequal"])
def test_two_prompts_cost_a_forward_more_wherever_the_prompt_acts(transformer, name, lengths):
    settings, cost = COSTS[name]
    skips = "slg" in settings and name != "outside"
    pictures, masks = [], []
    transformer.register_forward_pre_hook(lambda _, args: pictures.append(len(args[0])))
    for part in transformer.layers:
        part.attention.register_forward_pre_hook(
            lambda _, args, kwargs: masks.append(kwargs.get("attention_mask")), with_kwargs=True
        )
    velocity = ZImageVelocity(transformer, two_prompts(lengths)[1], texts()[1], **settings)
    with torch.inference_mode():
        velocity(latents(), SIGMA)
    assert sum(pictures) == 2 * velocity.nfe == 2 * (cost + 1 + skips)
    assert all(mask is None for mask in masks)
    if name == "none":
        assert pictures == ([4] if lengths[1] == 20 else [2, 2])


@pytest.mark.parametrize("name", ["none", "cfg", "all"])
def test_predictions_under_two_prompts_add_up(transformer, name):
    """Guidance sees one positive and one skipping prediction, each mixed of two."""
    (a, b), both = two_prompts()
    negative = texts()[1]

    def predicted(settings, prompt):
        return draw(transformer, settings, text=(prompt, negative))

    ours = predicted(COSTS[name][0], both)
    nag = {"nag": NAG} if name == "all" else {}
    positive = sum(s * predicted(nag, p[0]) for s, p in zip(PAIR, (a, b), strict=True))
    if name == "none":
        assert torch.equal(ours, positive)
        return
    guided = cfg(positive, predicted({}, negative), 3.0)
    if name == "all":
        with_skip = nag | {"slg": SlgConfig(1.0, kind="attention_identity", layers=[1])}
        found = [(predicted(nag, p[0]), predicted(with_skip, p[0])) for p in (a, b)]  # at scale 1: 2 pos - skipped
        skipped = sum(s * (2 * pos - away) for s, (pos, away) in zip(PAIR, found, strict=True))
        guided = rescale_std(away_from(guided, positive, skipped, 2.0), positive, 0.7)
    assert torch.allclose(ours, guided, atol=1e-4)


def test_a_prompt_alone_is_the_same_to_the_bit_however_it_is_given(transformer):
    positive, negative = texts()
    for settings, _ in COSTS.values():
        given = draw(transformer, settings, text=(lambda _sigma: [(1.0, positive[None], None)], negative))
        assert torch.equal(given, draw(transformer, settings))


@pytest.mark.parametrize("name", COSTS)
def test_each_picture_has_its_own_embeddings(transformer, name):
    settings, _ = COSTS[name]
    (own, _), _ = two_prompts(batch=2)
    x, negative = latents(), texts()[1]
    together = draw(transformer, settings, x, text=(lambda _sigma: [(1.0, own, None)], negative))
    for i in range(2):
        alone = draw(transformer, settings, x[i : i + 1], text=(own[i], negative))
        assert torch.allclose(alone[0], together[i], atol=1e-5)
    if name != "zero":
        assert not torch.allclose(together, draw(transformer, settings, x, text=(own[0], negative)), atol=1e-3)


@pytest.mark.parametrize("kind", ["block", "attention", "ff", "attention_identity"])
def test_guidance_and_skipped_layers_add_up_as_in_sd35(transformer, kind):
    positive, negative, skipped = predictions(transformer, [0, 2], kind)
    both = draw(transformer, {"guidance": CFG, "slg": SlgConfig(2.0, kind=kind, layers=[2, 0])})
    assert torch.equal(both, cfg(positive, negative, 3.0) + 2.0 * (positive - skipped))
    alone = draw(transformer, {"slg": SlgConfig(2.0, kind=kind, layers=[0, 2])})
    assert torch.equal(alone, positive + 2.0 * (positive - skipped))


def test_cap_comes_before_and_rescale_after_the_skipped_layers(transformer):
    positive, negative, skipped = predictions(transformer, [1], "block")
    ours = draw(
        transformer,
        {
            "guidance": GuidanceConfig(3.0, "cfg_zero", cfg_normalization=1.0),
            "slg": SlgConfig(2.0, layers=[1], rescale=0.7),
        },
    )
    capped = cap_norm(cfg_zero(positive, negative, 3.0), positive, 1.0)
    assert torch.equal(ours, rescale_std(away_from(capped, positive, skipped, 2.0), positive, 0.7))


@pytest.mark.parametrize("space", ["denoised", "velocity"])
def test_apg_without_its_parts_is_cfg(transformer, space):
    apg = GuidanceConfig(3.0, "apg", apg_eta=1.0, apg_momentum=0.0, apg_space=space)
    difference = (draw(transformer, {"guidance": apg}) - draw(transformer, {"guidance": CFG})).abs().max()
    assert difference == 0 if space == "velocity" else difference < 1e-5


def test_apg_remembers_within_a_run_and_forgets_after_it(transformer):
    apg = {"guidance": GuidanceConfig(3.0, "apg", apg_momentum=-0.5)}
    velocity = ZImageVelocity(transformer, *texts(), **apg)
    with torch.inference_mode():
        first, second = velocity(latents(), 0.9), velocity(latents(), SIGMA)
    assert torch.equal(first, draw(transformer, apg, sigma=0.9))
    assert not torch.allclose(second, draw(transformer, apg), atol=1e-3)


def test_the_skipped_prediction_differs_by_the_layers_alone(transformer):
    """With NAG too: no layers out means no difference, whatever the scale."""
    with torch.inference_mode():
        velocity = ZImageVelocity(transformer, *texts(), nag=NAG, slg=SlgConfig(9.0, layers=[0]))
        velocity.layers = []
        assert torch.equal(velocity(latents(), SIGMA), draw(transformer, {"nag": NAG}))


def test_a_broken_forward_leaves_the_model_as_it_was(transformer):
    settings = COSTS["all"][0]
    before = draw(transformer, settings)
    calls = []

    def third(*_):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("broken")

    hook = transformer.layers[2].feed_forward.register_forward_hook(third)
    with pytest.raises(RuntimeError, match="broken"):
        draw(transformer, settings)
    hook.remove()
    assert torch.equal(draw(transformer, settings), before)
    assert torch.equal(draw(transformer, OFF), draw(transformer, {}))


def test_what_is_missing_or_unknown_is_told_before_any_step(transformer):
    positive, _ = texts()
    for settings in ({"guidance": CFG}, {"nag": NAG}):
        with pytest.raises(ValueError, match="needs negative_prompt_embeds"):
            ZImageVelocity(transformer, positive, **settings)
    with pytest.raises(ConfigError, match=r"slg.layers=\[1, 3\]: this model has layers 0 to 2\."):
        ZImageVelocity(transformer, positive, slg=SlgConfig(1.0, layers=[1, 3]))
    assert ZImageVelocity(transformer, positive, slg=SlgConfig(0.0, layers=[3])).layers == []
    assert ZImageVelocity(transformer, positive, zero_above=inf).nfe == 0


@pytest.mark.parametrize(
    ("positive", "negative", "depth", "skipped"), [(1505, 30, 30, [9, 10, 11]), (30, 4000, 3, [1])]
)
def test_all_of_it_runs_on_the_real_structure_with_long_texts(positive, negative, depth, skipped):
    """Z-Image's heads of 128, axes and text features, and its 30 layers once; only the width is small."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ZImageTransformer2DModel(dim=128, n_layers=depth, n_heads=1, n_kv_heads=1).eval().requires_grad_(False)
    install_computed_rotary(model)
    generator = torch.Generator().manual_seed(0)
    given = tuple(torch.randn(n, 2560, generator=generator) for n in (positive, negative))
    velocity = ZImageVelocity(model, *given, guidance=CFG, nag=NAG, slg=SlgConfig(2.5))
    assert velocity.layers == skipped
    with torch.inference_mode():
        drawn = velocity(latents(1), SIGMA)
        plain = ZImageVelocity(model, given[0])(latents(1), SIGMA)
    assert torch.isfinite(drawn).all()
    assert velocity.nfe == 3
    assert not torch.allclose(drawn, plain, atol=1e-3)
