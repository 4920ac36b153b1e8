"""The sweep's folder: half lines, lost files and locks."""

from __future__ import annotations

import subprocess
import sys

from llm_dit.study.store import CellFolder, SweepFolder


def record(seed, prompt_id="a", **more):
    return {"prompt_id": prompt_id, "seed": seed, "path": f"images/{prompt_id}_{seed}.png", **more}


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
