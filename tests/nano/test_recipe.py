"""The recipe's promises: what is held out stays out, and what ships has the recipe's shape."""

from __future__ import annotations

import pytest
import torch

from llm_dit.prompts.sets import load_prompts


def test_vocabulary_is_as_large_as_promised(recipe):
    v = recipe("vocabulary")
    assert len(v.SUBJECTS) >= 80
    assert len(v.STYLES) == 3
    assert len(v.COLOURS) >= 10
    assert len(set(v.SUBJECTS.values())) == len(v.SUBJECTS)


def test_about_a_tenth_is_held_out_and_every_part_of_it_is_known(recipe):
    v = recipe("vocabulary")
    out = [scene for scene in v.scenes() if v.held_out(*scene)]
    assert 0.08 < len(out) / len(v.scenes()) < 0.12
    assert ("red apple", "3d", "blue") not in out
    seen = [scene for scene in v.scenes() if not v.held_out(*scene)]
    assert {(s, st) for s, st, _ in seen} == {(s, st) for s, st, _ in v.scenes()}  # each drawing on some colour


@pytest.mark.parametrize("name", ["nano_heldout", "nano_long", "nano_v1_heldout", "nano_ink"])
def test_prompts_that_measure_are_never_trained_on(recipe, name):
    data = recipe("make_data")
    trained = {text for _, prompts, _ in data.training_entries() for text in prompts}
    assert not trained & {prompt.prompt for prompt in load_prompts(name)}


def test_scenes_of_the_first_vocabulary_are_held_out_by_the_whole_domain_s_rule(recipe):
    v, d = recipe("vocabulary"), recipe("domain")
    assert all(v.held_out(*scene) == d.held_out_look(*scene) for scene in v.scenes())
    assert v.HELD_OUT_PHRASING.format(a="{a}", style="{style}", colour="{colour}").replace(
        "a {style}", "{a_style}"
    ) in (recipe("phrasings").HELD_OUT_FRAMES)


def test_subjects_kept_from_adapters_exist(recipe):
    d = recipe("domain")
    assert set(d.KEPT_FROM_ADAPTERS) == set(d.UNSEEN_STYLES) | d.UNTAUGHT_STYLES
    for style, kept in d.KEPT_FROM_ADAPTERS.items():
        assert all(s in d.TAUGHT_SUBJECTS and d.drawn(s, style) for s in kept)


def test_a_training_starts_from_silence_and_even_channels(recipe):
    start = recipe("start")
    torch.manual_seed(0)
    uneven = [torch.randn(20, 576) * torch.linspace(0.1, 10, 576) for _ in range(8)]
    gain = start.channel_gain(uneven)
    model = start.build(gain)
    with torch.no_grad():
        evened = model.cap_embedder[0](torch.cat([one[1:] for one in uneven]))
        velocity = model([torch.randn(16, 1, 16, 16)], torch.tensor([0.5]), [uneven[0]])[0][0]
    assert (evened.std(0) - 1).abs().max() < 0.2
    assert not velocity.any()


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_the_vae_s_last_norms_start_nearly_linear(recipe, half):
    """What goes into them comes out, faint or strong: a picture's absolute colour is not divided away."""
    net = getattr(recipe("train_vae").fresh_vae(), half)
    generator = torch.Generator().manual_seed(0)
    for strength in (0.2, 1.0):
        x = strength * torch.randn(1, net.conv_norm_out.num_channels, 16, 16, generator=generator)
        constant = torch.zeros(x.shape[1])
        constant[:2] = torch.tensor([10.0, -10.0])
        with torch.no_grad():
            out = net.conv_norm_out(x + constant.view(1, -1, 1, 1))
        assert 0.75 < out[:, 2:].std() / strength < 1.05


def test_shipped_weights_have_the_recipe_s_shape(recipe):
    from diffusers import AutoencoderKL, ZImageTransformer2DModel

    paths, config = recipe("paths"), recipe("start").CONFIG
    transformer = ZImageTransformer2DModel.from_pretrained(paths.SHIPPED, subfolder="transformer")
    vae = AutoencoderKL.from_pretrained(paths.SHIPPED, subfolder="vae")
    assert {key: transformer.config[key] for key in config} == {
        key: list(value) if isinstance(value, tuple) else value for key, value in config.items()
    }
    assert {key: vae.config[key] for key in ("latent_channels", "norm_num_groups")} == {
        key: recipe("train_vae").CONFIG[key] for key in ("latent_channels", "norm_num_groups")
    }
    assert all(torch.isfinite(p).all() for part in (transformer, vae) for p in part.parameters())


def test_all_that_ships_is_small(recipe):
    package = recipe("paths").SHIPPED.parents[1]
    assert sum(path.stat().st_size for path in package.rglob("*.safetensors")) < 32 * 2**20
