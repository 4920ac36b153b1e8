"""Rows of a folder: every picture in and below it, with the caption in a .txt, .caption or .json of the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from llm_dit.train.data.rows import Found
from llm_dit.train.data.sidecar import MAX_BYTES, OTHER_PICTURES, PICTURES, TEXTS, row_values


def folder_rows(root: Path, captions: bool = True, lines: bool = True) -> Iterator[Found]:
    """One row a picture, in order of path. Hidden files and linked folders are passed over."""
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = Path(folder)
        beside: dict[str, dict[str, str]] = {}
        for name in sorted(n for n in names if not n.startswith(".")):
            stem, _, kind = name.rpartition(".")
            if stem and kind.lower() in (*PICTURES, *OTHER_PICTURES, *TEXTS, "json"):
                beside.setdefault(stem, {})[kind.lower()] = name
        for files in beside.values():
            pictures = [name for kind, name in files.items() if kind in PICTURES]
            place = (here / (pictures or list(files.values()))[0]).relative_to(root).as_posix()
            if not pictures:
                other = next((kind for kind in files if kind in OTHER_PICTURES), None)
                if other:
                    yield place, f"a .{other} is not read; make it {', '.join(PICTURES)}."
                elif any(kind in files for kind in TEXTS):
                    yield place, "a caption without a picture beside it."
                continue
            if len(pictures) > 1:
                yield place, f"{pictures[1]} has the same name, and both would have one caption."
                continue
            contents: dict[str, bytes] = {}
            values = None
            for name in (files[kind] for kind in (*TEXTS, "json") if kind in files):
                read = _caption(here / name, root)
                if isinstance(read, str):
                    values = f"{name} {read}"
                else:
                    contents[name.rpartition(".")[2].lower()] = read
            values = values or row_values(contents, captions, lines)
            yield place, values if isinstance(values, str) else {**values, "image": place}


def _caption(path: Path, root: Path) -> bytes | str:
    """The bytes of a caption's file, or why it is not read: captions, too, are taken from below the root alone."""
    real, top = os.path.realpath(path), os.path.realpath(root)
    try:
        if not os.path.isfile(real) or os.path.commonpath([top, real]) != top:
            return "is no file below data.path."
        if os.path.getsize(real) > MAX_BYTES:
            return f"has more than {MAX_BYTES:,} bytes."
        return Path(real).read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror or error})."
