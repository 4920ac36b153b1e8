"""What a prompt asks of nano's judge: by its elements, by its text, and what the judge cannot tell."""

from __future__ import annotations

import pytest

from llm_dit.metrics.nano_judge import NanoJudge, Vocabulary
from llm_dit.metrics.nano_judge.words import DIRECTIONS, LABELLED, SIZE_WORDS, relation_in
from llm_dit.prompts.sets import load_prompts


@pytest.fixture(scope="module")
def words():
    """The shipped vocabulary."""
    return NanoJudge(None, "cpu", 1).vocabulary


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red apple, 3d style, blue background", ("red apple", "3d", "blue")),
        ("A HOT DOG in Cartoon style on a Gray background.", ("hot dog", "cartoon", "grey")),
        ("flat style ice cream, pink background", ("ice cream", "flat", "pink")),
        ("yellow background, an owl, 3-D style", ("owl", "3d", "yellow")),
        ("fox, flat, teal", ("fox", "flat", "teal")),
        ("birthday cake cartoon brown", ("birthday cake", "cartoon", "brown")),
        ("a 3d picture of the moon on black", ("moon", "3d", "black")),
        ("please show me a volcano as a cartoon icon; make the background white", ("volcano", "cartoon", "white")),
        ("t-shirt | style: ink | background: red", ("t-shirt", "ink", "red")),
        ("a flat-style owl", ("owl", "flat", None)),
        ("a red car", ("car", None, None)),
        ("a big orange car, on orange", ("car", None, "orange")),
        ("a green car, orange background", ("car", None, "orange")),
        ("a carpet, a caterpillar and a cargo ship", (None, None, None)),
        ("an orange and green tulip in front of a plain purple background", ("tulip", None, "purple")),
        ("a drawing that falls flat", (None, "flat", None)),
        ("", (None, None, None)),
    ],
)
def test_subject_style_and_colour(words, prompt, expected):
    wanted = {kind: word for kind, word in zip(LABELLED, expected, strict=True) if word}
    if "subject" in wanted:
        wanted["subject"] = (wanted["subject"],)
    assert {kind: word for kind, word in words.asked(prompt).items() if kind in LABELLED} == wanted


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("foxes on a red background", {"subject": ("fox",), "count": None, "colour": "red"}),
        ("four foxes", {"subject": ("fox",), "count": None}),
        ("several sheep", {"subject": ("sheep",), "count": None}),
        ("a pair of lovely foxes", {"subject": ("fox",), "count": 2}),
        ("a pair of scissors", {"subject": ("scissors",)}),
        ("a trio of mice, flat", {"subject": ("mouse",), "count": 3, "style": "flat"}),
        ("1 fox 3d blue", {"subject": ("fox",), "count": 1, "style": "3d", "colour": "blue"}),
        ("one tiny owl", {"subject": ("owl",), "count": 1, "size": "small"}),
        ("a huge red fox", {"subject": ("fox",), "size": "large"}),
        ("a tiny big fox", {"subject": ("fox",), "size": None}),
        ("three tiny foxes", {"subject": ("fox",), "count": 3, "size": None}),
        ("a small square poster of a fox", {"subject": ("fox",)}),
    ],
)
def test_counts_and_sizes(words, prompt, expected):
    assert words.asked(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "relation"),
    [
        ("a fox left of a key", "left of"),
        ("a fox on the right and a key on the left", "right of"),
        ("a key with a fox to its right", "left of"),
        ("a fox and a key below it", "above"),
        ("a hot dog underneath a hot pepper, on top", None),
        ("a red apple lower than a green apple, painted all over in white", None),
        ("Painted all over. A red apple lower than a green apple", "below"),
        ("a fox next to a key", None),
        ("a fox right next to a key", None),
        ("a fox riding a horse", None),
        ("a fox in a top hat", None),
        ("on the left a fox, on the right a key", None),
        ("a fox and an owl, the fox on the left", None),
        ("a fox left of and above a key", None),
    ],
)
def test_relations(words, prompt, relation):
    asked = words.asked(prompt)
    assert len(asked["subject"]) == 2
    assert asked["relation"] == relation


