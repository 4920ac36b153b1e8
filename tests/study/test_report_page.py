"""The page of a sweep in a real browser: opened from disk as a reader opens it, with no server and no network."""

from __future__ import annotations

import base64
import copy
import io
import itertools
import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from llm_dit.study.report import collect_pictures, provenance, write_report
from llm_dit.study.report.write import as_json, content_policy, thumbnail
from llm_dit.study.store import SweepFolder

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = '</script><img src=x onerror="window.hit=1"><!-- <script>window.hit=2</script> {{data}} & \u2028 "quoted"'


# --- an analysis to show, as study/evidence/analysis.py makes it


def made(
    axes: dict | None = None,
    *,
    prompts: int = 24,
    seeds: int = 2,
    metrics: tuple[str, ...] = ("nano_judge", "sharpness"),
    baseline: bool = True,
    sweeps: tuple[str, ...] = ("demo",),
    status: str = "complete",
) -> tuple[dict, list[dict]]:
    """An analysis and its pictures. Numbers follow the arm's place, so that the order of rows is known."""
    axes = {"encoder_layer.index": [-2, -6, -12]} if axes is None else axes
    dice = random.Random(0)
    texts = [{"id": f"p{i}", "prompt": f"a thing, number {i}", "category": ("odd", "even")[i % 2], "length_bin": "10"}
             for i in range(prompts)]  # fmt: skip
    arms = []
    for sweep, values in itertools.product(sweeps, itertools.product(*axes.values())):
        place = dict(zip(axes, values, strict=True))
        label = ", ".join(f"{k}={v}" for k, v in place.items())
        n = len(arms)
        arms.append(
            {
                "id": f"c{n}", "cell": f"c{n}", "label": label if len(sweeps) == 1 else f"{label} ({sweep})",
                "axes": place, "sweep": sweep, "status": "complete", "error": None,
                "is_baseline": baseline and n == 0, "pictures": prompts * seeds, "missing": 0,
                "nfe": 8.0 + n, "seconds": 0.5 + 0.1 * n, "pareto": n < 2,
                "metrics": {m: arm_metric(n, prompts, seeds) for m in metrics},
                "versus": {m: versus(n, texts, m == metrics[0]) for m in metrics} if baseline and n else {},
            }
        )  # fmt: skip
    pictures = [
        {
            "arm": arm["id"], "prompt_id": text["id"], "seed": seed,
            "path": f"cells/{arm['id']}/images/{text['id']}_s{seed}.png",
            "thumb": small(n, i, seed), "width": 128, "height": 128, "nfe": 8, "seconds": 0.5, "shift": 2.0,
            "token_count": 12, "padded_length": 32, "device": "cpu", "dtype": "float32", "pixels": f"{n}-{i}-{seed}",
            "scores": {m: round(0.9 - 0.1 * n + dice.gauss(0, 0.02), 4) for m in metrics},
            "truncated": [], "missing": False,
        }
        for seed in range(seeds) for i, text in enumerate(texts) for n, arm in enumerate(arms)
    ]  # fmt: skip
    compared = [(a["id"], m) for a in arms[1:] for m in metrics] if baseline else []
    analysis = {
        "name": "demo", "question": "Which layer does the picture need?", "generated": "2026-01-02T03:04:05+0000",
        "status": status, "primary": metrics[0] if metrics else None, "axes": list(axes),
        "baseline": "c0" if baseline and arms else None, "prompts": texts, "arms": arms,
        "metrics": [
            {"name": m, "direction": "none" if m == "sharpness" else "higher", "primary": i == 0, "help": f"about {m}",
             "identities": [f"{m}/1"], "scored": len(pictures), "missing": 0, "not_finite": 0, "truncated": 0}
            for i, m in enumerate(metrics)
        ],
        "aa": {m: {"n_prompts": prompts, "delta": 0.002, "ci": [-0.01, 0.014], "sd": 0.02, "epsilon": 0.01}
               for m in metrics if baseline},
        "variance": {m: {"prompt": 0.2, "seed": 0.1, "residual": 0.7, "advice": "more prompts"} for m in metrics},
        "slices": [{"by": "category", "value": v, "n_prompts": prompts // 2, "arm": a, "metric": m, "delta": -0.1,
                    "ci": [-0.2, 0.01], "note": None} for a, m in compared for v in ("odd", "even")],
        "effects": [{"axis": axis, "value": v, "metric": m, "n_prompts": prompts, "mean": 0.8,
                     "delta_from_first": -0.1 * i, "ci": [-0.1 * i - 0.02, -0.1 * i + 0.02]}
                    for axis in axes for i, v in enumerate(axes[axis]) for m in metrics if len(axes) > 1],
        "interactions": [{"axes": list(axes)[:2], "values": [8, 2.0], "references": [4, 1.0], "metric": m,
                          "delta": 0.01, "ci": [-0.01, 0.03], "n_prompts": prompts} for m in metrics if len(axes) > 1],
        "warnings": [],
    }  # fmt: skip
    return analysis, pictures


