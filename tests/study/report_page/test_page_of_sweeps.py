"""Pages of real sweeps: their analysis, their small pictures, several in one."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import shutil

import pytest
from made_report import colour, near, pixel, text
from PIL import Image

from llm_dit.study.report import collect_pictures, provenance, write_report
from llm_dit.study.report.write import thumbnail
from llm_dit.study.store import SweepFolder


def test_thumbnails_are_never_enlarged(tmp_path):
    Image.new("RGB", (64, 32), "red").save(tmp_path / "a.png")
    packed = base64.b64decode(thumbnail(tmp_path / "a.png", 256).split(",")[1])
    assert Image.open(io.BytesIO(packed)).size == (64, 32)
    packed = base64.b64decode(thumbnail(tmp_path / "a.png", 32).split(",")[1])
    assert Image.open(io.BytesIO(packed)).size == (32, 16)
    assert thumbnail(tmp_path / "none.png", 32) is None


@pytest.fixture
def real_sweep(tmp_path):
    """A sweep's folder with two cells, three prompts and two seeds, scored, as the lab writes it."""
    from llm_dit.study.score import input_hash

    folder = SweepFolder(tmp_path / "sweeps" / "demo")
    values = ("4", "8")
    folder.write({"name": "demo", "question": "Steps?", "axes": ["sampler.steps"], "baseline": {"sampler.steps": 4},
                  "cells": [{"sampler.steps": v} for v in values],
                  "runs": [{"arguments": ["sampler.steps=4,8"]}]})  # fmt: skip
    for n, steps in enumerate(values):
        cell = folder.cell(f"cell{n}")
        for i, seed in itertools.product(range(3), range(2)):
            name = f"images/p{i}_s{seed}.png"
            (cell.path / "images").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), colour(n, i, seed)).save(cell.path / name)
            record = {
                "prompt_id": f"p{i}", "prompt": f"thing {i}", "category": "c", "seed": seed, "width": 64, "height": 64,
                "nfe": int(steps), "token_count": 9, "padded_length": 32, "shift": 2.0, "guidance": {"cfg_weight": 1.0},
                "seconds": {"load": 9.0, "denoise": 0.1 * (n + 1)}, "config": {"model": {"name": "tiny"}},
                "model_fingerprint": {"transformer": "ab"}, "device": "cpu", "dtype": "float32", "elements": [],
                "versions": {"torch": "2.13"}, "pixels_sha256": f"{n}{i}{seed}", "path": name,
                "axes": {"sampler.steps": steps}, "cell": cell.id,
            }  # fmt: skip
            cell.append(record)
            line = {"metric": "sharpness", "identity": "sharpness/1", "prompt_id": f"p{i}", "seed": seed,
                    "input": input_hash([record], record), "grouped": False, "values": {"sharpness": n + 0.1 * i},
                    "tokens": None, "truncated": False}  # fmt: skip
            with (cell.path / "scores.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        cell.write("cell.json", {"status": "complete", "prompts": ["p0", "p1", "p2"], "seeds": [0, 1], "pictures": 6,
                                 "labels": {"sampler.steps": steps},
                                 "config": {"sampler": {"steps": int(steps)}, "model": {"name": "tiny"}}})  # fmt: skip
    return folder


def test_page_of_a_real_analysis(show, real_sweep):
    from llm_dit.study.evidence.analysis import analyse

    (real_sweep.cell("cell1").path / "images/p2_s1.png").unlink()
    (real_sweep.cell("cell1").path / "images/p0_s1.png").write_bytes(b"not a picture")
    analysis = analyse([real_sweep], resamples=200)
    pictures = collect_pictures([real_sweep], analysis, thumbnail_size=32, max_pictures=100)
    facts = provenance([real_sweep])
    assert facts["settings"]["model.name"] == "tiny"
    assert "sampler.steps" not in facts["settings"]
    gone = [(p["arm"], p["prompt_id"], p["seed"]) for p in pictures if p["missing"]]
    assert gone == [("cell1", "p0", 1), ("cell1", "p2", 1)]
    path = write_report(analysis, pictures, real_sweep.path / "report.html", facts=facts)
    page = show(analysis, pictures, path=path)
    assert "under 20" in text(page, ".warnings") or "prompts" in text(page, ".warnings")
    assert near(pixel(page, '.tile[data-r="1"][data-c="1"] .frame'), colour(1, 1, 0))
    page.click('.tile[data-r="1"][data-c="1"]')
    page.wait_for_function("document.querySelector('#viewer img')?.naturalWidth === 64")
    page.click("#viewer .close")
    page.click("#page-on")
    assert text(page, '.tile[data-r="2"][data-c="1"]') == "file is gone"


def test_small_pictures_are_shared_out_fairly(real_sweep):
    from llm_dit.study.evidence.analysis import analyse

    analysis = analyse([real_sweep], resamples=200)
    pictures = collect_pictures([real_sweep], analysis, thumbnail_size=32, max_pictures=6)
    inside = {(p["arm"], p["prompt_id"], p["seed"]) for p in pictures if p["thumb"]}
    assert inside == {(a, p, 0) for a in ("cell0", "cell1") for p in ("p0", "p1", "p2")}
    assert not any(p["missing"] for p in pictures)
    assert all(os.sep not in p["path"] or "/" in p["path"] for p in pictures)


def test_several_sweeps_in_one_report(show, real_sweep, tmp_path):
    from llm_dit.study.evidence.analysis import analyse

    shutil.copytree(real_sweep.path, tmp_path / "sweeps" / "again")
    folders = [real_sweep, SweepFolder(tmp_path / "sweeps" / "again")]
    analysis = analyse(folders, resamples=200)
    pictures = collect_pictures(folders, analysis, thumbnail_size=32, max_pictures=3)
    assert len(pictures) == 24
    assert {p["path"].split("cells")[0] for p in pictures} == {"", "../again/"}
    path = write_report(analysis, pictures, real_sweep.path / "report.html", facts=provenance(folders))
    page = show(analysis, pictures, path=path)
    page.wait_for_function("[...document.querySelectorAll('.tile img')].every((i) => i.complete && i.naturalWidth)")
    assert page.locator(".tile .hole").count() == 0
