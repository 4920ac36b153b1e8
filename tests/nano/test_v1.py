"""Nano's version 1: what is held out stays out, pictures obey their words, and the judge's arithmetic."""

from __future__ import annotations

import importlib
import io
import json
import sys
import tarfile
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_dit.text.chat import ChatParts, format_prompt

NANO = Path(__file__).parents[2] / "experiments" / "nano"


@pytest.fixture
def recipe(monkeypatch):
    """Modules of experiments/nano by name, forgotten again afterwards (their names are common words)."""
    monkeypatch.syspath_prepend(str(NANO))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(NANO) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def sprites(recipe):
    """Made-up drawings, as the real ones are fetched: a full square of one colour for each subject."""
    d = recipe("domain")
    made = np.zeros((len(d.SUBJECTS) + 8, len(d.STYLES), 160, 160, 4), np.uint8)
    made[..., 3] = 255
    made[..., 0] = np.arange(len(made), dtype=np.uint8)[:, None, None, None]
    return made


def test_the_domain_is_as_large_as_promised(recipe):
    d = recipe("domain")
    assert len(d.SUBJECTS) >= 150
    assert len(set(d.SUBJECTS.values())) == len(d.SUBJECTS)
    assert len(d.STYLES) >= 3
    for style in d.STYLES:
        assert sum(d.drawn(subject, style) for subject in d.SUBJECTS) >= 0.9 * len(d.SUBJECTS)
    assert list(d.SUBJECTS)[:96] == list(recipe("vocabulary").SUBJECTS)
    assert set(d.UNSEEN_STYLES).isdisjoint(d.STYLES)
    assert set(d.SUBJECTS) >= d.UNCOUNTED
    p = recipe("phrasings")
    assert len(p.FRAMES) >= 20
    assert all(len(p.RELATION_WORDINGS[relation]) > 4 for relation in d.RELATIONS)
    assert set(p.HELD_OUT_FRAMES).isdisjoint([*p.FRAMES, *p.LONG_FRAMES, *p.OPEN_FRAMES])
    assert set(p.HELD_OUT_FILLERS).isdisjoint(p.FILLERS)


@pytest.mark.parametrize(
    ("subject", "one", "many"),
    [
        ("fox", "a fox", "foxes"),
        ("mouse", "a mouse", "mice"),
        ("hourglass", "an hourglass", "hourglasses"),
        ("butterfly", "a butterfly", "butterflies"),
        ("key", "a key", "keys"),
        ("snowman", "a snowman", "snowmen"),
        ("unicorn", "a unicorn", "unicorns"),
        ("umbrella", "an umbrella", "umbrellas"),
        ("sheep", "a sheep", "sheep"),
    ],
)
def test_one_and_many(recipe, subject, one, many):
    d = recipe("domain")
    assert (d.with_article(subject), d.plural(subject)) == (one, many)


def test_articles_follow_the_word_that_comes_first(recipe):
    p = recipe("phrasings")
    assert p.noun_phrase("owl") == ("an owl", "owl")
    assert p.noun_phrase("owl", ("tiny",)) == ("a tiny owl", "tiny owl")
    assert p.noun_phrase("fox", ("elegant", "small")) == ("an elegant small fox", "elegant small fox")
    assert p.noun_phrase("moon", ("lovely",)) == ("the lovely moon", "lovely moon")
    assert p.noun_phrase("bread", ("nice",)) == ("nice bread", "nice bread")


def test_every_frame_and_wording_can_be_filled(recipe):
    d, p = recipe("domain"), recipe("phrasings")
    rng = np.random.default_rng(0)
    scenes = [
        d.Scene("single", "owl", "ink", "orange", "small"),
        d.Scene("single", "moon", "3d", "grey"),
        *(d.Scene("pair", "fox", "flat", "red", other="key", relation=relation) for relation in d.RELATIONS),
        *(d.Scene("count", "mouse", "cartoon", "blue", count=n) for n in d.COUNTS),
    ]
    for scene, kind in product(scenes, ("full", "open", "held_out")):
        for text in {p.prompt(scene, rng, kind) for _ in range(60)}:
            assert not set("{}") & set(text)
            assert " a ink" not in f" {text}"
            assert " a orange" not in text
            if kind != "open":
                assert scene.style in text.lower()
                assert scene.colour in text.replace("gray", "grey")


