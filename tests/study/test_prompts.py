"""Prompt sets: the shipped ones hold what they promise, filters combine, mistakes in a file or a filter are named."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from llm_dit.base.errors import PromptError
from llm_dit.prompts.sets import (
    DIFFICULTIES,
    NOT_VISIBLE,
    Element,
    list_prompt_sets,
    load_prompt_set,
    load_prompts,
    parse_prompt_set,
)

ROOT = Path(__file__).parents[2]
NANO = ROOT / "experiments" / "nano"
CATEGORIES = {
    "animals", "humans", "scenes", "landscapes", "artistic_styles", "bias_probing", "simple_objects", "lighting",
    "abstract", "technical", "text_rendering", "long_prompts",
}  # fmt: skip
SMALL = """
version: 2
description: for tests
prompts:
- {id: a, category: animals, difficulty: easy, prompt: a cat, elements: [{subject: a cat}]}
- {id: b, category: animals, difficulty: hard, prompt: two cats, elements: [{count: two cats}, {charged_word: cats}]}
- {id: c, category: things, prompt: a cup, notes: with a handle}
"""


@pytest.fixture
def small(tmp_path):
    """A set of three prompts, as a path."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture
def nano_recipe(monkeypatch):
    """Modules of experiments/nano, by name."""
    monkeypatch.syspath_prepend(str(NANO))
    return importlib.import_module


def words(prompt):
    return len(prompt.prompt.split())


def test_a_set_comes_in_file_order_with_its_defaults(small):
    a, b, c = load_prompts(small)
    assert (a.id, a.category, a.difficulty, a.prompt, a.notes) == ("a", "animals", "easy", "a cat", "")
    assert a.elements == (Element("subject", "a cat"),)
    assert b.checkable == (Element("count", "two cats"),)
    assert (c.difficulty, c.elements, c.notes) == ("medium", (), "with a handle")
    whole = load_prompt_set(str(small))
    assert (whole.name, whole.version, whole.description, len(whole.prompts)) == ("small", 2, "for tests", 3)


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, "abc"),
        ({"ids": ["c", "a"]}, "ac"),
        ({"categories": ["animals"]}, "ab"),
        ({"difficulties": ["easy", "medium"]}, "ac"),
        ({"categories": ["animals"], "difficulties": ["hard"]}, "b"),
        ({"count": 1}, "a"),
        ({"count": 2}, "ac"),
        ({"count": 1, "difficulties": ["medium"]}, "c"),
        ({"count": 9}, "abc"),
    ],
)
def test_filters_combine_and_count_takes_some_of_what_is_left(small, filters, ids):
    assert [p.id for p in load_prompts(small, **filters)] == list(ids)


def shares(prompts, tag):
    """How many prompts have each category, or each value of an element."""
    if tag == "category":
        return Counter(p.category for p in prompts)
    return Counter(e.value for p in prompts for e in p.elements if e.tag == tag)


@pytest.mark.parametrize("name", ["nano_heldout", "starter", "nano_long", "nano_emphasis", "standard"])
def test_a_count_is_a_balanced_choice_and_part_of_every_larger_one(name):
    whole, smaller = load_prompts(name), set()
    for count in range(1, len(whole) + 1):
        chosen = load_prompts(name, count=count)
        assert len(chosen) == count
        assert chosen == [p for p in whole if p in chosen], "in the order of the file"
        assert smaller < {p.id for p in chosen}
        smaller = {p.id for p in chosen}
        most, mine = shares(whole, "category"), shares(chosen, "category")
        for a, b in itertools.permutations(most, 2):
            assert mine[a] <= mine[b] + 1 or mine[b] == most[b], "no category is behind unless it is used up"
    six = load_prompts("nano_heldout", count=6)
    assert shares(six, "category") == {"new_phrasing": 3, "known_phrasing": 3}
    assert shares(six, "style") == {"cartoon": 2, "3d": 2, "flat": 2}
    assert len(shares(six, "colour")) == 6


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"ids": ["xyz"]}, r"prompts.ids: 'xyz' is none of the set's. Valid: a, b, c."),
        ({"categories": ["animal"]}, "prompts.categories: 'animal' .* Did you mean 'animals'"),
        ({"difficulties": ["hart"]}, "prompts.difficulties: 'hart' .* Did you mean 'hard'"),
        ({"categories": "animals"}, r"must be a list, such as \[animals\]"),
        ({"count": 0}, "prompts.count=0: must be at least 1"),
        ({"difficulties": ["extreme"]}, r"passes prompts.difficulties=\[extreme\]"),
        (
            {"categories": ["things"], "ids": ["a", "b"]},
            r"prompts.ids=\[a,b\], prompts.categories=\[things\] .*animals \(easy 1, hard 1\), things \(medium 1\)",
        ),
    ],
)
def test_a_filter_that_cannot_be_right_is_an_error(small, filters, message):
    with pytest.raises(PromptError, match=message):
        load_prompts(small, **filters)