def arm_metric(n: int, prompts: int, seeds: int) -> dict:
    mean = 0.9 - 0.1 * n
    return {
        "mean": mean, "ci": [mean - 0.03, mean + 0.03], "n_prompts": prompts,
        "n_pictures": prompts * seeds, "sd_prompts": 0.1, "pareto": n < 2,
    }  # fmt: skip


def versus(n: int, texts: list[dict], primary: bool) -> dict:
    told = "worse" if n > 1 else "no difference seen"
    pairs = [{"prompt_id": t["id"], "seed": 0, "d": -0.01 * (i + 1)} for i, t in enumerate(texts[:8])]
    return {
        "n_prompts": len(texts), "n_pairs": 2 * len(texts), "delta": -0.1 * n, "se": 0.01, "d_z": -1.0,
        "ci": [-0.1 * n - 0.02, -0.1 * n + 0.02], "ci_unpaired": [-0.1 * n - 0.05, -0.1 * n + 0.05],
        "wins": 3, "ties": 2, "losses": len(texts) - 5, "win_rate": 0.2, "win_ci": [0.1, 0.4], "epsilon": 0.01,
        "p": 0.004, "p_holm": 0.01 * n if primary else None, "p_bh": None if primary else 0.02, "p_wilcoxon": 0.003,
        "mde": 0.021, "exploratory": not primary, "verdict": told, "note": None, "best": pairs, "worst": pairs[::-1],
    }  # fmt: skip


def small(arm: int, prompt: int, seed: int) -> str:
    """A picture of one colour, which says whose it is."""
    return as_uri(Image.new("RGB", (16, 16), colour(arm, prompt, seed)))


def colour(arm: int, prompt: int, seed: int) -> tuple[int, int, int]:
    return (30 + 50 * (arm % 5), 20 + 9 * (prompt % 25), 40 + 60 * (seed % 4))


_known: dict[tuple, str] = {}


def as_uri(image: Image.Image) -> str:
    key = image.getpixel((0, 0))
    if key not in _known:
        data = io.BytesIO()
        image.save(data, "WEBP", lossless=True)
        _known[key] = "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
    return _known[key]


