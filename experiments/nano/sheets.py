"""Sheets of pictures with a line of text under each, to be looked at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def in_words(asked: Sequence[Sequence[str]]) -> str:
    """What (tag, word) pairs ask for: "fox left of key, ink on red"; "two owl", "small fox"."""
    said = dict(asked)
    what = f" {said.get('relation')} ".join(word for tag, word in asked if tag == "subject")
    drawn = " ".join(filter(None, (said.get("count"), said.get("size"), what)))
    return f"{drawn}, {said['style']} on {said['colour']}"


def labelled(
    pictures: Sequence[np.ndarray], texts: Sequence[str], path: Path, columns: int = 8, marked: Sequence[bool] = ()
) -> None:
    """uint8 pictures [h, w, 3] in rows, each with up to three lines of its text; marked ones are framed in red."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + 6), rows * (height + 40)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        x, y = i % columns * (width + 6), i // columns * (height + 40)
        sheet.paste(Image.fromarray(picture), (x, y))
        if i < len(marked) and marked[i]:
            pen.rectangle((x, y, x + width - 1, y + height - 1), outline=(220, 40, 40), width=3)
        pen.multiline_text((x + 1, y + height + 1), "\n".join(textwrap.wrap(text, width // 6)[:3]), "black", spacing=0)
    sheet.save(path)
