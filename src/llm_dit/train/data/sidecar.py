"""What stands beside a picture under its name: KEY.txt or KEY.caption with captions, or KEY.json with a row's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_dit.train.data.json_rows import json_object
from llm_dit.train.data.rows import KEYS

PICTURES = ("png", "jpg", "jpeg", "webp")
TEXTS = ("txt", "caption")
MAX_BYTES = 4 * 2**20  # of a caption
OTHER_PICTURES = ("gif", "bmp", "tif", "tiff", "avif", "heic", "jxl")


def row_values(found: Mapping[str, bytes], captions: bool, lines: bool = True) -> dict[str, Any] | str:
    """Raw values of a row but for its picture; a str says what is wrong.

    found: contents by ending (txt, caption, json). Where several hold a caption, the .json's is taken. captions:
    whether one is needed. lines: take each line of a text as a phrasing of its own; they are then a tuple.
    """
    values: dict[str, Any] = {}
    if "json" in found:
        read = json_object(found["json"])
        if isinstance(read, str):
            return f"its .json: {read}"
        # The picture is the one it stands beside, whatever the file was called when it was described.
        values = {name: value for name, value in read.items() if name not in KEYS["image"]}
    told = any(name in values for key in ("prompt", "prompts") for name in KEYS[key])
    kinds = [kind for kind in TEXTS if kind in found]
    if kinds and not told:
        texts = {}
        for kind in kinds:
            try:
                texts[kind] = found[kind].decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                return f"its .{kind} is not UTF-8 text (byte {error.start})."
        text = texts[kinds[0]]
        if any(other != text for other in texts.values()):
            return "its .txt and its .caption differ; leave one out."
        if not text and captions:
            return f"its .{kinds[0]} is empty."
        said = [line.strip() for line in text.splitlines() if line.strip()]
        if lines and len(said) > 1:
            values["prompts"] = tuple(dict.fromkeys(said))
        elif text:
            values["prompt"] = text
    elif not told and captions:
        return "no caption beside it: a .txt or .caption, or a .json with 'prompt', of the same name."
    return values
