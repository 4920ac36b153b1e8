"""The analysis of sweeps, from folders and from rows: known differences, and everything that can be missing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llm_dit.errors import ConfigError
from llm_dit.metrics.registry import METRICS
from llm_dit.study.axes import same, typed
from llm_dit.study.evidence import analysis
from llm_dit.study.evidence.analysis import analyse, analyse_arms
from llm_dit.study.evidence.arms import Arm, name_apart
from llm_dit.study.evidence.versus import flip, judge
from llm_dit.study.score import input_hash
from llm_dit.study.store import SweepFolder

VERSUS = {
    "n_prompts", "n_pairs", "delta", "se", "d_z", "ci", "ci_unpaired", "wins", "ties", "losses", "win_rate", "win_ci",
    "epsilon", "p", "p_holm", "p_bh", "p_wilcoxon", "mde", "exploratory", "verdict", "note", "best", "worst",
}  # fmt: skip


def rows(scores, seeds=(0, 1, 2), size=128, **more):
    """Rows of one cell. scores: {column: matrix (prompts, seeds)}."""
    count = len(next(iter(scores.values())))
    return [
        {
            "prompt_id": f"p{i:02}",
            "prompt": f"prompt {i}",
            "category": "odd" if i % 2 else "even",
            "seed": seed,
            "width": size,
            "height": size,
            "nfe": 24,
            "seconds": 0.5,
            "token_count": 10 + i,
            **{name: matrix[i][j] for name, matrix in scores.items()},
            **more,
        }
        for i in range(count)
        for j, seed in enumerate(seeds)
    ]


@pytest.fixture
def base():
    """Scores of 24 prompts x 3 seeds: hard and easy prompts, noise of sd 0.1 between seeds."""
    rng = np.random.default_rng(3)
    return rng.normal(0.5, 0.3, (24, 1)) + rng.normal(0, 0.1, (24, 3))


def arm(number, scores, sweep="s", **more):
    fields = {key: more.pop(key) for key in ("status", "error", "asked") if key in more}
    if not isinstance(scores, dict):
        scores = {"nano_judge": scores}
    return Arm(f"cell{number}", {"layer": number}, sweep, f"cell{number}", rows=rows(scores, **more), **fields)


def study(*arms, resamples=2000, **more):
    """analyse_arms with few resamples, the first arm as baseline; the result must be JSON."""
    options = {key: more.pop(key) for key in ("primary", "baseline") if key in more}
    judged = any("nano_judge" in row for a in arms for row in a.rows)
    named = {"primary": "nano_judge"} if judged else {}
    sweep = {"name": "s", "question": "Which?", "axes": ["layer"]} | named | more
    name_apart(arms)
    found = analyse_arms(arms, sweep, resamples=resamples, **options)
    json.dumps(found, allow_nan=False)
    return found


def versus(found, number=1, metric="nano_judge"):
    return found["arms"][number]["versus"][metric]


def test_a_real_difference_is_found_and_its_numbers_are_those_of_the_prompts(base):
    rng = np.random.default_rng(4)
    better, noise = base + 0.2 + rng.normal(0, 0.05, base.shape), base + rng.normal(0, 0.05, base.shape)
    noise -= (noise - base).mean()
    found = study(arm(0, base), arm(1, better), arm(2, noise), arm(3, base - 0.3))
    v = versus(found)
    d = (better - base).mean(axis=1)
    assert v["delta"] == pytest.approx(d.mean())
    assert v["se"] == pytest.approx(d.std(ddof=1) / np.sqrt(24))
    assert v["d_z"] == pytest.approx(d.mean() / d.std(ddof=1))
    assert v["mde"] == pytest.approx(2.8 * v["se"])
    assert v["mde_holm"] == pytest.approx((2.394 + 0.842) * v["se"], rel=1e-3)
    assert v["ci"][0] < v["delta"] < v["ci"][1]
    assert v["ci_unpaired"][1] - v["ci_unpaired"][0] > 5 * (v["ci"][1] - v["ci"][0])
    assert (v["n_prompts"], v["n_pairs"], v["exploratory"], v["note"]) == (24, 72, False, None)
    assert (v["verdict"], versus(found, 2)["verdict"], versus(found, 3)["verdict"]) == (
        "better", "no difference seen", "worse",
    )  # fmt: skip
    assert v["p_holm"] == pytest.approx(3 * v["p"])
    assert v["p_bh"] is None
    assert v.keys() >= VERSUS
    assert versus(found, 3)["se"] == 0
    assert versus(found, 3)["d_z"] is None
    assert found["arms"][0]["versus"] == {}
    assert (found["baseline"], found["primary"], found["status"], found["warnings"]) == (
        "cell0", "nano_judge", "complete", [],
    )  # fmt: skip


def test_few_resamples_never_hide_an_effect_from_the_corrections(base):
    # 100 flips alone give p = 1/101 at best, which Holm's correction for 11 arms makes 0.11.
    rng = np.random.default_rng(1)
    arms = [arm(0, {"nano_judge": base, "clip": base})]
    for i in range(1, 12):
        noise = base + rng.normal(0, 0.05, base.shape)
        arms.append(arm(i, {"nano_judge": base + 9 if i == 1 else noise, "clip": base - 9 if i == 1 else noise}))
    found = study(*arms, resamples=100)
    assert (versus(found)["verdict"], versus(found, metric="clip")["verdict"]) == ("better", "worse")
    assert versus(found)["p"] == pytest.approx(1 / 10_001)
    assert versus(found)["p_holm"] == pytest.approx(11 / 10_001)
    assert versus(study(*arms[:2], resamples=20_000))["p"] == pytest.approx(1 / 20_001)


def test_no_family_is_too_large_for_its_flips():
    # 10,000 flips make p_holm 0.06 at best over 600 arms.
    noise = np.random.default_rng(2).normal(size=(600, 24))
    entries = [{"n_prompts": 24, "delta": d.mean(), "p": None, "mde": None} for d in noise]
    flip(entries, [noise[0] + 9, *noise[1:]], resamples=100)
    judge(entries, ["higher"] * 600, exploratory=False)
    assert entries[0]["p"] == pytest.approx(1 / 240_001)
    assert entries[0]["p_holm"] == pytest.approx(600 / 240_001)
    assert entries[0]["p_holm"] < 0.05 / 10


def test_an_arm_without_any_score_stands_beside_others_whatever_the_metrics(base):
    columns = ("nano_judge", "nano_judge_subject", "clip", "sharpness")
    scored = [dict.fromkeys(columns, base), dict.fromkeys(columns, base + 0.2)]
    unscored = [arm(2, {"nfe": base * 0 + 8}), arm(3, dict.fromkeys(columns, base * np.nan)), Arm("e", {"layer": 4})]
    partly = arm(5, {"clip": base + 0.1})
    found = study(arm(0, scored[0]), arm(1, scored[1]), *unscored, partly)
    for column in columns:
        assert versus(found, 1, column)["verdict"] == ("differs" if column == "sharpness" else "better")
        for number in (2, 3, 4):
            assert versus(found, number, column)["verdict"] == "not compared"
            mine = found["arms"][number]["metrics"][column]
            assert (mine["mean"], mine["ci"], mine["n_prompts"], mine["pareto"]) == (None, [None, None], 0, False)
    assert versus(found, 5, "clip")["verdict"] == "better"
    assert versus(found, 5, "nano_judge")["note"] == "the arm has no scores"
    alone = study(unscored[1], arm(1, scored[1]), unscored[0])  # the baseline has no scores
    assert {v["verdict"] for v in alone["arms"][1]["versus"].values()} == {"not compared"}
    assert alone["aa"]["clip"]["note"] == "the baseline has no scores"


def test_an_arms_mean_is_over_prompts(base):
    lacking = base.copy()
    lacking[0, 1:] = np.nan
    m = study(arm(0, base), arm(1, lacking))["arms"][1]["metrics"]["nano_judge"]
    means = np.nanmean(lacking, axis=1)
    assert m["mean"] == pytest.approx(means.mean())
    assert m["sd_prompts"] == pytest.approx(means.std(ddof=1))
    assert (m["n_prompts"], m["n_pictures"]) == (24, 70)
    assert m["ci"][0] < m["mean"] < m["ci"][1]


def test_lower_is_better_where_the_metric_says_so_and_none_only_differs(base):
    found = study(
        arm(0, {"uniform": base, "sharpness": base}), arm(1, {"uniform": base - 0.3, "sharpness": base - 0.3})
    )
    v = versus(found, metric="uniform")
    assert (v["verdict"], v["wins"], v["losses"]) == ("better", 24, 0)
    assert found["primary"] == "sharpness"  # the registry's order
    v = versus(found, metric="sharpness")
    assert (v["verdict"], v["wins"], v["losses"]) == ("differs", 0, 24)


def test_all_but_the_primary_metric_are_exploratory_and_corrected_together(base):
    rng = np.random.default_rng(5)
    scores = [{"nano_judge": base + rng.normal(0, 0.1, base.shape), "nano_judge_subject": base + shift,
               "clip": base + rng.normal(0, 0.1, base.shape)} for shift in (0, 0.3, 0.0)]  # fmt: skip
    found = study(*(arm(i, s) for i, s in enumerate(scores)), primary="clip")
    assert [(m["name"], m["primary"]) for m in found["metrics"]] == [
        ("nano_judge", False), ("nano_judge_subject", False), ("clip", True),
    ]  # fmt: skip
    v = versus(found, metric="nano_judge_subject")
    assert (v["exploratory"], v["p_holm"], v["verdict"]) == (True, None, "better")
    assert v["p_bh"] == pytest.approx(4 * v["p"])
    assert versus(found, metric="clip")["p_holm"] is not None
    assert "subject: part of nano_judge" in found["metrics"][1]["help"]
    with pytest.raises(ConfigError, match="Did you mean 'clip'"):
        study(arm(0, scores[0]), primary="clib")
    told = study(*(arm(i, s) for i, s in enumerate(scores)), primary="vqa")
    assert told["primary"] is None
    assert "vqa has no scores" in told["warnings"][0]
    assert versus(told, metric="clip")["exploratory"]


def test_the_primary_metric_is_the_one_named_before_the_run(base):
    scores = {"nano_judge": base, "clip": base}
    assert study(arm(0, scores), arm(1, scores))["primary"] == "nano_judge"
    found = analyse_arms([arm(0, scores), arm(1, scores)], {"primary": "clip"}, resamples=200)
    assert found["primary"] == "clip"
    found = analyse_arms([arm(0, scores)], {"primary": "clip"}, primary="nano_judge", resamples=200)
    assert "chosen after it" in found["warnings"][0]
    found = analyse_arms([arm(0, scores)], {}, resamples=200)
    assert found["warnings"][0] == "no primary metric was named before the run; nano_judge was taken after it"


def test_best_and_worst_prompts_come_with_the_pair_that_shows_it(base):
    other = base.copy()
    other[3] += [0.1, 0.5, 0.9]
    other[7] -= [0.2, 0.3, 0.7]
    v = versus(study(arm(0, base), arm(1, other)))
    assert v["best"][0] == {"prompt_id": "p03", "seed": 1, "seed_baseline": 1, "d": pytest.approx(0.5)}
    assert v["worst"][0] == {"prompt_id": "p07", "seed": 1, "seed_baseline": 1, "d": pytest.approx(-0.4)}
    assert (len(v["best"]), len(v["worst"])) == (8, 8)
    few = versus(study(arm(0, base[:5]), arm(1, other[:5])))
    assert (len(few["best"]), len(few["worst"])) == (3, 2)
    one = versus(study(arm(0, base[:1]), arm(1, other[:1])))
    assert (len(one["best"]), len(one["worst"])) == (1, 0)


def test_ties_are_within_the_noise_of_other_seeds(base):
    found = study(arm(0, base), arm(1, base + 0.01), arm(2, base + 0.5))
    within = np.sqrt(base.var(axis=1, ddof=1).mean())
    aa = found["aa"]["nano_judge"]
    assert aa["epsilon"] == pytest.approx(within * np.sqrt(2 / 3))
    h = base[:, 2] - base[:, :2].mean(axis=1)
    assert (aa["delta"], aa["sd"], aa["n_prompts"]) == pytest.approx((h.mean(), h.std(ddof=1), 24))
    assert aa["ci"][0] < aa["delta"] < aa["ci"][1]
    assert [versus(found, i)["ties"] for i in (1, 2)] == [24, 0]
    assert versus(found, 1)["win_rate"] == 0.5
    # Half the pairs are gone: the band is that of one seed against one.
    single = versus(study(arm(0, base), arm(1, base[:, :1], seeds=(0,))))
    assert single["epsilon"] == pytest.approx(within * np.sqrt(2))
    assert "48 scores without a partner" in single["note"]


def test_variance_and_advice(base):
    rng = np.random.default_rng(6)
    by_prompt, by_seed = rng.normal(0, 0.3, (24, 1)), np.array([[-0.4, 0.0, 0.4]])
    prompts = study(arm(0, base), arm(1, base + by_prompt + rng.normal(0, 0.01, base.shape)))["variance"]["nano_judge"]
    assert prompts["prompt"] > 0.98
    assert prompts["advice"].startswith("more prompts: 96 prompts x 3 seeds")
    seeds = study(arm(0, base), arm(1, base + by_seed + rng.normal(0, 0.01, base.shape)))["variance"]["nano_judge"]
    assert seeds["seed"] > 0.98
    assert seeds["advice"].startswith("more seeds")
    assert sum(prompts[k] for k in ("prompt", "seed", "residual")) == pytest.approx(1)


def test_slices_by_category_and_length_have_n_and_no_p(base):
    other = base.copy()
    other[1::2] += 0.4
    found = study(arm(0, base), arm(1, other))
    mine = {(x["by"], x["value"]): x for x in found["slices"]}
    assert [k for k in mine if k[0] == "category"] == [("category", "even"), ("category", "odd")]
    assert mine["category", "odd"]["delta"] == pytest.approx(0.4)
    assert mine["category", "even"]["delta"] == 0
    assert [v for by, v in mine if by == "length"] == ["10-17 tokens", "18-25 tokens", "26-33 tokens"]
    assert all(x["n_prompts"] in (8, 12) and "p" not in x and x["arm"] == "cell1" for x in mine.values())
    assert [p["length_bin"] for p in found["prompts"][7:9]] == ["10-17 tokens", "18-25 tokens"]
    few = study(arm(0, base[:3]), arm(1, other[:3]))["slices"]
    assert {(x["value"], x["ci"][0] is None) for x in few} == {("even", False), ("odd", True)}


def test_main_effects_of_a_full_factorial(base):
    rng = np.random.default_rng(7)
    arms = []
    for shift in (1.0, 2.0):
        for steps in (4, 8, 16):
            scores = base + 0.3 * (shift == 1.0) + 0.01 * steps + rng.normal(0, 0.02, base.shape)
            made = Arm(f"c{shift}{steps}", {"shift": shift, "steps": steps}, "s", rows=rows({"clip": scores}))
            arms.append(made)
    found = study(*arms, baselines={"s": {"shift": 2.0, "steps": "8"}})
    assert found["arms"][4]["is_baseline"]
    told = [(e["axis"], e["value"], round(e["delta_from_first"], 1)) for e in found["effects"]]
    assert told == [
        ("shift", 2.0, 0.0), ("shift", 1.0, 0.3), ("steps", 8, 0.0), ("steps", 4, 0.0), ("steps", 16, 0.1),
    ]  # fmt: skip
    effect = found["effects"][1]
    assert effect["ci"][0] < 0.3 < effect["ci"][1]
    assert effect["ci"][1] - effect["ci"][0] < 0.05
    assert (effect["n_prompts"], effect["metric"], effect["reference"]) == (24, "clip", 2.0)
    assert all(abs(x["delta"]) < 0.05 and x["ci"][0] < 0 < x["ci"][1] for x in found["interactions"])
    assert study(*arms[:-1])["effects"] == []
    arms[5].rows = []
    found = study(*arms)
    assert found["effects"] == []
    assert "main effects are left out: 1 combination" in found["warnings"][-1]
    assert study(arm(0, base), arm(1, base))["effects"] == []


def test_an_interaction_is_what_ordinary_least_squares_finds_with_prompts_as_fixed_effects(base):
    from statsmodels.api import OLS

    rng = np.random.default_rng(9)
    places = [(a, b, c) for a in (0, 1) for b in (0, 1, 2) for c in (0, 1)]
    scores = {
        p: base + 0.2 * p[0] - 0.1 * p[1] + 0.3 * (p[:2] == (1, 2)) + rng.normal(0, 0.05, base.shape) for p in places
    }
    arms = [Arm(f"c{p}", dict(zip("abc", p, strict=True)), "s", rows=rows({"clip": scores[p]})) for p in places]
    found = {(*x["axes"], *x["values"]): x for x in study(*arms)["interactions"]}
    assert found["a", "b", 1, 2]["ci"][0] < 0.3 < found["a", "b", 1, 2]["ci"][1]
    assert len(found) == 2 + 1 + 2

    def columns(a, b, c):
        main = [a == 1, b == 1, b == 2, c == 1]
        return [*main, main[0] * main[1], main[0] * main[2], main[0] * main[3], main[1] * main[3], main[2] * main[3]]

    design = [np.eye(24)[i].tolist() + columns(*p) for p in places for i in range(24)]
    fit = OLS(np.concatenate([scores[p].mean(axis=1) for p in places]), np.array(design, dtype=float)).fit()
    assert found["a", "b", 1, 2]["delta"] == pytest.approx(fit.params[24 + 5])
    assert found["b", "c", 1, 1]["delta"] == pytest.approx(fit.params[24 + 7])


def test_pareto_is_quality_against_seconds(base):
    found = study(
        arm(0, base, seconds=1.0), arm(1, base + 1, seconds=2.0), arm(2, base - 1, seconds=1.5),
        arm(3, base - 2, seconds=0.5, nfe=8),
    )  # fmt: skip
    assert [a["pareto"] for a in found["arms"]] == [True, True, False, True]
    assert (found["arms"][3]["nfe"], found["arms"][3]["seconds"]) == (8, 0.5)
    assert [a["metrics"]["nano_judge"]["pareto"] for a in found["arms"]] == [True, True, False, True]


def test_the_front_is_of_complete_arms_and_of_the_prompts_they_share(base):
    easy = base[np.argsort(-base.mean(axis=1))]  # easy prompts first
    other = {"nano_judge": easy + 0.2, "clip": easy - 0.2}
    whole = [arm(0, {"nano_judge": easy, "clip": easy}, seconds=1.0), arm(1, other, seconds=2.0)]
    half = dict.fromkeys(("nano_judge", "clip"), easy[:6] - 0.1)
    assert half["nano_judge"].mean() > (easy + 0.2).mean(), "by its own mean it would be on the front"
    for status in ("unfinished", "complete"):
        found = study(*whole, arm(2, half, seconds=2.0, status=status))
        assert [a["pareto"] for a in found["arms"]] == [True, True, False]
        assert [a["metrics"]["clip"]["pareto"] for a in found["arms"]] == [True, False, False]
    strangers = arm(2, base, seconds=3.0)
    strangers.rows = [row | {"prompt_id": f"q{row['prompt_id']}"} for row in strangers.rows]
    assert not any(a["pareto"] for a in study(*whole, strangers)["arms"]), "no prompt is shared"


def test_under_20_prompts_there_is_no_p_and_no_verdict(base):
    found = study(arm(0, base[:19]), arm(1, base[:19] + 0.5))
    v = versus(found)
    assert (v["p"], v["p_holm"], v["p_wilcoxon"], v["verdict"]) == (None, None, None, "too few prompts")
    assert v["delta"] == pytest.approx(0.5)
    assert "19 prompts are compared" in found["warnings"][0]


def test_one_prompt_and_one_seed(base):
    found = study(arm(0, base[:1]), arm(1, base[:1] + 0.5))
    v = versus(found)
    assert (v["delta"], v["ci"], v["se"], v["mde"], v["verdict"]) == (
        pytest.approx(0.5), [None, None], None, None, "too few prompts",
    )  # fmt: skip
    assert found["variance"]["nano_judge"]["advice"] == "more prompts"
    assert "one prompt only" in found["warnings"][0]
    found = study(arm(0, base[:, :1], seeds=(5,)), arm(1, base[:, :1] + 0.5, seeds=(5,)))
    assert versus(found)["verdict"] == "better"
    assert found["aa"]["nano_judge"]["note"].startswith("one seed only")
    assert found["aa"]["nano_judge"]["ci"] is None
    assert found["variance"]["nano_judge"]["advice"] == "more seeds"
    assert any(w.startswith("one seed only") for w in found["warnings"])


def test_scores_that_are_missing_or_not_finite_leave_their_pair_out(base):
    lacking = base + 0.1
    lacking[0, 0], lacking[1, :], lacking[2, 2] = np.nan, np.inf, np.nan
    other = arm(1, lacking)
    other.rows[8]["nano_judge"] = None
    found = study(arm(0, base), other)
    v = versus(found)
    assert (v["n_prompts"], v["n_pairs"], v["verdict"]) == (23, 67, "better")
    assert "5 scores without a partner are left out" in v["note"]
    metric = found["metrics"][0]
    assert (metric["scored"], metric["missing"], metric["not_finite"]) == (139, 1, 4)
    assert "1 picture without a score, 4 not finite" in found["warnings"][0]


def test_identical_arms_differ_by_nothing(base):
    found = study(arm(0, base, pixels_sha256="x"), arm(1, base, pixels_sha256="x"), arm(2, base + 0.0))
    for number, note in ((1, "identical: the pictures"), (2, "identical: every difference is 0")):
        v = versus(found, number)
        assert (v["delta"], v["se"], v["d_z"], v["mde"], v["ci"]) == (0, 0, None, None, [0, 0])
        assert (v["p"], v["verdict"], v["ties"]) == (1, "no difference seen", 24)
        assert v["note"].startswith(note)
    assert "nothing varies" in found["variance"]["nano_judge"]["advice"]


def test_arms_of_other_seeds_are_paired_by_prompt(base):
    rng = np.random.default_rng(8)
    found = study(arm(0, base), arm(1, base + rng.normal(0, 0.1, base.shape), seeds=(100, 101, 102)))
    v = versus(found)
    assert (v["n_prompts"], v["n_pairs"], v["verdict"]) == (24, 0, "no difference seen")
    assert v["note"].startswith("unpaired seeds")
    assert (v["best"][0]["seed"], v["best"][0]["seed_baseline"]) == (100, 0)
    assert found["variance"]["nano_judge"]["note"].startswith("unpaired seeds")
    assert found["warnings"] == []


def test_sizes_and_texts_that_differ_are_told(base):
    big = arm(1, base + 0.1, size=256)
    big.rows[0]["prompt"] = "said otherwise"
    found = study(arm(0, base), big)
    assert "unpaired noise" in versus(found)["note"]
    assert "texts of prompts with the same id differ" in versus(found)["note"]
    assert "128 x 128, 256 x 256" in found["warnings"][0]
    assert "different texts" in found["warnings"][1]


def test_without_metrics_arms_have_costs_only(base):
    found = study(arm(0, {"nfe": base * 0 + 3}), arm(1, {"nfe": base * 0 + 4}))
    assert (found["metrics"], found["primary"], found["aa"], found["variance"]) == ([], None, {}, {})
    assert [(a["nfe"], a["metrics"], a["versus"], a["pareto"]) for a in found["arms"]] == [
        (3, {}, {}, False), (4, {}, {}, False),
    ]  # fmt: skip
    assert "no scores" in found["warnings"][0]


def test_without_arms_or_pictures():
    found = study()
    assert (found["status"], found["baseline"], found["arms"], found["prompts"]) == ("running", None, [], [])
    found = study(Arm("a", {"layer": 1}, "s", status="unfinished"))
    assert found["status"] == "running"
    assert found["baseline"] is None
    assert found["warnings"][-1] == "there are no pictures yet"
    assert found["arms"][0]["pictures"] == 0


def test_cells_that_failed_or_are_not_finished(base):
    failed = Arm("f", {"layer": 8}, "s", "f", "failed", "ConfigError: no", asked=72)
    waiting = Arm("asked-3", {"layer": 9}, "s", None, "unfinished", asked=72)
    partly = arm(4, base[:22], status="unfinished", asked=72)
    gone = arm(5, base[:23], asked=72)
    found = study(arm(0, base, asked=72), failed, waiting, partly, gone)
    assert found["status"] == "running"
    assert [a["missing"] for a in found["arms"]] == [0, 72, 72, 6, 3]
    assert [versus(found, i)["verdict"] for i in (1, 2, 3)] == ["not compared", "not compared", "no difference seen"]
    assert [versus(found, i)["note"] for i in (1, 2)] == ["the cell failed", "the arm has no pictures"]
    assert versus(found, 1).keys() >= VERSUS
    assert found["warnings"][0] == "1 cell failed: layer=8: ConfigError: no"
    assert found["warnings"][1].startswith("2 of 5 cells are not finished")
    assert found["warnings"][2].startswith("3 pictures are missing")
    nothing = study(failed, arm(1, base), baseline="layer=8")
    assert versus(nothing)["note"] == "the baseline has no pictures"
    assert nothing["aa"]["nano_judge"]["note"] == "the baseline has no scores"


@pytest.mark.parametrize("asked", ["layer=-2", "layer=-2.0", " layer=-2", "layer='-2'", "c1", "layer=-2, steps=8"])
def test_the_baseline_is_found_by_label_number_or_id(base, asked):
    arms = [Arm(f"c{i}", {"layer": typed(x), "steps": 8}, "s", rows=rows({"clip": base})) for i, x in
            enumerate(["-1", "-2", "-3"])]  # fmt: skip
    found = study(*arms, baseline=asked)
    assert found["baseline"] == "c1"


def test_an_unknown_baseline_asked_for_is_an_error_and_one_of_the_studys_a_warning(base):
    arms = [arm(-1, base), arm(-2, base)]
    for wrong in ("layer=-3", "lyer=-2", "nonsense", "", "layer=-2, steps=8"):
        with pytest.raises(ConfigError, match=r"report\.baseline=.*no such arm.*layer=-"):
            study(*arms, baseline=wrong)
    found = study(*arms, baselines={"s": {"layer": -7}})
    assert found["baseline"] == "cell-1"
    assert found["warnings"] == ["no arm is the study's baseline layer=-7; compared with layer=-1 instead"]
    assert study(*arms, baselines={"s": {"layer": "-2"}})["baseline"] == "cell-2"
    assert study(*arms)["baseline"] == "cell-1"


def test_values_of_axes_are_one_whatever_wrote_them():
    for a, b in [("-2", -2), ("2", 2.0), ("1.0", "1"), ("[0,1,2]", "[0, 1, 2]"), ("'a b'", "a b"), ("null", None),
                 ("true", True), ("cfg", "cfg"), ("[a,b]", '["a", "b"]'), ("1e-3", 0.001)]:  # fmt: skip
        assert same(a, b), (a, b)
    assert not same("cfg", "none")
    assert not same("10", "1")
    assert [typed(x) for x in ("-2", "1.5", "cfg", "true", "[0]", "NaN", 3)] == [
        -2,
        1.5,
        "cfg",
        "true",
        "[0]",
        "NaN",
        3,
    ]


def test_several_sweeps_with_equal_ids_and_labels(base):
    found = study(arm(0, base, sweep="a"), arm(1, base, sweep="a"), arm(0, base, sweep="b"), arm(2, base, sweep="b"))
    assert [a["id"] for a in found["arms"]] == ["a/cell0", "cell1", "b/cell0", "cell2"]
    assert [a["label"] for a in found["arms"]] == ["layer=0 (a)", "layer=1", "layer=0 (b)", "layer=2"]
    assert [a["cell"] for a in found["arms"]] == ["cell0", "cell1", "cell0", "cell2"]
    twins = [Arm(i, {"layer": 1}, "a", rows=rows({"clip": base})) for i in "xy"]
    assert [a["label"] for a in study(*twins)["arms"]] == ["layer=1 (x)", "layer=1 (y)"]


def test_a_score_of_all_seeds_together_has_no_noise_of_seeds(base):
    found = study(arm(0, {"diversity": base}), arm(1, {"diversity": base + 0.2}))
    assert versus(found, metric="diversity")["epsilon"] == 0
    assert versus(found, metric="diversity")["verdict"] == "differs", "noise is diverse too"
    assert "no halves" in found["aa"]["diversity"]["note"]
    assert found["variance"]["diversity"]["prompt"] is None


def test_the_metrics_of_all_seeds_together_are_known():
    from importlib import import_module

    grouped = set()
    for name, entry in METRICS.items():
        place, _, cls = entry.place.partition(":")
        try:
            module = import_module(f"llm_dit.metrics.{place}")
        except ImportError:
            continue  # not built in this environment
        if getattr(module, cls).grouped:
            grouped.add(name)
    assert grouped == analysis.GROUPED


def test_weights_that_differ_under_one_name_are_told(base):
    def drawn(number, print_, path="shipped:nano", **more):
        made = arm(number, base, transformer_fingerprint=print_, model="nano", vae_fingerprint="v", **more)
        made.model = {"name": "nano", "path": path, "trained_size": 128}
        return made

    assert study(drawn(0, "a"), drawn(1, "a"), drawn(2, "b", path="mine"))["warnings"] == []
    told = study(drawn(0, "a"), drawn(1, "b"), drawn(2, "a"))["warnings"]
    assert told == [
        "arms were drawn with different weights of nano (transformer): layer=0, layer=2 | layer=1; a difference "
        "between these groups may be of the weights"
    ]
    again = drawn(1, "a")
    for row in again.rows:
        row["vae_fingerprint"] = "w"
    (told,) = study(*(drawn(i, "a") for i in (0, 2, 3, 4, 5, 6)), again)["warnings"]
    assert "of nano (vae): layer=0, layer=2, layer=3, layer=4 and 2 more | layer=1;" in told


def test_pictures_drawn_twice_are_told_with_what_they_differ_by(base):
    def drawn(number, scores, pixels, identity="same", **more):
        made = arm(number, {"nano_judge": scores, "clip": scores * np.nan}, **more)
        made.drawn_as = identity
        for i, row in enumerate(made.rows):
            row["pixels_sha256"] = f"{pixels}{i}"
        return made

    exact, near = drawn(1, base, "a"), drawn(2, base + 0.001, "a")
    near.rows[5]["pixels_sha256"] = "other"
    near.rows[5]["nano_judge"] += 0.5
    other, strangers = drawn(3, base, "c", "another"), drawn(4, base, "d", seeds=(7, 8, 9))
    assert study(drawn(0, base, "a"), exact, near, other, strangers)["repeats"] == [
        {"arms": ["cell0", "cell1"], "pictures": 72, "equal": 72, "scores": {"nano_judge": 0, "clip": None}},
        {"arms": ["cell0", "cell2"], "pictures": 72, "equal": 71,
         "scores": {"nano_judge": pytest.approx(0.501), "clip": None}},
    ]  # fmt: skip
    for row in exact.rows:
        row["prompt"] += " said otherwise"
    for row in near.rows:
        row["transformer_fingerprint"] = "of other weights"
    assert study(drawn(0, base, "a"), exact, near, strangers, other)["repeats"] == []
    assert study(other, exact, drawn(0, base, "a"), baseline="layer=0")["repeats"] == []


# From folders, as a sweep leaves them.


def write_cell(folder, cell_id, layer, scores, done=True, seeds=(0, 1, 2)):
    cell = folder.cell(cell_id)
    (cell.path / "images").mkdir(parents=True)
    labels = {"encoder_layer.index": str(layer)}
    records, lines = [], []
    for row in rows({"nano_judge": scores}, seeds=seeds):
        record = {
            k: row[k] for k in ("prompt_id", "category", "prompt", "seed", "width", "height", "nfe", "token_count")
        }
        record |= {
            "cell": cell_id,
            "axes": labels,
            "padded_length": 32,
            "shift": 2.0,
            "guidance": {"cfg_weight": 3.0},
            "seconds": {"load": 9.0, "denoise": 0.25, "decode": 0.25},
            "config": {"model": {"name": "nano"}, "encoder_layer": {"index": layer}},
            "model_fingerprint": {"transformer": "t"},
            "device": "cpu",
            "dtype": "float32",
            "versions": {},
            "pixels_sha256": f"{cell_id}{row['prompt_id']}{row['seed']}",
            "path": f"images/{row['prompt_id']}_s{row['seed']}.png",
        }
        (cell.path / record["path"]).write_bytes(b"png")
        records.append(record)
        line = {"metric": "nano_judge", "identity": "judge v1", "prompt_id": row["prompt_id"], "seed": row["seed"]}
        line |= {"input": input_hash([record], record), "grouped": False, "values": {"nano_judge": row["nano_judge"]}}
        lines.append(line | {"tokens": 5, "truncated": row["prompt_id"] == "p00"})
    for name, values in (("records.jsonl", records), ("scores.jsonl", lines)):
        (cell.path / name).write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    if done:
        cell.write("cell.json", {"labels": labels, "pictures": scores.size})
    return cell


@pytest.fixture
def folder(tmp_path, base):
    """A sweep of four cells asked for: two drawn, one failed, one not begun; and one of an earlier command."""
    folder = SweepFolder(tmp_path / "layers")
    folder.path.mkdir()
    asked = [{"encoder_layer.index": value} for value in ("-1", "-2", "-8", "-9")]
    folder.write(
        {"name": "layers", "question": "Which layer?", "axes": ["encoder_layer.index"], "primary": "nano_judge",
         "baseline": {"encoder_layer.index": -2}, "cells": asked}
    )  # fmt: skip
    write_cell(folder, "old", -31, base - 0.4)
    write_cell(folder, "bbb", -2, base)
    write_cell(folder, "aaa", -1, base + 0.1)
    failed = folder.cell("fff")
    failed.path.mkdir()
    failed.write("failed.json", {"error": "RenderError: not finite", "labels": {"encoder_layer.index": "-8"}})
    folder.cell("locked").path.mkdir()
    return folder


def test_a_folder_as_a_sweep_leaves_it(folder):
    found = analyse([folder], resamples=1000)
    assert [(a["id"], a["label"], a["status"], a["pictures"], a["missing"]) for a in found["arms"]] == [
        ("aaa", "encoder_layer.index=-1", "complete", 72, 0),
        ("bbb", "encoder_layer.index=-2", "complete", 72, 0),
        ("fff", "encoder_layer.index=-8", "failed", 0, 72),
        ("asked-4", "encoder_layer.index=-9", "unfinished", 0, 72),
        ("old", "encoder_layer.index=-31", "complete", 72, 0),
    ]
    assert [a["axes"]["encoder_layer.index"] for a in found["arms"]] == [-1, -2, -8, -9, -31]
    assert (found["name"], found["question"], found["status"], found["baseline"]) == (
        "layers", "Which layer?", "running", "bbb",
    )  # fmt: skip
    assert [found["arms"][i]["versus"]["nano_judge"]["verdict"] for i in (0, 2, 4)] == [
        "better",
        "not compared",
        "worse",
    ]
    assert found["arms"][0]["seconds"] == 0.5
    metric = found["metrics"][0]
    assert (metric["identities"], metric["truncated"], metric["scored"]) == (["judge v1"], 9, 216)
    assert found["prompts"][0] == {
        "id": "p00", "prompt": "prompt 0", "category": "even", "length_bin": "10-17 tokens",
    }  # fmt: skip
    assert found["warnings"][0] == "1 cell failed: encoder_layer.index=-8: RenderError: not finite"
    again = analyse([folder], resamples=1000)
    assert {**again, "generated": 0} == {**found, "generated": 0}, "the same numbers give the same report"


def test_a_lost_picture_is_missing_and_a_folder_of_nothing_is_no_error(folder, tmp_path):
    next((folder.cell("aaa").path / "images").iterdir()).unlink()
    found = analyse([folder], baseline="encoder_layer.index=-1", resamples=200)
    assert (found["arms"][0]["missing"], found["arms"][0]["is_baseline"]) == (1, True)
    assert "1 picture is missing" in " ".join(found["warnings"])
    empty = analyse([SweepFolder(tmp_path / "nowhere")], resamples=200)
    assert (empty["name"], empty["arms"]) == ("nowhere", [])


def test_a_thousand_cells_are_read_in_the_order_asked_for(tmp_path, monkeypatch):
    from llm_dit.study.evidence import arms

    folder = SweepFolder(tmp_path / "many")
    folder.path.mkdir()
    asked = [{"a": str(i // 40), "b": json.dumps([i % 40, 0.5])} for i in range(1000)]
    folder.write({"name": "many", "axes": ["a", "b"], "cells": [*asked, asked[3]]})
    for i in (7, 999, 0):
        folder.cell(f"c{i}").path.mkdir(parents=True)
        written = {"a": f"{asked[i]['a']}.0", "b": asked[i]["b"].replace(" ", "")}
        folder.cell(f"c{i}").write("cell.json", {"labels": written, "pictures": 0})
    reads = []
    monkeypatch.setattr(arms, "read_value", lambda value, read=arms.read_value: reads.append(value) or read(value))
    found = arms.read_arms([folder])
    assert [(i, arm.cell) for i, arm in enumerate(found) if arm.cell] == [(0, "c0"), (7, "c7"), (999, "c999")]
    assert len(found) == len({arm.label for arm in found}) == 1000
    assert len(reads) < 5000, "labels are read once each, not once for every other cell"


def test_a_cell_drawn_again_with_other_hardware_is_a_repeat(folder, base):
    write_cell(folder, "bbb-123abc", -2, base)
    assert analyse([folder], resamples=200)["repeats"] == [
        {"arms": ["bbb", "bbb-123abc"], "pictures": 72, "equal": 0, "scores": {"nano_judge": 0}}
    ]


def test_a_search_is_told(folder):
    assert "lucky" not in " ".join(analyse([folder], resamples=200)["warnings"])
    folder.write(folder.read() | {"search": True})
    assert (
        "the arms of layers were chosen by the score they are compared on: the best of many is partly lucky; draw the "
        "winner again on fresh prompts"
    ) in analyse([folder], resamples=200)["warnings"]


def test_several_folders_in_one_report(folder, tmp_path, base):
    other = SweepFolder(tmp_path / "more")
    other.path.mkdir()
    other.write({"name": "more", "axes": ["encoder_layer.index"], "cells": []})
    write_cell(other, "bbb", -2, base)
    write_cell(other, "new", -6, base + 0.2, done=False)
    found = analyse([folder, other, folder], resamples=200)
    assert [a["id"] for a in found["arms"]][-2:] == ["more/bbb", "new"]
    assert found["baseline"] == "layers/bbb"
    assert found["arms"][1]["label"] == "encoder_layer.index=-2 (layers)"
    by_id = {a["id"]: a for a in found["arms"]}
    assert by_id["new"]["versus"]["nano_judge"]["verdict"] == "better"
    assert by_id["new"]["status"] == "unfinished"
    assert by_id["more/bbb"]["versus"]["nano_judge"]["delta"] == 0
