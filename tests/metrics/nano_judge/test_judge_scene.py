"""The judge's arithmetic by hand: which drawings there are, how many, where, how large, and what follows from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_dit.metrics.nano_judge.net import GRID, SceneNet, drawing_answers, drawing_number, marginals, trusting
from llm_dit.metrics.nano_judge.scene import (
    PEAKS,
    RELATIONS,
    Drawing,
    Sight,
    count_is,
    find_drawings,
    in_relation,
    placed,
    scores,
    size_is,
    style_of,
    subject_there,
)

FOX, KEY, OWL = range(3)


def drawing(x, y, side, subject, sure=1.0, there=1.0, subjects=5, styles=(1.0, 0.0, 0.0)):
    chances = np.zeros(subjects + 1)
    chances[subject], chances[-1] = sure, 1 - sure
    return Drawing(x, y, side, there, chances, np.array(styles))


def sight(*drawings):
    return Sight(list(drawings), np.array([0.7, 0.2, 0.1]), np.array([0.25, 0.75]))


def test_two_in_a_relation():
    pair = [drawing(0.25, 0.5, 0.45, FOX), drawing(0.75, 0.52, 0.45, KEY, 0.9)]
    said = {relation: in_relation(pair, FOX, relation, KEY) for relation in RELATIONS}
    assert said["left of"] == pytest.approx(0.9, abs=1e-3)
    assert max(said[r] for r in ("right of", "above", "below")) < 0.01
    assert in_relation(pair, KEY, "right of", FOX) == pytest.approx(said["left of"])
    assert in_relation(pair, FOX, "left of", OWL) == 0
    assert in_relation(pair[:1], FOX, "left of", FOX) == 0
    assert subject_there(pair, KEY) == pytest.approx(0.9)


def test_a_diagonal_and_a_short_step_are_half_so():
    a = drawing(0.5, 0.5, 0.3, FOX)
    assert placed(drawing(0.2, 0.2, 0.3, KEY), "left of", a) == pytest.approx(0.5)
    assert placed(drawing(0.2, 0.2, 0.3, KEY), "above", a) == pytest.approx(0.5)
    assert placed(drawing(0.5 - 1 / 16, 0.5, 0.3, KEY), "left of", a) == pytest.approx(0.5)
    assert placed(drawing(0.35, 0.45, 0.3, KEY), "left of", a) == pytest.approx(1 / (1 + np.exp(-40 * 0.0875)))


def test_counts_are_the_distribution_of_a_sum():
    three = [drawing(x, 0.5, 0.3, FOX, 0.8) for x in (0.2, 0.5, 0.8)]
    np.testing.assert_allclose([count_is(three, FOX, n) for n in range(5)], [0.008, 0.096, 0.384, 0.512, 0], atol=1e-12)
    half = [drawing(0.2, 0.5, 0.3, FOX, there=0.5), drawing(0.7, 0.5, 0.3, FOX, 0.5)]
    np.testing.assert_allclose([count_is(half, FOX, n) for n in range(3)], [0.25, 0.5, 0.25])
    assert count_is([], FOX, 0) == 1
    assert count_is([drawing(0.1 * i, 0.5, 0.1, FOX) for i in range(PEAKS)], FOX, PEAKS) == 1


def test_sizes():
    for side, size in ((0.4, "small"), (0.75, "plain"), (0.97, "large")):
        two = [drawing(0.5, 0.5, side, FOX), drawing(0.5, 0.5, 1.3 - side, KEY)]
        assert size_is(two, FOX, size) > 0.9
        assert sum(size_is(two, FOX, s) for s in ("small", "plain", "large")) == pytest.approx(1)
    assert size_is([], FOX, "small") == 0


def test_the_style_of_a_picture_is_its_drawings_mean_if_there_is_one():
    flat, half = drawing(0.2, 0.5, 0.3, FOX), drawing(0.7, 0.5, 0.3, KEY, there=0.5, styles=(0.2, 0.6, 0.2))
    np.testing.assert_allclose(style_of([flat], 2), [1, 0, 0])
    np.testing.assert_allclose(style_of([half], 2), [0.1, 0.3, 0.6])
    np.testing.assert_allclose(style_of([flat, half], 2), [1.1 / 1.5, 0.3 / 1.5, 0.1 / 1.5])
    np.testing.assert_allclose(style_of([], 2), [0, 0, 1])


def test_subject_and_style_are_the_sums_of_the_joint_answers():
    subjects, styles = 4, 2
    p = torch.full((1, drawing_answers(subjects, styles), 1), 0.0)
    p[0, drawing_number(2, 1, subjects)], p[0, drawing_number(2, 0, subjects)] = 0.5, 0.2
    p[0, drawing_number(subjects, 1, subjects)], p[0, -1] = 0.25, 0.05
    subject, style = marginals(p, subjects)
    torch.testing.assert_close(subject[0, :, 0], torch.tensor([0, 0, 0.7, 0, 0.3]))
    torch.testing.assert_close(style[0, :, 0], torch.tensor([0.2, 0.75, 0.05]))


def test_a_bonus_multiplies_the_odds_of_every_known_subject():
    subjects, styles = 4, 2
    logits = torch.randn(2, drawing_answers(subjects, styles), 3, 3, generator=torch.Generator().manual_seed(0))
    before, _ = marginals(logits.softmax(1), subjects)
    after, _ = marginals(trusting(logits, subjects, 2.0).softmax(1), subjects)
    odds = [p[:, :-1].sum(1) / p[:, -1] for p in (before, after)]
    torch.testing.assert_close(odds[1], odds[0] * np.exp(2.0))
    torch.testing.assert_close(trusting(logits, subjects, 0.0), logits)


def test_what_is_asked_is_scored_so_that_the_product_is_the_whole():
    three = sight(*(drawing(x, 0.5, 0.3, FOX, 0.8) for x in (0.2, 0.5, 0.8)))
    whole = scores(three, {"subject": (FOX,), "count": 3, "style": 1, "colour": None})
    assert whole["subject"] == pytest.approx(0.992)
    assert whole["subject"] * whole["count"] == pytest.approx(0.512)
    assert (whole["style"], whole["colour"]) == (0.2, None)
    pair = sight(drawing(0.25, 0.5, 0.45, FOX, 0.8), drawing(0.75, 0.5, 0.45, KEY, 0.9))
    whole = scores(pair, {"subject": (FOX, KEY), "relation": "left of"})
    assert whole["subject"] == pytest.approx(0.72)
    assert whole["relation"] == pytest.approx(1, abs=1e-4)
    assert scores(pair, {"subject": (KEY, FOX), "relation": "left of"})["relation"] < 1e-3
    assert scores(pair, {"subject": (FOX,), "size": "small"}) == {
        "subject": pytest.approx(0.8),
        "size": pytest.approx(1 / (1 + np.exp(-3))),
    }


def test_what_is_not_asked_or_cannot_be_told_has_no_score():
    one = sight(drawing(0.5, 0.5, 0.7, FOX))
    assert scores(one, {}) == {}
    assert scores(one, {"subject": None, "count": None}) == {"subject": None, "count": None}
    assert scores(one, {"subject": (FOX, KEY), "relation": None}) == {"subject": 0.0, "relation": None}
    assert scores(sight(), {"subject": (FOX,), "count": 1, "size": "small"}) == {"subject": 0, "count": 0, "size": 0}


def test_one_drawing_a_peak():
    there, side = np.full((GRID, GRID), 3e-4), np.full((GRID, GRID), -1.2)
    subjects, styles = np.full((6, GRID, GRID), 1e-3), np.full((3, GRID, GRID), 1 / 3)
    for row, column, number in ((8, 2, FOX), (8, 8, KEY), (8, 13, FOX)):
        there[row, column], there[row, column + 1] = 0.98, 0.97
        subjects[number, row, column] = 0.995
    found = find_drawings(there, side, subjects, styles)
    assert [round(d.x * GRID - 0.5) for d in sorted(found, key=lambda d: d.x)] == [2, 8, 13]
    assert [d.side for d in found] == pytest.approx([2**-1.2] * 3)
    assert count_is(found, FOX, 2) > 0.9
    as_the_picture = np.full((GRID, GRID), 0.0)  # 0.3 of such a side is one drawing
    large = find_drawings(there, as_the_picture, subjects, styles)
    assert [round(d.x * GRID - 0.5) for d in large] == [2, 8, 13]
    there[:] = 1
    assert len(find_drawings(there, side, subjects, styles)) == PEAKS
    assert find_drawings(np.zeros((GRID, GRID)), side, subjects, styles) == []


def test_the_network_s_answers_have_their_shapes():
    net = SceneNet((169, 6, 12)).eval()
    assert sum(p.numel() for p in net.parameters()) < 1.1e6
    for size in ((96, 96), (130, 128)):
        answers = net(torch.zeros(2, 3, *size))
        assert [tuple(t.shape) for t in answers] == [
            (2, 16, 16), (2, 16, 16), (2, 1021, 16, 16), (2, 13)
        ]  # fmt: skip
    fine, pooled = net.features(torch.zeros(2, 3, 128, 128))
    assert (tuple(fine.shape), tuple(pooled.shape)) == ((2, 128, 16, 16), (2, 512))