def test_a_placement_is_held_out_whichever_way_it_is_said(recipe):
    d = recipe("domain")
    some = list(d.SUBJECTS)[:40]
    for a, b in product(some, some):
        for relation in d.RELATIONS:
            assert d.held_out_placement(a, relation, b) == d.held_out_placement(b, d.OPPOSITE[relation], a)
    out = [d.held_out_placement(a, "left of", b) for a, b in product(some, some)]
    assert 0.07 < np.mean(out) < 0.13
    looks = [d.held_out_look(*look) for look in d.looks()]
    assert 0.08 < np.mean(looks) < 0.12
    assert not d.held_out_look("red apple", "3d", "blue")


def test_training_shows_and_says_nothing_that_is_held_out(recipe):
    d, p, m = recipe("domain"), recipe("phrasings"), recipe("make_data")
    entries = m.training_entries()
    assert not [scene for scene, _, _ in entries if d.why_held_out(scene)]
    assert all(d.drawn(subject, scene.style) for scene, _, _ in entries for subject in scene.subjects)
    texts = {text for _, prompts, _ in entries for text in prompts}
    assert len(texts) < 26_000
    for word in (*p.HELD_OUT_FILLERS, "please show me", "twosome", "trio", "placed higher", "Imagine a small"):
        assert not [text for text in texts if word in text], word
    held = m.heldout_entries(6, 40, 12, 40, 25)
    assert all(entry["held_out"] for entry in held)
    assert not texts & {entry["prompt"] for entry in held}
    pictures = Counter()
    for scene, _, n in entries:
        pictures[scene.kind] += n
    assert 30_000 < sum(pictures.values()) < 40_000
    assert {kind: round(n / sum(pictures.values()), 1) for kind, n in pictures.items()} == {
        "single": 0.5,
        "pair": 0.3,
        "count": 0.2,
    }
    relations = Counter(scene.relation for scene, _, _ in entries if scene.kind == "pair")
    assert max(relations.values()) < 1.1 * min(relations.values())


def test_prompts_fit_into_their_lengths(recipe):
    m, captions = recipe("make_data"), recipe("captions")
    _, tokenizer = captions.load_encoder()
    texts = sorted({text for _, prompts, _ in m.training_entries() for text in prompts})[::7]
    ids = tokenizer([format_prompt(ChatParts(text), "chatml").text for text in texts]).input_ids
    lengths = np.array([len(one) for one in ids])
    assert lengths.max() <= 64
    assert (lengths <= 32).mean() > 0.9


def test_pictures_are_as_their_scenes_say(recipe, sprites):
    d, layouts = recipe("domain"), recipe("layouts")
    rng = np.random.default_rng(0)
    for relation, (right, down) in d.RELATIONS.items():
        a, b = layouts.places(d.Scene("pair", "fox", "flat", "red", other="key", relation=relation), rng)
        assert (a.subject, b.subject) == ("fox", "key")
        along, across = (a.x - b.x) * right + (a.y - b.y) * down, abs((a.x - b.x) * down) + abs((a.y - b.y) * right)
        assert along > 0.4
        assert across < 0.15
    for count in d.COUNTS:
        for _ in range(20):
            where = layouts.places(d.Scene("count", "fox", "flat", "red", count=count), rng)
            assert len(where) == count
            assert all(v - p.side / 2 > -0.01 and v + p.side / 2 < 1.01 for p in where for v in (p.x, p.y))
            for i, p in enumerate(where):
                assert all(max(abs(p.x - q.x), abs(p.y - q.y)) > 0.28 for q in where[:i])
    sizes = {s: layouts.places(d.Scene("single", "fox", "flat", "red", s), rng)[0].side for s in d.SIZES}
    assert sizes["small"] < 0.5 < sizes["plain"] < 0.85 < sizes["large"]
    scene = d.Scene("pair", "fox", "flat", "blue", other="key", relation="left of")
    one, two = (layouts.picture(sprites, scene, np.random.default_rng(5)) for _ in range(2))
    assert (one == two).all()
    fox, key = (list(d.SUBJECTS).index(s) for s in ("fox", "key"))
    assert one[64, 32, 0] == fox
    assert one[64, 96, 0] == key


