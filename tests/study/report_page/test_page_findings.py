"""What a reader finds: summary, arms, plots, and how the page looks."""

from __future__ import annotations

import re

import pytest
from made_report import made, text


def test_summary_says_what_was_found(show):
    page = show(*made())
    assert text(page, "h1") == "Which layer does the picture need?"
    answer = text(page, ".answer")
    assert "2 arms" in answer
    assert "1 is worse" in answer
    assert "1 shows no difference" in answer
    assert "Smallest detectable difference: 0.021" in text(page, "#findings")
    assert "encoder_layer.index=-12" in text(page, ".group")
    assert "\u22120.200 [\u22120.220, \u22120.180]" in text(page, "#findings")
    assert "Other seeds: the baseline against itself" in text(page, "#findings")


def test_without_a_verdict_the_best_arm_stands_first_with_what_it_would_take(show):
    analysis, pictures = made({"encoder_layer.index": [-2, -6, -12, -1]}, prompts=6, seeds=1)
    told = [(-0.3, [-0.5, -0.1], 20), (-0.01, [-0.3, 0.28], 9000), (0.08, [-0.33, 0.49], 131)]
    for one, (delta, ci, needed) in zip(analysis["arms"][1:], told, strict=True):
        one["versus"]["nano_judge"] |= {"delta": delta, "ci": ci, "prompts_needed": needed, "p_holm": None,
                                        "verdict": "too few prompts", "n_prompts": 6}  # fmt: skip
    page = show(analysis, pictures)
    answer = text(page, ".answer")
    assert "the best arm is encoder_layer.index=-1, +0.080 [\u22120.330, +0.490]" in answer
    assert "may be chance" in answer
    said = text(page, ".answer + p")
    assert "about 131 prompts" in said
    assert "This sweep has 6 prompts and 1 seed." in said
    assert "1 arm scores worse by an interval that leaves 0 out; about 20 prompts would settle it." in said
    first = page.locator(".group li").all_inner_texts()
    assert [next(i for i in ("-12", "-1", "-6") if f"index={i}\n" in f"{t.split()[0]}\n") for t in first] == [
        "-1", "-12", "-6",
    ]  # fmt: skip


def test_every_part_is_drawn(show):
    facts = {"settings": {"sampler.steps": 12, "model.name": "nano"}, "changed": ["sampler.steps"],
             "versions": {"torch": ["2.13"]}, "weights": ["nano"], "devices": ["cpu, float32"],
             "sweeps": [{"name": "demo", "question": "Which?", "arguments": "sweep=demo"}]}  # fmt: skip
    page = show(*made({"sampler.steps": [4, 8], "sampler.shift": [1.0, 2.0, 6.0]}), facts=facts)
    for part in ("arms", "plots", "versus", "pictures", "noise", "method"):
        assert text(page, f"#{part} h2")
    assert page.locator("#plots svg .spot").count() == 6 * 3  # two axes and the plot against time
    assert page.locator("#plots svg .band").count() >= 2
    assert page.locator(".pairs .pair").count() == 16
    assert "Main effects" in text(page, "#noise")
    assert "Interactions (1)" in text(page, "#noise")
    assert "More prompts." in text(page, "#noise")
    assert "nano_judge/1" in text(page, "#method")
    assert "task=report sweep.name=demo" in text(page, "#method")
    assert "torch 2.13" in text(page, "#method")
    assert "sampler.steps" in text(page, ".facts")
    assert not page.locator(".warning").count()


def test_arms_sort_and_come_back(show):
    page = show(*made())
    names = lambda: page.locator(".arm-table tbody th .arm-name").all_inner_texts()  # noqa: E731
    assert names() == ["\u22122", "\u22126", "\u221212"]
    page.click("[data-sort=mean]")
    assert page.get_attribute("th[data-key=mean]", "aria-sort") == "descending"
    page.click("[data-sort=mean]")
    assert names() == ["\u221212", "\u22126", "\u22122"]
    assert page.get_attribute("th[data-key=mean]", "aria-sort") == "ascending"
    assert page.evaluate("document.activeElement.dataset.sort") == "mean"
    page.click("[data-sort=mean]")
    assert names() == ["\u22122", "\u22126", "\u221212"]
    page.keyboard.press("Tab")
    page.click("[data-sort='encoder_layer.index']")
    assert names() == ["\u221212", "\u22126", "\u22122"]
    assert "A/A" in text(page, ".arm-table tfoot")