def test_a_long_list_of_valid_ids_is_not_poured_out():
    with pytest.raises(PromptError, match="The set has 87, from abstract_001 to text_008"):
        load_prompts("standard", ids=["xyz"])


ENTRY = "{id: a, category: c, prompt: p%s}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("", "must be a mapping with the keys version, description and prompts"),
        ("- a", "must be a mapping"),
        ("prompts: []", "at least one prompt"),
        ("prompts: {a: b}", "must be a list"),
        ("prompts: [a]\nversoin: 1", "unknown key 'versoin'. Did you mean 'version'"),
        (f"prompts: [{ENTRY % ''}]\nversion: one", "'version' must be a whole number"),
        ("prompts:\n- id: a\n  prompt: p\n  id: b\n", "line 2: 'id' stands twice; is a '-' missing"),
        ("prompts: &all [*all]", "prompt 1: must be a mapping"),
        ("prompts: [a]\n---\nb", "not valid YAML"),
        ("prompts: [a]\nversion: !!python/name:os.system x", "not valid YAML"),
        ("prompts: [{id: 2024-13-45, category: c, prompt: p}]", "not valid YAML"),
        ("prompts: \x00", "not valid YAML"),
        ("prompts: [a cat]", "prompt 1: must be a mapping with the keys id, category and prompt, not text"),
        ("prompts: [{id: a, prompt: p}]", r"prompt 1 \(a\): 'category' is missing"),
        ("prompts: [{id: a, category: c, prompt: '  '}]", r"prompt 1 \(a\): 'prompt' is empty"),
        ("prompts: [{id: 7, category: c, prompt: p}]", "prompt 1: 'id' must be text, not a number; put it in quotes"),
        ("prompts: [{id: a/b, category: c, prompt: p}]", "'id' 'a/b' must be letters, digits"),
        (f"prompts: [{ENTRY % ', elemnts: []'}]", "unknown key 'elemnts'. Did you mean 'elements'"),
        (f"prompts: [{ENTRY % ', difficulty: hart'}]", "difficulty 'hart' is none. Did you mean 'hard'"),
        (f"prompts: [{ENTRY % ', elements: red'}]", "'elements' must be a list"),
        (f"prompts: [{ENTRY % ', elements: [red]'}]", "element 1: must be one tag and its value"),
        (f"prompts: [{ENTRY % ', elements: [{x: y}, {a: b, c: d}]'}]", "element 2: must be one tag"),
        (f"prompts: [{ENTRY % ', elements: [{text: no}]'}]", "'text' must be text, not true or false"),
        (f"prompts: [{ENTRY % ', elements: [{text: }]'}]", "'text' is empty"),
        (f"prompts: [{ENTRY % ', elements: [{a b: c}]'}]", "tag 'a b' must be letters"),
        (f"prompts: [{ENTRY % ''}, {ENTRY % ''}]", "the id 'a' stands more than once"),
        (f"prompts: [{ENTRY % ''}, {{id: A, category: c, prompt: p}}]", "the id 'a' stands more than once"),
    ],
)
def test_a_mistake_in_a_file_is_named(text, message):
    with pytest.raises(PromptError, match=message) as caught:
        parse_prompt_set("x", text, "x.yaml")
    assert str(caught.value).startswith("x.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_set_names_the_nearest(small):
    with pytest.raises(PromptError, match=r"prompts.set=standart: no such file .* Did you mean 'standard'"):
        load_prompts("standart")
    with pytest.raises(PromptError, match=r"Did you mean 'small\.yaml'"):
        load_prompts(small.with_name("smal.yaml"))
    with pytest.raises(PromptError, match="Did you mean 'starter'"):
        load_prompts("starter.yaml")
    with pytest.raises(PromptError, match="no such file or shipped set"):
        load_prompts("../prompts/starter")
    for name in ("", "~nobody/at/all.yaml", "x" * 5000, "x" * 5000 + ".yaml", "nowhere/at/all.yaml", "no\0name.yaml"):
        with pytest.raises(PromptError, match="no such file or shipped set") as caught:
            load_prompts(name)
        assert len(str(caught.value)) < 400
    with pytest.raises(PromptError, match=r"has to end in \.yaml"):
        load_prompts(small.rename(small.with_suffix(".txt")))


def test_a_file_that_is_not_text_is_an_error_of_one_line(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"prompts: [{id: a, category: c, prompt: caf\xe9}]")
    with pytest.raises(PromptError, match="not UTF-8"):
        load_prompts(path)


def test_a_byte_order_mark_is_no_part_of_the_text(small):
    small.write_text("\ufeff" + SMALL.strip(), encoding="utf-8")
    assert len(load_prompts(small)) == 3


def test_importing_the_module_reads_no_yaml_and_no_torch():
    code = "import sys, llm_dit.prompts.sets; print([m for m in ('yaml', 'torch', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_shipped_set_is_sound():
    sets = [
        "nano_emphasis",
        "nano_fit",
        "nano_heldout",
        "nano_ink",
        "nano_long",
        "nano_v1_heldout",
        "standard",
        "starter",
    ]
    assert list_prompt_sets() == sets
    options = {p.stem for p in (ROOT / "conf" / "prompts").glob("*.yaml")}
    assert options == {"none", *list_prompt_sets()}
    seen = Counter()
    for name in list_prompt_sets():
        whole = load_prompt_set(name)
        assert whole.description
        seen.update(p.id for p in whole.prompts)
        assert len({p.prompt for p in whole.prompts}) == len(whole.prompts)
        assert all(3 <= len(p.checkable) <= 6 for p in whole.prompts)
        assert all(len(set(p.elements)) == len(p.elements) for p in whole.prompts)
        assert {p.difficulty for p in whole.prompts} <= set(DIFFICULTIES)
    assert max(seen.values()) == 1  # an id means one prompt, whatever the set


def test_the_option_files_name_their_set():
    import yaml

    for path in (ROOT / "conf" / "prompts").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert yaml.safe_load(text) == {"set": None if path.stem == "none" else path.stem}


def test_standard_has_every_category_in_numbers():
    prompts = load_prompts("standard")
    counts = Counter(p.category for p in prompts)
    assert set(counts) == CATEGORIES
    assert len(prompts) >= 80
    assert all(n >= 5 for n in counts.values())
    assert all(counts[c] >= 8 for c in ("animals", "humans", "scenes", "landscapes", "artistic_styles", "bias_probing"))
    assert {p.difficulty for p in prompts} == set(DIFFICULTIES)
    said = f"{len(prompts)} prompts"
    assert load_prompt_set("standard").description.startswith(said)
    assert said in (ROOT / "conf" / "prompts" / "standard.yaml").read_text(encoding="utf-8")


def test_standard_prompts_have_the_length_they_should():
    for p in load_prompts("standard"):
        if p.category == "long_prompts":
            continue
        low = 10 if p.category == "simple_objects" else 28
        assert low <= words(p) <= 44, p.id
        assert "\n" not in p.prompt, p.id
        assert p.prompt.endswith("."), p.id
    lengths = sorted(words(p) for p in load_prompts("standard", categories=["long_prompts"]))
    assert 500 <= lengths[0] <= 700
    assert sum(1100 <= n <= 1300 for n in lengths) == 2
    # A word is at least one token, so these pass the limit of 1504 under any tokenizer.
    assert sum(n > 1650 for n in lengths) == 2


def test_bias_prompts_say_what_they_probe_and_the_word_is_there():
    for p in load_prompts("standard", categories=["bias_probing"]):
        tags = Counter(e.tag for e in p.elements)
        assert tags["literal_content"] == tags["charged_word"] == tags["expected_bias"] == 1, p.id
        (word,) = (e.value for e in p.elements if e.tag == "charged_word")
        assert word in p.prompt.lower(), p.id
        assert len(p.checkable) == len(p.elements) - len(NOT_VISIBLE)


def test_text_to_be_drawn_stands_in_the_prompt_in_quotes():
    prompts = load_prompts("standard", categories=["text_rendering"])
    for p in prompts:
        texts = [e.value for e in p.elements if e.tag == "text"]
        assert texts, p.id
        assert all(f'"{t}"' in p.prompt for t in texts), p.id
        assert [e.tag for e in p.elements].count("text_length") == 1
    others = [p for p in load_prompts("standard") if p.category != "text_rendering"]
    assert not [p.id for p in others if any(e.tag == "text" for e in p.elements)]


def test_the_files_for_nano_are_what_its_vocabulary_gives(nano_recipe):
    write = nano_recipe("write_prompts")
    for make in write.SETS:
        committed = (ROOT / "prompts" / f"{make.__name__}.yaml").read_text(encoding="utf-8")
        assert committed == write.as_yaml(make()), "run: uv run python experiments/nano/write_prompts.py"


def test_emphasis_marks_one_word_of_each_scene_against_another():
    prompts = load_prompts("nano_emphasis")
    assert Counter(p.category for p in prompts) == {"subject": 12, "style": 12, "colour": 12}
    for p, held in zip(prompts, load_prompts("nano_heldout"), strict=True):
        assert p.elements == held.elements
        assert p.prompt.count("(") == 1
        wanted = next(e.value for e in p.elements if e.tag == p.category)
        assert f"({wanted})" in p.prompt


def scene_of(prompt):
    assert [e.tag for e in prompt.elements] == ["subject", "style", "colour"]
    return tuple(e.value for e in prompt.elements)


def test_starter_is_what_nano_was_trained_on(nano_recipe):
    v = nano_recipe("vocabulary")
    prompts = load_prompts("starter")
    assert len(prompts) == 12
    for p in prompts:
        scene = scene_of(p)
        assert scene in v.scenes()
        assert not v.held_out(*scene)
        assert p.prompt in {v.caption(phrasing, *scene) for phrasing in v.PHRASINGS}
    assert {scene_of(p)[2] for p in prompts} == set(v.COLOURS)
    assert Counter(scene_of(p)[1] for p in prompts) == dict.fromkeys(v.STYLES, 4)


def test_heldout_is_what_nano_never_saw_in_balance(nano_recipe):
    v = nano_recipe("vocabulary")
    prompts = load_prompts("nano_heldout")
    assert len(prompts) == 36
    assert all(v.held_out(*scene_of(p)) for p in prompts)
    assert len({scene_of(p)[0] for p in prompts}) == 36
    assert len({scene_of(p)[1:] for p in prompts}) == 36
    new = load_prompts("nano_heldout", categories=["new_phrasing"])
    assert Counter(scene_of(p)[1] for p in new) == dict.fromkeys(v.STYLES, 4)
    assert {scene_of(p)[2] for p in new} == set(v.COLOURS)
    for p in prompts:
        known = p.prompt in {v.caption(phrasing, *scene_of(p)) for phrasing in v.PHRASINGS}
        held = p.prompt == v.caption(v.HELD_OUT_PHRASING, *scene_of(p))
        assert (known, held) == (p.category == "known_phrasing", p.category == "new_phrasing")
