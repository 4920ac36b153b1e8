"""Rows of every format, and every way a row can be wrong, with what is said about it."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from made_pictures import as_bytes, noise

from llm_dit.base.errors import DataError
from llm_dit.config import DataConfig
from llm_dit.train.data.rows import Rows, read_rows

PNG = as_bytes(noise(32, 32))
GOOD = {"image": "a.png", "prompt": "a red fox"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a.png and sub/b.png in it, and secret.png beside it."""
    here = tmp_path / "data"
    (here / "sub").mkdir(parents=True)
    (here / "a.png").write_bytes(PNG)
    (here / "sub" / "b.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    return here


def read(path, captions: bool = True, **settings) -> Rows:
    return read_rows(DataConfig(path=str(path), **settings), captions)


def jsonl(folder: Path, *rows) -> Path:
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def said(rows: Rows) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.id, row.prompts) for row in rows.rows]


TWO = [("a.png", ("a red fox",)), ("sub/b.png", ("an owl", "a bird"))]


def test_a_jsonl_file_has_a_row_a_line(folder):
    rows = read(jsonl(folder, GOOD, b"", {"image": "sub/b.png", "prompts": ["an owl", "a bird"]}))
    assert said(rows) == TWO
    assert [row.where for row in rows.rows] == ["rows.jsonl:1", "rows.jsonl:3"]
    assert not rows.problems
    assert not rows.notes


@pytest.mark.parametrize("around", ["[\n%s]", '{"version": 1, "items": [\n%s], "x": {}}', '{"data": [\n%s]}'])
def test_a_json_file_has_a_list_bare_or_in_an_object(folder, around):
    path = folder / "rows.json"
    items = ",\n\n".join(json.dumps(r) for r in [GOOD, {"image": "sub/b.png", "prompts": ["an owl", "a bird"]}])
    path.write_text(around % items)
    rows = read(path)
    assert said(rows) == TWO
    assert [row.where for row in rows.rows] == ["rows.json:2", "rows.json:4"]


@pytest.mark.parametrize(("ending", "between"), [("csv", ","), ("tsv", "\t")])
def test_a_csv_file_names_its_columns_in_the_first_line(folder, ending, between):
    path = folder / f"rows.{ending}"
    lines = [["image", "prompts", "system"], ["a.png", '"[""a red\nfox""]"', ""]]
    lines += [["sub/b.png", '"[""an owl"", ""a bird""]"', "hello"]]
    path.write_text("\ufeff" + "\n".join(between.join(line) for line in lines).replace("red\nfox", "red fox"))
    rows = read(path)
    assert said(rows) == TWO
    assert [row.system for row in rows.rows] == [None, "hello"]
    assert rows.rows[1].where == f"rows.{ending}:3"


def test_a_csv_record_over_several_lines_stands_at_its_first(folder):
    path = folder / "rows.csv"
    path.write_text('image,prompt\na.png,"a red\n\nfox"\nnone.png,x\n')
    rows = read(path)
    assert said(rows) == [("a.png", ("a red\n\nfox",))]
    assert rows.problems == [f"rows.csv:5: none.png: there is no such picture in {folder}."]


def test_a_folder_pairs_pictures_with_captions_of_their_name(folder):
    (folder / "a.txt").write_text(" a red fox\n")
    (folder / "sub" / "b.json").write_text('{"prompts": ["an owl", "a bird"], "image": "elsewhere.png"}')
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "readme.md").write_text("no row")
    rows = read(folder)
    assert said(rows) == TWO
    assert not rows.problems
    assert read(folder, images="x").notes == ["data.images has no effect: the pictures are those below data.path."]


