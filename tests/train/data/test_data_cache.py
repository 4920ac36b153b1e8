"""What was encoded once is not encoded again, unless something changed: latents and embeddings on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple

import pytest
import torch
from made_pictures import SIZES, noise
from safetensors import safe_open

from llm_dit.base.errors import DataError, OutputError
from llm_dit.compose import compose
from llm_dit.conditioning.encode import chat_parts, settle_prompt
from llm_dit.models.cache import PARTS, PartCache
from llm_dit.train.data import embeddings, latents
from llm_dit.train.data.embeddings import Text
from llm_dit.train.data.store import key_of


def test_a_second_run_encodes_nothing_and_loads_no_model(write_rows, dataset, encoded, tiny_model_folder, monkeypatch):
    rows = write_rows(4, SIZES)
    first = dataset(rows, f"model.path={tiny_model_folder}")
    assert encoded == {"pictures": 4, "texts": 5}

    def fail(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr("llm_dit.families.z_image.load.load_vae", fail)
    monkeypatch.setattr("llm_dit.encoders.load.load_text_encoder", fail)
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


def test_another_chat_template_of_the_tokenizer_is_read_anew(write_rows, dataset, encoded, tiny_model_folder, tmp_path):
    rows, model = write_rows(3), shutil.copytree(tiny_model_folder, tmp_path / "model")
    for ending in ("!", "?"):
        (model / "tokenizer" / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}" + ending)
        dataset(rows, f"model.path={model}", "model.chat_format=tokenizer", parts=PartCache())
    assert encoded == {"pictures": 3, "texts": 8}
    dataset(rows, f"model.path={model}")
    assert encoded["texts"] == 12


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


def test_numbers_that_the_cache_cannot_hold_are_an_error(write_rows, dataset, monkeypatch):
    embed = embeddings._embed
    monkeypatch.setattr(embeddings, "_embed", lambda *a: [1e6 * e for e in embed(*a)])
    with pytest.raises(DataError, match=r"too large for torch\.float16; set data\.cache_dtype=bfloat16 or float32"):
        dataset(write_rows(1))
    assert dataset(write_rows(1), "data.cache_dtype=bfloat16").count == 1


def test_only_texts_with_words_of_the_assistant_are_encoded_anew():
    """Kept embeddings of these are of a turn that was closed; those of all other texts are still right."""

    def keys(*overrides):
        config = settle_prompt(compose(["model=tiny", "prompt.text=x", *overrides]))
        text = Text(config, "a fox")
        return text.key, key_of(1, astuple(chat_parts(config, "a fox")), "qwen3")

    for overrides in ([], ["prompt=think"], ["prompt.system=be brief"]):
        now, before = keys(*overrides)
        assert now == before
    for overrides in (["prompt.assistant=ok"], ["prompt.thinking=hm"]):
        now, before = keys(*overrides)
        assert now != before


def test_a_users_file_with_the_name_of_the_remembered_models_stays(write_rows, dataset, tiny_model_folder, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "models.json").write_text('{"theirs": 1}')
    dataset(write_rows(1), f"model.path={tiny_model_folder}")
    assert (tmp_path / "cache" / "models.json").read_text() == '{"theirs": 1}'
    ours = tmp_path / "cache" / "llm-dit-models.json"
    assert json.loads(ours.read_text())["llm_dit"] == "fingerprints of models"
    ours.write_text('{"theirs": 1}')
    with pytest.raises(OutputError, match="was not written by llm-dit"):
        dataset(write_rows(1), f"model.path={tiny_model_folder}")
    assert ours.read_text() == '{"theirs": 1}'
