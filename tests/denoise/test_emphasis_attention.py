"""Weights in attention: equal to a mask added by hand, to words left out or said twice, and undone afterwards."""

from __future__ import annotations

import copy

import pytest
import torch

from llm_dit.config import GuidanceConfig, NagConfig, SlgConfig
from llm_dit.families.z_image import emphasis as module
from llm_dit.families.z_image.attention import attend
from llm_dit.families.z_image.emphasis import Emphasis, EmphasisAttention, emphasising, key_bias
from llm_dit.families.z_image.nag import attending_away
from llm_dit.families.z_image.rotary import install_computed_rotary
from llm_dit.families.z_image.tiny import TEXT_WIDTH, tiny_transformer
from llm_dit.families.z_image.velocity import ZImageVelocity, padded_length

SIGMA = 0.7
GRID = (4, 3)  # padded to 32 tokens
PICTURE = padded_length(GRID[0] * GRID[1])
CFG, SLG, NAG = GuidanceConfig(guidance_scale=3.0), SlgConfig(scale=2.0, layers=[1]), NagConfig(scale=4.0, alpha=0.7)


@pytest.fixture
def transformer():
    model = tiny_transformer().eval().requires_grad_(False)
    install_computed_rotary(model)
    return model


def texts(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, TEXT_WIDTH, generator=generator) for n in lengths]


def latents(batch=2, seed=1):
    return torch.randn(batch, 16, 2 * GRID[0], 2 * GRID[1], generator=torch.Generator().manual_seed(seed))


def weights(tokens, seed=2):
    found = torch.rand(tokens, generator=torch.Generator().manual_seed(seed)) * 3
    found[1] = 0.0
    found[2] = 1.0
    return found


def draw(model, positive, negative=None, emphasis=None, x=None, **settings):
    with torch.inference_mode():
        velocity = ZImageVelocity(model, positive, negative, emphasis=emphasis, **settings)
        return velocity(latents() if x is None else x, SIGMA)


class ByHand:
    """softmax(q k / sqrt(d) + mask) v in float64, with a whole mask of queries x keys; the stock projections."""

    def __init__(self, stock, mask):
        self.stock, self.mask = stock, mask

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None):
        def turn(x):
            pairs = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2))
            return torch.view_as_real(pairs * freqs_cis.unsqueeze(2)).flatten(3)

        q, k, v = (part(hidden_states).unflatten(-1, (attn.heads, -1)) for part in (attn.to_q, attn.to_k, attn.to_v))
        q, k = turn(attn.norm_q(q)), turn(attn.norm_k(k))
        logits = torch.einsum("bqhc,bkhc->bhqk", q, k) / q.shape[-1] ** 0.5
        shares = (logits + self.mask[:, None].double()).softmax(-1)
        out = torch.einsum("bhqk,bkhc->bqhc", shares, v.double()).flatten(2).to(hidden_states.dtype)
        return attn.to_out[0](out)


def by_hand(model, positive, heard, queries):
    mask = torch.zeros(1, PICTURE + padded_length(len(positive)), PICTURE + padded_length(len(positive)))
    rows = slice(0, PICTURE) if queries == "picture" else slice(None)
    for token, weight in enumerate(heard.tolist()):
        mask[:, rows, PICTURE + token] = torch.tensor(weight).log()
    other = copy.deepcopy(model)
    for block in other.layers:
        block.attention.processor = ByHand(block.attention.processor, mask)
    return draw(other, positive)


@pytest.mark.parametrize("queries", ["picture", "all"])
@pytest.mark.parametrize("tokens", [9, 32, 40])
def test_it_equals_a_mask_added_by_hand(transformer, queries, tokens):
    (positive,), heard = texts(tokens), weights(tokens)
    ours = draw(transformer, positive, emphasis=Emphasis(heard, None, queries))
    assert torch.allclose(ours, by_hand(transformer, positive, heard, queries), atol=1e-6)
    assert not torch.allclose(ours, draw(transformer, positive), atol=1e-3)


def test_whose_queries_are_weighed_matters(transformer):
    (positive,), heard = texts(9), weights(9)
    both = [draw(transformer, positive, emphasis=Emphasis(heard, None, q)) for q in ("picture", "all")]
    assert not torch.allclose(*both, atol=1e-4)


