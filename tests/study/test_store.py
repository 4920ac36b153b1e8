"""The sweep's folder: half lines, lost files and locks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llm_dit.errors import RecordError
from llm_dit.study.store import CellFolder, SweepFolder


def record(seed, prompt_id="a", **more):
    fixed = {"prompt_id": prompt_id, "seed": seed, "pixels_sha256": "x", "axes": {}}
    return fixed | {"path": f"images/{prompt_id}_{seed}.png", **more}


def cell_with(tmp_path, *records):
    cell = CellFolder(tmp_path / "abc")
    (cell.path / "images").mkdir(parents=True)
    for r in records:
        (cell.path / r["path"]).write_bytes(b"png")
        cell.append(r)
    return cell


def test_records_come_back_in_order_and_the_last_of_a_picture_counts(tmp_path):
    cell = cell_with(tmp_path, record(1, note="old"), record(2), record(1, note="new"))
    assert [(r["seed"], r.get("note")) for r in cell.records()] == [(1, "new"), (2, None)]


def test_half_a_line_is_no_record_and_does_not_swallow_the_next(tmp_path):
    cell = cell_with(tmp_path, record(1), record(2))
    path = cell.path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert [r["seed"] for r in cell.records()] == [1]
    (cell.path / record(3)["path"]).write_bytes(b"png")
    cell.append(record(3))
    assert [r["seed"] for r in cell.records()] == [1, 3]


def test_half_a_character_is_no_record(tmp_path):
    cell = cell_with(tmp_path, record(1), record(2, prompt="漢字"))
    path = cell.path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-4])
    assert [r["seed"] for r in cell.records()] == [1]


def test_a_record_whose_picture_is_gone_does_not_count(tmp_path):
    cell = cell_with(tmp_path, record(1), record(2))
    (cell.path / record(1)["path"]).unlink()
    assert [r["seed"] for r in cell.records()] == [2]


def test_status_and_leftovers(tmp_path):
    cell = cell_with(tmp_path, record(1))
    assert cell.status == "unfinished"
    cell.write("failed.json", {"error": "x"})
    assert cell.status == "failed"
    cell.write("cell.json", {})
    assert cell.status == "complete"
    (cell.path / "images" / ".a.png.xyz").write_bytes(b"half")
    cell.clear_leftovers()
    assert sorted(p.name for p in (cell.path / "images").iterdir()) == ["a_1.png"]


def test_a_lock_is_held_by_one_process_and_freed_when_it_dies(tmp_path):
    cell = CellFolder(tmp_path / "abc")
    code = (
        "import sys, time; from pathlib import Path; from llm_dit.study.store import CellFolder\n"
        "with CellFolder(Path(sys.argv[1])).lock() as mine:\n    print(mine, flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, cell.path], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "True\n"
        with cell.lock() as mine:
            assert not mine
    finally:
        other.kill()
        other.wait()
    with cell.lock() as mine:
        assert mine


def test_a_sweep_lists_its_cells_and_reads_back_what_was_written(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    assert (sweep.cells(), sweep.read()) == ([], {})
    cell_with(sweep.path / "cells", record(1))
    sweep.write({"name": "s"})
    assert [c.id for c in sweep.cells()] == ["abc"]
    assert sweep.read() == {"name": "s"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"record_version": 0}, "has version 0; this release reads version"),
        ({"path": None}, "it lacks path"),
        ({"pixels_sha256": None}, "it lacks pixels_sha256"),
    ],
)
def test_records_that_are_not_ours_are_told_with_their_file(tmp_path, line, message):
    broken = {k: v for k, v in (record(1) | line).items() if v is not None}
    cell = cell_with(tmp_path, record(2))
    cell.append(broken)
    with pytest.raises(RecordError, match=message) as error:
        cell.records()
    assert "records.jsonl" in str(error.value)


@pytest.mark.parametrize("text", ["", '{"name":', "[]", "\ufffd"])
def test_a_damaged_json_file_is_told_with_its_path(tmp_path, text):
    sweep = SweepFolder(tmp_path)
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(RecordError, match=r"sweep\.json: (cannot be read|holds no JSON object)"):
        sweep.read()


def test_cells_keep_the_order_in_which_they_were_taken_up(tmp_path):
    sweep = SweepFolder(tmp_path)
    for name in ("b", "a", "c"):
        with sweep.cell(name).lock():
            pass
    (sweep.cell("b").path / "something new").write_text("")
    assert [cell.id for cell in sweep.cells()] == ["b", "a", "c"]
