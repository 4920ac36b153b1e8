"""Pages of odd sweeps open and say so, and hostile text stays text."""

from __future__ import annotations

import copy
import json
import re

import pytest
from made_report import made, text

from llm_dit.study.report import write_report
from llm_dit.study.report.write import as_json, content_policy

HOSTILE = '</script><img src=x onerror="window.hit=1"><!-- <script>window.hit=2</script> {{data}} & \u2028 "quoted"'


def odd_sweeps() -> dict[str, tuple[dict, list[dict]]]:
    cases = {
        "one prompt": made(prompts=1),
        "one seed": made(seeds=1),
        "one prompt and one seed": made(prompts=1, seeds=1),
        "no metric": made(metrics=()),
        "no baseline": made(baseline=False),
        "one arm": made({"encoder_layer.index": [-2]}),
        "running": made(status="running"),
        "three axes": made({"a.steps": [4, 8], "a.shift": [1.0, 3.0], "guidance": ["cfg", "none"]}, prompts=4),
        "several sweeps": made(sweeps=("one", "two")),
        "huge labels": made({"prompt.system": ["word " * 200, "x" * 2000, ""]}),
        "odd values": made({"seeds": [[0, 1], [100, 101]], "x": [None, True]}, prompts=3),
        "no arm": ({"name": "empty"}, []),
        "no axis": made({}),
    }
    analysis, pictures = made()
    analysis["arms"][2] |= {"status": "failed", "error": "Traceback\n  File x\nRenderError: no <b>memory</b>",
                            "metrics": {}, "versus": {}, "pictures": 0, "nfe": None, "seconds": None}  # fmt: skip
    cases["a failed cell"] = (analysis, [p for p in pictures if p["arm"] != "c2"])
    analysis, pictures = made()
    for place in (("c0", "p1", 1), ("c2", "p23", 1)):
        gone = next(p for p in pictures if (p["arm"], p["prompt_id"], p["seed"]) == place)
        gone |= {"missing": True, "thumb": None, "path": None, "scores": {}}
    cases["missing pictures"] = (analysis, pictures)
    analysis, pictures = made()
    pictures[0]["scores"]["nano_judge"] = float("nan")
    pictures[1]["scores"] = {"nano_judge": None}
    analysis["arms"][1]["metrics"]["nano_judge"] |= {"mean": None, "ci": [None, None]}
    analysis["arms"][1]["versus"]["nano_judge"] |= {"delta": float("inf"), "ci": [None, None], "p_holm": None}
    cases["scores that are no numbers"] = (analysis, pictures)
    analysis, pictures = made()
    for arm in analysis["arms"][1:]:
        for entry in arm["versus"].values():
            entry |= {"verdict": "too few prompts", "p": None, "p_holm": None, "mde": None, "best": [], "worst": []}
    analysis["aa"] = {"note": "one seed only: the noise of other seeds is not known"}
    analysis["variance"] = {"note": "one seed only"}
    cases["too few prompts"] = (analysis, pictures)
    analysis, pictures = made(seeds=1)
    nothing = {"n_prompts": 0, "delta": None, "ci": [None, None], "sd": None, "epsilon": None}
    analysis["aa"] = {m: nothing | {"note": "one seed only: ties are equal scores alone"} for m in analysis["aa"]}
    analysis["variance"] = {m: dict.fromkeys(("prompt", "seed", "residual", "advice")) | {"note": "one seed only"}
                            for m in analysis["variance"]}  # fmt: skip
    for x in analysis["slices"]:
        x |= {"delta": None, "ci": [None, None], "note": "one prompt"}
    cases["no noise floor"] = (analysis, pictures)
    analysis, pictures = made(metrics=("sharpness", "nano_judge"))
    for arm in analysis["arms"][1:]:
        arm["versus"]["sharpness"] |= {"verdict": "differs", "mde_holm": 0.031}
    cases["a metric without a better"] = (analysis, pictures)
    analysis, pictures = copy.deepcopy(made())
    for p in pictures:
        p["seed"] = 2**62 + p["seed"]
    cases["seeds beyond JavaScript's numbers"] = (analysis, pictures)
    return cases


