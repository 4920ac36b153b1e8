"""What stands beside a picture under its name: KEY.txt with the caption, or KEY.json with the keys of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_dit.train.data.json_rows import json_object
from llm_dit.train.data.rows import KEYS

PICTURES = ("png", "jpg", "jpeg", "webp")
MAX_BYTES = 4 * 2**20  # of a caption
OTHER_PICTURES = ("gif", "bmp", "tif", "tiff", "avif", "heic", "jxl")


def row_values(found: Mapping[str, bytes], captions: bool) -> dict[str, Any] | str:
    """Raw values of a row but for its picture; a str says what is wrong.

    found: contents by ending (txt, json). Where both hold a caption, the .json's is taken. captions: whether one is
    needed.
    """
    values: dict[str, Any] = {}
    if "json" in found:
        read = json_object(found["json"])
        if isinstance(read, str):
            return f"its .json: {read}"
        # The picture is the one it stands beside, whatever the file was called when it was described.
        values = {name: value for name, value in read.items() if name not in KEYS["image"]}
    told = any(name in values for key in ("prompt", "prompts") for name in KEYS[key])
    if "txt" in found and not told:
        try:
            text = found["txt"].decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            return f"its .txt is not UTF-8 text (byte {error.start})."
        if not text and captions:
            return "its .txt is empty."
        if text:
            values["prompt"] = text
    elif not told and captions:
        return "no caption beside it: a .txt, or a .json with 'prompt', of the same name."
    return values
