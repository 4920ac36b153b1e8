"""Words read in pictures that have them drawn, and how readings are compared."""

from __future__ import annotations

import sys

import pytest
from PIL import Image, ImageDraw, ImageFont
from tiny_metrics import picture

from llm_dit.base.errors import ConfigError
from llm_dit.config import OcrMetric
from llm_dit.metrics.base import Sample
from llm_dit.metrics.ocr import Ocr, best_match, edit_distance, fold
from llm_dit.prompts.sets import Element


def sign(*lines: str, size: int = 256) -> Image.Image:
    """White lettering on a dark ground."""
    image = Image.new("RGB", (size, size), (30, 40, 90))
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        font = ImageFont.load_default(size / 6)
        draw.text((size / 12, size / 5 + number * size / 4), line, fill="white", font=font)
    return image


def values(*samples):
    return [score.values for score in Ocr(OcrMetric(), "cpu", 4).score(samples)]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="RapidOCR's engine is made for Python below 3.13")
def test_words_that_are_drawn_are_read():
    pytest.importorskip("rapidocr_onnxruntime", reason="needs: uv sync --extra ocr")
    bread = Element("text", "Fresh Bread")
    right, small, other, two, none = values(
        Sample(sign("FRESH", "BREAD"), "x", (Element("subject", "a sign"), bread)),
        Sample(sign("OPEN", size=128), "x", (Element("text", "Open"),)),
        Sample(sign("CLOSED"), "x", (bread,)),
        Sample(sign("OPEN", "SOUP"), "x", (Element("text", "OPEN"), Element("text", "TEA"))),
        Sample(picture(0), "x", (Element("subject", "a sign"),)),
    )
    assert right == {"ocr": 1, "ocr_exact": 1}
    assert small == {"ocr": 1, "ocr_exact": 1}
    assert other["ocr"] < 0.5
    assert other["ocr_exact"] == 0
    assert 0.5 <= two["ocr"] < 1
    assert two["ocr_exact"] == 0
    assert none == {"ocr": None, "ocr_exact": None}
    assert values(Sample(picture(0), "x", (bread,))) == [{"ocr": 0, "ocr_exact": 0}]
    metric = Ocr(OcrMetric(), "cpu", 4)
    assert metric.identity.startswith("ocr v1 rapidocr=1.")
    assert "sha256=" in metric.identity


@pytest.mark.parametrize(
    ("asked", "lines", "expected"),
    [
        ("FRESH BREAD", ["fresh  bread"], 1),
        ("FRESH BREAD", ["FRESHBREAD"], 1),
        ("FRESH BREAD", ["FRESH", "BREAD"], 1),
        ("OPEN", ["ALWAYS OPEN", "24 H"], 1),
        ("OPEN", ["OPPEN"], 0.8),
        ("OPEN", ["OPE"], 0.75),
        ("OPEN", ["REOPENED"], 0.5),
        ("OPEN", [], 0),
        ("OPEN", ["xyzw"], 0),
        ("Soup 4", ["Soup 5", "Tea 2"], 0.8),
        ("STRASSE", ["Straße"], 1),
        ("", ["x"], 1),
    ],
)
def test_the_best_run_of_words_counts(asked, lines, expected):
    assert best_match(asked, lines) == pytest.approx(expected)


def test_edit_distance():
    assert [edit_distance(*pair) for pair in (("kitten", "sitting"), ("", "abc"), ("abc", ""), ("a", "a"))] == [
        3,
        3,
        3,
        0,
    ]
    assert fold(" A\tB\n") == "ab"


def test_without_the_package_it_says_which_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    with pytest.raises(ConfigError, match=r"metrics\.ocr: needs RapidOCR.*uv sync --extra ocr") as caught:
        _ = Ocr(OcrMetric(), "cpu", 1).identity
    assert "3.13" not in str(caught.value)
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(ConfigError, match=r"Python below 3\.13"):
        _ = Ocr(OcrMetric(), "cpu", 1).identity
