"""The analysis where something is little, lacking, odd, twice there or named otherwise: it is told, not hidden."""

from __future__ import annotations

import numpy as np
import pytest
from made_arms import VERSUS, arm, rows, study, versus

from llm_dit.base.errors import ConfigError
from llm_dit.metrics.registry import METRICS
from llm_dit.study.axes import same, typed
from llm_dit.study.evidence import analysis
from llm_dit.study.evidence.arms import Arm


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