@pytest.mark.parametrize("rows", [None, 4])
def test_a_weight_is_how_often_a_key_stands_there(rows):
    """0 is attention without the key, 2 attention with the key twice; the queries behind `rows` see it once."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 7, 2, 8, generator=generator) for _ in range(3))

    def biased(*heard):
        return attend(query, key, value, None, torch.tensor([heard]).log(), rows)

    gone = attend(query, key[:, 1:], value[:, 1:], None)
    twice = attend(query, torch.cat([key, key[:, :1]], 1), torch.cat([value, value[:, :1]], 1), None)
    plain = attend(query, key, value, None)
    split = 7 if rows is None else rows
    for heard, expected in ((0.0, gone), (2.0, twice), (1.0, plain)):
        found = biased(heard, *[1.0] * 6)
        assert torch.allclose(found[:, :split], expected[:, :split], atol=1e-6)
        assert torch.allclose(found[:, split:], plain[:, split:], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_of_weight_0_are_not_heard_and_leave_finite_numbers(transformer, dtype):
    """Whatever the token says: in the main layers its key is what carries it to the picture, and its own row."""
    (positive,) = texts(9)
    nothing = draw(transformer.to(dtype), positive, emphasis=Emphasis(torch.zeros(9), None, "all"))
    assert torch.isfinite(nothing).all()
    one = torch.ones(9)
    one[3] = 0
    without_refiner = copy.deepcopy(transformer)
    without_refiner.context_refiner = torch.nn.ModuleList()
    other = positive.clone()
    other[3] = texts(1, seed=9)[0]
    heard = [draw(without_refiner, p, emphasis=Emphasis(one, None, "all")) for p in (positive, other)]
    assert torch.equal(*heard)
    assert not torch.equal(*(draw(without_refiner, p) for p in (positive, other)))


def test_without_a_weight_nothing_is_touched(transformer, monkeypatch):
    positive, negative = texts(9, 20)
    plain = draw(transformer, positive, negative, guidance=CFG)
    monkeypatch.setattr(EmphasisAttention, "__call__", None)
    assert torch.equal(plain, draw(transformer, positive, negative, Emphasis(), guidance=CFG))
    with emphasising(transformer, [(positive, None)], PICTURE, "picture"):
        assert not any(isinstance(b.attention.processor, EmphasisAttention) for b in transformer.layers)


def test_weights_of_1_change_no_more_than_rounding(transformer):
    (positive,) = texts(9)
    ours = draw(transformer, positive, emphasis=Emphasis(torch.ones(9)))
    assert torch.allclose(ours, draw(transformer, positive), atol=1e-6)


def test_scaled_embeddings_draw_the_same_which_is_why_scale_is_refused(transformer):
    """The caption embedder begins with an RMSNorm of each token: 10 times a token is the token, up to its eps."""
    (positive,) = texts(9)
    scaled = positive * torch.linspace(0.5, 10, 9)[:, None]
    assert torch.allclose(draw(transformer, scaled), draw(transformer, positive), atol=1e-4)


SETTINGS = {
    "cfg": {"guidance": CFG},
    "apg": {"guidance": GuidanceConfig(guidance_scale=3.0, method="apg")},
    "slg": {"slg": SLG},
    "pag": {"slg": SlgConfig(scale=2.0, layers=[1], kind="attention_identity")},
    "attention skipped": {"slg": SlgConfig(scale=2.0, layers=[1], kind="attention")},
    "cfg + slg": {"guidance": CFG, "slg": SLG},
    "nag": {"nag": NAG},
    "all": {"guidance": CFG, "slg": SLG, "nag": NAG},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("lengths", [(9, 20), (9, 40)], ids=["equal lengths", "unequal"])
@pytest.mark.parametrize("queries", ["picture", "all"])
def test_every_forward_hears_the_weights_of_its_own_text(transformer, name, lengths, queries, monkeypatch):
    """Against the same guidance over a model whose attention always has the mask of the caption it reads."""
    positive, negative = texts(*lengths)
    heard = Emphasis(weights(lengths[0]), weights(lengths[1], seed=5), queries)
    settings = SETTINGS[name]
    ours = draw(transformer, positive, negative, heard, **settings)
    assert torch.isfinite(ours).all()
    for other in (Emphasis(heard.positive, None, queries), Emphasis(None, heard.negative, queries)):
        changed = not torch.equal(ours, draw(transformer, positive, negative, other, **settings))
        assert changed == (other.negative is not None or "guidance" in settings or "nag" in settings)
    # Each picture by itself is the picture in a batch.
    alone = torch.cat([draw(transformer, positive, negative, heard, x=x[None], **settings) for x in latents()])
    assert torch.allclose(ours, alone, atol=1e-5)
    if "nag" in settings:
        return
    # One caption after the other, each with the whole mask, is what a shared forward gives.
    predict = ZImageVelocity._predict

    def apart(self, x, sigma, captions, nag=False):
        return [predict(self, x, sigma, [caption], nag)[0] for caption in captions]

    monkeypatch.setattr(ZImageVelocity, "_predict", apart)
    assert torch.allclose(ours, draw(transformer, positive, negative, heard, **settings), atol=1e-5)


@pytest.mark.parametrize("queries", ["picture", "all"])
@pytest.mark.parametrize("lengths", [(9, 9), (9, 40)])
def test_with_nag_each_of_its_two_attentions_has_its_own_weights(transformer, lengths, queries):
    """At scale 1 NAG is the positive attention alone; with the prompt as its own negative the two are equal."""
    positive, negative = texts(*lengths)
    heard = weights(lengths[0])
    alone = draw(transformer, positive, emphasis=Emphasis(heard, None, queries))

    def through(settings, negative, emphasis):
        x = latents()
        with torch.inference_mode(), attending_away(transformer, negative, len(positive), GRID, settings, emphasis):
            times = torch.full((len(x),), 1 - SIGMA)
            out = transformer(list(x.unsqueeze(2)), times, [positive] * len(x), return_dict=False)[0]
        return -torch.stack([o.squeeze(1) for o in out])

    off = through(NagConfig(scale=1.0), negative, Emphasis(heard, weights(lengths[1], 5), queries))
    assert torch.allclose(off, alone, atol=1e-5)
    same = through(NAG, positive, Emphasis(heard, heard, queries))
    assert torch.allclose(same, alone, atol=1e-5)
    assert not torch.allclose(through(NAG, positive, Emphasis(heard, None, queries)), alone, atol=1e-3)


def test_the_model_is_as_before_also_after_an_exception(transformer):
    (positive,) = texts(9)
    before = draw(transformer, positive)
    with emphasising(transformer, [(positive, weights(9))], PICTURE, "picture"):
        assert all(isinstance(b.attention.processor, EmphasisAttention) for b in transformer.layers)
    processors = [block.attention.processor for block in transformer.layers]
    with (
        pytest.raises(RuntimeError, match="broken"),
        emphasising(transformer, [(positive, weights(9))], PICTURE, "picture"),
    ):
        raise RuntimeError("broken")
    assert [block.attention.processor for block in transformer.layers] == processors
    assert torch.equal(draw(transformer, positive), before)


def test_captions_of_two_padded_lengths_in_one_forward_are_refused(transformer):
    positive, negative = texts(9, 40)
    x = latents(2).unsqueeze(2)
    with (
        pytest.raises(ValueError, match="captions of one length"),
        torch.inference_mode(),
        emphasising(transformer, [(positive, weights(9))], PICTURE, "picture"),
    ):
        transformer(list(x), torch.full((2,), 0.3), [positive, negative], return_dict=False)


def test_the_bias_stands_at_the_captions_keys_alone():
    bias = key_bias(torch.tensor([1.0, 2.0, 0.0]), 3, PICTURE, "cpu")
    assert bias.shape == (PICTURE + 32,)
    assert bias[PICTURE + 1] == pytest.approx(0.693147)
    assert bias[PICTURE + 2] == -torch.inf
    assert (bias != 0).sum() == 2
    assert module.key_bias(None, 3, PICTURE, "cpu").abs().sum() == 0
