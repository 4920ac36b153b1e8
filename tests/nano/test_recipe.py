"""The recipe's promises: what is held out stays out, prompts fit, and the training forward is the stock one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_dit.text.chat import ChatParts, format_prompt

NANO = Path(__file__).parents[2] / "experiments" / "nano"


@pytest.fixture
def recipe(monkeypatch):
    """Modules of experiments/nano by name, forgotten again afterwards (their names are common words)."""
    monkeypatch.syspath_prepend(str(NANO))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(NANO) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


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


def test_training_prompts_know_nothing_of_held_out_scenes_and_phrasing(recipe):
    v, captions = recipe("vocabulary"), recipe("captions")
    by_scene = captions.training_captions()
    assert not any(v.held_out(*key.split("|")) for key in by_scene)
    trained = {prompt for group in by_scene.values() for prompt in group}
    for scene in v.scenes():
        assert v.caption(v.HELD_OUT_PHRASING, *scene) not in trained
        if v.held_out(*scene):
            assert not trained & {v.caption(phrasing, *scene) for phrasing in v.PHRASINGS}
    assert "a red apple, 3d style, blue background" in trained


def test_every_prompt_fits_into_one_bucket(recipe):
    captions, model = recipe("captions"), recipe("model")
    v = recipe("vocabulary")
    _, tokenizer = captions.load_encoder()
    prompts = {v.caption(v.HELD_OUT_PHRASING, *scene) for scene in v.scenes()}
    prompts |= {prompt for group in captions.training_captions().values() for prompt in group}
    texts = [format_prompt(ChatParts(prompt), "chatml").text for prompt in prompts]
    longest = max(len(ids) for ids in tokenizer(texts).input_ids)
    assert longest <= model.CAPTION


def test_training_forward_equals_the_stock_one(recipe):
    m = recipe("model")
    torch.manual_seed(0)
    model = m.ZImageTransformer2DModel(**{**m.CONFIG, "n_layers": 2}).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    captions, lengths = torch.randn(3, m.CAPTION, 576), (9, 20, 32)
    padding = torch.tensor([[i >= n for i in range(m.CAPTION)] for n in lengths])
    x, sigma = torch.randn(3, 16, 16, 16), torch.tensor([0.1, 0.5, 1.0])
    with torch.no_grad():
        given = [c[:n] for c, n in zip(captions, lengths, strict=True)]
        stock = -torch.stack(list(model(list(x.unsqueeze(2)), 1 - sigma, given)[0])).squeeze(2)
        m.use_real_rotary(model)
        ours = m.forward(model, x, sigma, captions, padding, m.angles(model, 8, 8))
    assert (ours - stock).abs().max() < 1e-5


def test_compose_is_a_function_of_the_seed(recipe):
    scenes = recipe("scenes")
    sprite = np.zeros((160, 160, 4), np.uint8)
    sprite[40:120, 40:120] = (255, 0, 0, 255)
    a, b = (scenes.compose(sprite, (50, 105, 220), np.random.default_rng(7)) for _ in range(2))
    assert (a == b).all()
    assert a.shape == (128, 128, 3)
    assert a[64, 64, 0] > 240
    assert np.abs(a[0, 0].astype(int) - (50, 105, 220)).max() <= 6


def test_muon_takes_orthogonal_steps(recipe):
    muon = recipe("muon")
    torch.manual_seed(0)
    for shape in ((3, 8, 20), (3, 20, 8)):
        update = muon.orthogonalise(torch.randn(shape))
        spread = torch.linalg.svdvals(update)
        assert update.shape == shape
        assert (spread > 0.5).all()
        assert (spread < 1.4).all()


def test_shipped_weights_have_the_recipe_s_shape(recipe):
    from diffusers import AutoencoderKL, ZImageTransformer2DModel

    paths, model = recipe("paths"), recipe("model")
    transformer = ZImageTransformer2DModel.from_pretrained(paths.SHIPPED, subfolder="transformer")
    vae = AutoencoderKL.from_pretrained(paths.SHIPPED, subfolder="vae")
    assert all(
        transformer.config[key] == value or list(value) == list(transformer.config[key])
        for key, value in model.CONFIG.items()
    )
    assert all(torch.isfinite(p).all() for part in (transformer, vae) for p in part.parameters())
    assert sum(f.stat().st_size for f in paths.SHIPPED.rglob("*") if f.is_file()) < 20 * 2**20