def test_ink_is_seen_on_every_ground(recipe, sprites):
    d, layouts, v = recipe("domain"), recipe("layouts"), recipe("vocabulary")
    for colour, rgb in v.COLOURS.items():
        inks = set()
        for seed in range(8):
            made = layouts.picture(sprites, d.Scene("single", "fox", "ink", colour), np.random.default_rng(seed))
            inks.add(tuple(made[64, 64].tolist()))
        assert len(inks) == 1, colour  # a shade of the ground never changes the ink
        assert abs(np.mean(inks.pop()) - np.mean(rgb)) > 60


def test_shards_are_read_as_pictures_with_prompts(recipe, tmp_path, monkeypatch):
    m = recipe("make_data")
    monkeypatch.setattr(m, "V1", tmp_path)
    monkeypatch.setattr(m, "SHARD", 2)
    shards = m.Shards("train")
    for i in range(3):
        shards.add(np.full((8, 8, 3), i, np.uint8), {"prompts": [f"number {i}"]})
    shards.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train-000.tar", "train-001.tar"]
    with tarfile.open(tmp_path / "train-001.tar") as tar:
        assert tar.getnames() == ["000002.png", "000002.json"]
        assert json.loads(tar.extractfile("000002.json").read()) == {"prompts": ["number 2"]}
        from PIL import Image

        assert np.asarray(Image.open(io.BytesIO(tar.extractfile("000002.png").read())))[0, 0, 0] == 2


def drawing(j, x, y, side, subject, sure=1.0, subjects=5):
    chances = np.zeros(subjects + 1)
    chances[subject], chances[-1] = sure, 1 - sure
    return j.Drawing(x, y, side, 1.0, chances)


def test_the_judge_counts_and_places_by_arithmetic(recipe):
    j = recipe("judge_net")
    fox, key = 0, 1
    pair = [drawing(j, 0.25, 0.5, 0.45, fox), drawing(j, 0.75, 0.52, 0.45, key, 0.9)]
    said = {relation: j.in_relation(pair, fox, relation, key) for relation in j.STEPS}
    assert said["left of"] == pytest.approx(0.9, abs=1e-3)
    assert max(said[r] for r in ("right of", "above", "below")) < 0.01
    assert j.in_relation(pair, key, "right of", fox) == pytest.approx(said["left of"])
    assert j.in_relation(pair, fox, "left of", 2) == 0
    assert j.subject_there(pair, key) == pytest.approx(0.9)
    three = [drawing(j, x, 0.5, 0.3, fox, 0.8) for x in (0.2, 0.5, 0.8)]
    chances = [j.count_is(three, fox, n) for n in range(5)]
    np.testing.assert_allclose(chances, [0.008, 0.096, 0.384, 0.512, 0], atol=1e-12)
    whole = j.scene_scores(three, [fox], count=3)
    assert whole["subject"] * whole["count"] == pytest.approx(0.512)
    for side, size in ((0.4, "small"), (0.75, "plain"), (0.97, "large")):
        assert j.size_is([drawing(j, 0.5, 0.5, side, fox)], fox, size) > 0.9
    assert j.scene_scores([], [fox], count=1) == {"subject": 0.0, "count": 0.0}


def test_the_judge_finds_one_drawing_a_peak(recipe):
    j = recipe("judge_net")
    centre, side = torch.full((j.GRID, j.GRID), -8.0), torch.full((j.GRID, j.GRID), -1.2)
    subject = torch.zeros(6, j.GRID, j.GRID)
    for row, column, number in ((8, 2, 0), (8, 8, 1), (8, 13, 0)):
        centre[row, column], centre[row, column + 1] = 4.0, 3.5
        subject[number, row, column] = 9.0
    found = j.drawings(centre, side, subject)
    assert [round(d.x * j.GRID - 0.5) for d in sorted(found, key=lambda d: d.x)] == [2, 8, 13]
    assert j.count_is(found, 0, 2) > 0.9
    net = j.SceneNet((169, 4, 12))
    assert sum(p.numel() for p in net.parameters()) * 2 < 2 * 2**20
    assert [tuple(t.shape) for t in net(torch.zeros(2, 3, 96, 96))] == [
        (2, 16, 16), (2, 16, 16), (2, 170, 16, 16), (2, 5), (2, 13)
    ]  # fmt: skip


