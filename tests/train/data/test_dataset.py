"""From files on disk to batches, with the tiny model."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from made_pictures import as_bytes, noise
from safetensors import safe_open

from llm_dit.compose import compose
from llm_dit.conditioning import encode_prompt
from llm_dit.config import TilingConfig
from llm_dit.denoise.velocity import padded_length
from llm_dit.errors import DataError, OutputError
from llm_dit.models.cache import PARTS, Models, PartCache
from llm_dit.models.place import choose_placement
from llm_dit.models.vae import encode, encode_batch
from llm_dit.picture import as_pixels
from llm_dit.train.data import embeddings, latents

SIZES = ((64, 64), (80, 48), (48, 80), (128, 128))


def models(*overrides: str):
    config = compose(["model=tiny", "hardware=cpu", *overrides])
    return config, Models(config, choose_placement("cpu"), PARTS)


def everything(dataset, count=30, batch_size=2, seed=0):
    return [dataset.batch(step, 0, batch_size, seed) for step in range(count)]


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures and texts were encoded: a dict that counts."""
    counts = {"pictures": 0, "texts": 0}
    pictures, texts = latents.encode_batch, embeddings._embed

    def count_pictures(vae, pixels, *rest):
        counts["pictures"] += len(pixels)
        return pictures(vae, pixels, *rest)

    def count_texts(batch, *rest):
        counts["texts"] += len(batch)
        return texts(batch, *rest)

    monkeypatch.setattr(latents, "encode_batch", count_pictures)
    monkeypatch.setattr(embeddings, "_embed", count_texts)
    return counts


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
    from llm_dit.conditioning import settle_prompt

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


