"""Every control on a transformer built as Z-Image is, with random weights, at the lengths that real prompts have.

30 layers, 2 refiners, heads of 128 channels turned as 32, 48 and 48, captions of 2560 features; only the width is
small. 1505 tokens are the first that the stock model's table of positions does not hold.
"""

from __future__ import annotations

import pytest
import torch

from llm_dit.config import (
    DiversityConfig,
    DypeConfig,
    GuidanceConfig,
    LongPromptConfig,
    MixConfig,
    NagConfig,
    SlgConfig,
)
from llm_dit.diffusion.prompts_at import BLANK, FIRST, MIXED, SECOND, PromptsAt
from llm_dit.families.z_image.emphasis import Emphasis
from llm_dit.families.z_image.rotary import following, install_computed_rotary
from llm_dit.families.z_image.text_axis import stretched_text
from llm_dit.families.z_image.velocity import ZImageVelocity
from llm_dit.text.mix import Words, mix_words

SIGMA = 0.8
CFG = GuidanceConfig(2.0)
NAG = NagConfig(scale=5.0)
SECOND_PROMPT = {"mix": MixConfig("velocity", "b", 0.4)}

# What is given to the velocity, and its forwards.
CONTROLS = {
    "cfg": ({"guidance": CFG}, 2),
    "capped": ({"guidance": GuidanceConfig(2.0, cfg_normalization=1.0)}, 2),
    "apg": ({"guidance": GuidanceConfig(2.0, "apg", apg_norm_threshold=1.0)}, 2),
    "cfg_zero": ({"guidance": GuidanceConfig(2.0, "cfg_zero")}, 2),
    "slg": ({"slg": SlgConfig(2.5)}, 2),
    "stg": ({"slg": SlgConfig(1.0, kind="attention", layers=[14])}, 2),
    "ff": ({"slg": SlgConfig(1.0, kind="ff", layers=[14])}, 2),
    "pag": ({"slg": SlgConfig(1.0, kind="attention_identity", layers=[14])}, 2),
    "nag": ({"nag": NAG}, 1),
    "emphasis": ({"emphasis": "picture"}, 1),
    "emphasis of all": ({"emphasis": "all", "nag": NAG}, 1),
    "slerp": ({"mix": MixConfig("slerp", "b", 0.4)}, 1),
    "velocity": (SECOND_PROMPT, 2),
    "switch": ({"mix": MixConfig("switch", "b", sigma=0.9)}, 1),
    "noise": ({"diversity": DiversityConfig(2.0)}, 1),
    "blank": ({"diversity": DiversityConfig(blank_sigma=0.5)}, 1),
}
DYPE = ("pi", "ntk", "yarn", "vision_yarn", "dy_pi", "dy_ntk", "dy_yarn")


@pytest.fixture(scope="module")
def transformer():
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ZImageTransformer2DModel(dim=128, n_layers=30, n_refiner_layers=2, n_heads=1, n_kv_heads=1)
    assert (model.axes_dims, model.cap_embedder[1].in_features) == ([32, 48, 48], 2560)
    install_computed_rotary(model)
    return model.eval().requires_grad_(False)


def words(tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.ones(tokens)
    weights[5:9] = 3.0
    return Words(torch.randn(tokens, 2560, generator=generator), (3, tokens - 5), weights)


def velocity(transformer, tokens, mix=None, diversity=None, emphasis=None, **settings):
    """A velocity under a prompt of so many tokens, a second and a negative prompt of other lengths."""
    mix, diversity = mix or MixConfig(), diversity or DiversityConfig()
    texts = {FIRST: words(tokens, 1), SECOND: words(tokens - 40, 2), BLANK: Words(words(9, 3).embeds, (3, 3))}
    if emphasis is None:
        texts = {name: text._replace(weights=None) for name, text in texts.items()}
    if mix.mode == "slerp":
        texts[MIXED] = mix_words(texts[FIRST], texts[SECOND], "slerp", mix.amount)
    at = PromptsAt(texts, [0], mix, diversity)
    return ZImageVelocity(
        transformer, at, words(77, 4).embeds, emphasis=Emphasis(queries=emphasis or "all"), **settings
    )


def draw(transformer, velocity, size=8):
    with torch.inference_mode():
        return velocity(torch.randn(1, 16, size, size, generator=torch.Generator().manual_seed(0)), SIGMA)


@pytest.fixture(scope="module")
def plain(transformer):
    return draw(transformer, velocity(transformer, 1505))


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_acts_on_1505_tokens_at_its_price(transformer, plain, name):
    settings, forwards = CONTROLS[name]
    asked = velocity(transformer, 1505, **settings)
    drawn = draw(transformer, asked)
    assert torch.isfinite(drawn).all()
    assert asked.nfe == forwards
    assert not torch.allclose(drawn, plain, atol=1e-4)


@pytest.mark.parametrize("method", DYPE)
def test_positions_are_extrapolated_behind_1505_tokens(transformer, plain, method):
    at = following(velocity(transformer, 1505), transformer, DypeConfig(method=method), (64, 64), 32)
    drawn = draw(transformer, at)
    assert torch.isfinite(drawn).all()
    assert not torch.allclose(drawn, plain, atol=1e-5)


def test_4000_tokens_under_many_controls_at_once(transformer):
    lp = LongPromptConfig("extend", positions="ntk")
    asked = velocity(transformer, 4000, SECOND_PROMPT["mix"], emphasis="picture", nag=NAG, slg=SlgConfig(2.5))
    at = following(asked, transformer, DypeConfig(method="dy_yarn"), (64, 64), 32)
    with transformer.rope_embedder.turning(stretched_text(lp, 4000, transformer.rope_embedder)):
        drawn = draw(transformer, at)
    assert torch.isfinite(drawn).all()
    assert asked.nfe == 4