EXPECTED = {
    "one arm": "one arm only",
    "no metric": "No metric was scored",
    "no baseline": "No baseline is named",
    "running": "has not finished",
    "a failed cell": "failed",
    "missing pictures": "2 pictures are missing",
    "too few prompts": "too few prompts",
    "a metric without a better": "2 differ",
    "no noise floor": "One seed only: ties are equal scores alone.",
    "no arm": "No arm has been drawn yet",
}


@pytest.mark.parametrize("name", list(odd_sweeps()))
def test_odd_sweeps_open_and_say_so(show, name):
    analysis, pictures = odd_sweeps()[name]
    page = show(analysis, pictures)
    assert not page.get_by_text("could not be drawn").count()
    assert EXPECTED.get(name, "") in page.inner_text("main")
    if name == "no noise floor":
        assert not page.locator("svg .band").count()
    assert "undefined" not in page.inner_text("main")
    assert "NaN" not in page.inner_text("main")
    if pictures:
        page.evaluate("document.getElementById('grid').scrollIntoView()")
        assert page.locator(".tile").count()
        for side in ("#rows-0", "#columns-0"):
            for value in page.eval_on_selector_all(f"{side} option", "(list) => list.map((o) => o.value)"):
                if page.locator(f'{side} option[value="{value}"]').count():  # a field of one value is offered once
                    page.select_option(side, value)
                assert page.locator(".tile").count()
    for m in analysis.get("metrics", []):
        page.select_option("#metric", m["name"])
    for details in page.locator("details").all():
        details.evaluate("(d) => (d.open = true)")
    page.wait_for_timeout(50)


def test_holes_in_the_grid_say_why(show):
    cases = odd_sweeps()
    page = show(*cases["a failed cell"])
    assert text(page, '.tile[data-r="0"][data-c="2"]') == "failed"
    assert "RenderError: no <b>memory</b>" in text(page, ".failure summary")
    page = show(*cases["missing pictures"])
    page.click("#page-on")
    assert text(page, '.tile[data-r="1"][data-c="0"]') == "file is gone"


def test_hostile_text_is_inert(show):
    analysis, pictures = made(prompts=3)
    analysis["question"] = analysis["name"] = HOSTILE
    analysis["warnings"] = [HOSTILE]
    for p in analysis["prompts"]:
        p |= {"prompt": HOSTILE, "category": HOSTILE}
    analysis["arms"][1] |= {"label": HOSTILE, "axes": {"encoder_layer.index": HOSTILE}, "error": HOSTILE}
    facts = {"settings": {HOSTILE: HOSTILE}, "changed": [HOSTILE], "weights": [HOSTILE]}
    page = show(analysis, pictures, facts=facts, allow=("net::ERR_FILE_NOT_FOUND",))
    assert text(page, "h1") == HOSTILE.replace("\u2028", "\n") or HOSTILE[:20] in text(page, "h1")
    page.locator('.tile[data-r="0"][data-c="1"]').hover()
    assert "onerror" in text(page, "#tip")
    page.click('.tile[data-r="0"][data-c="1"]')
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x]").count() == 0
    page.keyboard.press("Escape")


def test_json_cannot_leave_its_script():
    block = as_json({"a": HOSTILE, "n": float("nan"), "big": 2**62})
    assert "<" not in block
    assert json.loads(block) == {"a": HOSTILE, "n": None, "big": str(2**62)}


def test_policy_names_style_and_script_by_hash():
    policy = content_policy("a{}", "1")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_page_is_one_file_without_addresses(tmp_path):
    page = write_report(*made(), tmp_path / "report.html").read_text()
    found = set(re.findall(r"https?://[^\s\"'`)]+", page))
    assert found == {"http://www.w3.org/2000/svg"}  # a name, not an address