def test_a_second_run_encodes_nothing_and_loads_no_model(write_rows, dataset, encoded, tiny_model_folder, monkeypatch):
    rows = write_rows(4, SIZES)
    first = dataset(rows, f"model.path={tiny_model_folder}")
    assert encoded == {"pictures": 4, "texts": 5}

    def fail(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr("llm_dit.models.load.load_vae", fail)
    monkeypatch.setattr("llm_dit.models.load.load_text_encoder", fail)
    PARTS.clear()
    second = dataset(rows, f"model.path={tiny_model_folder}")
    assert encoded == {"pictures": 4, "texts": 5}
    assert second.fingerprint == first.fingerprint


def test_only_what_changed_is_encoded_anew(write_rows, dataset, encoded, tmp_path):
    rows = write_rows(4)
    first = dataset(rows)
    noise(64, 64, seed=99).save(tmp_path / "2.png")
    second = dataset(rows)
    assert encoded == {"pictures": 5, "texts": 5}
    rows.write_text(rows.read_text().replace("picture 3", "another"))
    third = dataset(rows)
    assert encoded == {"pictures": 5, "texts": 6}
    assert len({d.fingerprint for d in (first, second, third)}) == 3
    shutil.copy(tmp_path / "0.png", tmp_path / "9.png")  # the same content under another name
    rows.write_text(rows.read_text() + json.dumps({"image": "9.png", "prompt": "another"}) + "\n")
    assert dataset(rows).count == 5
    assert encoded == {"pictures": 5, "texts": 6}


def test_rows_of_one_picture_share_its_latents_and_its_decoding(write_rows, dataset, encoded, monkeypatch):
    from llm_dit.train.data import scan

    looked = []
    examine = scan.examine
    monkeypatch.setattr(scan, "examine", lambda source: looked.append(source.name) or examine(source))
    rows = write_rows(1)
    rows.write_text("".join(json.dumps({"image": "0.png", "prompt": f"{i}"}) + "\n" for i in range(5)))
    data = dataset(rows)
    assert sorted(data.batch(0, 0, 5, 0).ids) == ["0.png", "0.png#2", "0.png#3", "0.png#4", "0.png#5"]
    assert looked == ["0.png"]
    assert encoded == {"pictures": 1, "texts": 6}


def test_an_interrupted_build_goes_on_where_it_stopped(write_rows, dataset, encoded, monkeypatch):
    rows = write_rows(6)
    monkeypatch.setitem(latents.AT_ONCE, "cpu", 64 * 64)
    keep = latents._keep

    def stop_at_the_fourth(one, *rest):
        if encoded["pictures"] == 4:
            raise KeyboardInterrupt
        keep(one, *rest)

    monkeypatch.setattr(latents, "_keep", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        dataset(rows)
    monkeypatch.setattr(latents, "_keep", keep)
    encoded.update(pictures=0, texts=0)
    data = dataset(rows)
    assert encoded == {"pictures": 3, "texts": 0}
    assert data.count == 6


def test_a_cache_of_another_model_is_not_used(write_rows, dataset, encoded, other_model_folder, tiny_model_folder):
    rows = write_rows(3)
    a = dataset(rows, f"model.path={tiny_model_folder}")
    b = dataset(rows, f"model.path={other_model_folder}")
    assert encoded == {"pictures": 6, "texts": 8}
    assert a.fingerprint != b.fingerprint
    assert not torch.allclose(a.batch(0, 0, 3, 0).latents, b.batch(0, 0, 3, 0).latents, atol=1e-3)


@pytest.mark.parametrize(
    ("override", "pictures", "texts"),
    [
        ("data.posterior=sample", 3, 0),
        ("data.cache_dtype=float32", 3, 4),
        ("encoder_layer.index=-3", 0, 4),
        ("long_prompt.max_tokens=100", 0, 4),
        ("prompt.system=hello", 0, 4),
        ("data.flip=true", 3, 0),
        ("data.size=48", 3, 0),
        ("data.repeat=2", 0, 0),
    ],
)
def test_settings_that_change_the_batches_change_the_fingerprint(
    write_rows, dataset, encoded, override, pictures, texts
):
    rows = write_rows(3)
    before = dataset(rows)
    encoded.update(pictures=0, texts=0)
    after = dataset(rows, override)
    assert before.fingerprint != after.fingerprint
    assert encoded == {"pictures": pictures, "texts": texts}


def test_the_fingerprint_does_not_depend_on_where_things_lie(write_rows, dataset, tmp_path):
    rows = write_rows(3)
    before = dataset(rows).fingerprint
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in [rows, *tmp_path.glob("*.png")]:
        shutil.copy(path, moved)
    assert dataset(moved / "captions.jsonl", "data.cache=null").fingerprint == before


def test_a_damaged_shard_is_made_again(write_rows, dataset, encoded, tmp_path, capsys):
    rows = write_rows(3)
    dataset(rows)
    (shard,) = (tmp_path / "cache" / "latents").rglob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:200])
    encoded.update(pictures=0, texts=0)
    data = dataset(rows)
    assert encoded == {"pictures": 3, "texts": 0}
    assert "damaged" in data.notes[0]
    assert "damaged" in capsys.readouterr().err
    assert dataset(rows).notes == []


def test_the_cache_is_plain_safetensors_and_null_keeps_it_in_memory(write_rows, dataset, tmp_path):
    rows = write_rows(3)
    here = dataset(rows, "data.cache=null")
    assert not (tmp_path / "cache").exists()
    assert torch.equal(dataset(rows).batch(0, 0, 3, 0).latents, here.batch(0, 0, 3, 0).latents)
    for path in (tmp_path / "cache").rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert set(file.keys()) == {"values", "starts", "keys"}
            assert file.get_tensor("values").dtype == torch.float16


def test_a_cache_that_cannot_be_written_is_told_before_work_begins(write_rows, dataset, encoded, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"data\.cache="):
        dataset(write_rows(1), f"data.cache={tmp_path / 'file' / 'cache'}")
    assert encoded == {"pictures": 0, "texts": 0}


