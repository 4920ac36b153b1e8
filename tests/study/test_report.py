"""task=report and its settings, on real sweeps of the tiny model. What the page shows is tested in report_page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PAGE = Path("outputs/sweeps/s/report.html")


def data(page=PAGE):
    """What the page was given, and its small pictures in the order of its pictures."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    found = [json.loads(b) for b in blocks]
    return next(b for b in found if isinstance(b, dict)), [t for b in found if isinstance(b, list) for t in b]


@pytest.fixture
def report(sweep, run_main):
    sweep("x", "sampler.steps=1,2", "seed=1,2,3", "metrics=[sharpness,entropy]")

    def write(*arguments):
        code, out, err, _ = run_main("task=report", "sweep.name=s", *arguments)
        assert (code, err) == (0, "")
        assert out.strip() == str(PAGE)
        return data()

    return write


def test_it_is_made_again_from_the_records(report):
    before = PAGE.read_bytes()
    PAGE.unlink()
    page, small = report()
    assert page["analysis"]["primary"] == "sharpness"
    assert len(page["pictures"]) == len(small) == 6
    assert len(before) == pytest.approx(PAGE.stat().st_size, abs=200)


def test_its_settings_act(report, sweep):
    def labels(page):
        return [arm["label"] for arm in page["analysis"]["arms"] if arm["is_baseline"]]

    first, small = report()
    assert labels(first) == ["sampler.steps=1"]
    assert labels(report("report.baseline='sampler.steps=2'")[0]) == ["sampler.steps=2"]
    assert report("metrics.primary=entropy")[0]["analysis"]["primary"] == "entropy"
    assert max(len(t) for t in report("report.thumbnail_size=32")[1]) < max(len(t) for t in small)
    page, few = report("report.max_pictures=2")
    inside = {(p["arm"], p["seed"]) for p, t in zip(page["pictures"], few, strict=True) if t is not None}
    best = [arm["versus"]["sharpness"]["best"] for arm in page["analysis"]["arms"] if not arm["is_baseline"]]
    assert len(inside) == 2
    assert not best[0] or inside == {(arm["id"], best[0][0]["seed"]) for arm in page["analysis"]["arms"]}
    sweep("x", "sampler.steps=3", "seed=1,2,3", "metrics=sharpness", name="more")
    together, small = report("report.sweeps=[more]")
    assert len(together["analysis"]["arms"]) == 3
    assert len(small) == 9


def test_resamples_change_intervals_and_never_what_a_test_can_find(sweep, run_main, prompt_file):
    prompts = prompt_file({f"p{i:02}": f"thing number {i}" for i in range(20)})
    small = ("width=64", "height=64", "seeds=[1]")
    assert sweep(f"prompts.set={prompts}", "sampler.steps=1,2", *small, "metrics=sharpness")[0] == 0

    def versus(resamples):
        assert run_main("task=report", "sweep.name=s", f"report.resamples={resamples}")[0] == 0
        return data()[0]["analysis"]["arms"][1]["versus"]["sharpness"]

    few, more = versus(100), versus(5000)
    assert few["n_prompts"] == 20
    for key in ("ci", "ci_unpaired"):
        assert None not in few[key] + more[key]
        assert few[key] != more[key]
    assert (few["delta"], few["p"]) == (more["delta"], more["p"])
    assert few["p"] is not None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("report.baseline='sampler.steps=3'", "sampler.steps=3"),
        ("report.sweeps=[mor]", "report.sweeps=mor: no such sweep"),
        ("metrics.primary=sharp", "Did you mean 'sharpness'?"),
    ],
)
def test_what_is_not_there_is_named(report, run_main, setting, message):
    code, out, err, _ = run_main("task=report", "sweep.name=s", setting)
    assert (code, out) == (2, "")
    assert message in err


def test_settings_that_a_record_does_not_know_are_not_told(report):
    from llm_dit.study.report.write import provenance

    for path in Path("outputs/sweeps/s").glob("cells/*/cell.json"):
        cell = json.loads(path.read_text())
        del cell["config"]["long_prompt"]["mode"]  # as a version before that setting wrote it
        path.write_text(json.dumps(cell))
    assert "long_prompt.mode" not in provenance([Path("outputs/sweeps/s")])["settings"]


def test_half_a_sweep_and_a_failed_cell_have_a_report(sweep, run_main):
    sweep("x", "encoder_layer.index=-2,9", "seed=1,2")
    page, _ = data()
    assert [arm["status"] for arm in page["analysis"]["arms"]] == ["complete", "failed"]
    assert any("failed" in w for w in page["analysis"]["warnings"])
    next(Path("outputs/sweeps/s").glob("cells/*/images/*")).unlink()
    assert run_main("task=report", "sweep.name=s")[0] == 0
    page, _ = data()
    assert any("missing" in w for w in page["analysis"]["warnings"])
