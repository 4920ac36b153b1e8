"""A row of training data: a picture, what it may be called, and the prompt parts of its own.

read_rows picks the reader by what data.path is; readers hand out raw values with the place they stand at, and
parse_row checks them. A row that cannot be used is a line in problems. Pictures are not opened here.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llm_dit.base.errors import DataError, nearest
from llm_dit.base.inputs import refuse_special
from llm_dit.base.paths import user_path, visible
from llm_dit.config import MAX_PROMPT_CHARACTERS, DataConfig
from llm_dit.train.data.source import Source

# What a key is called here, and what other tools call it.
KEYS = {
    "image": ("image", "file_name", "image_path"),
    "prompt": ("prompt", "caption", "text"),
    "prompts": ("prompts", "captions", "texts"),
    "template": ("template",),
    "system": ("system", "system_prompt"),
    "thinking": ("thinking", "thinking_content"),
    "assistant": ("assistant", "assistant_content"),
    "force_think_block": ("force_think_block", "add_think_block"),
    "id": ("id",),
}
NAMES = {name: key for key, names in KEYS.items() for name in names}
_TYPO = 0.8  # similarity from which an unknown key is taken for a misspelt one
_TEMPLATE = re.compile(r"[A-Za-z0-9_-]+")
MAX_ID = 200

# What a reader finds at a place: values by key, or what is wrong there.
Found = tuple[str, Mapping[str, Any] | str]


class BadRowError(Exception):
    """What is wrong with one row; the place is put in front by whoever knows it."""


@dataclass(frozen=True)
class Row:
    """One picture with the phrasings of its caption. where: file and line, for messages.

    Parts that are None take the config's. prompts is empty where captions are not asked for.
    """

    where: str
    id: str
    picture: Source
    prompts: tuple[str, ...]
    template: str | None = None
    system: str | None = None
    thinking: str | None = None
    assistant: str | None = None
    force_think_block: bool | None = None


@dataclass
class Rows:
    """What was read: rows in file order, the rows that cannot be used, and remarks that cost no row."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_rows(data: DataConfig, captions: bool = True) -> Rows:
    """The rows of data.path. captions=False takes pictures without any, too. Raises DataError when none can be read."""
    if not data.path:
        raise DataError("no data to train on: add data=PATH (a .jsonl, .json, .csv, a folder of pictures, or .tar).")
    found, root, idle = _reader(data, captions)
    rows, ignored, explicit, seen, split = Rows(), Counter(), set(), Counter(), []
    for where, values in found:
        if isinstance(values, str):
            rows.problems.append(f"{where}: {values}")
            continue
        try:
            row, unknown = parse_row(values, where, root, captions)
            if "id" in values:
                if row.id in explicit:
                    raise BadRowError(f"the id {row.id!r} stands more than once.")
                explicit.add(row.id)
        except BadRowError as error:
            rows.problems.append(f"{where}: {error}")
            continue
        if isinstance(values.get("prompts"), tuple):
            split.append(where)
        ignored.update(unknown)
        seen[row.id] += 1
        rows.rows.append(row if seen[row.id] == 1 else replace(row, id=f"{row.id}#{seen[row.id]}"))
    if ignored:
        rows.notes.append(
            f"{data.path}: keys that mean nothing here are left alone: {', '.join(sorted(ignored)[:12])}."
        )
    if split:
        rows.notes.append(
            f"{len(split)} captions have several lines, such as that of {split[0]}: each line is a phrasing, and "
            "visits take them in turn; data.caption_lines=false takes a file whole."
        )
    if data.images is not None and idle:
        rows.notes.append(f"data.images has no effect: {idle}")
    return rows


def _reader(data: DataConfig, captions: bool) -> tuple[Iterator[Found], Path | None, str]:
    """The raw rows of data.path, the folder that their pictures must lie in, and why data.images cannot act."""
    from llm_dit.train.data.csv_rows import csv_rows
    from llm_dit.train.data.folder_rows import folder_rows
    from llm_dit.train.data.json_rows import json_rows, jsonl_rows
    from llm_dit.train.data.sidecar import PICTURES
    from llm_dit.train.data.tar_rows import tar_rows

    given = str(data.path)
    path = user_path(given)
    if os.path.isdir(path):
        shards = visible(path, "*.tar")
        if shards and not any(p.suffix[1:].lower() in PICTURES for p in visible(path)):
            return tar_rows(shards, captions, data.caption_lines), None, "the pictures are inside the .tar."
        return folder_rows(path, captions, data.caption_lines), path, "the pictures are those below data.path."
    if not os.path.exists(path):
        shards = sorted(Path(p) for p in glob.glob(str(path))) if glob.has_magic(given) else []
        if not shards:
            raise DataError(f"data.path={given}: no such file or folder. {_beside(path)}".rstrip())
    else:
        shards = [path]
    for shard in shards:
        refuse_special(shard, f"data.path={given}", DataError)
    kinds = {p.suffix.lower() for p in shards}
    if kinds == {".tar"}:
        return tar_rows(shards, captions, data.caption_lines), None, "the pictures are inside the .tar."
    if len(shards) > 1:
        raise DataError(f"data.path={given}: {len(shards)} files; several files at once must all end in .tar.")
    readers = {".jsonl": jsonl_rows, ".json": json_rows, ".csv": csv_rows, ".tsv": csv_rows}
    (kind,), (path,) = kinds, shards
    if kind not in readers:
        raise DataError(
            f"data.path={given}: ends in {kind or 'nothing'}; must be a folder of pictures, or end in "
            ".jsonl, .json, .csv, .tsv or .tar (unpacked: a .tar.gz cannot be read in any order)."
        )
    root = user_path(data.images) if data.images is not None else path.parent
    if not os.path.isdir(root):
        raise DataError(f"data.images={data.images}: there is no such folder.")
    return readers[kind](path), root, ""


