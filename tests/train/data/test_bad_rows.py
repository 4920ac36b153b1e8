"""Rows and pictures that cannot be used, or only just: each is told by its line."""

from __future__ import annotations

import json

import pytest
from made_pictures import as_bytes, noise

from llm_dit.base.errors import DataError


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


def test_a_picture_that_changes_after_it_was_looked_at_is_an_error(write_rows, dataset, tmp_path):
    data = dataset(write_rows(1))
    noise(64, 64, seed=5).save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png: it has changed since it was looked at"):
        data.pictures(0, 0, 1, 0)
