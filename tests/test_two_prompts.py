"""A second prompt in whole pictures: its ends to the bit, what it costs, what is recorded, what cannot act."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from llm_dit.base.errors import ConfigError, PromptError
from llm_dit.cli.tasks import run_task
from llm_dit.compose import check, compose
from llm_dit.models.cache import PARTS
from llm_dit.records.describe_prompts import idle_prompts
from llm_dit.records.picture import save_picture
from llm_dit.render.draw import prepare, render
from llm_dit.study.dry_run import forwards_of

A, B = "a red apple", "two yellow pears on a long wooden table"  # 30 and 58 tokens: padded to 32 and 64
SIGMAS = [1.0, 0.9, 0.75, 0.5, 0.0]
EMBEDS = ("slerp", "lerp")
MODES = (*EMBEDS, "velocity")


def second(mode, *more, text=B):
    return [f"mix={mode}", f"mix.text={text}", *more]


WITH = {
    "plain": [],
    "cfg": ["guidance.guidance_scale=2", "prompt.negative=fog"],
    "slg": ["slg=block"],
    "nag": ["nag.scale=4", "prompt.negative=fog"],
    "all of it": ["guidance.guidance_scale=2", "slg=pag", "nag.scale=4"],
    "long_prompt": ["long_prompt.mode=pool", "long_prompt.max_tokens=28"],
    "positions": ["long_prompt=extend", "long_prompt.max_tokens=28", "long_prompt.positions=ntk"],
    "user's tokens": ["encoder_layer.tokens=user"],
    "layers": ["encoder_layer.layers=[-2,-3]", "encoder_layer.norm=layernorm"],
    "two stages": ["width=128", "highres=two_stage"],
    "heun": ["sampler=flow_heun"],
}


def but(config, **changes):
    """A config with other values; composing each anew would take most of the tests' time."""
    groups = {k: replace(getattr(config, k), **v) if isinstance(v, dict) else v for k, v in changes.items()}
    return replace(config, **groups)


@pytest.mark.parametrize("name", WITH)
def test_its_ends_are_each_prompts_own_picture_to_the_bit(tiny, name):
    config = tiny("sampler.steps=2", *WITH[name], prompt=A)
    alone = {text: render(but(config, prompt={"text": text}))[0] for text in (A, B)}
    cases = [({"mode": mode, "amount": t}, text) for mode in MODES for t, text in ((0.0, A), (1.0, B))]
    cases += [({"mode": "switch", "sigma": sigma}, text) for sigma, text in ((0.0, A), (1.0, B))]
    for mix, text in cases:
        picture = render(but(config, mix=mix | {"text": B}))[0]
        assert torch.equal(picture.latents, alone[text].latents), mix
        assert picture.record["pixels_sha256"] == alone[text].record["pixels_sha256"]
        assert picture.record["nfe"] == alone[text].record["nfe"]


@pytest.mark.parametrize("name", WITH)
def test_between_them_it_is_another_picture_and_a_batch_changes_nothing(tiny, name):
    config = tiny("sampler.steps=2", *WITH[name], "seed=5", prompt=A)
    ends = [render(but(config, prompt={"text": text}))[0] for text in (A, B)]
    for mode in (*MODES, "switch"):
        between = but(config, mix={"mode": mode, "text": B, "amount": 0.5, "sigma": 0.9})
        alone = render(between)[0]
        assert torch.isfinite(alone.latents).all()
        assert not any(torch.allclose(alone.latents, end.latents, atol=1e-3) for end in ends), mode
        together = render(but(between, seeds=[3, 5], hardware={"batch_size": 2}))
        assert torch.allclose(together[1].latents, alone.latents, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "nfe"),
    [
        (second("slerp"), 4),
        (second("velocity"), 8),
        (second("velocity", "mix.amount=1"), 4),
        (second("velocity", text="a pear"), 8),
        (second("switch"), 4),
        (second("velocity", "guidance.guidance_scale=2"), 12),
        (second("velocity", "slg=block", "slg.sigma_low=0.6"), 8 + 4),
        (second("velocity", "nag.scale=4"), 8),
        (second("velocity", "diversity.blank_sigma=0.8"), 2 + 4),
        (second("velocity", "guidance=cfg_zero", "guidance.zero_init_steps=1", "guidance.guidance_scale=2"), 9),
    ],
)
def test_what_it_costs_is_counted_and_foreseen(tiny, overrides, nfe):
    config = tiny("sampler.shift=3", *overrides, prompt=A)
    assert render(config)[0].record["nfe"] == nfe == forwards_of(config)


