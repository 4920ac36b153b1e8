"""A sheet: pictures, labels and lines at known places, and the drawing of it.

Grids and comparisons are planned as sheets (boxes are (left, top, width, height) in pixels) and painted here, so
where a picture lands can be known, and tested, without looking at pixels.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from llm_dit.base.errors import ImageError, OutputError
from llm_dit.base.files import write_whole
from llm_dit.base.paths import user_path
from llm_dit.images.read import read_picture, to_rgb, upright_size
from llm_dit.records.picture import holds_text
from llm_dit.study.grids.lettering import COLOUR, Block, line_height, set_balanced, set_text, widest_word

Box = tuple[int, int, int, int]
Source = Image.Image | str | Path | None

SHEET_KEY = "llm_dit_sheet"  # a PNG text of every sheet: only what carries it is ever removed
GROUND: COLOUR = (250, 250, 248)
INK: COLOUR = (32, 33, 36)
MUTED: COLOUR = (108, 110, 116)
LINE: COLOUR = (206, 206, 200)
EMPTY: COLOUR = (238, 237, 232)
ALARM: COLOUR = (172, 60, 44)


@dataclass(frozen=True)
class Label:
    """Text in a box. axis: what it is about ("title", "caption", or the axis whose label it is)."""

    box: Box
    block: Block
    axis: str
    text: str
    colour: COLOUR = INK
    align: str = "left"


@dataclass(frozen=True)
class Spot:
    """The place of one picture. reason: why there is none (its source is then not looked at).

    item: whatever the planner laid out here, for those who ask where a thing landed.
    """

    box: Box
    source: Source
    reason: str = ""
    item: object = None


@dataclass
class Sheet:
    """Everything on one picture of size (width, height). lines: (x0, y0, x1, y1), one pixel wide."""

    size: tuple[int, int]
    labels: list[Label] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)
    lines: list[Box] = field(default_factory=list)


@dataclass(frozen=True)
class Measures:
    """Sizes in pixels that follow from the side of a tile, so that every sheet has the same proportions.

    label: a larger size for labels and titles, for sheets that will be looked at from afar.
    """

    tile: int
    label: int = 0

    @property
    def base(self) -> int:
        """Font size of a sheet of few tiles: never too small to read."""
        return max(13, round(self.tile * 0.062))

    @property
    def text(self) -> int:
        return max(self.base, self.label)

    @property
    def small(self) -> int:
        """Names of axes."""
        return round(self.text * 0.82)

    @property
    def caption(self) -> int:
        return round(self.base * 0.82)

    @property
    def title(self) -> int:
        return round(self.text * 1.45)

    @property
    def gap(self) -> int:
        """Between neighbouring tiles."""
        return max(4, round(self.tile * 0.03))

    @property
    def pad(self) -> int:
        """Between a label and what it labels."""
        return max(5, round(self.text * 0.45))

    @property
    def margin(self) -> int:
        return max(14, round(self.text * 1.25))


def picture_size(source: Source) -> tuple[int, int] | None:
    """(width, height) without reading the pixels of a file; None when there is no picture to read."""
    if isinstance(source, Image.Image):
        return source.size
    if source is None:
        return None
    try:
        return upright_size(source)
    except ImageError:
        return None


def on_white(image: Image.Image) -> Image.Image:
    """RGB, as read_picture makes it of a file. Raises ImageError."""
    return to_rgb(image)


def fitted_size(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """The size of a picture in a room: made smaller to fit, or larger by whole factors only."""
    scale = min(room[0] / size[0], room[1] / size[1])
    scale = math.floor(scale) if scale >= 1 else scale
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def fit_picture(image: Image.Image, room: tuple[int, int]) -> Image.Image:
    """A picture at its fitted_size: Lanczos when smaller, whole pixels repeated when larger."""
    size = fitted_size(image.size, room)
    smaller = size[0] < image.width or size[1] < image.height
    return image.resize(size, Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST)


def heading(texts: Sequence[tuple[str, str]], width: int, measures: Measures) -> tuple[list[Label], int]:
    """Labels for the top of a sheet and the y where its content begins. texts: (kind, text); empty ones are left out.

    Kinds: title, page, subtitle. width: of the sheet without its margins.
    """
    sizes = {"title": measures.title, "page": measures.text, "subtitle": measures.text}
    labels, y = [], measures.margin
    for kind, text in texts:
        if text:
            block = set_text(text, sizes[kind], width, max_lines=4 if kind == "title" else 8)
            colour = MUTED if kind == "subtitle" else INK
            labels.append(Label((measures.margin, y, width, block.height), block, kind, text, colour))
            y += block.height + (measures.pad if kind == "title" else 0)
    return labels, y + (2 * measures.pad if labels else 0)


def gallery(
    pictures: Sequence[tuple[str, Source]],
    tiles: Sequence[tuple[int, int]],
    columns: int,
    texts: Sequence[tuple[str, str]] = (),
) -> Sheet:
    """A sheet of labelled pictures, row by row. tiles: (width, height) of each picture's place; texts: as of heading.

    A column is as wide as its widest tile, a row as high as its highest; labels stand above and wrap.
    """
    measures = Measures(round(max(math.sqrt(width * height) for width, height in tiles)))
    count = len(pictures)
    widths = [max([*(t[0] for t in tiles[c::columns]), 4 * measures.text]) for c in range(min(columns, count))]
    blocks = [
        set_balanced(t, measures.text, widths[i % columns], 12) if t else None for i, (t, _) in enumerate(pictures)
    ]
    content = sum(widths) + (len(widths) - 1) * 2 * measures.gap
    natural = max((set_text(text, measures.title).width for _, text in texts), default=0)
    width = max(content, min(natural, 16 * measures.text))
    labels, y = heading(texts, width, measures)
    sheet = Sheet((width + 2 * measures.margin, 0), labels)
    for start in range(0, count, columns):
        row = range(start, min(start + columns, count))
        top = max((blocks[i].height + measures.pad if blocks[i] else 0) for i in row)
        high = max(tiles[i][1] for i in row)
        x = measures.margin
        for i in row:
            wide, block = widths[i - start], blocks[i]
            if block:
                box = (x, y + top - measures.pad - block.height, wide, block.height)
                sheet.labels.append(Label(box, block, "label", pictures[i][0], align="centre"))
            sheet.spots.append(Spot((x + (wide - tiles[i][0]) // 2, y + top, *tiles[i]), pictures[i][1]))
            x += wide + 2 * measures.gap
        y += top + high + 2 * measures.gap
    sheet.size = (sheet.size[0], y - 2 * measures.gap + measures.margin)
    return sheet


def paint(sheet: Sheet) -> Image.Image:
    """The sheet as an RGB picture. A file that cannot be read is marked in its place, never an error."""
    canvas = Image.new("RGB", sheet.size, GROUND)
    draw = ImageDraw.Draw(canvas)
    for line in sheet.lines:
        draw.line(line, fill=LINE)
    for spot in sheet.spots:
        left, top, width, height = spot.box
        image, reason = _load(spot)
        if image is None:
            _mark(draw, spot.box, reason)
        else:
            image = fit_picture(image, (width, height))
            canvas.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
    for label in sheet.labels:
        left, top, width, _ = label.box
        label.block.draw(draw, left, top, width, label.colour, label.align)
    return canvas


def write_sheet(sheet: Sheet, path: str | Path) -> Path:
    """Paint a sheet into a PNG, whole or not at all. Raises OutputError, also for a name that is not of a PNG
    or that something else than a sheet of ours has."""
    path = user_path(path)
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path}: it is written as PNG, so its name must end in .png.")
    if os.path.lexists(path) and not is_own_sheet(path):
        raise OutputError(f"{path}: not a sheet that was drawn by llm-dit, so it is not written over; move it away.")
    png = io.BytesIO()
    about = PngInfo()
    about.add_text(SHEET_KEY, "1")
    paint(sheet).save(png, "PNG", compress_level=4, pnginfo=about)
    write_whole({path: png.getvalue()})
    return path


def is_own_sheet(path: Path) -> bool:
    """Whether this is a PNG, and no link to one, that write_sheet wrote; those of version 0.2.0 do not say so."""
    return holds_text(path, SHEET_KEY)


def _load(spot: Spot) -> tuple[Image.Image | None, str]:
    if spot.reason or spot.source is None:
        return None, spot.reason or "missing"
    if not isinstance(spot.source, Image.Image) and not user_path(spot.source).exists():
        return None, "missing"
    try:
        return on_white(spot.source) if isinstance(spot.source, Image.Image) else read_picture(spot.source), ""
    except ImageError:
        return None, "unreadable"


def _mark(draw: ImageDraw.ImageDraw, box: Box, reason: str) -> None:
    """An empty place: pale, crossed out, with the reason in words."""
    left, top, width, height = box
    right, bottom = left + width - 1, top + height - 1
    draw.rectangle((left, top, right, bottom), fill=EMPTY, outline=LINE)
    draw.line((left, top, right, bottom), fill=LINE)
    draw.line((left, bottom, right, top), fill=LINE)
    size = Measures(max(width, height)).base
    room = (0.9 * width, height - line_height(size))
    while size > 9 and (widest_word(reason, size) > room[0] or set_text(reason, size, room[0]).height > room[1]):
        size -= 1
    block = set_text(reason, size, room[0], max_lines=max(1, room[1] // line_height(size)))
    y = top + (height - block.height) // 2
    pad = size // 3
    middle = left + width // 2
    half = block.width // 2 + pad
    draw.rectangle((middle - half, y - pad // 2, middle + half, y + block.height + pad // 2), fill=EMPTY)
    block.draw(draw, left, y, width, ALARM, "centre")
