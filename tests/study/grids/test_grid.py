"""Grids: every picture where its labels say, every picture exactly once, nothing over its edge or too large."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from llm_dit.base.errors import ConfigError, OutputError
from llm_dit.study.grids.grid import Tile, choose_layout, draw_grids, plan_grids, save_image_grid
from llm_dit.study.grids.sheet import GROUND, Sheet, paint

LIGHTHOUSE = (
    "a tall lighthouse painted in faded red and white stripes standing on a rocky cliff above a stormy grey sea while "
    "a small fishing boat with one yellow sail tries to reach the harbour before the night falls and seagulls circle"
)


@pytest.fixture
def solid(tmp_path):
    """A picture file of one colour, and of its own colour for each number."""
    made = {}

    def make(number: int, size: tuple[int, int] = (32, 32)):
        if (number, size) not in made:
            path = tmp_path / "pictures" / f"{number}_{size[0]}x{size[1]}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", size, colour_of(number)).save(path)
            made[number, size] = path
        return made[number, size]

    return make


def colour_of(number: int) -> tuple[int, int, int]:
    return (number % 7 * 36, number // 7 % 7 * 36, number // 49 % 7 * 36)


def number_of(tile: Tile) -> int:
    return int(tile.path.stem.split("_")[0])


def table(solid, **axes: list[str]) -> list[Tile]:
    """A tile for every combination of labels, in nested order, each with its own picture."""
    places = [{}]
    for axis, labels in axes.items():
        places = [place | {axis: label} for place in places for label in labels]
    return [Tile(solid(number), place) for number, place in enumerate(places)]


def middle(box):
    return box[0] + box[2] // 2, box[1] + box[3] // 2


def inside(inner, outer, slack=0):
    return (
        inner[0] >= outer[0] - slack
        and inner[1] >= outer[1] - slack
        and inner[0] + inner[2] <= outer[0] + outer[2] + slack
        and inner[1] + inner[3] <= outer[1] + outer[3] + slack
    )


def overlap(a, b):
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def title_of(sheet: Sheet) -> str:
    return " / ".join(label.text for label in sheet.labels if label.axis in ("title", "page", "subtitle"))


def read_headers(sheet: Sheet, box, rows, columns) -> dict[str, str]:
    """The labels a reader finds for a place: above it in its column, and beside it, or last above, in the gutter."""
    x, y = middle(box)
    found = {}
    for axis in columns:
        (found[axis],) = [i.text for i in sheet.labels if i.axis == axis and i.box[0] <= x < i.box[0] + i.box[2]]
    for axis in rows:
        beside = [label for label in sheet.labels if label.axis == axis and label.box[1] <= y]
        found[axis] = max(beside, key=lambda label: label.box[1]).text
    return found


def test_every_tile_lands_where_its_labels_say(solid, tmp_path):
    rows, columns = ["prompt", "seed"], ["layer", "shift"]
    tiles = table(solid, prompt=["a cat", LIGHTHOUSE], seed=["0", "1", "2"], layer=["-2", "-8"], shift=["1", "3", "6"])
    (sheet,) = plan_grids(tiles, rows=rows, columns=columns, title="nested").values()
    (path,) = draw_grids(tiles, rows=rows, columns=columns, folder=tmp_path, name="nested", title="nested")
    drawn = Image.open(path)
    assert drawn.size == sheet.size
    assert len(sheet.spots) == len(tiles) == 36
    for spot in sheet.spots:
        assert drawn.getpixel(middle(spot.box)) == colour_of(number_of(spot.item))
        assert read_headers(sheet, spot.box, rows, columns) == spot.item.place


def test_labels_keep_the_order_in_which_they_come_and_nest(solid):
    tiles = table(solid, layer=["-8", "10", "-2"], seed=["7", "3"])
    assert [tile.place["layer"] for tile in tiles[:3]] == ["-8", "-8", "10"]
    (sheet,) = plan_grids(tiles, rows=[], columns=["layer", "seed"]).values()
    across = [label.text for label in sorted(sheet.labels, key=lambda i: i.box) if label.axis == "layer"]
    assert across == ["-8", "10", "-2"]
    # The labels' order is set by their first tile; the order of the rest does not matter.
    first, rest = tiles[:1], tiles[1:]
    random.Random(0).shuffle(rest)
    (mixed,) = plan_grids([*first, *rest], rows=[], columns=["layer", "seed"]).values()
    assert [s.item.place for s in sorted(mixed.spots, key=lambda s: s.box)][:2] == [t.place for t in tiles[:2]]


def test_axes_left_over_make_pages_that_say_so(solid, tmp_path):
    alike = LIGHTHOUSE + " again"
    tiles = table(solid, prompt=[LIGHTHOUSE, alike, "漢字 / ../x"], shift=["1", "3.5"], steps=["8"], seed=["0", "1"])
    sheets = plan_grids(tiles, rows=[], columns=["seed"], name="g", title="T")
    assert len(sheets) == len({name.lower() for name in sheets}) == 6
    assert sorted(number_of(spot.item) for sheet in sheets.values() for spot in sheet.spots) == list(range(12))
    for name, sheet in sheets.items():
        place = sheet.spots[0].item.place
        assert f"shift: {place['shift']}" in title_of(sheet)
        assert f"prompt: {place['prompt']}" in title_of(sheet)
        assert "steps: 8" in title_of(sheet)  # held fixed everywhere: told, but no page of its own
        assert place["shift"] in name
        assert "/" not in name
    written = draw_grids(tiles, rows=[], columns=["seed"], folder=tmp_path / "new", name="g", title="T")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in written)
    assert [p.stem for p in written] == list(sheets)


def test_a_huge_grid_is_split_with_its_headers_repeated(solid):
    rows, columns = ["prompt", "seed"], ["layer"]
    prompts = [LIGHTHOUSE if i == 3 else f"prompt number {i}" for i in range(10)]
    tiles = table(solid, prompt=prompts, seed=["0", "1", "2", "3"], layer=[str(-i) for i in range(30)])
    sheets = plan_grids(tiles, rows=rows, columns=columns, title="big", tile_size=64, max_side=900)
    assert len(sheets) > 4
    seen = sorted(tuple(spot.item.place.values()) for sheet in sheets.values() for spot in sheet.spots)
    assert seen == sorted(tuple(tile.place.values()) for tile in tiles)
    for number, (name, sheet) in enumerate(sheets.items(), 1):
        assert name == f"grid_part{number}"
        assert title_of(sheet) == f"big (part {number} of {len(sheets)})"
        assert max(sheet.size) <= 900
        for spot in sheet.spots:
            assert read_headers(sheet, spot.box, rows, columns) == spot.item.place
    widths = [len({spot.box[0] for spot in sheet.spots}) for sheet in sheets.values()]
    assert max(widths) - min(widths) <= 1, "columns are shared out evenly"


def test_a_part_never_outgrows_the_limit(solid):
    """Around the point where a table just fits: the words 'part 1 of 2' must not make it too high."""
    tiles = table(solid, row=[str(i) for i in range(4)], column=["a", "b", "c"])
    (whole,) = plan_grids(tiles, rows=["row"], columns=["column"], title="t").values()
    for limit in range(max(whole.size) - 40, max(whole.size) + 2, 3):
        sheets = plan_grids(tiles, rows=["row"], columns=["column"], title="t", max_side=limit)
        assert all(max(sheet.size) <= limit for sheet in sheets.values())
        assert sum(len(sheet.spots) for sheet in sheets.values()) == 12
        assert (len(sheets) == 1) == (max(whole.size) <= limit)


@pytest.mark.parametrize("tile_size", [32, 128, 512])
def test_labels_stay_in_their_boxes_and_off_everything_else(solid, tile_size):
    hard = [LIGHTHOUSE, "x" * 200, "sampler.some_very_long_setting.name=cinematic", "漢字の林檎" * 8]
    hard += ["تفاحة حمراء على الطاولة", "Яблоко é"]
    tiles = [
        Tile(solid(i + j, (512, 384)), {"prompt": row, "seed": seed, "template": column}, f"clip 0.31 {column[:30]}")
        for i, row in enumerate(hard)
        for j, column in enumerate(hard)
        for seed in ("1", "22")
    ]
    sheets = plan_grids(
        tiles, rows=["prompt", "seed"], columns=["template"], title=LIGHTHOUSE, subtitle="s" * 300, tile_size=tile_size
    )
    for sheet in sheets.values():
        whole = (0, 0, *sheet.size)
        for label in sheet.labels:
            _, _, width, height = label.box
            alone = Sheet((width + 40, height + 40), [replace(label, box=(20, 20, width, height))])
            ys, xs = np.any(np.array(paint(alone)) != GROUND, axis=2).nonzero()
            drawn = (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
            assert inside(drawn, alone.labels[0].box, slack=1), label.text
            assert inside(label.box, whole)
            assert label.block.size >= 10
        boxes = [label.box for label in sheet.labels] + [spot.box for spot in sheet.spots]
        assert not any(overlap(a, b) for a, b in combinations(boxes, 2))


def test_a_label_without_end_loses_its_middle_only(solid):
    words = " ".join(f"word{i}" for i in range(2000))
    (sheet,) = plan_grids([Tile(solid(1), {"prompt": words, "seed": "1"})], rows=["prompt"], columns=["seed"]).values()
    (label,) = [i for i in sheet.labels if i.axis == "prompt"]
    lines = label.block.lines
    assert len(lines) == 24
    assert lines[0].startswith("word0 ")
    assert "..." in lines
    assert lines[-1].endswith("word1999")
    assert sheet.size[1] < 1000


@pytest.mark.parametrize("rows", [["prompt"], ["prompt", "seed"]])
def test_rows_grow_when_a_label_is_higher_than_its_pictures(solid, rows):
    long = " ".join(f"word{i}" for i in range(2000))
    tiles = table(solid, prompt=[long + " a", long + " b", "c"], seed=["1"], layer=["-1", "-2"])
    (sheet,) = plan_grids(tiles, rows=rows, columns=["layer"]).values()
    boxes = [label.box for label in sheet.labels] + [spot.box for spot in sheet.spots]
    assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
    assert all(inside(box, (0, 0, *sheet.size)) for box in boxes)
    assert all(read_headers(sheet, s.box, rows, [])["prompt"] == s.item.place["prompt"] for s in sheet.spots)


def test_labels_grow_with_the_sheet_and_the_tile(solid):
    def text_size(count, tile):
        tiles = table(solid, layer=[str(i) for i in range(count)])
        (sheet,) = plan_grids(tiles, rows=[], columns=["layer"], tile_size=tile, max_side=20_000).values()
        return next(label.block.size for label in sheet.labels if label.axis == "layer")

    assert text_size(2, 32) >= 13
    assert text_size(2, 32) <= text_size(2, 320) < text_size(2, 1024)
    assert text_size(2, 256) < text_size(16, 256) <= 40


def test_missing_pictures_are_marked_and_do_not_stop_the_rest(solid, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:6000])
    sources = [solid(5, (64, 64)), None, *(tmp_path / name for name in ("nowhere.png", "text.png", "cut.png", "."))]
    tiles = [Tile(path, {"i": str(i)}) for i, path in enumerate(sources)]
    tiles.append(Tile(solid(5), {"i": "6"}, reason="failed"))  # a picture of an earlier run may still lie there
    (sheet,) = plan_grids(tiles, rows=[], columns=["i"]).values()
    (path,) = draw_grids(tiles, rows=[], columns=["i"], folder=tmp_path / "out", name="g")
    drawn = np.array(Image.open(path))
    looks = []
    for spot in sheet.spots:
        x, y, w, h = spot.box
        looks.append(drawn[y : y + h, x : x + w].tobytes())
    first, none, nowhere, text, cut, folder, failed = looks
    assert set(first) == set(colour_of(5))
    assert none == nowhere != text
    assert text == cut == folder
    assert len({first, none, text, failed}) == 4


def test_places_that_were_never_asked_for_are_not_called_missing(solid):
    tiles = table(solid, a=["1", "2"], b=["x", "y"])[:3]
    (sheet,) = plan_grids(tiles, rows=["b"], columns=["a"]).values()
    assert len(sheet.spots) == 3
    unset = [*tiles, Tile(solid(9), {"a": "", "c": "3"})]
    (sheet,) = plan_grids(unset, rows=["b"], columns=["a", "c"]).values()
    assert {label.text for label in sheet.labels} >= {"not set", "(empty)"}


@pytest.mark.parametrize(
    ("sizes", "tile_size", "box"),
    [
        ([(128, 128)], None, (256, 256)),
        ([(64, 64)], None, (128, 128)),
        ([(64, 48)], None, (128, 96)),
        ([(200, 200)], None, (200, 200)),  # 2x is too large and fractions blur
        ([(1024, 1024)], None, (256, 256)),
        ([(1024, 512)], None, (256, 128)),
        ([(1024, 512), (300, 900)], 512, (512, 512)),
        ([(64, 64), (1024, 1024)], 200, (200, 200)),
    ],
)
def test_pictures_shrink_to_fit_and_grow_by_whole_factors(solid, sizes, tile_size, box):
    tiles = [Tile(solid(i + 1, size), {"i": str(i)}) for i, size in enumerate(sizes)]
    (sheet,) = plan_grids(tiles, rows=[], columns=["i"], tile_size=tile_size).values()
    drawn = np.array(paint(sheet))
    for spot, size in zip(sheet.spots, sizes, strict=True):
        x, y, w, h = spot.box
        assert (w, h) == box
        inked = np.all(drawn[y : y + h, x : x + w] == colour_of(number_of(spot.item)), axis=2)
        ys, xs = inked.nonzero()
        wide, high = xs.max() - xs.min() + 1, ys.max() - ys.min() + 1
        scale = min(w / size[0], h / size[1])
        scale = int(scale) if scale >= 1 else scale
        assert (wide, high) == (round(size[0] * scale), round(size[1] * scale))
        assert abs(xs.min() - (w - wide) // 2) <= 1
        assert abs(ys.min() - (h - high) // 2) <= 1


def test_a_small_picture_grows_without_blur(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (sheet,) = plan_grids([Tile(tmp_path / "a.png", {})], rows=[], columns=[], tile_size=64).values()
    x, y, w, h = sheet.spots[0].box
    drawn = np.array(paint(sheet))[y : y + h, x : x + w]
    assert np.array_equal(drawn, noise.repeat(4, axis=0).repeat(4, axis=1))


def test_the_same_tiles_give_the_same_bytes(solid, tmp_path):
    tiles = table(solid, prompt=["a", LIGHTHOUSE, "漢字"], seed=["1", "2"])
    paths = [
        draw_grids(tiles, rows=["prompt"], columns=["seed"], folder=tmp_path / folder, name="g")[0] for folder in "ab"
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_cannot_be_laid_out_is_said(solid, tmp_path):
    tiles = table(solid, layer=["1", "2"], seed=["1", "2"])
    with pytest.raises(ConfigError, match=r"'layers' is not an axis of these pictures. Did you mean 'layer'"):
        plan_grids(tiles, rows=["layers"], columns=[])
    with pytest.raises(ConfigError, match="'seed' is named twice"):
        plan_grids(tiles, rows=["seed"], columns=["seed"])
    with pytest.raises(OutputError, match=r"two pictures for one place of the grid \(layer=1, seed=1\)"):
        plan_grids([*tiles, tiles[0]], rows=["layer"], columns=["seed"])
    with pytest.raises(OutputError, match=r"a tile of 256 pixels .* more than max_side=200"):
        plan_grids(tiles, rows=["layer"], columns=["seed"], tile_size=256, max_side=200)
    with pytest.raises(ConfigError, match="tile_size=3"):
        plan_grids(tiles, rows=["layer"], columns=["seed"], tile_size=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        draw_grids(tiles, rows=["layer"], columns=["seed"], folder=tmp_path / "file" / "x", name="g")
    assert draw_grids([], rows=["layer"], columns=["seed"], folder=tmp_path / "none", name="g") == []


@pytest.mark.parametrize(
    ("axes", "rows", "columns"),
    [
        ({"prompt": 5, "seed": 3}, ["prompt"], ["seed"]),
        ({"prompt": 5, "seed": 1}, ["prompt"], []),
        ({"layer": 4, "prompt": 5, "seed": 3}, ["prompt", "seed"], ["layer"]),
        ({"layer": 28, "prompt": 1, "seed": 1}, [], ["layer"]),
        ({"layer": 4, "shift": 2, "prompt": 5, "seed": 3}, ["prompt", "seed"], ["layer", "shift"]),
        ({"layer": 4, "shift": 5, "prompt": 5, "seed": 3}, ["shift", "seed"], ["layer"]),
        ({"layer": 2, "shift": 4, "steps": 3, "prompt": 5, "seed": 1}, ["steps"], ["layer", "shift"]),
        ({"layer": 1, "prompt": 1, "seed": 1}, [], []),
    ],
)
def test_a_layout_is_chosen_for_any_sweep(axes, rows, columns, solid):
    axes = {axis: [f"{axis}{i}" for i in range(count)] for axis, count in axes.items()}
    assert choose_layout(axes) == (rows, columns)
    tiles = table(lambda number: None, **axes)
    sheets = plan_grids(tiles, rows=rows, columns=columns, max_side=9000)
    assert sum(len(sheet.spots) for sheet in sheets.values()) == len(tiles)


def test_a_script_saves_pictures_it_has_at_hand(solid, tmp_path):
    images = [Image.new("RGB", (40, 40), "red"), solid(3, (60, 20)), Image.new("RGBA", (10, 10), (0, 0, 0, 0))]
    path = save_image_grid([*images, tmp_path / "nowhere.png"], tmp_path / "new" / "g.png", labels=["a", "b", "", "d"])
    drawn = np.array(Image.open(path)).reshape(-1, 3)
    for colour, count in (((255, 0, 0), 1600), (colour_of(3), 1200), ((255, 255, 255), 100)):
        assert np.all(drawn == colour, axis=1).sum() == count
    wide = save_image_grid(images, tmp_path / "wide.png", columns=9, title="three")
    assert Image.open(wide).size[1] < Image.open(path).size[1]
    large = save_image_grid([Image.new("RGB", (9000, 90))] * 3, tmp_path / "large.png", columns=1)
    assert max(Image.open(large).size) <= 8000
    for wrong in ({"labels": ["a"]}, {"columns": 0}):
        with pytest.raises(OutputError):
            save_image_grid(images, tmp_path / "g.png", **wrong)
    with pytest.raises(OutputError, match="no pictures"):
        save_image_grid([], tmp_path / "g.png")
    with pytest.raises(OutputError, match="must end in"):
        save_image_grid(images, tmp_path / "g.jpg")