def test_the_judge_s_scenes_are_a_function_of_the_seed(recipe, sprites):
    s, d = recipe("judge_scenes"), recipe("domain")
    more = [{i: sprites[i, 0] for i in (3, 5, 8)}, {i: sprites[i, 1] for i in (2, 7)}]
    icons = s.Icons(sprites, more, list(range(len(d.SUBJECTS), len(sprites))), [], set())
    bank = np.zeros((4, 128, 128, 3), np.uint8), [s.Told() for _ in range(4)]
    a, b = (s.batch(np.random.default_rng(3), icons, bank, 32) for _ in range(2))
    assert torch.equal(a.pictures, b.pictures)
    assert a.pictures.shape == (32, 3, 128, 128)
    for target in (a.subject, a.style, a.colour):
        assert (target >= -1e-6).all()
        torch.testing.assert_close(target.sum(1), torch.ones(len(target)))
    assert ((a.centre >= 0) & (a.centre <= 1)).all()
    at = a.cells.unbind(1)
    assert (a.centre[at] > 0.3).all()
    looks = [
        (s.KEYS[0][one.subject], s.KEYS[1][told.style], s.KEYS[2][told.colours.argmax()])
        for told in a.told
        for one in told.seen
        if one.subject >= 0 and told.style >= 0 and told.colours[:-1].max() == 1
    ]
    assert looks
    unseen = {style: {a for a, b, _ in looks if b == style} for style in d.UNSEEN_STYLES}
    assert set().union(*unseen.values())
    assert all(names <= {s.KEYS[0][i] for i in has} for names, has in zip(unseen.values(), more, strict=True))
    assert not [look for look in looks if d.held_out_look(*look)]


def wanted(facts):
    """What a prompt of these facts asks for, without style and colour, which an open prompt leaves out."""
    parts = {key: facts[key] for key in ("subjects", "relation", "count") if key in facts}
    return parts | ({"size": facts["size"]} if facts.get("size", "plain") != "plain" else {})


def test_every_prompt_of_the_training_is_understood(recipe):
    m, w = recipe("make_data"), recipe("judge_words")
    for scene, prompts, _ in m.training_entries()[::5]:
        facts = m.facts(scene)
        for text in prompts:
            asked = w.asked_in_text(text)
            look = {key: facts[key] for key in ("style", "colour") if key in asked}
            assert asked == wanted(facts) | look, text


def test_held_out_prompts_are_understood_and_their_elements_say_the_same(recipe):
    from llm_dit.study.prompts import load_prompts

    m, w = recipe("make_data"), recipe("judge_words")
    for entry in m.heldout_entries(6, 24, 12, 32, 20):
        look = {key: entry[key] for key in ("style", "colour")}
        assert w.asked_in_text(entry["prompt"]) == wanted(entry) | look, entry["prompt"]
    prompts = load_prompts("nano_v1_heldout")
    assert len(prompts) == 48
    assert Counter(p.category for p in prompts) == {"single": 18, "pair": 16, "count": 14}
    for p in prompts:
        assert w.asked_in_elements(p.elements) == w.asked_in_text(p.prompt), p.prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A fox and an owl", {"subjects": ["fox", "owl"], "relation": None}),
        ("foxes on a red background", {"subjects": ["fox"], "count": None, "colour": "red"}),
        ("a fox, an owl and a key", {"subjects": [None]}),
        ("a key with a fox to its right", {"subjects": ["key", "fox"], "relation": "left of"}),
        ("a hot dog underneath two hot peppers", {"subjects": ["hot dog", "hot pepper"], "relation": "below"}),
        ("a carpet", {}),
    ],
)
def test_words_of_other_prompts(recipe, text, expected):
    assert recipe("judge_words").asked_in_text(text) == expected
