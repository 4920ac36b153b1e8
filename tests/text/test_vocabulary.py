"""What nano was taught: its file, how prompts are read by it, and what is found in it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from llm_dit.base.errors import ConfigError
from llm_dit.base.paths import shipped_vocabularies
from llm_dit.prompts.sets import load_prompts
from llm_dit.prompts.vocabulary import Reader, load_vocabulary, search

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def nano():
    return load_vocabulary("nano")


@pytest.fixture(scope="module")
def reader(nano):
    return Reader(nano)


def test_the_file_is_what_the_recipe_gives(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "nano"))
    before = set(sys.modules)
    write = importlib.import_module("write_vocabulary")
    assert write.TARGET.read_text(encoding="utf-8") == write.as_yaml(write.vocabulary()), "run write_vocabulary.py"
    for name in set(sys.modules) - before:
        if "experiments" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_it_holds_what_docs_promise_and_leads_nowhere_else(nano):
    assert shipped_vocabularies() == ["nano"]
    assert len(nano.all_subjects) == len(set(nano.all_subjects)) == 150
    assert nano.styles == ["cartoon", "flat", "3d"]
    assert len(nano.backgrounds) == 12
    taught = {*nano.all_subjects, *nano.styles, *nano.backgrounds, *nano.numbers}
    taught |= {word for words in nano.sizes.values() for word in words}
    assert {name for near in nano.related.values() for name in near} <= taught
    assert not set(nano.related) & set(nano.all_subjects)


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"model\.vocabulary=nanu: no such vocabulary\. Did you mean 'nano'\?"):
        load_vocabulary("nanu")


@pytest.mark.parametrize("name", ["starter", "nano_heldout", "nano_fit", "nano_long", "nano_emphasis"])
def test_every_prompt_of_a_set_that_nano_handles_is_known(reader, name):
    for prompt in load_prompts(name):
        said = reader.read(prompt.prompt)
        assert set(said.subjects) >= {e.value for e in prompt.elements if e.tag == "subject"}
        assert said.unknown == (), prompt.prompt


def test_of_the_held_out_prompts_only_the_untaught_number_words_are_unknown(reader):
    unknown = {word for p in load_prompts("nano_v1_heldout") for word in reader.read(p.prompt).unknown}
    assert unknown == {"trio", "twosome"}


@pytest.mark.parametrize(
    ("text", "subjects", "unknown", "near"),
    [
        ("a puppy", (), ("puppy",), "dog"),
        ("two puppies", (), ("puppies",), "dog"),
        ("an apple", (), ("apple",), "red apple"),
        ("a red aple", (), ("aple",), "red apple"),
        ("a giraffe, flat style, blue background", (), ("giraffe",), "horse"),
        ("an orange", (), (), "lemon"),
        ("a bannana", (), ("bannana",), "banana"),
        ("Two Foxes, 3D style, gray background", ("fox",), (), None),
        ("a hot-dog over the moon", ("hot dog", "moon"), (), None),
        ("a fox\u2019s key, cartoon-style", ("fox", "key"), (), None),
        ("a golden fox", ("fox",), ("golden",), "yellow"),
        ("five foxes", ("fox",), ("five",), "three"),
        ("7 tiny foxes", ("fox",), ("7",), "three"),
        ("a four leaf clover", ("four leaf clover",), (), None),
        ("a fox <lora:blob:0.8> (key:1.3)", ("fox", "key"), (), None),
        ("\u043b\u0438\u0441\u0430", (), ("\u043b\u0438\u0441\u0430",), None),
    ],
)
def test_a_prompt_is_read(reader, text, subjects, unknown, near):
    said = reader.read(text)
    assert (said.subjects, said.unknown) == (subjects, unknown)
    assert near in said.near if near else not said.near


def test_a_subject_is_known_in_every_form(nano, reader):
    for one in nano.all_subjects:
        for form in (one, nano.plurals.get(one, one), one.upper()):
            assert reader.read(f"a {form}, flat style").subjects == (one,)


@pytest.mark.parametrize(
    ("text", "some", "none"),
    [
        ("fru", {"banana", "pear"}, {"fox", "car"}),
        ("fruit", {"banana", "cherries"}, {"fox"}),
        ("animals", {"fox", "koala"}, {"car"}),
        ("ball", {"soccer ball", "basketball", "balloon"}, {"fox"}),
        ("a puppy and a phone", {"dog", "telephone"}, {"car"}),
        ("bannana", {"banana"}, {"fox"}),
        ("qwxyz", set(), {"fox"}),
    ],
)
def test_it_can_be_searched(nano, text, some, none):
    found = search(nano, text)
    assert set(found) >= some
    assert not set(found) & none
    assert bool(found) is bool(some)
