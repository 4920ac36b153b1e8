"""Where everything of a table of pictures goes: nested headers, captions, and parts when it is too large.

title (part 2 of 6)
what this page holds fixed
                      column axis
                        label     label        an outer axis spans its inner ones
row axis  row axis       ...       ...
label     label       [picture] [picture]
                       caption   caption
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from llm_dit.base.errors import OutputError
from llm_dit.study.grids.lettering import Block, line_height, set_balanced, set_text, widest_word
from llm_dit.study.grids.sheet import MUTED, Label, Measures, Sheet, Spot, heading

Key = tuple[str, ...]  # the labels of a row or column, outermost axis first
LONGEST_LABEL = 24  # lines; a longer one loses its middle
ROOM = "{axes}: a tile of {tile} pixels with its labels needs {need} pixels of {side}, more than max_side={max_side}."


@dataclass(frozen=True)
class Tile:
    """One picture of a grid. path: None when there is none; place: axis -> label; caption: small text below.

    reason: why there is no picture ("failed"); without it the drawing finds "missing" or "unreadable" itself.
    """

    path: str | Path | None
    place: dict[str, str]
    caption: str = ""
    reason: str = ""


@dataclass
class Table:
    """One page of tiles, before it has a shape. box: (width, height) of the largest picture as drawn."""

    row_axes: Sequence[str]
    column_axes: Sequence[str]
    rows: list[Key]
    columns: list[Key]
    cells: dict[tuple[Key, Key], Tile]
    box: tuple[int, int]
    texts: list[tuple[str, str]]  # of the heading: title, page, subtitle
    max_side: int  # pixels of a sheet

    @cached_property
    def measures(self) -> Measures:
        """Labels grow with the number of tiles, to be read when the whole sheet is seen at once, but stay narrower
        than the columns they head."""
        tile = max(self.box)
        side = min(max(len(self.columns) * self.box[0], len(self.rows) * self.box[1]), self.max_side)
        size = round(min(side / 120, 0.15 * tile))
        labels = {key[-1] for key in self.columns if key}
        while size > Measures(tile).base and any(widest_word(label, size) > self.box[0] for label in labels):
            size -= 1
        return Measures(tile, size)

    @cached_property
    def cell_width(self) -> int:
        """Of the pictures, or wider where labels and captions would become columns of single letters."""
        m = self.measures
        labels = {key[-1] for key in self.columns if key}
        captions = {tile.caption for tile in self.cells.values() if tile.caption}
        width = max(self.box[0], 5 * m.base)
        while width < 14 * m.base and (
            any(len(set_text(text, m.text, width).lines) > 6 for text in labels)
            or any(len(set_text(text, m.base, width).lines) > 4 for text in captions)
        ):
            width += m.base
        return width

    @cached_property
    def caption_height(self) -> int:
        """The same below every picture of the page; 0 when no tile has a caption."""
        blocks = [self.caption(tile) for tile in self.cells.values() if tile.caption]
        return max((block.height for block in blocks), default=-self.measures.pad // 2) + self.measures.pad // 2

    @cached_property
    def caption_size(self) -> int:
        """Font size that grows with the labels, but not so far that a caption needs another line."""
        m = self.measures
        widest = max((set_text(tile.caption, m.small).width for tile in self.cells.values()), default=0)
        return max(m.caption, min(m.small, int(m.small * self.box[0] / max(1, widest))))

    def caption(self, tile: Tile) -> Block:
        return set_balanced(tile.caption, self.caption_size, self.cell_width, 8)

    @cached_property
    def gutters(self) -> list[int]:
        """Width of each row header: just enough for its labels to be no higher than their rows, within reason."""
        m = self.measures
        widths = []
        for level, axis in enumerate(self.row_axes):
            spans: dict[str, int] = {}  # the fewest rows that a label spans
            for rows in groups(self.rows, level):
                label = rows[0][level]
                spans[label] = min(spans.get(label, len(rows)), len(rows))
            natural = max(set_text(label, m.text).width for label in spans)
            width = min(natural, 11 * m.text)
            while width < min(natural, 24 * m.text) and any(
                set_text(label, m.text, width).height > rows * self.box[1] for label, rows in spans.items()
            ):
                width = min(natural, width + m.text)
            used = max(set_text(label, m.text, width).width for label in spans)
            widths.append(max(used, min(set_text(axis, m.small).width, 9 * m.text)))
        return widths

    @cached_property
    def left(self) -> int:
        """x of the first column of pictures."""
        m = self.measures
        return m.margin + sum(self.gutters) + 2 * m.pad * len(self.gutters)

    def gap(self, before: Key, after: Key) -> int:
        """Between two neighbours: wider where an outer label changes."""
        return self.measures.gap * (1 if before[:-1] == after[:-1] else 5)

    def starts(self, keys: Sequence[Key], sizes: Sequence[int]) -> tuple[list[int], int]:
        """Offset of each row or column, and the length of all together."""
        offsets, at = [], 0
        for i, size in enumerate(sizes):
            at += self.gap(keys[i - 1], keys[i]) if i else 0
            offsets.append(at)
            at += size
        return offsets, at

    def width_of(self, columns: Sequence[Key]) -> int:
        return self.starts(columns, [self.cell_width] * len(columns))[1]

    def row_heights(self, rows: Sequence[Key]) -> list[int]:
        """Of each row; the last of a group grows when the label that spans the group is higher than it."""
        m = self.measures
        heights = [self.box[1] + self.caption_height] * len(rows)
        for level in reversed(range(len(self.row_axes))):
            end = 0
            for group in groups(rows, level):
                start, end = end, end + len(group)
                label = set_text(group[0][level], m.text, self.gutters[level], LONGEST_LABEL)
                heights[end - 1] += max(0, label.height - self.starts(group, heights[start:end])[1])
        return heights

    def header_bands(self, columns: Sequence[Key]) -> list[tuple[int, int, int]]:
        """(height of the axis name, of the labels, and of both with space) of each level of column headers."""
        m, bands = self.measures, []
        width = self.width_of(columns)
        for level, axis in enumerate(self.column_axes):
            name = set_text(axis, m.small, width).height
            labels = max(
                set_balanced(group[0][level], m.text, self.width_of(group), LONGEST_LABEL).height
                for group in groups(columns, level)
            )
            bands.append((name, labels, name + labels + 2 * m.pad))
        if not bands and self.row_axes:
            bands.append((0, line_height(m.small), line_height(m.small) + m.pad))
        return bands

    def heading(self, width: int, part: str) -> tuple[list[Label], int]:
        texts = list(self.texts)
        if part:
            kinds = [kind for kind, text in texts if text]
            at = kinds.index("title") if "title" in kinds else 0
            texts = [t for t in texts if t[1]] or [("page", "")]
            texts[at] = (texts[at][0], f"{texts[at][1]} ({part})" if texts[at][1] else part)
        return heading(texts, width, self.measures)

    def sheet_width(self, columns: Sequence[Key]) -> int:
        """With margins; at least wide enough for a title to be read."""
        m = self.measures
        natural = max((set_text(text, m.title).width for _, text in self.texts), default=0)
        least = min(natural, 26 * m.text) + 2 * m.margin
        return max(self.left + self.width_of(columns) + m.margin, min(least, self.max_side))


def groups(keys: Sequence[Key], level: int) -> list[list[Key]]:
    """Neighbouring keys with the same labels down to a level: what one header at that level spans."""
    return [list(group) for _, group in groupby(keys, key=lambda key: key[: level + 1])]


def split(keys: list[Key], fits: Callable[[list[Key]], bool]) -> list[list[Key]]:
    """Keys in order, in as few parts that fit as possible, evenly filled where that works too."""
    parts: list[list[Key]] = [[]]
    for key in keys:
        if parts[-1] and not fits([*parts[-1], key]):
            parts.append([])
        parts[-1].append(key)
    count, n = len(parts), len(keys)
    even = [keys[i * n // count : (i + 1) * n // count] for i in range(count)]
    return even if all(map(fits, even)) else parts


def plan_table(table: Table) -> list[Sheet]:
    """The sheets of a table, row by row of parts; one when it fits. Raises OutputError when not even one tile does."""
    m, max_side = table.measures, table.max_side

    def top(columns: list[Key], part: str) -> int:
        width = table.sheet_width(columns) - 2 * m.margin
        return table.heading(width, part)[1] + sum(band[2] for band in table.header_bands(columns))

    def check(side: str, need: int) -> None:
        if need > max_side:
            axes = ", ".join([*table.row_axes, *table.column_axes])
            raise OutputError(ROOM.format(axes=axes, tile=m.tile, need=need, side=side, max_side=max_side))

    widest = table.left + table.cell_width + m.margin
    check("width", widest)
    across = split(table.columns, lambda columns: table.left + table.width_of(columns) + m.margin <= max_side)

    def height(rows: list[Key], part: str) -> int:
        return head[part] + table.starts(rows, table.row_heights(rows))[1] + m.margin

    # The words "part 2 of 6" take room themselves, so they are reckoned with only when there are parts.
    head = {part: max(top(columns, part) for columns in across) for part in ("", "part 999 of 999")}
    part = "" if len(across) == 1 and height(table.rows, "") <= max_side else "part 999 of 999"
    check("height", max(height([row], part) for row in table.rows))
    down = split(table.rows, lambda rows: height(rows, part) <= max_side)
    total = len(down) * len(across)
    sheets = []
    for rows in down:
        for columns in across:
            name = f"part {len(sheets) + 1} of {total}" if total > 1 else ""
            sheets.append(_plan_part(table, rows, columns, name))
    return sheets


def _plan_part(table: Table, rows: list[Key], columns: list[Key], part: str) -> Sheet:
    m = table.measures
    width = table.sheet_width(columns)
    labels, y = table.heading(width - 2 * m.margin, part)
    sheet = Sheet((width, 0), labels)
    xs, across = table.starts(columns, [table.cell_width] * len(columns))
    xs = [table.left + x for x in xs]
    header_top = y
    y = _column_headers(sheet, table, columns, xs, y)
    heights = table.row_heights(rows)
    ys, down = table.starts(rows, heights)
    ys = [y + offset for offset in ys]
    _row_headers(sheet, table, rows, ys)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            _cell(sheet, table, table.cells.get((row, column)), xs[j], ys[i])
    right, bottom = table.left + across, y + down
    for j in range(1, len(columns)):
        if columns[j][:-1] != columns[j - 1][:-1]:
            x = (xs[j - 1] + table.cell_width + xs[j]) // 2
            sheet.lines.append((x, header_top, x, bottom))
    for i in range(1, len(rows)):
        if rows[i][:-1] != rows[i - 1][:-1]:
            at = (ys[i - 1] + heights[i - 1] + ys[i]) // 2
            sheet.lines.append((m.margin, at, right, at))
    sheet.size = (width, bottom + m.margin)
    return sheet


def _column_headers(sheet: Sheet, table: Table, columns: list[Key], xs: list[int], y: int) -> int:
    """Add the bands of column headers and the names of the row axes; returns the y below them."""
    m = table.measures
    full = xs[-1] + table.cell_width - table.left
    bands = table.header_bands(columns)
    for level, axis in enumerate(table.column_axes):
        name, labels, band = bands[level]
        block = set_text(axis, m.small, full)
        sheet.labels.append(Label((table.left, y, full, name), block, f"name of {axis}", axis, MUTED))
        end = 0
        for group in groups(columns, level):
            x, end = xs[end], end + len(group)
            width = xs[end - 1] + table.cell_width - x
            text = group[0][level]
            block = set_balanced(text, m.text, width, LONGEST_LABEL)
            box = (x, y + m.pad // 2 + name + labels - block.height, width, block.height)
            sheet.labels.append(Label(box, block, axis, text, align="centre"))
        y += band
    if not table.column_axes:
        y += sum(band[2] for band in bands)
    x = m.margin
    for axis, width in zip(table.row_axes, table.gutters, strict=True):
        block = set_text(axis, m.small, width)
        box = (x, y - m.pad - block.height, width, block.height)
        sheet.labels.append(Label(box, block, f"name of {axis}", axis, MUTED))
        x += width + 2 * m.pad
    return y


def _row_headers(sheet: Sheet, table: Table, rows: list[Key], ys: list[int]) -> None:
    m = table.measures
    x = m.margin
    for level, axis in enumerate(table.row_axes):
        width, end = table.gutters[level], 0
        for group in groups(rows, level):
            top, end = ys[end], end + len(group)
            text = group[0][level]
            block = set_text(text, m.text, width, LONGEST_LABEL)
            if level == len(table.row_axes) - 1:  # beside the middle of its picture; spanning labels stay at the top
                top += max(0, (table.box[1] - block.height) // 2)
            sheet.labels.append(Label((x, top, width, block.height), block, axis, text))
        x += width + 2 * m.pad


def _cell(sheet: Sheet, table: Table, tile: Tile | None, x: int, y: int) -> None:
    m = table.measures
    left = x + (table.cell_width - table.box[0]) // 2
    if tile is None:  # never part of the study: a dash, not an alarm
        middle, half = (left + table.box[0] // 2, y + table.box[1] // 2), m.text // 2
        sheet.lines.append((middle[0] - half, middle[1], middle[0] + half, middle[1]))
        return
    sheet.spots.append(Spot((left, y, *table.box), tile.path, tile.reason, tile))
    if tile.caption:
        block = table.caption(tile)
        box = (x, y + table.box[1] + m.pad // 2, table.cell_width, block.height)
        sheet.labels.append(Label(box, block, "caption", tile.caption, MUTED, "centre"))
