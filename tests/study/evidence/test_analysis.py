"""The analysis of sweeps: known differences are found, with the numbers they have."""

from __future__ import annotations

import numpy as np
import pytest
from made_arms import VERSUS, arm, rows, study, versus

from llm_dit.base.errors import ConfigError
from llm_dit.study.evidence.analysis import analyse_arms
from llm_dit.study.evidence.arms import Arm
from llm_dit.study.evidence.versus import flip, judge


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
    entries = [{"n_prompts": 24, "delta": d.mean(), "se": 0.2, "p": None, "mde": None} for d in noise]
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


def test_pareto_is_quality_against_forwards(base):
    found = study(
        arm(0, base, nfe=16), arm(1, base + 1, nfe=32), arm(2, base - 1, nfe=24), arm(3, base - 2, seconds=0.5, nfe=8),
    )  # fmt: skip
    assert (found["cost"], [a["pareto"] for a in found["arms"]]) == ("nfe", [True, True, False, True])
    assert (found["arms"][3]["nfe"], found["arms"][3]["seconds"]) == (8, 0.5)
    assert [a["metrics"]["nano_judge"]["pareto"] for a in found["arms"]] == [True, True, False, True]


def test_seconds_of_a_machine_rank_nothing(base):
    found = study(arm(0, base, seconds=1.0), arm(1, base + 1, seconds=2.0), arm(2, base - 1, seconds=0.5))
    assert [a["pareto"] for a in found["arms"]] == [False] * 3, "one number of forwards leaves nothing to trade"


def test_seconds_rank_arms_of_other_hardware_where_their_intervals_are_apart(base):
    dice = np.random.default_rng(0)

    def timed(number, scores, threads, mean):
        made = arm(number, scores)
        made.axes = {"hardware.threads": threads}
        for row, noise in zip(made.rows, dice.normal(0, 0.05, len(made.rows)), strict=True):
            row["seconds"] = mean + noise
        return made

    arms = [timed(0, base, 1, 2.0), timed(1, base, 2, 1.0), timed(2, base + 0.1, 3, 1.004), timed(3, base - 1, 4, 0.5)]
    found = study(*arms)
    assert found["cost"] == "seconds"
    low, high = found["arms"][0]["seconds_ci"]
    assert 1.9 < low < found["arms"][0]["seconds"] < high < 2.1
    # Arms 1 and 2 cannot be told apart by their seconds, so the better one alone stands on the front.
    assert [a["pareto"] for a in found["arms"]] == [False, False, True, True]
    for made in arms:
        made.rows = made.rows[:3]
    assert not any(a["pareto"] for a in study(*arms)["arms"]), "of one prompt no interval is known"


def test_the_front_is_of_complete_arms_and_of_the_prompts_they_share(base):
    easy = base[np.argsort(-base.mean(axis=1))]  # easy prompts first
    other = {"nano_judge": easy + 0.2, "clip": easy - 0.2}
    whole = [arm(0, {"nano_judge": easy, "clip": easy}, nfe=8), arm(1, other, nfe=16)]
    half = dict.fromkeys(("nano_judge", "clip"), easy[:6] - 0.1)
    assert half["nano_judge"].mean() > (easy + 0.2).mean(), "by its own mean it would be on the front"
    for status in ("unfinished", "complete"):
        found = study(*whole, arm(2, half, nfe=16, status=status))
        assert [a["pareto"] for a in found["arms"]] == [True, True, False]
        assert [a["metrics"]["clip"]["pareto"] for a in found["arms"]] == [True, False, False]
    strangers = arm(2, base, nfe=24)
    strangers.rows = [row | {"prompt_id": f"q{row['prompt_id']}"} for row in strangers.rows]
    assert not any(a["pareto"] for a in study(*whole, strangers)["arms"]), "no prompt is shared"
