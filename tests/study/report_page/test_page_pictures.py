"""The pictures on the page: the grid to turn and filter, records, the viewer, thousands of them."""

from __future__ import annotations

import base64
import io
import random

from made_report import colour, draw_files, made, near, pixel, text
from PIL import Image

from llm_dit.study.report import write_report


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
