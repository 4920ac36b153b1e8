"""The order of batches: pure, complete, disjoint between ranks, of one shape and one padded length."""

from __future__ import annotations

from collections import Counter

import pytest

from llm_dit.train.data.order import Order

SHAPES = [0, 1, 0, 0, 2, 1, 0, 0, 0, 1, 0]
LENGTHS = [[32], [32], [64], [32], [32], [64], [32], [32], [64], [32], [32]]
PHRASED = [[32, 64], [32], [64, 32, 32], [32], [32], [64], [32, 96], [32], [64], [32], [32]]


def rows(batches) -> list[int]:
    return [visit.row for batch in batches for visit in batch]


@pytest.mark.parametrize("lengths", [LENGTHS, PHRASED])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("repeat", [1, 3])
def test_an_epoch_visits_every_row_and_keeps_groups_apart(lengths, batch_size, repeat):
    order = Order(SHAPES, lengths, repeat)
    for number in range(4):
        batches = order.epoch(number, batch_size, seed=5)
        assert Counter(rows(batches)) == dict.fromkeys(range(11), repeat)
        for batch in batches:
            assert 1 <= len(batch) <= batch_size
            assert len({(SHAPES[v.row], lengths[v.row][v.phrasing]) for v in batch}) == 1


def test_batches_are_full_but_for_the_last_of_a_group():
    sizes = sorted(len(b) for b in Order(SHAPES, LENGTHS).epoch(0, 3, 0))
    assert sizes == [1, 1, 2, 2, 2, 3]  # groups of 5, 2, 2, 1, 1


@pytest.mark.parametrize("lengths", [LENGTHS, PHRASED])
def test_the_same_arguments_give_the_same_batch_in_any_order(lengths):
    one, other = Order(SHAPES, lengths, 2, flip=True), Order(SHAPES, lengths, 2, flip=True)
    forwards = [one.at(i, 2, 9) for i in range(60)]
    assert [other.at(i, 2, 9) for i in reversed(range(60))][::-1] == forwards
    assert [one.at(i, 2, 8) for i in range(60)] != forwards


def test_no_epoch_of_a_wide_seed_is_one_of_the_seed_of_its_low_word():
    """numpy takes [2^32 + 5, 0] for the words 5, 1, 0 and fills [5, 1] up with zeros."""
    order = Order(SHAPES, LENGTHS, 2, flip=True)
    narrow = [order.epoch(number, 2, 5) for number in range(4)]
    for seed in (2**32 + 5, 2**33 + 5, 2**62 + 5):
        wide = [order.epoch(number, 2, seed) for number in range(4)]
        assert not any(epoch in narrow for epoch in wide)
    assert order.epoch(0, 2, 2**32 + 5) != order.epoch(0, 2, 2**33 + 5)


@pytest.mark.parametrize("lengths", [LENGTHS, PHRASED])
def test_epochs_follow_each_other_without_a_gap(lengths):
    order = Order(SHAPES, lengths)
    expected = [batch for number in range(5) for batch in order.epoch(number, 2, 1)]
    assert [order.at(i, 2, 1) for i in range(len(expected))] == expected


def test_epochs_differ_in_rows_beside_each_other_and_in_order():
    order = Order([0] * 50, [[32]] * 50)
    first, second = (rows(order.epoch(number, 5, 0)) for number in (0, 1))
    assert first != second
    assert {frozenset(first[i : i + 5]) for i in range(0, 50, 5)}.isdisjoint(
        {frozenset(second[i : i + 5]) for i in range(0, 50, 5)}
    )


def test_ranks_share_an_epoch_out():
    order = Order([0] * 48, [[32]] * 48)
    world, steps = 4, 3
    taken = [[order.at(step * world + rank, 4, 0) for step in range(steps)] for rank in range(world)]
    assert sorted(row for rank in taken for row in rows(rank)) == list(range(48))


def test_phrasings_take_turns():
    order = Order([0] * 4, [[32, 32, 32]] * 4)
    seen = [{v.row: v.phrasing for batch in order.epoch(n, 2, 3) for v in batch} for n in range(3)]
    assert all({epoch[row] for epoch in seen} == {0, 1, 2} for row in range(4))
    assert len(set(seen[0].values())) > 1


def test_flip_mirrors_about_half_and_without_it_nothing_is():
    visits = [v for batch in Order([0] * 400, [[32]] * 400, flip=True).epoch(0, 8, 0) for v in batch]
    assert 150 < sum(v.mirrored for v in visits) < 250
    assert not any(v.mirrored for b in Order([0] * 9, [[32]] * 9).epoch(0, 8, 0) for v in b)


def test_the_order_is_the_one_of_earlier_releases():
    """A checkpoint of an earlier release resumes with the same pictures."""
    batches = Order([0, 0, 1, 0, 0], [[32], [32], [32], [64], [32]], flip=True).epoch(1, 2, 7)
    assert [[(v.row, v.mirrored) for v in batch] for batch in batches] == [
        [(4, True)], [(3, False)], [(2, True)], [(0, False), (1, False)]
    ]  # fmt: skip