def draw_files(folder: Path, pictures: list[dict], keep=lambda p: True) -> None:
    """The full pictures, where the entries say they are."""
    for p in pictures:
        if p["path"] and keep(p):
            target = folder / p["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            arm, prompt = int(p["arm"][1:]), int(p["prompt_id"][1:])
            Image.new("RGB", (64, 64), colour(arm, prompt, p["seed"])).save(target)


# ---------------------------------------------------------------- the browser


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH (chromium, chromium-browser or google-chrome), so no page can be opened")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Write a report and open it from disk. In the end the console must be silent and no network have been asked."""
    said, asked, contexts = [], [], []

    def open_page(analysis, pictures, *, width=1280, height=900, scheme="light", facts=None, path=None, allow=()):
        target = path or write_report(analysis, pictures, tmp_path / "report.html", facts=facts)
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(8000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: said.append(m.text) if not any(a in m.text for a in allow) else None)
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("request", lambda r: asked.append(r.url))
        began = time.perf_counter()
        page.goto(target.as_uri())
        page.wait_for_function("document.documentElement.dataset.ready")
        page.opened_in = time.perf_counter() - began
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def text(page, selector: str) -> str:
    return page.locator(selector).first.inner_text()


def pixel(page, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[int, ...]:
    """The colour at a place of an element, as it is on the screen."""
    image = Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")
    return image.getpixel((int(x * (image.width - 1)), int(y * (image.height - 1))))


def near(a, b, most: int = 4) -> bool:
    return all(abs(x - y) <= most for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------- what a reader finds


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


def test_grid_pivots_pages_and_filters(show):
    page = show(*made({"sampler.steps": [4, 8], "sampler.shift": [1.0, 2.0, 6.0]}))
    size = lambda: (page.get_attribute("#grid", "aria-rowcount"), page.get_attribute("#grid", "aria-colcount"))  # noqa: E731
    assert size() == ("25", "7")
    page.select_option("#rows-0", "axis sampler.steps")  # changes places with what stood there
    assert size() == ("3", str(24 * 3 + 1))
    page.select_option("#columns-0", "seed")
    page.select_option("#columns-1", "")
    assert size() == ("3", "3")
    assert text(page, "#page-number") == "1 of 72"
    first = page.locator(".tile").first.get_attribute("aria-label")
    page.click("#page-on")
    assert text(page, "#page-number") == "2 of 72"
    assert page.locator(".tile").first.get_attribute("aria-label") != first
    page.click("#page-back")
    page.click("#page-back")
    assert text(page, "#page-number") == "72 of 72"
    page.select_option("#rows-0", "prompt")
    page.select_option("#columns-0", "arm")
    assert size() == ("25", "7")
    page.select_option("#category-filter", "odd")
    assert size() == ("13", "7")
    page.fill("#prompt-filter", "number 2")
    assert size() == ("5", "7")  # 2, 12, 20 and 22: every word is looked for by itself
    page.fill("#prompt-filter", "no such words")
    assert "No prompt matches" in text(page, "#pictures")
    page.fill("#prompt-filter", "")
    assert size() == ("13", "7")


def test_each_picture_stands_in_its_place(show):
    page = show(*made())
    for arm, prompt in ((0, 0), (2, 1), (1, 2)):
        assert near(pixel(page, f'.tile[data-r="{prompt}"][data-c="{arm}"] .frame'), colour(arm, prompt, 0))
    page.click("#page-on")
    assert near(pixel(page, '.tile[data-r="1"][data-c="2"] .frame'), colour(2, 1, 1))


def test_record_is_shown_on_hover_and_focus(show, tmp_path):
    analysis, pictures = made()
    draw_files(tmp_path, pictures, lambda p: p["prompt_id"] == "p1")
    page = show(analysis, pictures)
    page.locator('.tile[data-r="0"][data-c="1"]').hover()
    card = text(page, "#tip")
    assert "encoder_layer.index=-6" in card
    assert "a thing, number 0" in card
    assert "12, padded to 32" in card
    page.mouse.move(2, 2)
    page.wait_for_selector("#tip", state="hidden")
    page.locator('.tile[tabindex="0"]').focus()
    assert "encoder_layer.index=-2" in text(page, "#tip")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert "a thing, number 1" in text(page, "#tip")
    page.keyboard.press("End")
    assert "encoder_layer.index=-12" in text(page, "#tip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.getElementById('viewer').open")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className").startswith("tile")


# ---------------------------------------------------------------- two pictures compared


def test_viewer_compares_full_pictures(show, tmp_path):
    analysis, pictures = made()
    draw_files(tmp_path, pictures, lambda p: p["prompt_id"] in ("p0", "p1"))
    page = show(analysis, pictures)
    base, mine = colour(0, 0, 0), colour(2, 0, 0)
    page.click('.tile[data-r="0"][data-c="2"]')
    page.wait_for_function("[...document.querySelectorAll('#viewer img')].every((i) => i.complete)")
    assert near(pixel(page, "#viewer .pane"), mine)
    assert page.locator("#viewer img").first.get_attribute("src").endswith("p0_s0.png")

    page.click("[data-mode=side]")
    assert near(pixel(page, "#viewer figure:nth-child(1) .pane"), base)
    assert near(pixel(page, "#viewer figure:nth-child(2) .pane"), mine)
    assert page.locator("#viewer .differs").count() >= 2

    page.click("[data-mode=slider]")
    assert near(pixel(page, "#viewer .pane", 0.25), base)
    assert near(pixel(page, "#viewer .pane", 0.75), mine)
    page.locator("#viewer input[type=range]").fill("90")
    assert near(pixel(page, "#viewer .pane", 0.75), base)
    box = page.locator("#viewer .pane").bounding_box()
    page.mouse.click(box["x"] + 0.1 * box["width"], box["y"] + 20)
    assert near(pixel(page, "#viewer .pane", 0.25), mine)

    page.click("[data-mode=flip]")
    assert near(pixel(page, "#viewer .pane"), mine)
    page.click("#flip")
    assert near(pixel(page, "#viewer .pane"), base)
    page.click("#flip")
    page.keyboard.down("f")
    assert near(pixel(page, "#viewer .pane"), base)
    page.keyboard.up("f")
    assert near(pixel(page, "#viewer .pane"), mine)

    page.click("[data-mode=difference]")
    page.locator("#gain").fill("1")
    assert near(pixel(page, "#viewer .pane"), tuple(abs(a - b) for a, b in zip(base, mine, strict=True)))
    page.locator("#gain").fill("2")
    assert near(pixel(page, "#viewer .pane"), tuple(min(255, 2 * abs(a - b)) for a, b in zip(base, mine, strict=True)))
    page.wait_for_function("document.getElementById('difference-number').textContent.includes('33.33 of 255')")
    page.keyboard.press("Escape")


def test_viewer_moves_through_the_grid_and_takes_another_partner(show, tmp_path):
    analysis, pictures = made()
    draw_files(tmp_path, pictures)
    page = show(analysis, pictures)
    page.click('.tile[data-r="1"][data-c="1"]')
    page.keyboard.press("ArrowRight")
    assert "encoder_layer.index=-12" in text(page, "#viewer .record")
    page.keyboard.press("ArrowUp")
    assert "a thing, number 0" in text(page, "#viewer h2")
    page.click("#use-as-a")
    assert page.locator(".tile.pinned").count() == 1
    assert "encoder_layer.index=-12" in text(page, ".pin")
    page.click('.tile[data-r="3"][data-c="1"]')
    page.click("[data-mode=side]")
    page.wait_for_function("[...document.querySelectorAll('#viewer img')].every((i) => i.complete)")
    assert near(pixel(page, "#viewer figure:nth-child(1) .pane"), colour(2, 0, 0))
    assert "different prompts" in text(page, "#viewer")
    page.click("#viewer .close")
    page.click("#unpin")
    assert page.locator(".tile.pinned").count() == 0
    page.locator('.tile[data-r="0"][data-c="0"]').focus()
    page.keyboard.press("a")
    assert page.locator(".tile.pinned").count() == 1
    page.locator('.tile[data-r="1"][data-c="1"]').focus()  # not by the arrow keys
    page.keyboard.press("a")
    assert page.locator(".tile.pinned").get_attribute("data-r") == "1"


def test_without_the_folder_the_small_pictures_are_compared_and_it_says_so(show):
    page = show(*made(), allow=("net::ERR_FILE_NOT_FOUND",))
    page.click('.tile[data-r="0"][data-c="2"]')
    page.click("[data-mode=difference]")
    page.wait_for_selector(".small-note")
    page.locator("#gain").fill("1")
    page.wait_for_function("[...document.querySelectorAll('#viewer img')].every((i) => i.complete)")
    want = tuple(abs(a - b) for a, b in zip(colour(0, 0, 0), colour(2, 0, 0), strict=True))
    assert near(pixel(page, "#viewer .pane"), want)


def test_pictures_beyond_the_limit_are_read_from_disk(show, tmp_path):
    analysis, pictures = made()
    for p in pictures:
        p["thumb"] = None
    draw_files(tmp_path, pictures)
    page = show(analysis, pictures)
    page.wait_for_function("document.querySelector('.tile img').complete")
    assert near(pixel(page, '.tile[data-r="1"][data-c="1"] .frame'), colour(1, 1, 0))
    page.click('.tile[data-r="1"][data-c="1"]')
    page.click("[data-mode=difference]")
    page.wait_for_function("document.getElementById('difference-number').textContent.startsWith('No number')")


# ---------------------------------------------------------------- two thousand pictures


def test_two_thousand_pictures_stay_light(show, tmp_path):
    analysis, pictures = made({"sampler.steps": list(range(4, 24))}, prompts=50, seeds=2)
    assert len(pictures) == 2000
    # As heavy as real ones: noise does not pack, like a picture at quality 80.
    noise = [thumbnail_of_noise(i) for i in range(20)]
    for i, p in enumerate(pictures):
        p["thumb"] = noise[i % 20]
    target = write_report(analysis, pictures, tmp_path / "report.html")
    page = show(analysis, pictures, path=target)
    images = "document.querySelectorAll('#grid img').length"
    assert 0 < page.evaluate(images) < 200
    nodes = page.evaluate("document.getElementsByTagName('*').length")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
    ready = page.evaluate("Number(document.documentElement.dataset.ready)")
    page.select_option("#rows-1", "seed")
    pivot = page.get_attribute("#grid", "data-took")
    assert page.get_attribute("#grid", "aria-rowcount") == "101"
    # Rows are prompts with their seeds inside, columns are arms: each tile has its own small picture.
    place = {(p["arm"], p["prompt_id"], p["seed"]): i for i, p in enumerate(pictures)}
    for row, column in ((0, 0), (1, 0), (2, 1), (3, 2)):
        image = page.locator(f'.tile[data-r="{row}"][data-c="{column}"] img')
        assert image.get_attribute("src") == noise[place[f"c{column}", f"p{row // 2}", row % 2] % 20]
    page.fill("#prompt-filter", "number 3")
    filtered = page.get_attribute("#grid", "data-took")
    assert page.get_attribute("#grid", "aria-rowcount") == "29"
    page.fill("#prompt-filter", "")
    for y in range(0, 12000, 1500):
        page.evaluate(f"document.getElementById('grid').scrollTo({y / 10}, {y})")
        page.wait_for_timeout(30)
    assert page.locator('.tile[data-r="70"]').count()
    assert page.evaluate(images) < 200
    page.select_option("#size", "64")
    assert page.evaluate(images) < 700
    print(
        f"\n2000 pictures: {target.stat().st_size / 1e6:.1f} MB, {nodes} elements, first paint {paint:.0f} ms, "
        f"ready {ready:.0f} ms, opened {1000 * page.opened_in:.0f} ms, pivot {pivot} ms, filter {filtered} ms"
    )


def thumbnail_of_noise(i: int) -> str:
    image = Image.frombytes("RGB", (48, 48), random.Random(i).randbytes(48 * 48 * 3)).resize((128, 128))
    data = io.BytesIO()
    image.save(data, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


# ---------------------------------------------------------------- looks


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


# ---------------------------------------------------------------- odd sweeps


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


# ---------------------------------------------------------------- what Python does


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


def test_thumbnails_are_never_enlarged(tmp_path):
    Image.new("RGB", (64, 32), "red").save(tmp_path / "a.png")
    packed = base64.b64decode(thumbnail(tmp_path / "a.png", 256).split(",")[1])
    assert Image.open(io.BytesIO(packed)).size == (64, 32)
    packed = base64.b64decode(thumbnail(tmp_path / "a.png", 32).split(",")[1])
    assert Image.open(io.BytesIO(packed)).size == (32, 16)
    assert thumbnail(tmp_path / "none.png", 32) is None


@pytest.fixture
def real_sweep(tmp_path):
    """A sweep's folder with two cells, three prompts and two seeds, scored, as the lab writes it."""
    from llm_dit.study.score import input_hash

    folder = SweepFolder(tmp_path / "sweeps" / "demo")
    values = ("4", "8")
    folder.write({"name": "demo", "question": "Steps?", "axes": ["sampler.steps"], "baseline": {"sampler.steps": 4},
                  "cells": [{"sampler.steps": v} for v in values],
                  "runs": [{"arguments": ["sampler.steps=4,8"]}]})  # fmt: skip
    for n, steps in enumerate(values):
        cell = folder.cell(f"cell{n}")
        for i, seed in itertools.product(range(3), range(2)):
            name = f"images/p{i}_s{seed}.png"
            (cell.path / "images").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), colour(n, i, seed)).save(cell.path / name)
            record = {
                "prompt_id": f"p{i}", "prompt": f"thing {i}", "category": "c", "seed": seed, "width": 64, "height": 64,
                "nfe": int(steps), "token_count": 9, "padded_length": 32, "shift": 2.0, "guidance": {"cfg_weight": 1.0},
                "seconds": {"load": 9.0, "denoise": 0.1 * (n + 1)}, "config": {"model": {"name": "tiny"}},
                "model_fingerprint": {"transformer": "ab"}, "device": "cpu", "dtype": "float32", "elements": [],
                "versions": {"torch": "2.13"}, "pixels_sha256": f"{n}{i}{seed}", "path": name,
                "axes": {"sampler.steps": steps}, "cell": cell.id,
            }  # fmt: skip
            cell.append(record)
            line = {"metric": "sharpness", "identity": "sharpness/1", "prompt_id": f"p{i}", "seed": seed,
                    "input": input_hash([record], record), "grouped": False, "values": {"sharpness": n + 0.1 * i},
                    "tokens": None, "truncated": False}  # fmt: skip
            with (cell.path / "scores.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        cell.write("cell.json", {"status": "complete", "prompts": ["p0", "p1", "p2"], "seeds": [0, 1], "pictures": 6,
                                 "labels": {"sampler.steps": steps},
                                 "config": {"sampler": {"steps": int(steps)}, "model": {"name": "tiny"}}})  # fmt: skip
    return folder


def test_page_of_a_real_analysis(show, real_sweep):
    from llm_dit.study.evidence.analysis import analyse

    (real_sweep.cell("cell1").path / "images/p2_s1.png").unlink()
    (real_sweep.cell("cell1").path / "images/p0_s1.png").write_bytes(b"not a picture")
    analysis = analyse([real_sweep], resamples=200)
    pictures = collect_pictures([real_sweep], analysis, thumbnail_size=32, max_pictures=100)
    facts = provenance([real_sweep])
    assert facts["settings"]["model.name"] == "tiny"
    assert "sampler.steps" not in facts["settings"]
    gone = [(p["arm"], p["prompt_id"], p["seed"]) for p in pictures if p["missing"]]
    assert gone == [("cell1", "p0", 1), ("cell1", "p2", 1)]
    path = write_report(analysis, pictures, real_sweep.path / "report.html", facts=facts)
    page = show(analysis, pictures, path=path)
    assert "under 20" in text(page, ".warnings") or "prompts" in text(page, ".warnings")
    assert near(pixel(page, '.tile[data-r="1"][data-c="1"] .frame'), colour(1, 1, 0))
    page.click('.tile[data-r="1"][data-c="1"]')
    page.wait_for_function("document.querySelector('#viewer img')?.naturalWidth === 64")
    page.click("#viewer .close")
    page.click("#page-on")
    assert text(page, '.tile[data-r="2"][data-c="1"]') == "file is gone"


def test_small_pictures_are_shared_out_fairly(real_sweep):
    from llm_dit.study.evidence.analysis import analyse

    analysis = analyse([real_sweep], resamples=200)
    pictures = collect_pictures([real_sweep], analysis, thumbnail_size=32, max_pictures=6)
    inside = {(p["arm"], p["prompt_id"], p["seed"]) for p in pictures if p["thumb"]}
    assert inside == {(a, p, 0) for a in ("cell0", "cell1") for p in ("p0", "p1", "p2")}
    assert not any(p["missing"] for p in pictures)
    assert all(os.sep not in p["path"] or "/" in p["path"] for p in pictures)


def test_several_sweeps_in_one_report(show, real_sweep, tmp_path):
    from llm_dit.study.evidence.analysis import analyse

    shutil.copytree(real_sweep.path, tmp_path / "sweeps" / "again")
    folders = [real_sweep, SweepFolder(tmp_path / "sweeps" / "again")]
    analysis = analyse(folders, resamples=200)
    pictures = collect_pictures(folders, analysis, thumbnail_size=32, max_pictures=3)
    assert len(pictures) == 24
    assert {p["path"].split("cells")[0] for p in pictures} == {"", "../again/"}
    path = write_report(analysis, pictures, real_sweep.path / "report.html", facts=provenance(folders))
    page = show(analysis, pictures, path=path)
    page.wait_for_function("[...document.querySelectorAll('.tile img')].every((i) => i.complete && i.naturalWidth)")
    assert page.locator(".tile .hole").count() == 0
