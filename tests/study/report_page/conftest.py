"""The page of a sweep in a real browser: opened from disk as a reader opens it, with no server and no network."""

from __future__ import annotations

import shutil
import time

import pytest

from llm_dit.study.report import write_report

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


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH (chromium, chromium-browser or google-chrome), so no page can be opened")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs: uv sync --group browser")
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
