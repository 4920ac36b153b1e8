"""Comparisons: differences of pictures that are known, and errors for what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llm_dit.base.errors import ImageError, OutputError
from llm_dit.study.grids.compare import (
    OUTLINE,
    create_comparison_grid,
    difference,
    heat_colours,
    measure,
    save_difference,
    save_metadata,
)


@pytest.fixture
def pair():
    """Two pictures of 40 x 20 that differ by (10, 20, 0) in a block of 5 x 4, and by rounding beside it."""
    a = np.full((20, 40, 3), 100, dtype=np.uint8)
    b = a.copy()
    b[8:12, 10:15] += np.array([10, 20, 0], dtype=np.uint8)
    b[0, 0] = 102
    return Image.fromarray(a), Image.fromarray(b)


def test_absolute_is_the_difference_times_its_factor(pair):
    drawn = np.array(difference(*pair, "absolute", amplify=4))
    assert drawn[9, 12].tolist() == [40, 80, 0]
    assert drawn[0, 0].tolist() == [8, 8, 8]
    drawn[8:12, 10:15] = drawn[0, 0] = 0
    assert not drawn.any()
    assert np.array(difference(*pair, "absolute", amplify=100))[9, 12].tolist() == [255, 255, 0]
    assert np.array_equal(difference(*pair), difference(*reversed(pair))), "of either way round"


def test_highlight_keeps_the_colour_of_what_changed(pair):
    drawn = np.array(difference(*pair, "highlight"))
    second = np.array(pair[1])
    assert np.array_equal(drawn[8:12, 10:15], second[8:12, 10:15])
    ring = np.zeros((20, 40), dtype=bool)
    ring[7:13, 9:16] = True
    ring[8:12, 10:15] = False
    assert (drawn[ring] == OUTLINE).all()
    rest = ~ring
    rest[8:12, 10:15] = False
    assert (np.ptp(drawn[rest], axis=1) == 0).all(), "grey"
    assert drawn[0, 0].min() > second[0, 0].max(), "and pale; rounding is no change"


def test_a_heat_map_rises_from_black_to_pale(pair):
    colours = heat_colours()
    assert colours[0].tolist() == [0, 0, 4]
    assert colours[-1].tolist() == [252, 255, 164]
    lightness = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.5).all()
    drawn = np.array(difference(*pair, "heatmap", amplify=5))
    assert drawn[5, 5].tolist() == colours[0].tolist()
    assert drawn[9, 12].tolist() == colours[50].tolist()  # a mean of 10 levels, times 5
    black, white = Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2), "white")
    assert np.array(difference(black, white, "heatmap"))[0, 0].tolist() == colours[-1].tolist()


def test_numbers_say_how_much(pair):
    numbers = measure(*pair)
    assert numbers.mean == pytest.approx((20 * 30 + 6) / (20 * 40 * 3))
    assert numbers.changed == pytest.approx(20 / 800)
    assert numbers.largest == 20
    same = measure(pair[0], pair[0])
    assert (same.mean, same.largest, same.changed) == (0.0, 0, 0.0)


@pytest.mark.parametrize("mode", ["absolute", "highlight", "heatmap"])
def test_equal_pictures_show_no_difference(pair, mode):
    drawn = np.array(difference(pair[0], pair[0], mode))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_what_cannot_be_compared_is_said(pair, tmp_path):
    a, b = pair
    with pytest.raises(ImageError, match="different sizes, 40 x 20 and 20 x 40"):
        difference(a, b.transpose(Image.Transpose.ROTATE_90))
    with pytest.raises(ImageError, match="there is no such picture"):
        measure(a, tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="Did you mean 'heatmap'"):
        difference(a, b, "heatmaps")
    for amplify in (0, -1, float("nan")):
        with pytest.raises(ImageError, match="amplify"):
            difference(a, b, amplify=amplify)
    with pytest.raises(ImageError, match="no pictures"):
        create_comparison_grid({}, tmp_path / "a.png")
    with pytest.raises(ImageError, match="missing"):
        create_comparison_grid({"a": None}, tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["absolute", "highlight", "heatmap"])
def test_a_panel_shows_both_and_the_difference(pair, tmp_path, mode):
    a, b = pair
    b.save(tmp_path / "b.png")
    path = save_difference(a, tmp_path / "b.png", tmp_path / "panel.png", mode, labels=("before", "after"))
    drawn = np.array(Image.open(path))
    factor = 256 // 40
    high, wide = 20 * factor, 40 * factor
    expected = [np.array(i).repeat(factor, 0).repeat(factor, 1) for i in (a, b, difference(a, b, mode))]
    top = np.all(drawn == 100, axis=2).any(axis=1).argmax()  # the first row of a; text is never this grey
    left = np.all(drawn[top] == 100, axis=1).argmax()
    assert np.array_equal(drawn[top : top + high, left : left + wide], expected[0])
    strip = drawn[top : top + high]
    for picture in expected[1:]:
        found = [x for x in range(strip.shape[1] - wide + 1) if np.array_equal(strip[:, x : x + wide], picture)]
        assert len(found) == 1
    again = save_difference(a, b, tmp_path / "again.png", mode, labels=("before", "after"))
    assert again.read_bytes() == path.read_bytes()


def test_pictures_stand_side_by_side_at_equal_height(tmp_path):
    sizes = {"small": (30, 20), "large": (90, 120), "odd": (70, 50)}
    colours = {"small": (255, 0, 0), "large": (0, 255, 0), "odd": (0, 0, 255)}
    images = {name: Image.new("RGB", sizes[name], colours[name]) for name in sizes}
    drawn = np.array(Image.open(create_comparison_grid(images, tmp_path / "a.png", title="sizes")))
    starts = []
    for name, (width, height) in sizes.items():
        ys, xs = np.all(drawn == colours[name], axis=2).nonzero()
        assert np.ptp(ys) + 1 == 120
        assert np.ptp(xs) + 1 == round(width * 120 / height)
        starts.append((ys.min(), xs.min()))
    assert len({y for y, _ in starts}) == 1
    assert [x for _, x in starts] == sorted(x for _, x in starts)


def test_metadata_lies_beside_its_picture_as_plain_json(tmp_path):
    record = {
        "clip": np.float32(0.5),
        "bad": float("nan"),
        "list": np.arange(3),
        "size": (2, 3),
        "path": Path("x"),
        1: None,
        "漢字": True,
    }
    path = save_metadata(tmp_path / "new" / "a.b.png", record)
    assert path == tmp_path / "new" / "a.b.json"
    told = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert told == {
        "clip": 0.5, "bad": None, "list": [0, 1, 2], "size": [2, 3], "path": "x", "1": None, "漢字": True,
    }  # fmt: skip
    assert save_metadata(tmp_path / "shift-3.5", {}).name == "shift-3.5.json"
    with pytest.raises(OutputError, match="inner: a set cannot be written"):
        save_metadata(tmp_path / "x.png", {"outer": {"inner": {1}}})
    assert not (tmp_path / "x.json").exists()