@pytest.mark.parametrize("mode", EMBEDS)
def test_the_transformer_gets_the_mixture_at_the_longer_ones_length(tiny, mode):
    run = prepare(tiny(*second(mode, "mix.amount=0.25"), prompt=A))
    embeds, (start, end), _ = run.texts["mixed"]
    assert list(run.texts) == ["mixed"]
    assert len(embeds) == len(run.mixed.embeds) == len(run.positive.embeds) + len(B) - len(A)
    assert (start, end - start) == (run.positive.users[0], len(B))
    # The template before the words is the same in both, so it stays as it is.
    assert torch.allclose(embeds[:start], run.positive.embeds[:start], atol=1e-5)


def test_the_second_text_is_encoded_once_and_kept(tiny, monkeypatch):
    from llm_dit.conditioning import encode as conditioning

    monkeypatch.setattr(conditioning, "_known", type(conditioning._known)())
    read = []
    encoder = PARTS  # the process's own
    render(tiny(prompt=A))
    own = conditioning._encode
    monkeypatch.setattr(conditioning, "_encode", lambda c, user, *a: read.append(user) or own(c, user, *a))
    for amount in (0.2, 0.4, 0.6):
        render(tiny(*second("slerp", f"mix.amount={amount}"), "num_images=2", prompt=A), parts=encoder)
    assert read == [B]


def test_the_record_says_what_was_said_and_where_it_acted(tiny):
    record = json.loads(json.dumps(render(tiny(*second("switch", "mix.sigma=0.8"), prompt=A))[0].record))
    mix = record["mix"]
    assert (mix["mode"], mix["sigma"], mix["amount"]) == ("switch", 0.8, None)
    assert mix["formatted_prompt"].startswith(f"<|im_start|>user\n{B}<|im_end|>")
    assert (record["token_count"], mix["token_count"]) == (len(A) + 19, len(B) + 19)
    assert mix["padded_length"] == 64
    assert mix["tokens"] == {"first": len(A) + 19, "second": len(B) + 19}
    assert mix["sigmas"] == {"first": [1.0, 0.9], "second": [0.75, 0.5]}
    between = render(tiny(*second("lerp"), prompt=A))[0].record["mix"]
    assert (between["amount"], between["sigma"]) == (0.5, None)
    assert (between["tokens"], between["sigmas"]) == ({"mixed": len(B) + 19}, {"mixed": SIGMAS[:-1]})
    assert render(tiny(prompt=A))[0].record["mix"] is None


@pytest.mark.parametrize("mode", [*MODES, "switch"])
def test_a_picture_is_drawn_again_from_its_record(tiny, mode, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (picture,) = render(tiny(*second(mode, text='a pear, ${x}, "sweet"'), "seed=3", prompt=A))
    assert picture.record["config"]["mix"]["text"] == 'a pear, ${x}, "sweet"'
    again = f"from_image={save_picture(picture, tmp_path, 'one')}"
    run_task(compose([again, "output.name=two"]), [again, "output.name=two"])
    assert "the same pixels as the original" in capsys.readouterr().out


def test_the_preview_shows_both(tiny, capsys):
    run_task(tiny(*second("slerp"), "task=preview", prompt=A))
    shown = capsys.readouterr()
    assert shown.out.count("<|im_start|>user") == 2
    assert B in shown.out
    assert "the second prompt, by mix.mode=slerp" in shown.err


@pytest.mark.parametrize("mode", [*MODES, "switch"])
def test_a_mode_without_a_second_prompt_is_an_error(mode):
    with pytest.raises(ConfigError, match=f"mix.mode={mode} needs a second prompt: give it as mix.text"):
        compose(["x", f"mix={mode}"])


def test_a_second_prompt_that_is_too_long_is_an_error():
    with pytest.raises(ConfigError, match=r"mix.text: the prompt has 100,001 characters"):
        check({"prompt": {"text": "x"}, "mix": {"mode": "switch", "text": "x" * 100_001}})


@pytest.mark.parametrize("mode", EMBEDS)
def test_an_empty_second_prompt_takes_another_mode(tiny, mode):
    with pytest.raises(PromptError, match=r"mix.text has no words; mix.mode=velocity and switch take any prompt"):
        render(tiny(*second(mode, text="''"), prompt=A))
    assert render(tiny(*second("velocity", text="''"), prompt=A))[0].record["nfe"] == 8


LEVELS = "(they are 1, 0.9, 0.75, 0.5)."


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        ([], []),
        (second("slerp"), []),
        (second("switch"), []),
        ([f"mix.text={B}"], ["mix.text has no effect: mix.mode is none."]),
        (["mix.amount=1", "mix.sigma=1"], [f"mix.{k} has no effect: mix.mode is none." for k in ("amount", "sigma")]),
        (second("lerp", "mix.sigma=0.3"), ["mix.sigma has no effect: mix.mode is lerp."]),
        (second("switch", "mix.amount=0.3"), ["mix.amount has no effect: mix.mode is switch."]),
        (second("velocity", "mix.amount=0"), ["mix.text has no effect: mix.amount is 0."]),
        (second("velocity", "mix.amount=1"), ["prompt.text has no effect: mix.amount is 1."]),
        (second("slerp", text=A), ["mix.text has no effect: it is the prompt itself."]),
        (
            second("switch", "mix.sigma=0.4"),
            [f"mix.text has no effect: no step's sigma is at most mix.sigma=0.4 {LEVELS}"],
        ),
        (
            second("switch", "mix.sigma=1"),
            [f"prompt.text has no effect: no step's sigma is above mix.sigma=1 {LEVELS}"],
        ),
        (
            second("switch", "diversity.blank_sigma=0.8"),
            [
                "prompt.text has no effect: no step's sigma is above mix.sigma=0.8 and at most "
                f"diversity.blank_sigma=0.8 {LEVELS}"
            ],
        ),
    ],
)  # fmt: skip
def test_what_cannot_act_is_told(tiny, overrides, lines):
    config = tiny(*overrides, prompt=A)
    assert idle_prompts(config, SIGMAS) == lines
    assert render(config)[0].record["warnings"] == lines


