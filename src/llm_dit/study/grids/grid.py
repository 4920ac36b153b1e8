"""Grids of finished pictures: any axes on rows and columns, the rest as pages, captions under every picture.

draw_grids lays out the tiles of a sweep; choose_layout picks rows and columns when nobody has said; save_image_grid
is for scripts that just have some pictures. Planning is in layout.py, drawing in sheet.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_dit.base.errors import ConfigError, OutputError, nearest
from llm_dit.study.grids.layout import Key, Table, Tile, plan_table
from llm_dit.study.grids.sheet import Sheet, Source, fitted_size, gallery, picture_size, write_sheet

__all__ = ["Tile", "choose_layout", "draw_grids", "plan_grids", "save_image_grid"]

MAX_SIDE = 8000  # 8000 x 8000 is the largest picture that read_picture, and Pillow without a warning, opens again
UNSET, EMPTY = "not set", "(empty)"
MOST_COLUMNS = 8


def draw_grids(
    tiles: Sequence[Tile],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    folder: str | Path,
    name: str,
    title: str = "",
    subtitle: str = "",
    tile_size: int | None = None,
    max_side: int = MAX_SIDE,
) -> list[Path]:
    """Write the grids of some tiles as PNG files into a folder and return their paths; see plan_grids.

    Raises OutputError when they cannot be written.
    """
    sheets = plan_grids(
        tiles,
        rows=rows,
        columns=columns,
        name=name,
        title=title,
        subtitle=subtitle,
        tile_size=tile_size,
        max_side=max_side,
    )
    return [write_sheet(sheet, Path(folder) / f"{stem}.png") for stem, sheet in sheets.items()]


def plan_grids(
    tiles: Sequence[Tile],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    name: str = "grid",
    title: str = "",
    subtitle: str = "",
    tile_size: int | None = None,
    max_side: int = MAX_SIDE,
) -> dict[str, Sheet]:
    """File name without ending -> sheet.

    rows, columns: names of axes, outermost first. Labels keep the order in which the tiles bring them. An axis in
    neither makes pages, NAME_LABEL; if it has one label only, that is told in the heading and makes no page. A page
    larger than max_side pixels on a side becomes NAME_part1, NAME_part2, ... with the headers repeated.
    tile_size: the longest side a picture is drawn at, in pixels. None: 256, or twice the size of smaller pictures
    up to that. Pictures are made smaller with Lanczos and larger only by whole factors.

    A tile that lacks an axis has the label "not set" there, and an empty label is told as "(empty)". Raises
    ConfigError for an unknown axis, OutputError when two tiles have one place or when a tile with its labels is
    larger than max_side.
    """
    axes = axis_labels(tiles)
    _check_axes(axes, rows, columns)
    if not tiles:
        return {}
    if tile_size is not None and tile_size < 16:
        raise ConfigError(f"tile_size={tile_size}: at least 16 pixels.")
    box = _box(tiles, tile_size)
    shown = {*rows, *columns}
    constant = [f"{axis}: {labels[0]}" for axis, labels in axes.items() if axis not in shown and len(labels) == 1]
    paging = [axis for axis, labels in axes.items() if axis not in shown and len(labels) > 1]
    sheets: dict[str, Sheet] = {}
    for page, members in _by_labels(tiles, paging, axes).items():
        cells: dict[tuple[Key, Key], Tile] = {}
        for tile in members:
            place = (_key(tile, rows), _key(tile, columns))
            if place in cells:
                where = ", ".join(f"{axis}={label}" for axis, label in tile.place.items())
                raise OutputError(f"two pictures for one place of the grid ({where}); give them an axis that differs.")
            cells[place] = tile
        fixed = [f"{axis}: {label}" for axis, label in zip(paging, page, strict=True)]
        texts = [("title", title), ("page", "  ·  ".join(fixed + constant)), ("subtitle", subtitle)]
        row_keys, column_keys = (list(_by_labels(members, names, axes)) for names in (rows, columns))
        parts = plan_table(Table(rows, columns, row_keys, column_keys, cells, box, texts, max_side))
        stem = _unused("_".join([name, *map(_slug, page)]), len(parts), sheets)
        for number, sheet in enumerate(parts, 1):
            sheets[f"{stem}_part{number}" if len(parts) > 1 else stem] = sheet
    return sheets


def axis_labels(tiles: Sequence[Tile]) -> dict[str, list[str]]:
    """Every axis that any tile has -> its labels, both in order of first appearance."""
    names = list(dict.fromkeys(axis for tile in tiles for axis in tile.place))
    return {axis: list(dict.fromkeys(_label(tile, axis) for tile in tiles)) for axis in names}


def choose_layout(axes: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """(rows, columns) for the axes of a sweep, {name: labels}; what is in neither becomes pages.

    Axes with a single label stay out: they are told in the heading. Columns are swept settings, rows are the same
    picture under each of them, so that the eye compares along a row:

    - nothing swept: prompts down, seeds across;
    - swept axes are nested on the columns, in order, while they make at most 8 of them (the first always);
      rows are prompts, and in each its seeds;
    - if a swept axis does not fit, it goes down the rows with the seeds inside, and every prompt is a page: a plot
      of two settings per prompt. Swept axes beyond that are pages too.
    """
    many = [axis for axis, labels in axes.items() if len(labels) > 1]
    pictures = [axis for axis in ("prompt", "seed") if axis in many]
    swept = [axis for axis in many if axis not in pictures]
    if not swept:
        return [axis for axis in pictures if axis == "prompt"], [axis for axis in pictures if axis == "seed"]
    across = 1
    while across < len(swept) and math.prod(len(axes[axis]) for axis in swept[: across + 1]) <= MOST_COLUMNS:
        across += 1
    if across == len(swept):
        return pictures, swept
    return [swept[across], *(axis for axis in pictures if axis == "seed")], swept[:across]


def save_image_grid(
    images: Sequence[Source],
    path: str | Path,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> Path:
    """Pictures (PIL images or files) in reading order in one PNG; returns its path.

    They keep their size, unless the grid would be larger than MAX_SIDE. columns: about a square if None. labels: one
    above each picture. A file that is missing or unreadable is marked in its place. Raises OutputError.
    """
    if not images:
        raise OutputError(f"{path}: no pictures were given for the grid.")
    if labels is not None and len(labels) != len(images):
        raise OutputError(f"{path}: {len(labels)} labels for {len(images)} pictures.")
    if columns is not None and columns < 1:
        raise OutputError(f"{path}: columns={columns}; at least 1.")
    sizes = [picture_size(image) for image in images]
    known = [size for size in sizes if size] or [(256, 256)]
    empty = (max(w for w, _ in known), max(h for _, h in known))
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    room = round(0.9 * MAX_SIDE)  # the rest is for labels, gaps and margins
    room = (max(1, room // columns), max(1, room // math.ceil(len(images) / columns)))
    tiles = [fitted_size(size, (min(room[0], size[0]), min(room[1], size[1]))) for size in (s or empty for s in sizes)]
    named = list(zip(labels or [""] * len(images), images, strict=True))
    return write_sheet(gallery(named, tiles, columns, [("title", title)]), path)


def _check_axes(axes: Mapping[str, list[str]], rows: Sequence[str], columns: Sequence[str]) -> None:
    asked = [*rows, *columns]
    for axis in asked:
        if axes and axis not in axes:
            raise ConfigError(f"'{axis}' is not an axis of these pictures. {nearest(axis, axes)}")
        if asked.count(axis) > 1:
            raise ConfigError(f"'{axis}' is named twice for rows and columns; once is what a table can show.")


def _box(tiles: Sequence[Tile], tile_size: int | None) -> tuple[int, int]:
    """(width, height) that holds every picture at its drawn size."""
    sizes = [size for tile in tiles if not tile.reason and (size := picture_size(tile.path))]
    if not sizes:
        return (tile_size or 256,) * 2
    side = tile_size or min(256, 2 * max(max(size) for size in sizes))
    fitted = [fitted_size(size, (side, side)) for size in sizes]
    return max(w for w, _ in fitted), max(h for _, h in fitted)


def _key(tile: Tile, names: Sequence[str]) -> Key:
    return tuple(_label(tile, axis) for axis in names)


def _label(tile: Tile, axis: str) -> str:
    return tile.place.get(axis, UNSET) or EMPTY


def _by_labels(tiles: Sequence[Tile], names: Sequence[str], axes: Mapping[str, list[str]]) -> dict[Key, list[Tile]]:
    """Tiles by their labels on some axes, in nested order; only combinations that exist."""
    found: dict[Key, list[Tile]] = {}
    for tile in tiles:
        found.setdefault(_key(tile, names), []).append(tile)
    order = {axis: {label: i for i, label in enumerate(axes[axis])} for axis in names}
    return dict(sorted(found.items(), key=lambda item: [order[a][v] for a, v in zip(names, item[0], strict=True)]))


def _slug(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label.lower())[:40].strip("-_." if not label.startswith("-") else "_.") or "empty"


def _unused(stem: str, parts: int, taken: Mapping[str, Sheet]) -> str:
    """A stem that no sheet has yet: two long prompts may begin alike."""
    names = {re.sub(r"_part\d+$", "", name) for name in taken}
    return next(s for s in (stem, *(f"{stem}-{i}" for i in range(2, len(taken) + 3))) if s not in names)