def test_two_without_a_relation_and_three(words):
    assert words.asked("A fox and an owl") == {"subject": ("fox", "owl")}
    assert words.asked("(volcano) and snowman, flat") == {"subject": ("volcano", "snowman"), "style": "flat"}
    assert words.asked("a fox, an owl and a key left of it") == {"subject": None}
    asked = words.asked("a cat and a dog, flat style, red and blue")
    assert asked == {"subject": ("cat", "dog"), "style": "flat", "colour": None}


def test_number_or_size_of_one_of_two_cannot_be_told(words):
    two = {"subject": ("fox", "key"), "relation": "left of"}
    assert words.asked("two foxes left of a key") == two | {"count": None}
    assert words.asked("a fox left of three keys") == two | {"count": None}
    assert words.asked("a small fox left of a key") == two | {"size": None}


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ([("subject", "fox"), ("color", "Gray"), ("style", "3D")],
         {"subject": ("fox",), "colour": "grey", "style": "3d"}),
        ([("subject", "key"), ("subject", "fox"), ("relation", "left of")],
         {"subject": ("key", "fox"), "relation": "left of"}),
        ([("subject", "fox"), ("count", "two"), ("mood", "calm")], {"subject": ("fox",), "count": 2}),
        ([("subject", "fox"), ("size", "huge")], {"subject": ("fox",), "size": "large"}),
        ([("subject", "a fox")], {"subject": None}),
        ([("subject", "fox"), ("subject", "lighthouse")], {"subject": None}),
        ([("subject", "fox"), ("subject", "owl"), ("subject", "key")], {"subject": None}),
        ([("subject", "fox"), ("subject", "fox")], {"subject": ("fox",)}),
        ([("style", "flat"), ("style", "ink")], {"style": None}),
        ([("subject", "fox"), ("relation", "left of")], {"subject": ("fox",), "relation": None}),
        ([("subject", "fox"), ("subject", "key"), ("relation", "behind")],
         {"subject": ("fox", "key"), "relation": None}),
        ([("count", "two")], {"count": None}),
        ([("subject", "fox"), ("count", "three"), ("size", "small")],
         {"subject": ("fox",), "count": 3, "size": None}),
        ([("text", "HELLO")], {}),
    ],
)  # fmt: skip
def test_elements_win_over_the_text(words, elements, expected):
    assert words.asked("an owl, cartoon style, brown background", elements) == expected


@pytest.mark.parametrize("name", ["starter", "nano_heldout", "nano_v1_heldout", "nano_fit", "nano_long", "nano_ink"])
def test_the_prompt_s_words_are_its_elements(words, name):
    for prompt in load_prompts(name):
        from_elements = words.asked("", prompt.elements)
        assert words.asked(prompt.prompt) == from_elements, prompt.prompt
        assert None not in from_elements.values()


def test_numbers_are_the_network_s(words):
    asked = {"subject": ("fox", "key"), "style": "flat", "colour": None, "relation": "above"}
    fox, key = (list(words.index["subject"]).index(word) for word in ("fox", "key"))
    flat = list(words.index["style"]).index("flat")
    assert words.numbers(asked) == {"subject": (fox, key), "style": flat, "colour": None, "relation": "above"}


def test_a_vocabulary_of_other_words():
    words = Vocabulary({"subject": ["a.b", "a"], "style": ["ink"], "colour": ["red"]}, {"a.b": "a.bs"})
    assert words.asked("2 a.bs in ink") == {"subject": ("a.b",), "count": 2, "style": "ink"}


def test_each_direction_is_told_by_its_own_words():
    for relation in DIRECTIONS:
        assert relation_in("", f" {relation} a ", "") == {"relation": relation}
    assert not set(SIZE_WORDS["small"]) & set(SIZE_WORDS["large"])
