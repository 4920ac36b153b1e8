"""The analysis of folders, as a sweep leaves them."""

from __future__ import annotations

import json

import pytest
from made_arms import rows

from llm_dit.study.evidence.analysis import analyse
from llm_dit.study.score import input_hash
from llm_dit.study.store import SweepFolder


def write_cell(folder, cell_id, layer, scores, done=True, seeds=(0, 1, 2)):
    cell = folder.cell(cell_id)
    (cell.path / "images").mkdir(parents=True)
    labels = {"encoder_layer.index": str(layer)}
    records, lines = [], []
    for row in rows({"nano_judge": scores}, seeds=seeds):
        record = {
            k: row[k] for k in ("prompt_id", "category", "prompt", "seed", "width", "height", "nfe", "token_count")
        }
        record |= {
            "cell": cell_id,
            "axes": labels,
            "padded_length": 32,
            "shift": 2.0,
            "guidance": {"cfg_weight": 3.0},
            "seconds": {"load": 9.0, "denoise": 0.25, "decode": 0.25},
            "config": {"model": {"name": "nano"}, "encoder_layer": {"index": layer}},
            "model_fingerprint": {"transformer": "t"},
            "device": "cpu",
            "dtype": "float32",
            "versions": {},
            "pixels_sha256": f"{cell_id}{row['prompt_id']}{row['seed']}",
            "path": f"images/{row['prompt_id']}_s{row['seed']}.png",
        }
        (cell.path / record["path"]).write_bytes(b"png")
        records.append(record)
        line = {"metric": "nano_judge", "identity": "judge v1", "prompt_id": row["prompt_id"], "seed": row["seed"]}
        line |= {"input": input_hash([record], record), "grouped": False, "values": {"nano_judge": row["nano_judge"]}}
        lines.append(line | {"tokens": 5, "truncated": row["prompt_id"] == "p00"})
    for name, values in (("records.jsonl", records), ("scores.jsonl", lines)):
        (cell.path / name).write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    if done:
        cell.write("cell.json", {"labels": labels, "pictures": scores.size})
    return cell


@pytest.fixture
def folder(tmp_path, base):
    """A sweep of four cells asked for: two drawn, one failed, one not begun; and one of an earlier command."""
    folder = SweepFolder(tmp_path / "layers")
    folder.path.mkdir()
    asked = [{"encoder_layer.index": value} for value in ("-1", "-2", "-8", "-9")]
    folder.write(
        {"name": "layers", "question": "Which layer?", "axes": ["encoder_layer.index"], "primary": "nano_judge",
         "baseline": {"encoder_layer.index": -2}, "cells": asked}
    )  # fmt: skip
    write_cell(folder, "old", -31, base - 0.4)
    write_cell(folder, "bbb", -2, base)
    write_cell(folder, "aaa", -1, base + 0.1)
    failed = folder.cell("fff")
    failed.path.mkdir()
    failed.write("failed.json", {"error": "RenderError: not finite", "labels": {"encoder_layer.index": "-8"}})
    folder.cell("locked").path.mkdir()
    return folder


def test_a_folder_as_a_sweep_leaves_it(folder):
    found = analyse([folder], resamples=1000)
    assert [(a["id"], a["label"], a["status"], a["pictures"], a["missing"]) for a in found["arms"]] == [
        ("aaa", "encoder_layer.index=-1", "complete", 72, 0),
        ("bbb", "encoder_layer.index=-2", "complete", 72, 0),
        ("fff", "encoder_layer.index=-8", "failed", 0, 72),
        ("asked-4", "encoder_layer.index=-9", "unfinished", 0, 72),
        ("old", "encoder_layer.index=-31", "complete", 72, 0),
    ]
    assert [a["axes"]["encoder_layer.index"] for a in found["arms"]] == [-1, -2, -8, -9, -31]
    assert (found["name"], found["question"], found["status"], found["baseline"]) == (
        "layers", "Which layer?", "running", "bbb",
    )  # fmt: skip
    assert [found["arms"][i]["versus"]["nano_judge"]["verdict"] for i in (0, 2, 4)] == [
        "better",
        "not compared",
        "worse",
    ]
    assert found["arms"][0]["seconds"] == 0.5
    metric = found["metrics"][0]
    assert (metric["identities"], metric["truncated"], metric["scored"]) == (["judge v1"], 9, 216)
    assert found["prompts"][0] == {
        "id": "p00", "prompt": "prompt 0", "category": "even", "length_bin": "10-17 tokens",
    }  # fmt: skip
    assert found["warnings"][0] == "1 cell failed: encoder_layer.index=-8: RenderError: not finite"
    again = analyse([folder], resamples=1000)
    assert {**again, "generated": 0} == {**found, "generated": 0}, "the same numbers give the same report"


