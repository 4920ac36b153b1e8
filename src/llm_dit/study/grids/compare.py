"""Pictures beside each other, and what differs between two of them.

difference draws it in three ways: absolute (|a - b|, amplified), highlight (b, grey where it equals a, changed
regions in colour with an outline) and heatmap (from black, equal, to pale yellow). measure says it in numbers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageFilter

from llm_dit.base.errors import ImageError, OutputError, nearest
from llm_dit.base.files import write_whole
from llm_dit.base.paths import user_path
from llm_dit.images.read import read_picture
from llm_dit.study.grids.sheet import Source, fit_picture, gallery, on_white, write_sheet

Mode = Literal["absolute", "highlight", "heatmap"]

AMPLIFY = 4.0
# Levels of 255 up to which two pixels count as equal: rounding on another device, not another picture.
TOLERANCE = 2
OUTLINE = (214, 28, 120)

# Ten evenly spaced colours of the map "inferno" by Nathaniel Smith and Stefan van der Walt (CC0,
# github.com/BIDS/colormap): lightness rises evenly, so equal steps of difference look like equal steps.
_INFERNO = "000004 1b0c42 4b0c6b 781c6d a52c60 cf4446 ed6925 fb9a06 f7d03c fcffa4"


@dataclass(frozen=True)
class Difference:
    """Between two pictures. mean and largest: of |a - b| over pixels and channels, in levels of 0..255.

    changed: share (0..1) of the pixels that differ by more than TOLERANCE levels in some channel.
    """

    mean: float
    largest: int
    changed: float


def measure(a: Source, b: Source) -> Difference:
    """How much two pictures differ. Raises ImageError when one cannot be read or their sizes differ."""
    delta = _delta(*_pair(a, b))
    return Difference(float(delta.mean()), int(delta.max()), float((delta.max(axis=2) > TOLERANCE).mean()))


def difference(a: Source, b: Source, mode: Mode = "absolute", amplify: float = AMPLIFY) -> Image.Image:
    """A picture (RGB, the size of a and b) of what differs between two pictures.

    amplify: absolute and heatmap show |a - b| times this; differences beyond full scale are cut off there.
    Raises ImageError when one cannot be read, their sizes differ, or mode or amplify is not valid.
    """
    if mode not in get_args(Mode):
        raise ImageError(f"mode='{mode}': no such way to show a difference. {nearest(mode, get_args(Mode))}")
    if not (math.isfinite(amplify) and amplify > 0):
        raise ImageError(f"amplify={amplify}: must be greater than 0.")
    first, second = _pair(a, b)
    delta = _delta(first, second)
    if mode == "absolute":
        return Image.fromarray(np.clip(np.rint(delta * amplify), 0, 255).astype(np.uint8))
    if mode == "heatmap":
        level = np.clip(delta.mean(axis=2) * (amplify / 255), 0, 1)
        return Image.fromarray(heat_colours()[np.rint(level * 255).astype(np.uint8)])
    return _highlight(second, delta.max(axis=2) > TOLERANCE)


def save_difference(
    a: Source,
    b: Source,
    path: str | Path,
    mode: Mode = "absolute",
    amplify: float = AMPLIFY,
    labels: tuple[str, str] = ("a", "b"),
) -> Path:
    """Write a | b | difference into one PNG, with the numbers in its heading; returns its path.

    Raises ImageError as difference does, OutputError when it cannot be written.
    """
    first, second = _pair(a, b)
    drawn = difference(first, second, mode, amplify)
    numbers = measure(first, second)
    how = {
        "absolute": f"difference x {amplify:g}",
        "highlight": "changed regions in colour",
        "heatmap": f"difference, black 0 to yellow {255 / amplify:.3g} of 255",
    }[mode]
    told = f"Mean absolute difference {numbers.mean:.3g} of 255, {numbers.changed:.1%} of pixels changed"
    # A picture smaller than its own labels is no use: small ones are shown larger, by a whole factor.
    height = first.height * max(1, 256 // max(first.size))
    return _beside([(labels[0], first), (labels[1], second), (how, drawn)], path, height, ("page", told))


def create_comparison_grid(pictures: Mapping[str, Source], path: str | Path, title: str = "") -> Path:
    """Write pictures (PIL images or files) side by side, at equal height, under their labels; returns the path.

    The height is that of the highest picture, 1024 pixels at most. Raises ImageError when a picture cannot be read
    or none was given, OutputError when the result cannot be written.
    """
    if not pictures:
        raise ImageError(f"{path}: no pictures were given to compare.")
    images = [(str(label), _read(source)) for label, source in pictures.items()]
    return _beside(images, path, min(1024, max(image.height for _, image in images)), ("title", title))


def save_metadata(path: str | Path, record: Mapping[str, Any]) -> Path:
    """Write a record as JSON beside a picture (X.png gives X.json), whole or not at all; returns the JSON's path.

    numpy numbers and arrays, paths and tuples are written as what they hold; numbers that are not finite as null.
    Raises OutputError when it cannot be written or holds something else, and for a JSON that is there and is neither
    this one nor a record of llm-dit.
    """
    path = user_path(path)
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".json"):
        path = path.with_suffix(".json")
    else:
        path = path.with_name(path.name + ".json")
    text = json.dumps(_plain(record, str(path)), indent=2, ensure_ascii=False)
    if os.path.lexists(path) and not _may_replace(path, text):
        raise OutputError(f"{path}: holds something else than a picture's record, so it is not written over.")
    write_whole({path: text.encode()})
    return path


def _may_replace(path: Path, text: str) -> bool:
    """Whether a file holds this very text or a record of a picture drawn here."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        there = path.read_text(encoding="utf-8")
        return there == text or "record_version" in dict(json.loads(there))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def heat_colours() -> np.ndarray:
    """The heat map's colours, uint8 [256, 3], straight lines between the ten of _INFERNO."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in _INFERNO.split()], dtype=float)
    at = np.linspace(0, len(anchors) - 1, 256)
    return np.stack([np.interp(at, range(len(anchors)), anchors[:, i]) for i in range(3)], axis=1).round().astype("u1")


def _highlight(image: Image.Image, changed: np.ndarray) -> Image.Image:
    """changed: bool [H, W]. Grey and pale where nothing changed; a coloured outline around what did."""
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None]
    pixels = np.where(changed[..., None], np.asarray(image, dtype=np.float32), 0.45 * grey + 0.55 * 235)
    mask = Image.fromarray(changed.astype(np.uint8) * 255)
    width = max(1, round(min(image.size) / 256))
    grown = np.asarray(mask.filter(ImageFilter.MaxFilter(2 * width + 1))) > 0
    pixels[grown & ~changed] = OUTLINE
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _beside(images: list[tuple[str, Image.Image]], path: str | Path, height: int, text: tuple[str, str]) -> Path:
    shown = []
    for label, image in images:
        width = max(1, round(image.width * height / image.height))
        if height % image.height == 0:
            shown.append((label, fit_picture(image, (width, height))))
        else:
            shown.append((label, image.resize((width, height), Image.Resampling.LANCZOS)))
    return write_sheet(gallery(shown, [image.size for _, image in shown], len(shown), [text]), path)


def _pair(a: Source, b: Source) -> tuple[Image.Image, Image.Image]:
    first, second = _read(a), _read(b)
    if first.size != second.size:
        sizes = [f"{image.width} x {image.height}" for image in (first, second)]
        raise ImageError(f"the pictures have different sizes, {sizes[0]} and {sizes[1]}; only equal sizes compare.")
    return first, second


def _read(source: Source) -> Image.Image:
    if source is None:
        raise ImageError("a picture to compare is missing (None).")
    return on_white(source) if isinstance(source, Image.Image) else read_picture(source)


def _delta(first: Image.Image, second: Image.Image) -> np.ndarray:
    """|a - b|, float32 [H, W, 3] in levels of 0..255."""
    return np.abs(np.asarray(first, dtype=np.float32) - np.asarray(second, dtype=np.float32))


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{where}: {key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, where) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), where)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise OutputError(f"{where}: a {type(value).__name__} cannot be written as JSON.")