def test_what_is_wrong_in_a_folder_is_listed_by_file(folder):
    for name, content in {
        "c.gif": b"", "d.txt": b"alone", "e.png": PNG, "e.jpg": PNG, "f.png": PNG, "f.txt": b"\xff\xfe\xff",
        "g.png": PNG, "g.txt": b" \n", "h.png": PNG, "h.json": b"[1]",
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
    (folder / "a.txt").write_text("good")
    rows = read(folder)
    assert said(rows) == [("a.png", ("good",))]
    assert rows.problems == [
        "c.gif: a .gif is not read; make it png, jpg, jpeg, webp.",
        "d.txt: a caption without a picture beside it.",
        "e.jpg: e.png has the same name, and both would have one caption.",
        "f.png: its .txt is not UTF-8 text (byte 0).",
        "g.png: its .txt is empty.",
        'h.png: its .json: must be an object such as {"image": ..., "prompt": ...}.',
        "sub/b.png: no caption beside it: a .txt or .caption, or a .json with 'prompt', of the same name.",
    ]


def test_captions_are_read_below_the_folder_alone(folder):
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "a.txt").symlink_to(folder.parent / "secret.txt")
    os.mkfifo(folder / "sub" / "b.txt")  # reading it would wait for ever
    (folder / "c.png").write_bytes(PNG)
    (folder / "c.txt").write_bytes(b"x" * (4 * 2**20 + 1))
    rows = read(folder)
    assert not rows.rows
    assert rows.problems == [
        "a.png: a.txt is no file below data.path.",
        "c.png: c.txt has more than 4,194,304 bytes.",
        "sub/b.png: b.txt is no file below data.path.",
    ]


def test_pictures_without_captions_are_enough_where_none_are_asked_for(folder):
    assert said(read(folder, captions=False)) == [("a.png", ()), ("sub/b.png", ())]
    assert said(read(jsonl(folder, {"image": "a.png"}), captions=False)) == [("a.png", ())]


def test_tar_shards_are_read_without_unpacking(folder, tmp_path):
    other = as_bytes(noise(32, 48, seed=1), "JPEG")
    tar(tmp_path / "s-0.tar", {"a.png": PNG, "a.txt": b"a red fox", "a.cls": b"3"})
    tar(
        tmp_path / "s-1.tar",
        {"x/b.caption.txt": b"", "x/b.jpg": other, "x/b.json": b'{"caption": ["an owl", "a bird"]}'},
    )
    rows = read(tmp_path / "s-*.tar")
    assert said(rows) == [("a.png", ("a red fox",)), ("x/b.jpg", ("an owl", "a bird"))]
    assert [row.picture.read() for row in rows.rows] == [PNG, other]
    assert said(read(tmp_path / "s-0.tar", images="anywhere")) == [("a.png", ("a red fox",))]
    assert read(tmp_path / "s-0.tar", images="anywhere").notes == [
        "data.images has no effect: the pictures are inside the .tar."
    ]


def test_a_folder_of_shards_is_read_as_shards(tmp_path):
    tar(tmp_path / "s-1.tar", {"b.png": PNG, "b.txt": b"two"})
    tar(tmp_path / "s-0.tar", {"a.png": PNG, "a.txt": b"one"})
    (tmp_path / "readme.txt").write_text("about the shards")
    assert said(read(tmp_path)) == [("a.png", ("one",)), ("b.png", ("two",))]