def test_metric_changes_every_part(show):
    page = show(*made())
    assert "p (Holm)" in text(page, ".arm-table thead")
    page.select_option("#metric", "sharpness")
    assert "exploratory" in text(page, "#arms .lead")
    assert "p (BH)" in text(page, ".arm-table thead")
    assert "sharpness" in text(page, "#plots figcaption")
    assert "sharpness" in text(page, "#noise .lead")
    assert page.locator("#metric optgroup[label=exploratory] option").count() == 1


def test_plots_show_means_or_differences(show):
    page = show(*made())
    ticks = lambda: page.locator("#plots figure").first.locator("text.tick").all_text_contents()  # noqa: E731
    assert "0.8" in ticks()
    page.check("#plot-differences")
    page.wait_for_timeout(100)
    assert "\u22120.1" in ticks()
    assert "0.8" not in ticks()
    assert "difference from the baseline" in text(page, "#plots figcaption")
    page.uncheck("#plot-toScale")
    page.wait_for_timeout(100)
    assert page.locator("#plots figure").first.locator(".spot").count() == 3


def test_the_front_is_what_the_analysis_found(show):
    analysis, pictures = made({"sampler.steps": [4, 8, 12]}, metrics=("nano_judge", "clip"))
    analysis["arms"][2]["metrics"]["clip"] |= {"pareto": True, "mean": 0.1}  # beaten, were it found by means
    page = show(analysis, pictures)
    ends = lambda: len(page.get_attribute("polyline.front", "points").split())  # noqa: E731
    assert ends() == 2
    page.select_option("#metric", "clip")
    page.wait_for_timeout(100)
    assert ends() == 3


def test_pictures_drawn_twice_are_told_beside_the_noise(show):
    analysis, pictures = made()
    analysis["repeats"] = [
        {"arms": ["c0", "c1"], "pictures": 48, "equal": 48, "scores": {"nano_judge": 0.0, "sharpness": None}},
        {"arms": ["c0", "c2"], "pictures": 48, "equal": 47, "scores": {"nano_judge": 0.00012, "sharpness": None}},
    ]
    page = show(analysis, pictures)
    told = page.locator("#noise .twice").all_inner_texts()
    assert told[0] == (
        "Drawn twice: encoder_layer.index=-2 and encoder_layer.index=-6 share settings, prompts and seeds. "
        "All 48 pictures are the same to the pixel; no nano_judge differs."
    )
    assert told[1].split("seeds. ")[1] == (
        "47 of 48 pictures are the same to the pixel; the largest difference of nano_judge is 0.000120."
    )
    page.select_option("#metric", "sharpness")
    assert page.locator("#noise .twice").first.inner_text().endswith("All 48 pictures are the same to the pixel.")
    assert not show(*made()).locator("#noise .twice").count()


def test_arm_of_the_pairs_can_be_chosen(show):
    page = show(*made())
    assert "\u22120.200" in text(page, "#versus .big")
    page.select_option("#versus-arm", "c1")
    assert "\u22120.100" in text(page, "#versus .big")
    assert page.locator(".pair img").count() == 32


# ---------------------------------------------------------------- the grid of pictures


def test_theme_follows_the_system_and_the_button(show):
    page = show(*made(), scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    assert page.inner_text("#theme") == "Light"
    page.click("#theme")
    light = page.evaluate(paper)
    assert sum(map(int, re.findall(r"\d+", light)[:3])) > 600 > 200 > sum(map(int, re.findall(r"\d+", dark)[:3]))
    assert page.inner_text("#theme") == "Dark"


@pytest.mark.parametrize("width", [390, 1700])
def test_nothing_is_wider_than_the_window(show, width):
    page = show(*made({"a.key.with.a.very.long.name.indeed": ["x" * 90, "short"]}), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_headers_stay_in_sight(show):
    page = show(*made(prompts=40))
    page.evaluate("document.getElementById('grid').scrollTo(60, 900)")
    page.wait_for_timeout(60)
    inside = """(selector) => { const g = document.getElementById('grid').getBoundingClientRect();
        const e = document.querySelector(selector).getBoundingClientRect();
        return [Math.round(e.left - g.left), Math.round(e.top - g.top)]; }"""
    assert page.evaluate(inside, ".grid-columns")[1] in (0, 1)
    assert page.evaluate(inside, ".grid-row-label")[0] in (0, 1)