def test_a_setting_that_acts_on_one_of_both_prompts_is_not_told_as_idle(tiny):
    pool = ["long_prompt.mode=pool", "long_prompt.max_tokens=48"]
    alone = render(tiny(*pool, "sampler.steps=1", prompt=A))[0].record["warnings"]
    assert alone == [f"long_prompt.mode=pool has no effect: the prompt's {len(A) + 19} tokens are within "
                     "long_prompt.max_tokens=48."]  # fmt: skip
    assert render(tiny(*pool, *second("slerp"), prompt=A))[0].record["warnings"] == []
    both = render(tiny(*pool, *second("slerp", text="a pear"), prompt=A))[0].record["warnings"]
    assert both == alone
    cut = render(tiny("long_prompt.max_tokens=40", *second("slerp"), prompt=A))[0].record["warnings"]
    assert [line[:22] for line in cut] == ["mix.text was cut from "]


@pytest.mark.parametrize("mode", ["slerp", "velocity", "switch"])
def test_each_prompt_is_heard_with_its_own_weights(tiny, mode):
    """Weighing a word of the second prompt changes the picture, and the record tells of the weights of both."""
    given = [f"mix.mode={mode}", "mix.sigma=0.9", "emphasis=attention", "sampler.steps=3"]

    def draw(second):
        return render(tiny(*given, f"mix.text={second}", prompt="a (red:2) apple"))[0]

    plain, heard = draw("two_pears"), draw("two_(pears:4)")
    assert plain.record["pixels_sha256"] != heard.record["pixels_sha256"]
    assert {weight for _, weight in heard.record["mix"]["emphasis"]["tokens"]} == {4}
    assert not [w for w in heard.record["warnings"] if "emphasis" in w]


@pytest.mark.parametrize("more", [[], ["nag.scale=4", "prompt.negative=a_(fog:3)"], ["diversity.embed_strength=1"]])
def test_mixed_predictions_are_those_of_each_prompt_with_its_own_weights(tiny, more):
    """One step of two pictures in a batch: (1 - t) A + t B, to rounding."""
    weighed = ["emphasis=attention", "sampler.steps=1", "seeds=[3,4]", "hardware.batch_size=2", *more]

    def drawn(text, *given):
        return torch.stack([picture.latents for picture in render(tiny(*weighed, *given, prompt=text))])

    a, b = "a (red:3) apple", "two (pears:0.5) on a table"
    both = drawn(a, "mix=velocity", f"mix.text={b}", "mix.amount=0.25")
    assert torch.allclose(both, 0.75 * drawn(a) + 0.25 * drawn(b), atol=1e-5)
    swapped = 0.75 * drawn("a red apple") + 0.25 * drawn(b)
    assert not torch.allclose(both, swapped, atol=1e-3)
