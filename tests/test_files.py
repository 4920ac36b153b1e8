"""Files of our own: temporary names, what is removed of them, folders put in place, and what can be written at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from llm_dit.base.errors import OutputError
from llm_dit.base.files import (
    PREFIX,
    append_lines,
    check_writable,
    put_in_place,
    remove_known,
    remove_leftovers,
    temporary_beside,
    this_machine,
    write_whole,
)
from llm_dit.base.lock import locked


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_only_temporary_files_of_processes_that_ended_are_removed(tmp_path, dead):
    gone = tmp_path / f"{PREFIX}{this_machine()}-{dead}-0123abcd"
    alive = tmp_path / f"{PREFIX}{this_machine()}-{os.getppid()}-0123abcd"
    elsewhere = tmp_path / f"{PREFIX}00000000-{dead}-0123abcd"
    abandoned = tmp_path / f"{PREFIX}00000000-{dead}-fedc3210"
    foreign = [".env.local", ".gitlab-ci.yml", ".a.png.x1y2z3", f"{PREFIX}notes", f"{PREFIX}{this_machine()}-{dead}"]
    for path in [gone, alive, elsewhere, abandoned, *(tmp_path / name for name in foreign)]:
        path.write_bytes(b"x")
    os.utime(abandoned, (time.time() - 2 * 86400,) * 2)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([alive.name, elsewhere.name, *foreign])


def test_leftovers_are_never_removed_through_a_link(tmp_path, dead):
    name = f"{PREFIX}{this_machine()}-{dead}-0123abcd"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / name).write_bytes(b"theirs")
    (tmp_path / "linked").symlink_to(outside)
    remove_leftovers(tmp_path / "linked")
    inside = tmp_path / "inside"
    (inside / name).mkdir(parents=True)
    (inside / name / "link").symlink_to(outside)
    remove_leftovers(inside)
    assert names(inside) == []
    assert names(outside) == [name]


def test_a_killed_writer_leaves_a_name_that_says_whose_it_is(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from llm_dit.base import files\n"
        "os.replace = lambda *a: os.kill(os.getpid(), 9)\n"
        "files.write_whole({Path(sys.argv[1]) / 'a.json': b'x'})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path])
    process.wait()
    (left,) = names(tmp_path)
    assert left.startswith(f"{PREFIX}{this_machine()}-{process.pid}-")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_a_name_of_255_bytes_is_written(tmp_path):
    target = tmp_path / ("漢" * 83 + "a.json")
    assert len(os.fsencode(target.name)) == 255
    write_whole({target: b"x"})
    assert names(tmp_path) == [target.name]
    assert len(temporary_beside(target).name) < 60


def test_a_folder_is_put_in_place_without_touching_other_files(tmp_path):
    for name, text in (("staged", "new"), ("target", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text(text)
    (tmp_path / "target" / "notes.txt").write_text("theirs")
    put_in_place(tmp_path / "staged", tmp_path / "target", "state.json")
    assert (tmp_path / "target" / "state.json").read_text() == "new"
    assert (tmp_path / "target" / "notes.txt").read_text() == "theirs"


def test_known_files_are_removed_and_nothing_else(tmp_path):
    folder, outside = tmp_path / "a", tmp_path / "outside"
    for place in (folder, outside):
        place.mkdir()
        (place / "state.json").write_text("")
    (folder / "notes.txt").write_text("theirs")
    (tmp_path / "link").symlink_to(outside)
    remove_known(folder, ["state.json"])
    remove_known(tmp_path / "link", ["state.json"])
    assert names(folder) == ["notes.txt"]
    assert names(outside) == ["state.json"]
    remove_known(outside, ["state.json"])
    assert not outside.exists()


@pytest.mark.parametrize("below", ["", "new/folder"])
def test_a_dangling_link_cannot_be_written(tmp_path, below):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match=r"output\.dir=.* is a link to .*nowhere, which is not there"):
        check_writable(tmp_path / "link" / below)


@pytest.mark.parametrize("files", [["a" * 252 + ".png"], ["漢" * 84 + ".png"], [f"{'b' * 250}/" * 20 + "a.png"]])
def test_names_too_long_for_the_disk_are_known_beforehand(tmp_path, files):
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "new", files=files)
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "new" / files[0])
    assert names(tmp_path) == []


def test_a_nul_in_a_path_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(f"{tmp_path}/a\0b")


def test_a_lock_keeps_what_a_file_of_its_name_holds_and_follows_no_link(tmp_path):
    (tmp_path / "lock").write_text("theirs")
    with locked(tmp_path / "lock") as mine:
        assert mine
    assert (tmp_path / "lock").read_text() == "theirs"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "link"):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder"])
def test_lines_are_added_to_plain_files_alone(tmp_path, kind):
    path, theirs = tmp_path / "log.jsonl", tmp_path / "theirs"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(theirs)
    if kind == "link":
        theirs.write_text("theirs")
    with pytest.raises(OutputError, match=r"log\.jsonl"):
        append_lines(path, b"{}\n")
    assert (theirs.read_text() if theirs.exists() else None) == ("theirs" if kind == "link" else None)


def test_lines_follow_half_a_line_on_one_of_their_own(tmp_path):
    for _ in range(2):
        append_lines(tmp_path / "a", b"1\n")
    (tmp_path / "a").write_bytes(b"1\n{")
    append_lines(tmp_path / "a", b"2\n")
    assert (tmp_path / "a").read_bytes() == b"1\n{\n2\n"


def test_a_folder_that_is_gone_is_told_and_not_made_again(tmp_path):
    with pytest.raises(OutputError, match="gone is gone"):
        append_lines(tmp_path / "gone" / "log.jsonl", b"1\n")
    assert not (tmp_path / "gone").exists()