def _beside(path: Path) -> str:
    there = [p.name for p in path.parent.iterdir()] if os.path.isdir(path.parent) else []
    close = difflib.get_close_matches(path.name, there, n=1, cutoff=0.6)
    return f"Did you mean '{path.parent / close[0]}'?" if close else ""


def parse_row(values: Mapping[str, Any], where: str, root: Path | None, captions: bool = True) -> tuple[Row, list[str]]:
    """A checked Row of raw values, and the keys that were not used.

    values["image"] is a name below root, or a Source where the reader has found the picture already.
    Raises BadRowError.
    """
    given, unknown = _known_keys(values)
    if "image" not in given:
        raise BadRowError(_missing("image", values))
    picture = given["image"] if isinstance(given["image"], Source) else find_picture(given["image"], root)
    parts = {key: _text(given, key) for key in ("template", "system", "thinking", "assistant") if key in given}
    if "template" in parts and not _TEMPLATE.fullmatch(parts["template"]):
        raise BadRowError(f"'template' is {parts['template'][:60]!r}; a row names a shipped template, never a path.")
    if "force_think_block" in given:
        parts["force_think_block"] = _truth(given["force_think_block"])
    identity = given.get("id", picture.name)
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if not isinstance(identity, str) or not identity.strip() or len(identity) > MAX_ID:
        raise BadRowError(f"'id' must be text of 1 to {MAX_ID} characters.")
    return Row(where, identity, picture, _prompts(given, values, captions), **parts), unknown


def _known_keys(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values by our names for their keys; absent and empty ones left out. And the keys that mean nothing."""
    given: dict[str, Any] = {}
    said: dict[str, str] = {}
    unknown = []
    for name, value in values.items():
        key = NAMES.get(name)
        if key is None:
            unknown.append(str(name))
        elif value is not None:
            if key in given:
                raise BadRowError(f"'{said[key]}' and '{name}' mean the same; leave one out.")
            given[key], said[key] = value, name
    for name in unknown:
        close = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=_TYPO)
        if close and NAMES[close[0]] not in given and not (NAMES[close[0]] == "prompts" and "prompt" in given):
            raise BadRowError(f"unknown key '{name}'. Did you mean '{close[0]}'?")
    return given, unknown


def _missing(key: str, values: Mapping[str, Any]) -> str:
    hint = nearest(key, [str(name) for name in values])
    return f"'{key}' is missing. {hint if hint.startswith('Did') else ''}".rstrip()


def _prompts(given: Mapping[str, Any], values: Mapping[str, Any], captions: bool) -> tuple[str, ...]:
    if "prompt" in given and "prompts" in given:
        raise BadRowError("'prompt' and 'prompts' are both given; leave one out.")
    key = "prompts" if "prompts" in given else "prompt"
    if key not in given:
        if captions:
            raise BadRowError(_missing("prompt", values))
        return ()
    value = given[key]
    listed = value if isinstance(value, (list, tuple)) else [value]
    if not listed:
        raise BadRowError(f"'{key}' is an empty list.")
    return tuple(_caption(item, key) for item in listed)


def _caption(value: Any, key: str) -> str:
    text = _text({key: value}, key)
    if not text.strip():
        raise BadRowError(f"'{key}' is empty.")
    return text


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values[key]
    if not isinstance(value, str):
        raise BadRowError(f"'{key}' must be text, not {_kind(value)}.")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise BadRowError(f"'{key}' has {len(value):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are taken.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"'{key}' is not UTF-8 text.") from None
    return value


def _truth(value: Any) -> bool:
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in words:  # a .csv knows nothing but text
        return words[value.lower()]
    if not isinstance(value, bool):
        raise BadRowError(f"'force_think_block' must be true or false, not {_kind(value)}.")
    return value


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)


def find_picture(name: Any, root: Path | None) -> Source:
    """The picture of that name below root. Raises BadRowError for one that is missing, no file, or outside of root."""
    if not isinstance(name, str) or not name.strip():
        raise BadRowError("'image' is empty." if name == "" else f"'image' must be a file name, not {_kind(name)}.")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise BadRowError(f"'image' is {name[:60]!a}, which is no file name.") from None
    if "\0" in name or root is None:
        raise BadRowError(f"'image' is {name[:60]!r}, which is no file name.")
    top = os.path.realpath(root)
    # Followed to its end, so that neither '..' nor a link leads out.
    real = os.path.realpath(os.path.join(top, name))
    if os.path.commonpath([top, real]) != top:
        raise BadRowError(f"{name[:120]}: lies outside of {root}; data.images=FOLDER names another root.")
    if not os.path.exists(real):
        raise BadRowError(f"{name[:120]}: there is no such picture in {root}.")
    if not os.path.isfile(real):
        raise BadRowError(f"{name[:120]}: not a file.")
    return Source(Path(real), os.path.relpath(real, top).replace(os.sep, "/"))