def test_what_is_wrong_in_a_tar_is_listed_by_key(tmp_path):
    path = tar(tmp_path / "s.tar", {
        "good.png": PNG, "good.txt": b"good", "a.txt": b"x", "b.gif": b"x", "c.png": PNG, "d.png": PNG, "d.jpg": PNG,
        "e.png": PNG, "e.txt": b"\xff",
    })  # fmt: skip
    with tarfile.open(path, "a") as file:
        link = tarfile.TarInfo("f.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
        info = tarfile.TarInfo("good.PNG")
        info.size = len(PNG)
    rows = read(path)
    assert said(rows) == [("good.png", ("good",))]
    assert rows.problems == [
        "s.tar:a: no picture.",
        "s.tar:b: a .gif is not read; make it png, jpg, jpeg, webp.",
        "s.tar:c: no caption beside it: a .txt or .caption, or a .json with 'prompt', of the same name.",
        "s.tar:d: 2 pictures of one name.",
        "s.tar:e: its .txt is not UTF-8 text (byte 0).",
        "s.tar:f: f.png is a link or no plain file.",
    ]


def test_a_member_that_stands_twice_is_refused(tmp_path):
    path = tar(tmp_path / "s.tar", {"a.png": PNG, "a.txt": b"x"})
    with tarfile.open(path, "a") as file:
        info = tarfile.TarInfo("a.png")
        info.size = len(PNG)
        file.addfile(info, io.BytesIO(PNG))
    assert read(path).problems == ["s.tar:a: a.png stands twice."]


def test_a_tar_that_is_cut_short_gives_what_stands_before(tmp_path):
    big = os.urandom(5000)
    path = tar(tmp_path / "s.tar", {"a.png": PNG, "a.txt": b"one", "b.png": big, "b.txt": b"two"})
    path.write_bytes(path.read_bytes()[: len(PNG) // 512 * 512 + 4096])
    rows = read(path)
    assert said(rows) == [("a.png", ("one",))]
    assert len(rows.problems) >= 1
    assert all(problem.startswith("s.tar") for problem in rows.problems)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(600), b"\x1f\x8b" + bytes(600)])
def test_what_is_no_tar_is_an_error(tmp_path, content):
    (tmp_path / "s.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"not a \.tar, or a compressed one"):
        read(tmp_path / "s.tar")


BROKEN = {
    "no image": ({"prompt": "x"}, "'image' is missing."),
    "misspelt image": ({"imgae": "a.png", "prompt": "x"}, "unknown key 'imgae'. Did you mean 'image'?"),
    "no prompt": ({"image": "a.png"}, "'prompt' is missing."),
    "near prompt": ({"image": "a.png", "promt": "x"}, "unknown key 'promt'. Did you mean 'prompt'?"),
    "misspelt part": ({**GOOD, "sytem": "x"}, "unknown key 'sytem'. Did you mean 'system'?"),
    "empty prompt": ({"image": "a.png", "prompt": " \n"}, "'prompt' is empty."),
    "number": ({"image": "a.png", "prompt": 7}, "'prompt' must be text, not a number."),
    "number in a list": ({"image": "a.png", "prompts": ["x", 7]}, "'prompts' must be text, not a number."),
    "empty list": ({"image": "a.png", "prompts": []}, "'prompts' is an empty list."),
    "both": ({**GOOD, "prompts": ["y"]}, "'prompt' and 'prompts' are both given; leave one out."),
    "two names": ({**GOOD, "caption": "y"}, "'prompt' and 'caption' mean the same; leave one out."),
    "flag": ({**GOOD, "force_think_block": "yes"}, "'force_think_block' must be true or false, not text."),
    "long": (
        {"image": "a.png", "prompt": "x" * 100_001},
        "'prompt' has 100,001 characters; at most 100,000 are taken.",
    ),
    "surrogate": ({"image": "a.png", "prompt": "\ud800"}, "'prompt' is not UTF-8 text."),
    "template path": ({**GOOD, "template": "/etc/passwd.md"}, "a row names a shipped template, never a path."),
    "template dots": ({**GOOD, "template": "../x"}, "a row names a shipped template, never a path."),
    "id": ({**GOOD, "id": ["x"]}, "'id' must be text of 1 to 200 characters."),
    "image type": ({"image": 3, "prompt": "x"}, "'image' must be a file name, not a number."),
    "image empty": ({"image": "", "prompt": "x"}, "'image' is empty."),
    "image gone": ({"image": "z.png", "prompt": "x"}, "z.png: there is no such picture in"),
    "image folder": ({"image": "sub", "prompt": "x"}, "sub: not a file."),
    "dots": ({"image": "../secret.png", "prompt": "x"}, "../secret.png: lies outside of"),
    "inner dots": ({"image": "sub/../../secret.png", "prompt": "x"}, "sub/../../secret.png: lies outside of"),
    "absolute": ({"image": "/etc/passwd", "prompt": "x"}, "/etc/passwd: lies outside of"),
    "link out": ({"image": "link.png", "prompt": "x"}, "link.png: lies outside of"),
    "no name": ({"image": "\ud800.png", "prompt": "x"}, r"'image' is '\ud800.png', which is no file name."),
    "nul": ({"image": "a\0.png", "prompt": "x"}, "which is no file name."),
    "list": ([1, 2], "must be an object such as"),
    "broken": (b'{"image": "a.png", "prompt": "x"', "not valid JSON (Expecting ',' delimiter"),
    "utf-8": (b'{"image": "a.png", "prompt": "\xff"}', "not UTF-8 text (byte 30)."),
    "twice": (b'{"image": "a.png", "prompt": "x", "image": "b.png"}', "the key 'image' stands twice."),
    "deep": (b'{"image": "a.png", "prompt": ' + b"[" * 100_000, "not valid JSON (nested too deeply)."),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_row_is_told_by_its_line_and_costs_no_other(folder, case):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    row, message = BROKEN[case]
    rows = read(jsonl(folder, GOOD, row, {**GOOD, "image": "sub/b.png"}))
    assert len(rows.rows) == 2
    (problem,) = rows.problems
    assert problem.startswith("rows.jsonl:2: ")
    assert message in problem


def test_data_images_moves_the_root(folder):
    path = jsonl(folder, {"image": "secret.png", "prompt": "x"}, {"image": "/etc/passwd", "prompt": "x"})
    rows = read(path, images=str(folder.parent))
    assert said(rows) == [("secret.png", ("x",))]
    assert "outside of" in rows.problems[0]
    assert said(read(jsonl(folder, {"image": str(folder / "a.png"), "prompt": "x"}))) == [("a.png", ("x",))]
    with pytest.raises(DataError, match=r"data\.images=nowhere: there is no such folder"):
        read(path, images="nowhere")


def test_ids_are_given_or_made_of_the_pictures_name(folder):
    other = {**GOOD, "prompt": "again"}
    rows = read(jsonl(folder, GOOD, other, {**GOOD, "id": 7}, {**GOOD, "id": "x"}, {**GOOD, "id": "x"}))
    assert [row.id for row in rows.rows] == ["a.png", "a.png#2", "7", "x"]
    assert rows.problems == ["rows.jsonl:5: the id 'x' stands more than once."]


def test_other_names_of_keys_are_known_and_unknown_ones_are_told_once(folder):
    row = {"file_name": "a.png", "text": "x", "system_prompt": "s", "thinking_content": "t", "add_think_block": True}
    rows = read(jsonl(folder, {**row, "assistant_content": "a", "score": 3}, {**GOOD, "width": 5, "caption_2": "y"}))
    (first, _) = rows.rows
    assert (first.prompts, first.system, first.thinking, first.assistant) == (("x",), "s", "t", "a")
    assert first.force_think_block is True
    assert len(rows.notes) == 1
    assert "left alone: caption_2, score, width." in rows.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("img,prompt\na.png,x\n", "no column 'image'"),
        ("imaeg,prompt\na.png,x\n", "Did you mean 'imaeg'?"),
        ("image,image\na.png,x\n", "the column 'image' stands twice"),
        ("", "no column 'image'"),
        ('image,prompt\na.png,"x" y\n', "line 2: not valid CSV"),
        ('image,prompt\na.png,"x\n', "not valid CSV (unexpected end of data)"),
    ],
)
def test_a_csv_that_cannot_be_read_at_all_is_an_error(folder, content, message):
    (folder / "rows.csv").write_text(content)
    with pytest.raises(DataError) as error:
        read(folder / "rows.csv")
    assert message in str(error.value)


def test_broken_records_of_a_csv_are_told_by_line(folder):
    head = b"image,prompt,captions,force_think_block\n"
    lines = [b"a.png,x\n", b"a.png,\xff,,\n", b"a.png,,not a list,\n", b"a.png,,,\n", b"a.png,x,,TRUE\n"]
    (folder / "rows.csv").write_bytes(head + b"".join(lines))
    rows = read(folder / "rows.csv")
    assert [row.force_think_block for row in rows.rows] == [True]
    assert rows.problems == [
        "rows.csv:2: 2 cells, where the first line names 4 columns; quote cells that hold commas.",
        "rows.csv:3: not UTF-8 text (column 'prompt').",
        'rows.csv:4: \'captions\' must be a JSON list such as ["a red fox", "a fox, red"].',
        "rows.csv:5: 'prompt' is missing.",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"image": "a.png"},\n\n{"image" "b.png"}]', "line 3: not valid JSON"),
        (b'[{"image": "a.png"}\n{"image": "b.png"}]', "line 2: not valid JSON (a comma or ] is missing)"),
        (b'[{"image": "a.png"}', "not valid JSON"),
        (b'{"rows": []}', "such a list as 'items' or 'data' (found: rows)"),
        (b'"x"', "must be a list of objects"),
        (b"", "must be a list of objects"),
        (b'[{"image": "\xff"}]', "not UTF-8 text (byte 12)"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_json_file_that_cannot_be_read_at_all_is_an_error(folder, content, message):
    (folder / "rows.json").write_bytes(content)
    with pytest.raises(DataError) as error:
        read(folder / "rows.json")
    assert message in str(error.value)


def test_a_repeated_key_in_a_json_list_costs_its_own_row(folder):
    (folder / "rows.json").write_text(
        '[{"image": "a.png", "image": "x", "prompt": "x"},\n{"image": "a.png", "prompt": "y"}]'
    )
    rows = read(folder / "rows.json")
    assert said(rows) == [("a.png", ("y",))]
    assert rows.problems == ["rows.json:1: the key 'image' stands twice."]


def test_a_path_that_leads_nowhere_names_the_nearest(folder):
    jsonl(folder, GOOD)
    with pytest.raises(DataError, match=r"no such file or folder. Did you mean '.*rows.jsonl'"):
        read(folder / "rosw.jsonl")
    with pytest.raises(DataError, match="no such file or folder"):
        read(folder / "*.tar")
    (folder / "x.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"ends in \.parquet; must be a folder"):
        read(folder / "x.parquet")
    with pytest.raises(DataError, match="no data to train on: add data=PATH"):
        read_rows(DataConfig())


def test_companion_files_of_a_mac_are_no_shards(tmp_path):
    tar(tmp_path / "part-0.tar", {"fox.png": PNG, "fox.caption": b"a fox"})
    (tmp_path / "._part-0.tar").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "._cover.png").write_bytes(b"\x00\x05\x16\x07")
    rows = read(tmp_path)
    assert said(rows) == [("fox.png", ("a fox",))]
    assert not rows.problems


def test_caption_files_and_a_caption_a_line_are_read(folder):
    (folder / "a.caption").write_text("a red fox\n\n a fox, red \n")
    (folder / "sub" / "b.txt").write_text("an owl\n")
    rows = read(folder)
    assert said(rows) == [("a.png", ("a red fox", "a fox, red")), ("sub/b.png", ("an owl",))]
    (note,) = rows.notes
    assert note.startswith("1 captions have several lines, such as that of a.png: each line is a phrasing")
    whole = read(folder, caption_lines=False)
    assert said(whole)[0] == ("a.png", ("a red fox\n\n a fox, red",))
    assert not whole.notes
    (folder / "a.txt").write_text("another")
    assert read(folder).problems == ["a.png: its .txt and its .caption differ; leave one out."]
