"""Rows of a folder: every picture in it and below it, with the caption in a .txt or .json of the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from llm_dit.train.data.rows import Found
from llm_dit.train.data.sidecar import OTHER_PICTURES, PICTURES, row_values


def folder_rows(root: Path, captions: bool = True) -> Iterator[Found]:
    """One row a picture, in order of path. Hidden files and linked folders are passed over."""
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = Path(folder)
        beside: dict[str, dict[str, str]] = {}
        for name in sorted(n for n in names if not n.startswith(".")):
            stem, _, kind = name.rpartition(".")
            if stem and kind.lower() in (*PICTURES, *OTHER_PICTURES, "txt", "json"):
                beside.setdefault(stem, {})[kind.lower()] = name
        for files in beside.values():
            pictures = [name for kind, name in files.items() if kind in PICTURES]
            place = (here / (pictures or list(files.values()))[0]).relative_to(root).as_posix()
            if not pictures:
                other = next((kind for kind in files if kind in OTHER_PICTURES), None)
                if other:
                    yield place, f"a .{other} is not read; make it {', '.join(PICTURES)}."
                elif "txt" in files:
                    yield place, "a caption without a picture beside it."
                continue
            if len(pictures) > 1:
                yield place, f"{pictures[1]} has the same name, and both would have one caption."
                continue
            try:
                contents = {kind: (here / files[kind]).read_bytes() for kind in ("txt", "json") if kind in files}
            except OSError as error:
                yield place, f"its caption cannot be read ({error.strerror or error})."
                continue
            values = row_values(contents, captions)
            yield place, values if isinstance(values, str) else {**values, "image": place}
