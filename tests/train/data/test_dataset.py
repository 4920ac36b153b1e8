"""From files on disk to batches, with the tiny model."""

from __future__ import annotations

import pytest
import torch
from made_pictures import SIZES, noise

from llm_dit.base.errors import DataError
from llm_dit.compose import compose
from llm_dit.conditioning.encode import encode_prompt
from llm_dit.config import TilingConfig
from llm_dit.families.autoencoder_kl.codec import encode, encode_batch
from llm_dit.families.z_image.velocity import padded_length
from llm_dit.images.pixels import as_pixels
from llm_dit.models.cache import PARTS, Models, PartCache
from llm_dit.train.data import latents
from llm_dit.weights.place import choose_placement


def models(*overrides: str):
    config = compose(["model=tiny", "hardware=cpu", *overrides])
    return config, Models(config, choose_placement("cpu"), PARTS)


def everything(dataset, count=30, batch_size=2, seed=0):
    return [dataset.batch(step, 0, batch_size, seed) for step in range(count)]


def test_batches_hold_what_the_transformer_takes(write_rows, dataset):
    prompts = [f"{'word ' * (1 + 9 * (i % 3))}{i}" for i in range(8)]
    data = dataset(write_rows(8, SIZES, prompts))
    assert data.count == 8
    assert data.buckets == [(48, 80), (64, 64), (80, 48)]
    assert data.problems == []
    seen = []
    for step in range(data.batches(0, 2, 0)):
        batch = data.batch(step, 0, 2, 0)
        assert batch.latents.shape[:2] == (len(batch.ids), 16)
        assert (batch.latents.shape[2] * 8, batch.latents.shape[3] * 8) in data.buckets
        assert batch.latents.dtype == torch.float32
        assert all(e.dtype == torch.float32 and e.shape[1] == 32 for e in batch.embeds)
        assert len({padded_length(len(e)) for e in batch.embeds}) == 1
        seen += batch.ids
    assert sorted(seen) == [f"{i}.png" for i in range(8)]


@pytest.mark.parametrize("posterior", ["mode", "sample"])
def test_latents_equal_the_vaes_own(write_rows, dataset, posterior):
    data = dataset(write_rows(5), f"data.posterior={posterior}", "data.cache_dtype=float32")
    vae = models()[1].vae
    found = {i: z for b in everything(data) for i, z in zip(b.ids, b.latents, strict=True)}
    for i in range(5):
        pixels = as_pixels(noise(64, 64, seed=i), (64, 64))
        wanted = next(item for item in data.items if item.row.id == f"{i}.png").picture()
        if posterior == "sample":
            expected = encode(vae, pixels, latents._generator(wanted.key), TilingConfig())
        else:
            mode = vae.encode(pixels.unsqueeze(0)).latent_dist.mode()[0]
            expected = (mode - vae.config.shift_factor) * vae.config.scaling_factor
        assert torch.allclose(found[f"{i}.png"], expected, atol=1e-5)


def test_float16_rounds_by_less_than_a_thousandth(write_rows, dataset):
    rows = write_rows(4)
    exact, rounded = dataset(rows, "data.cache_dtype=float32"), dataset(rows)
    for a, b in zip(everything(exact, 4), everything(rounded, 4), strict=True):
        assert torch.allclose(a.latents, b.latents, rtol=1e-3, atol=1e-4)
        assert not torch.equal(a.latents, b.latents)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["encoder_layer.index=-1"],
        ["encoder_layer.layers=[-2,-3]", "encoder_layer.norm=rms"],
        ["encoder_layer.tokens=user"],
        ["encoder_layer.index=-3", "encoder_layer.align=moments", "encoder_layer.fit_prompts=starter"],
        ["long_prompt=segments", "long_prompt.max_tokens=40"],
        ["long_prompt=merge", "long_prompt.max_tokens=40"],
        ["long_prompt.max_tokens=40"],
        ["prompt.system=hello"],
    ],
    ids=lambda o: " ".join(o) or "plain",
)
def test_embeds_equal_those_of_a_render(write_rows, dataset, overrides):
    prompts = ["a fox", "an owl on a branch in the rain", "a much longer caption " * 3, "a"]
    data = dataset(write_rows(4, prompts=prompts), *overrides, "data.cache_dtype=float32")
    config, parts = models(*overrides)
    found = {i: e for b in everything(data) for i, e in zip(b.ids, b.embeds, strict=True)}
    for i, prompt in enumerate(prompts):
        expected = encode_prompt(config, prompt, parts).embeds
        assert found[f"{i}.png"].shape == expected.shape
        assert torch.allclose(found[f"{i}.png"], expected, atol=1e-5)
    assert torch.allclose(data.empty_embeds, encode_prompt(config, "", parts).embeds, atol=1e-5)


