"""The statistics of comparisons: against scipy, against counting by hand, and on 2,000 synthetic studies."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from llm_dit.study.evidence import statistics as st
from llm_dit.study.evidence import variance as va
from llm_dit.study.evidence.effects import factorial, length_bins, pareto
from llm_dit.study.evidence.versus import pair

sys.path.insert(0, str(Path(__file__).parents[3] / "experiments" / "bench"))
import statistics_truth as truth


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_the_bca_interval_is_scipys_but_for_the_widened_quantile(rng, monkeypatch):
    from scipy.special import ndtri
    from scipy.stats import bootstrap

    d = rng.exponential(1, 40)
    monkeypatch.setattr(st, "_widened", lambda n: ndtri(0.975))
    theirs = bootstrap((d,), np.mean, n_resamples=40_000, rng=1).confidence_interval
    assert st.mean_interval(d, 40_000) == pytest.approx(theirs, abs=0.01)


def test_the_unit_of_a_metric_does_not_matter(rng):
    d = rng.normal(0.2, 1, 30)
    for unit in (1e-90, 1e90):
        assert st.mean_interval(d * unit, 500) == pytest.approx(st.mean_interval(d, 500) * unit)
        assert st.sign_flip_p(d * unit, 500) == st.sign_flip_p(d, 500)
        told = st.unpaired_interval(d * unit, d[::-1] * unit + unit, 500)
        assert told == pytest.approx(np.array(st.unpaired_interval(d, d[::-1] + 1, 500)) * unit)


def test_many_columns_are_what_each_is_alone(rng):
    d = rng.normal(size=(25, 3)) ** 3
    together = st.mean_interval(d, 1000)
    assert together.shape == (2, 3)
    for column in range(3):
        assert st.mean_interval(d[:, column], 1000) == pytest.approx(together[:, column])
        assert st.sign_flip_p(d[:, column], 500) == st.sign_flip_p(d, 500)[column]


def test_the_interval_of_normal_samples_is_as_wide_as_students(rng):
    from scipy.stats import t

    for n in (8, 20, 60):
        d = rng.normal(size=(n, 1000))
        low, high = st.mean_interval(d, 2000)
        students = 2 * t.ppf(0.975, n - 1) * d.std(axis=0, ddof=1) / np.sqrt(n)
        assert np.mean(high - low) == pytest.approx(np.mean(students), rel=0.05)


def test_degenerate_samples_have_an_interval_or_none():
    assert st.mean_interval(np.full(30, 0.25)).tolist() == [0.25, 0.25]
    assert np.isnan(st.mean_interval(np.array([1.0]))).all()
    assert np.isnan(st.mean_interval(np.array([]))).all()
    low, high = st.mean_interval(np.array([0.0] * 29 + [1.0]))
    assert 0 <= low < 1 / 30 < high < 0.2
    assert st.mean_interval(np.full(3, 0.25)).tolist() == [0.25, 0.25]
    assert st.unpaired_interval(np.full(3, 0.5), np.full(2, 0.25)) == (0.25, 0.25)


def test_the_interval_of_few_prompts_is_students(rng):
    from scipy.stats import ttest_1samp, ttest_ind

    assert st.mean_interval(np.array([0.0, 1.0])) == pytest.approx([-5.853, 6.853], abs=1e-3)
    for n in (2, 3, 5, 7):
        d = rng.exponential(1, (n, 4))
        students = ttest_1samp(d, 0).confidence_interval()
        assert st.mean_interval(d, 500) == pytest.approx(np.array(students), rel=1e-9)
        assert st.mean_interval(d[:, 0], 500) == pytest.approx([students.low[0], students.high[0]], rel=1e-9)
        a, b = d[:, 0], rng.exponential(2, 12)
        for one, other in ((a, b), (b, a)):
            welch = ttest_ind(one, other, equal_var=False).confidence_interval()
            assert st.unpaired_interval(one, other, 500) == pytest.approx((welch.low, welch.high), rel=1e-9)
    d = rng.exponential(1, 8)
    students = ttest_1samp(d, 0).confidence_interval()
    low, high = st.mean_interval(d)
    assert high - d.mean() > 1.1 * (d.mean() - low), "from 8 prompts on the interval follows the skew"
    assert (low, high) != pytest.approx((students.low, students.high), rel=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 7, 8])
def test_intervals_of_few_normal_prompts_cover_the_mean_in_95_percent_of_studies(n):
    # 20,000 studies: two standard errors are 0.3 points.
    d = np.random.default_rng(n).normal(0.3, 2, (n, 20_000))
    low, high = st.mean_interval(d, 500)
    assert np.mean((low <= 0.3) & (high >= 0.3)) == pytest.approx(0.95, abs=0.006 if n < 8 else 0.02)


def test_the_unpaired_interval_shows_what_pairing_won(rng):
    prompts = rng.normal(0, 5, 50)
    a, b = prompts + rng.normal(1, 0.5, 50), prompts + rng.normal(0, 0.5, 50)
    low, high = st.unpaired_interval(a, b)
    paired = st.mean_interval(a - b)
    assert low < paired[0] < 1 < paired[1] < high
    assert high - low > 4 * (paired[1] - paired[0])
    assert np.isnan(st.unpaired_interval(np.ones(1), np.ones(5))).all()


def test_sign_flips_of_few_prompts_are_all_enumerated(rng):
    d = np.round(rng.normal(0.4, 1, 9), 1)
    means = [abs(np.dot(signs, d)) for signs in itertools.product([-1, 1], repeat=9)]
    by_hand = np.mean([m >= abs(d.sum()) - 1e-9 for m in means])
    assert st.sign_flip_p(d) == pytest.approx(by_hand, abs=1e-12)
    assert st.sign_flip_p(np.ones(10)) == 2 / 2**10
    assert st.sign_flip_p(np.zeros(10)) == 1


def test_random_sign_flips_are_never_zero_and_agree_with_students_test_on_normal_samples(rng):
    from scipy.stats import ttest_1samp

    assert st.sign_flip_p(np.ones(40), 999) == 1 / 1000
    assert st.sign_flip_p(np.zeros(40), 999) == 1
    assert np.isnan(st.sign_flip_p(np.array([])))
    d = rng.normal(0.3, 1, (40, 50))
    assert st.sign_flip_p(d) == pytest.approx(ttest_1samp(d, 0).pvalue, abs=0.03)
    assert (st.wilcoxon_p(np.zeros(30)), np.isnan(st.wilcoxon_p(np.array([])))) == (1, True)


def test_flips_that_equal_the_data_on_paper_count(rng):
    # Scores in thirds, three seeds: sums tie all the time, and their last digits do not.
    d = rng.integers(-3, 4, 15) / 9
    whole = np.rint(9 * d).astype(int)
    signs = np.array(list(itertools.product([-1, 1], repeat=15)))
    exact = np.mean(np.abs(signs @ whole) >= abs(whole.sum()))
    assert st.sign_flip_p(d, 50_000) == pytest.approx(exact, abs=0.01)


def test_corrections_are_those_of_the_books():
    assert st.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert st.benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert st.holm([0.01, np.nan, 0.03])[[0, 2]] == pytest.approx([0.02, 0.03])
    assert np.isnan(st.holm([np.nan])).all()
    assert st.holm([]).shape == (0,)


def test_wins_and_ties_respect_the_band_and_the_direction():
    d = np.array([0.3, 0.1, 0.0, -0.1, -0.3, -0.4])
    assert st.win_counts(d, 0.1) == (1, 3, 2)
    assert st.win_counts(d, 0.1, sign=-1) == (2, 3, 1)
    assert st.win_counts(d, 0.0) == (2, 1, 3)
    rate, (low, high) = st.win_rate(8, 0, 2)
    assert (rate, low, high) == pytest.approx((0.8, 0.490, 0.943), abs=1e-3)  # Wilson's, from his formula
    assert st.win_rate(1, 2, 1)[0] == 0.5
    assert np.isnan(st.win_rate(0, 0, 0)[0])


def test_the_interval_of_a_win_rate_is_statsmodels():
    from statsmodels.stats.proportion import proportion_confint

    for wins, ties, losses in itertools.product((0, 1, 7, 20, 300), (0, 3), (0, 1, 12)):
        n = wins + ties + losses
        if n:
            theirs = proportion_confint(wins + ties / 2, n, alpha=0.05, method="wilson")
            assert st.win_rate(wins, ties, losses)[1] == pytest.approx(theirs, abs=1e-12)


def test_flips_are_enough_for_any_family_and_any_number_of_resamples():
    assert [st.enough_flips(tests, asked=100) for tests in (0, 1, 25, 1000)] == [10_000, 10_000, 10_000, 400_000]
    assert st.enough_flips(11, asked=50_000) == 50_000


def test_the_detectable_difference_is_2_8_standard_errors_and_more_for_a_family():
    assert st.detectable(0.6, 100) == pytest.approx(0.168)
    assert st.detectable(0.6, 100, 11) == pytest.approx(0.06 * (2.838 + 0.842), rel=1e-3)
    assert np.isnan(st.detectable(0.0, 100))
    assert np.isnan(st.detectable(float("nan"), 1))
    assert st.spread(np.array([0.1 + 0.2, 0.3])) == 0, "rounding is no spread"


def test_the_prompts_needed_are_those_whose_detectable_difference_is_what_was_seen():
    for comparisons in (1, 11):
        n = st.prompts_needed(0.6, -0.1, comparisons)
        assert st.detectable(0.6, n, comparisons) <= 0.1 < st.detectable(0.6, n - 1, comparisons)
    assert st.prompts_needed(0.6, 0.168) == 100
    assert (st.prompts_needed(0.1, 5.0), st.prompts_needed(0.0, 5.0)) == (20, 20), "a test needs so many"
    assert (st.prompts_needed(0.6, 0.0), st.prompts_needed(float("nan"), 1.0)) == (None, None)


def test_seed_noise_is_pooled_over_prompts_whatever_their_means(rng):
    scores = rng.normal(0, 10, (4000, 1)) + rng.normal(0, 2, (4000, 3))
    assert va.seed_sd(scores) == pytest.approx(2, rel=0.03)
    scores[::2, 2] = np.nan
    assert va.seed_sd(scores) == pytest.approx(2, rel=0.03)
    assert np.isnan(va.seed_sd(scores[:, :1]))
    assert va.seed_sd(np.full((5, 3), 0.1)) == 0, "rounding is no noise"


def test_the_tie_band_is_the_sd_of_a_prompts_difference_between_two_draws_of_seeds(rng):
    first, second = rng.normal(0, 2, (20_000, 3)), rng.normal(0, 2, (20_000, 3))
    d = first.mean(axis=1) - second.mean(axis=1)
    assert va.tie_band(va.seed_sd(first), 3, 3) == pytest.approx(d.std(), rel=0.03)
    halves = va.against_itself(first, 500)
    assert (halves.first, halves.second) == (2, 1)
    # One seed against two has the noise of that split; scaled to three against three it is epsilon.
    assert halves.sd * np.sqrt((2 / 3) / (1 + 1 / 2)) == pytest.approx(va.tie_band(va.seed_sd(first), 3, 3), rel=0.03)
    assert va.against_itself(first[:, :1]) is None
    assert va.tie_band(float("nan"), 1, 1) == 0


def test_variance_components_are_those_they_were_drawn_with(rng):
    drawn = [rng.normal(0, 1.0, (60, 1)) + rng.normal(0, 0.5, (1, 8)) + rng.normal(0, 2.0, (60, 8)) for _ in range(200)]
    c = va.components(drawn)
    assert (c.prompt, c.seed, c.residual) == pytest.approx((1.0, 0.25, 4.0), rel=0.1)
    assert (c.prompts, c.seeds, c.seed_by_chance) == (60, 8, False)


def test_components_by_hand_and_clipped():
    # MSP = 8/3, MSS = 1, MSE = 1/3 of this table, by the textbook.
    c = va.components([np.array([[0.0, 1.0], [2.0, 2.0], [1.0, 3.0]]), np.full((3, 2), np.nan)])
    p, s = np.array([0.5, 2, 2]), np.array([1, 5 / 3 + 1 / 3])
    error = ((np.array([[0.0, 1], [2, 2], [1, 3]]) - p[:, None] - s + 1.5) ** 2).sum() / 2
    assert c.residual == pytest.approx(error)
    assert c.prompt == pytest.approx((2 * ((p - 1.5) ** 2).sum() / 2 - error) / 2)
    alternating = np.array([[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]])
    assert (va.components([alternating]).prompt, va.components([alternating]).seed) == (0, 0)
    assert va.components([np.ones((1, 3))]) is None
    assert va.components([np.ones((3, 1))]) is None


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((1.0, 0.0, 0.0), "more prompts: 160 prompts x 4 seeds (640 pictures an arm) halve the standard error; "
                          "no number of seeds alone can"),
        ((0.0, 1.0, 0.0), "more seeds: 40 prompts x 16 seeds (640 pictures an arm) halve the standard error; "
                          "no number of prompts alone can"),
        ((0.0, 0.0, 1.0), "more prompts: 160 prompts x 4 seeds (640 pictures an arm) halve the standard error; "
                          "more seeds take 40 prompts x 16 seeds (640 pictures)"),
        ((0.0, 0.0, 0.0), "nothing varies: neither more prompts nor more seeds would change the result"),
        ((10.0, 1.0, 0.0), "more prompts and more seeds together: neither alone can halve the standard error"),
    ],
)  # fmt: skip
def test_the_advice_is_what_halves_the_error_with_fewer_pictures(parts, said):
    assert va.advice(va.Components(*parts, prompts=40, seeds=4)) == said


def test_a_seed_effect_within_chance_does_not_make_the_advice():
    c = va.Components(0.1, 0.02, 1.0, prompts=36, seeds=3, seed_by_chance=True)
    assert va.advice(c).startswith("more prompts: 144 prompts x 3 seeds")


def test_pairing_is_by_prompt_and_seed_and_counts_what_is_left_out():
    nan = np.nan
    a = np.array([[1.0, 2.0], [3.0, nan], [nan, nan], [5.0, 6.0]])
    b = np.array([[0.5, 1.0], [nan, 1.0], [1.0, 1.0], [5.0, nan]])
    pairs = pair(a, b)
    assert pairs.prompts.tolist() == [0, 3]
    assert pairs.d.tolist() == [0.75, 0.0]
    assert (pairs.count, pairs.left_out) == (3, 5)
    assert pairs.seeds_a == 1.5
    strangers = pair(np.array([[1.0, nan], [2.0, nan]]), np.array([[nan, 0.5], [nan, nan]]))
    assert (strangers.each, strangers.d.tolist(), strangers.count, strangers.left_out) == (None, [0.5], 0, 1)
    assert len(pair(np.full((2, 2), nan), b[:2]).d) == 0
    # Both columns have scores of both arms, and no prompt has a seed in common.
    crossed = pair(np.array([[1.0, nan], [nan, 2.0]]), np.array([[nan, 0.5], [0.5, nan]]))
    assert (crossed.each, crossed.d.tolist(), crossed.count, crossed.left_out) == (None, [0.5, 1.5], 0, 0)
    assert crossed.shown.tolist() == [[0, 1], [1, 0]]
    thirds = pair(np.array([[0.1, 0.2, 0.3]]), np.array([[0.3, 0.1, 0.2]]))
    assert thirds.d.tolist() == [0.0], "rounding is no difference"


def test_the_worked_example_of_the_docs_is_right():
    base = np.array([[0.5, 0.7], [0.9, 0.8], [0.3, 0.5], [0.6, 0.6], [0.8, 1.0], [0.4, 0.2]])
    arm = np.array([[0.7, 0.8], [0.9, 1.0], [0.6, 0.6], [0.6, 0.7], [0.9, 1.0], [0.3, 0.4]])
    pairs = pair(arm, base)
    sd, noise = st.spread(pairs.d), va.seed_sd(base)
    assert (pairs.d.mean(), sd, sd / np.sqrt(6), pairs.d.mean() / sd) == pytest.approx(
        (0.1, 0.063, 0.026, 1.58), abs=5e-3
    )
    assert st.mean_interval(pairs.d) == pytest.approx([0.03, 0.17], abs=5e-3)
    assert st.unpaired_interval(pairs.a, pairs.b) == pytest.approx((-0.20, 0.40), abs=6e-3)
    assert (noise, va.tie_band(noise, 2, 2)) == pytest.approx((0.119, 0.119), abs=5e-4)
    counts = st.win_counts(pairs.d, va.tie_band(noise, 2, 2))
    rate, interval = st.win_rate(*counts)
    assert counts == (2, 4, 0)
    assert (rate, *interval) == pytest.approx((0.67, 0.30, 0.90), abs=5e-3)
    assert (st.sign_flip_p(pairs.d), st.detectable(sd, 6)) == pytest.approx((2 / 64, 0.072), abs=5e-4)


def test_length_bins_hold_about_as_many_prompts_each():
    assert length_bins([10, 11, 12, 20, 21, 22, 40, 41, 60]) == (
        ["10-12 tokens"] * 3 + ["20-22 tokens"] * 3 + ["40-60 tokens"] * 3
    )
    assert length_bins([8, 8, 8, 8, 8, 8, 9]) == ["8-9 tokens"] * 7 or length_bins([8] * 7) == ["8 tokens"] * 7
    assert length_bins([5, 9]) == ["5-9 tokens"] * 2
    assert length_bins([None, 5]) == ["", "5 tokens"]
    assert length_bins([]) == []


def test_the_front_respects_the_direction():
    assert pareto([1, 2, 2, 0.5], [1, 2, 3, 1], "higher") == [True, True, False, False]
    assert pareto([1, 2, 2, 0.5], [1, 2, 3, 1], "lower") == [False, False, False, True]
    assert pareto([1, np.nan], [np.nan, 1], "higher") == [False, False]
    assert pareto([1, 2], [1, 1], "none") == [False, False]
    assert pareto([2, 2, 3, 3, 1], [1, 1, 2, 2, 0.5], "higher") == [True, True, True, True, True], "equal ones stay"
    assert pareto([], [], "higher") == []
    assert factorial([]) is None


# What the numbers promise, on synthetic studies of 36 prompts and 3 seeds; the same code with more of them is the
# script itself, whose figures are in docs/statistics.md.


@pytest.mark.parametrize("kind", ["normal", "thirds"])
def test_intervals_cover_the_truth_in_95_percent_of_studies(kind):
    assert 0.93 <= truth.coverage(kind, runs=2000, prompts=36, resamples=2000) <= 0.97


@pytest.mark.parametrize(
    ("kind", "most"),
    # As docs/statistics.md has them, and 0.01 for two standard errors of 2,000 studies. Skewed effects break the 5 %.
    [("normal", 0.05), ("thirds", 0.029), ("heavy", 0.05), ("skewed", 0.08)],
)
def test_a_family_without_effects_finds_one_as_often_as_the_docs_say(kind, most):
    found = truth.familywise(kind, runs=2000, prompts=36, arms=5, resamples=999)
    assert found <= most + 0.01
    assert kind != "skewed" or found > 0.05, "the docs could promise more"


def test_an_effect_of_the_detectable_size_is_found_in_80_percent():
    assert 0.75 <= truth.power("normal", runs=2000, prompts=36, resamples=999) <= 0.85
