"""The sweep's folder: half lines, lost files and locks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llm_dit.base.errors import OutputError, RecordError
from llm_dit.base.files import PREFIX, this_machine
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
    for name in (".a.png.xyz", f"{PREFIX}{this_machine()}-4194305-0123abcd"):  # no process has so high a number
        (cell.path / "images" / name).write_bytes(b"half")
    cell.clear_leftovers()
    assert sorted(p.name for p in (cell.path / "images").iterdir()) == [".a.png.xyz", "a_1.png"]


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
        ({"record_version": 0}, "of version 0; this release reads version"),
        ({"path": None}, "lacks .path."),
        ({"pixels_sha256": None}, "lacks .pixels_sha256."),
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
    with pytest.raises(RecordError, match=r"sweep\.json: (cannot be read|holds a list)"):
        sweep.read()


def test_cells_keep_the_order_in_which_they_were_taken_up(tmp_path):
    sweep = SweepFolder(tmp_path)
    for name in ("b", "a", "c"):
        with sweep.cell(name).lock():
            pass
    (sweep.cell("b").path / "something new").write_text("")
    assert [cell.id for cell in sweep.cells()] == ["b", "a", "c"]


@pytest.mark.parametrize("path", ["../../x.png", "/etc/passwd", "images/../../x.png", "", "."])
def test_a_record_whose_picture_lies_elsewhere_is_refused(tmp_path, path):
    cell = cell_with(tmp_path, record(1))
    (tmp_path / "x.png").write_bytes(b"png")
    cell.append(record(2, path=path))
    with pytest.raises(RecordError, match=r"records\.jsonl:\d+: the path .* leads out of the cell's folder"):
        cell.records()


@pytest.mark.parametrize("name", ["../other", "a/b", "/tmp", "..", ".", ""])
def test_a_cell_is_one_folder_of_its_sweep(tmp_path, name):
    with pytest.raises(RecordError, match="a cell cannot be called"):
        SweepFolder(tmp_path).cell(name)


def test_what_is_cleared_is_never_reached_through_a_link(tmp_path):
    left = f"{PREFIX}{this_machine()}-4194305-0123abcd"
    outside = tmp_path / "outside"
    for name in ("grids", "images", "cells/refused-123abc", "cells/abc/images"):
        (outside / name).mkdir(parents=True)
        (outside / name / left).write_bytes(b"theirs")
    (outside / "cells" / "refused-123abc" / "failed.json").write_text("{}")
    sweep = SweepFolder(tmp_path / "s")
    sweep.write({"axes": []})
    (sweep.path / "grids").symlink_to(outside / "grids")
    (sweep.path / "cells").symlink_to(outside / "cells")
    whole = sorted(outside.rglob("*"))
    sweep.clear_leftovers()
    sweep.forget_refused()
    sweep.cell("abc").clear_leftovers()
    (sweep.path / "cells").unlink()
    (sweep.path / "cells" / "abc").mkdir(parents=True)
    (sweep.path / "cells" / "abc" / "images").symlink_to(outside / "images")
    sweep.cell("abc").clear_leftovers()
    sweep.cell("abc").delete()
    assert sorted(outside.rglob("*")) == whole


@pytest.mark.parametrize(
    "files",
    [
        {".env.local": "secret"},
        {"transformer/config.json": "{}"},
        {"sweep.json": '{"method": "grid"}'},
        {"cells/one/picture.png": ""},
    ],
)
def test_a_folder_that_holds_something_else_is_no_sweep(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(OutputError, match="no sweep of llm-dit"):
        SweepFolder(tmp_path).refuse_foreign()


@pytest.mark.parametrize(
    "files",
    [
        {},
        {".sweep.json.a1b2c3d4": "{"},
        {f"{PREFIX}{this_machine()}-4194305-0123abcd": "{"},
        {"sweep.json": '{"axes": []}', "notes.txt": ""},
        {"cells/abc/started": "1", "table.parquet": ""},
    ],
)
def test_a_folder_that_a_sweep_made_is_continued_however_far_it_came(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    SweepFolder(tmp_path).refuse_foreign()
