"""Labels: wrapped without losing a word, and told apart in any writing, whatever fonts the machine has."""

from __future__ import annotations

import pytest

from llm_dit.study.grids import lettering
from llm_dit.study.grids.lettering import set_balanced, set_text, widest_word

CACHES = [thing for thing in vars(lettering).values() if hasattr(thing, "cache_clear")]


@pytest.fixture
def no_system_fonts(monkeypatch):
    for cache in CACHES:
        cache.cache_clear()
    monkeypatch.setattr(lettering, "_SYSTEM_FONTS", "no such font.ttf")
    yield
    for cache in CACHES:
        cache.cache_clear()


@pytest.mark.parametrize("width", [60, 90, 200, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "one two three " * 12,
        "a.very_long/setting-name=of,many:parts" * 4,
        "w" * 150,
        "漢字の林檎" * 9,
        "red яблоко تفاحة é",
    ],
)
def test_lines_fit_and_hold_the_whole_text(text, width):
    block = set_text(text.strip(), 15, width)
    assert block.width <= width
    told = "".join(block.lines).replace(" ", "")
    plain = "".join(set_text(text.strip(), 15).lines).replace(" ", "")
    assert told == plain


def test_words_break_only_when_they_must():
    text = "the encoder_layer.index of a prompt"
    width = widest_word(text, 15)
    assert set_text(text, 15, width).lines == ("the", "encoder_layer.index", "of a prompt")
    assert set_text("encoder_layer.index", 15, width * 0.8).lines == ("encoder_layer.", "index")
    assert set_text("two\nlines", 15, 500).lines == ("two", "lines")


def test_balanced_lines_are_no_more_lines():
    text = "a label of some words that just does not fit on one line"
    width = set_text(text, 15).width - 10
    plain, even = set_text(text, 15, width), set_balanced(text, 15, width)
    assert len(plain.lines) == len(even.lines) == 2
    assert even.width < 0.7 * plain.width


def test_too_many_lines_lose_the_middle():
    block = set_text(" ".join(map(str, range(1000))), 15, 100, max_lines=7)
    assert len(block.lines) == 7
    assert block.lines[4] == "..."
    assert (block.lines[0].split()[0], block.lines[-1].split()[-1]) == ("0", "999")


def test_without_fonts_labels_are_ascii_and_still_differ(no_system_fonts):
    texts = ["漢字", "漢学", "né", "ne", "\U0001f600", "5 \u2212 3", "Яблоко", "\x07bell"]
    told = [set_text(text, 15).lines for text in texts]
    assert len(set(told)) == len(texts)
    assert all(line.isascii() and line.isprintable() for lines in told for line in lines)
    assert told[0] == ("\\u6f22\\u5b57",)
    assert told[5] == ("5 - 3",)
    narrow = set_text("漢字の林檎", 15, 60)
    assert "".join(narrow.lines) == "\\u6f22\\u5b57\\u306e\\u6797\\u6a8e"
    assert all(line.startswith("\\u") and len(line) % 6 == 0 for line in narrow.lines), "an escape is never cut"


def test_a_label_is_set_in_one_font_that_has_it_all():
    if not any(name.startswith("DejaVu") for name in lettering._system_fonts()):
        pytest.skip("no DejaVu here")
    assert set_text("plain words", 15).faces == ()
    faces = dict(set_text("café Яблоко", 15).faces)
    assert set(faces) == set("café Яблоко")
    assert len(set(faces.values())) == 1


def test_signs_without_a_shape_are_left_out_and_accents_joined():
    assert set_text("a\u200db\ufe0f\u202e", 15).lines == ("ab",)
    assert set_text("e\u0301", 15).lines == set_text("\u00e9", 15).lines
    assert set_text("a\tb\u00a0c", 15).lines == ("a b c",)