@pytest.fixture
def some_bad(write_rows, tmp_path):
    """Six rows, of which four have pictures that cannot be used, or chats that cannot be written."""
    rows = write_rows(6)
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes(as_bytes(noise(64, 64), "JPEG")[:300])
    noise(9, 9).save(tmp_path / "3.png")
    lines = rows.read_text().splitlines()
    lines[4] = json.dumps({"image": "4.png", "prompt": "x", "template": "photogarph"})
    rows.write_text("\n".join(lines))
    return rows


def test_bad_rows_are_listed_and_skipped(some_bad, dataset, capsys):
    data = dataset(some_bad)
    assert sorted(data.batch(0, 0, 9, 0).ids) == ["0.png", "5.png"]
    assert data.problems[0] == "captions.jsonl:2: 1.png: an empty file."
    assert data.problems[1].startswith("captions.jsonl:3: 2.png: broken (")
    assert data.problems[2] == (
        "captions.jsonl:4: 3.png: 9 x 9 pixels would have to grow 7.1 times to fill 64 x 64, at most 4 are taken; "
        "use a smaller data.size."
    )
    assert "Did you mean 'photograph'?" in data.problems[3]
    said = capsys.readouterr().err
    assert "warning: 4 rows left out:" in said
    assert all(problem in said for problem in data.problems)


def test_bad_rows_are_fatal_when_asked(some_bad, dataset, encoded):
    with pytest.raises(DataError, match=r"4 rows cannot be used, and data\.bad_rows=fatal:\n  captions\.jsonl:2"):
        dataset(some_bad, "data.bad_rows=fatal")
    assert encoded == {"pictures": 0, "texts": 0}


def test_no_row_left_is_an_error_that_says_why(write_rows, dataset, tmp_path):
    rows = write_rows(1)
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no row that can be used:\n  captions\.jsonl:1: 0\.png: an empty file"):
        dataset(rows)


def test_captions_that_are_too_long_are_cut_or_refused(write_rows, dataset):
    rows = write_rows(2, prompts=["short", "long " * 60])
    cut = dataset(rows, "long_prompt.max_tokens=64")
    assert cut.count == 2
    assert "the prompt was cut from" in cut.notes[0]
    refused = dataset(rows, "long_prompt=refuse", "long_prompt.max_tokens=64")
    assert refused.count == 1
    assert refused.problems[0].startswith("captions.jsonl:2: the prompt has")


def test_a_think_block_is_refused_where_the_model_has_none(write_rows, dataset):
    with pytest.raises(DataError, match=r"a think block needs model\.chat_format=qwen3"):
        dataset(write_rows(1, thinking="hm"), "model.chat_format=chatml")


def test_small_and_odd_pictures_are_remarked_on(tmp_path, write_rows, dataset):
    rows = write_rows(2)
    noise(32, 32).save(tmp_path / "1.png")
    noise(64, 64).convert("CMYK").save(tmp_path / "0.png", "JPEG")
    assert dataset(rows).notes == [
        "0.png: its colours were converted from CMYK without a profile.",
        "1.png: smaller than its bucket, so it was enlarged.",
    ]


def test_buckets_off_cuts_squares(write_rows, dataset):
    assert dataset(write_rows(4, SIZES), "data.buckets=false", "data.size=48").buckets == [(48, 48)]


def test_numbers_that_the_cache_cannot_hold_are_an_error(write_rows, dataset, monkeypatch):
    embed = embeddings._embed
    monkeypatch.setattr(embeddings, "_embed", lambda *a: [1e6 * e for e in embed(*a)])
    with pytest.raises(DataError, match=r"too large for torch\.float16; set data\.cache_dtype=bfloat16 or float32"):
        dataset(write_rows(1))
    assert dataset(write_rows(1), "data.cache_dtype=bfloat16").count == 1


def test_a_picture_that_changes_after_it_was_looked_at_is_an_error(write_rows, dataset, tmp_path):
    data = dataset(write_rows(1))
    noise(64, 64, seed=5).save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png: it has changed since it was looked at"):
        data.pictures(0, 0, 1, 0)


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