def test_a_rows_own_parts_go_around_its_caption(write_rows, dataset):
    data = dataset(write_rows(1, system="be brief", thinking="hm", assistant="ok"), "prompt.system=other")
    config, parts = models("prompt.system=be brief", "prompt.thinking=hm", "prompt.assistant=ok")
    assert torch.allclose(
        data.batch(0, 0, 1, 0).embeds[0], encode_prompt(config, "picture 0", parts).embeds, rtol=1e-3, atol=1e-3
    )


def test_a_rows_template_fills_what_the_row_leaves_out(write_rows, dataset):
    data = dataset(write_rows(1, template="photograph"), "data.cache_dtype=float32")
    config, parts = models("prompt.template=photograph", "prompt.text=picture 0")
    from llm_dit.conditioning.encode import settle_prompt

    expected = encode_prompt(settle_prompt(config), "picture 0", parts).embeds
    assert torch.allclose(data.batch(0, 0, 1, 0).embeds[0], expected, atol=1e-5)


def test_phrasings_of_one_row_are_all_used(write_rows, dataset):
    data = dataset(write_rows(2, prompts=[["short", "a longer phrasing of the same " * 3], ["one"]]))
    lengths = {(i, len(e)) for b in everything(data, 8) for i, e in zip(b.ids, b.embeds, strict=True)}
    assert len({n for i, n in lengths if i == "0.png"}) == 2


def test_mirrored_visits_have_latents_of_the_mirrored_picture(write_rows, dataset):
    data = dataset(write_rows(1), "data.flip=true", "data.cache_dtype=float32")
    vae = models()[1].vae
    pixels = as_pixels(noise(64, 64, seed=0), (64, 64))
    expected = [encode_batch(vae, p.unsqueeze(0), None, TilingConfig())[0] for p in (pixels, pixels.flip(2))]
    seen = set()
    for batch in everything(data, 12, 1):
        match = [torch.allclose(batch.latents[0], e, atol=1e-5) for e in expected]
        assert sum(match) == 1
        seen.add(match[0])
    assert seen == {True, False}


def test_the_same_arguments_give_the_same_batch_after_opening_again(write_rows, dataset):
    rows = write_rows(7, SIZES)
    first, second = everything(dataset(rows)), everything(dataset(rows))
    for a, b in zip(first, reversed(list(reversed(second))), strict=True):
        assert a.ids == b.ids
        assert torch.equal(a.latents, b.latents)
        assert all(torch.equal(x, y) for x, y in zip(a.embeds, b.embeds, strict=True))


def test_ranks_and_micro_batches_share_the_rows_out(write_rows, dataset):
    data = dataset(write_rows(8))
    data.accumulation = 2
    ids = [data.batch(s, m, 1, 0, r, 2).ids for s in range(2) for m in range(2) for r in range(2)]
    assert sorted(i for (i,) in ids) == [f"{i}.png" for i in range(8)]
    with pytest.raises(ValueError, match="micro 2 of 2"):
        data.batch(0, 2, 1, 0)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        data.batch(0, 0, 1, 0, 2, 2)


def test_pictures_are_crops_for_the_vae_and_need_no_captions(tmp_path, dataset):
    folder = tmp_path / "p"
    folder.mkdir()
    for i in range(4):
        noise(*SIZES[i], seed=i).save(folder / f"{i}.png")
    data = dataset(folder, encode=False)
    crops = [data.pictures(step, 0, 2, 0) for step in range(6)]
    assert {tuple(c.shape[2:]) for c in crops} == set(data.buckets)
    assert all(c.abs().max() <= 1 and c.dtype == torch.float32 for c in crops)
    assert torch.equal(crops[3], data.pictures(3, 0, 2, 0))
    with pytest.raises(DataError, match="no caption beside it"):
        dataset(folder)


def test_buckets_off_cuts_squares(write_rows, dataset):
    assert dataset(write_rows(4, SIZES), "data.buckets=false", "data.size=48").buckets == [(48, 48)]


def test_an_accelerator_is_freed_of_both_models(write_rows, tmp_path, monkeypatch):
    """On the CPU they stay, for the validation pictures; elsewhere the cache lets them go."""
    from dataclasses import replace

    from llm_dit.train.data import dataset as module

    config = compose(["model=tiny", "hardware=cpu", f"data={write_rows(1)}", "data.cache=null"])
    parts = PartCache()
    module.open_dataset(config.data, config, parts)
    assert set(parts._parts) == {"vae", "text_encoder"}
    cpu = choose_placement("cpu")
    shared = Models(config, cpu, parts)
    shared.placement = replace(cpu, device="mps")
    module._let_go(shared, "vae")
    assert set(parts._parts) == {"text_encoder"}