def test_a_lost_picture_is_missing_and_a_folder_of_nothing_is_no_error(folder, tmp_path):
    next((folder.cell("aaa").path / "images").iterdir()).unlink()
    found = analyse([folder], baseline="encoder_layer.index=-1", resamples=200)
    assert (found["arms"][0]["missing"], found["arms"][0]["is_baseline"]) == (1, True)
    assert "1 picture is missing" in " ".join(found["warnings"])
    empty = analyse([SweepFolder(tmp_path / "nowhere")], resamples=200)
    assert (empty["name"], empty["arms"]) == ("nowhere", [])


def test_a_thousand_cells_are_read_in_the_order_asked_for(tmp_path, monkeypatch):
    from llm_dit.study.evidence import arms

    folder = SweepFolder(tmp_path / "many")
    folder.path.mkdir()
    asked = [{"a": str(i // 40), "b": json.dumps([i % 40, 0.5])} for i in range(1000)]
    folder.write({"name": "many", "axes": ["a", "b"], "cells": [*asked, asked[3]]})
    for i in (7, 999, 0):
        folder.cell(f"c{i}").path.mkdir(parents=True)
        written = {"a": f"{asked[i]['a']}.0", "b": asked[i]["b"].replace(" ", "")}
        folder.cell(f"c{i}").write("cell.json", {"labels": written, "pictures": 0})
    reads = []
    monkeypatch.setattr(arms, "read_value", lambda value, read=arms.read_value: reads.append(value) or read(value))
    found = arms.read_arms([folder])
    assert [(i, arm.cell) for i, arm in enumerate(found) if arm.cell] == [(0, "c0"), (7, "c7"), (999, "c999")]
    assert len(found) == len({arm.label for arm in found}) == 1000
    assert len(reads) < 5000, "labels are read once each, not once for every other cell"


def test_a_cell_drawn_again_with_other_hardware_is_a_repeat(folder, base):
    write_cell(folder, "bbb-123abc", -2, base)
    assert analyse([folder], resamples=200)["repeats"] == [
        {"arms": ["bbb", "bbb-123abc"], "pictures": 72, "equal": 0, "scores": {"nano_judge": 0}}
    ]


def test_a_search_is_told(folder):
    assert "lucky" not in " ".join(analyse([folder], resamples=200)["warnings"])
    folder.write(folder.read() | {"search": True})
    assert (
        "the arms of layers were chosen by the score they are compared on: the best of many is partly lucky; draw the "
        "winner again on fresh prompts"
    ) in analyse([folder], resamples=200)["warnings"]


def test_several_folders_in_one_report(folder, tmp_path, base):
    other = SweepFolder(tmp_path / "more")
    other.path.mkdir()
    other.write({"name": "more", "axes": ["encoder_layer.index"], "cells": []})
    write_cell(other, "bbb", -2, base)
    write_cell(other, "new", -6, base + 0.2, done=False)
    found = analyse([folder, other, folder], resamples=200)
    assert [a["id"] for a in found["arms"]][-2:] == ["more/bbb", "new"]
    assert found["baseline"] == "layers/bbb"
    assert found["arms"][1]["label"] == "encoder_layer.index=-2 (layers)"
    by_id = {a["id"]: a for a in found["arms"]}
    assert by_id["new"]["versus"]["nano_judge"]["verdict"] == "better"
    assert by_id["new"]["status"] == "unfinished"
    assert by_id["more/bbb"]["versus"]["nano_judge"]["delta"] == 0
