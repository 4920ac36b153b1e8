"""The generated page is current, and what the docs tell people to type works as far as a config goes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs_commands import PAGES, commands
from llm_dit.cli.parameters_doc import groups, parameters_markdown
from llm_dit.compose import compose
from llm_dit.study.definition import load_study

ROOT = Path(__file__).parents[1]


def test_the_parameter_page_is_current():
    page = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert page == parameters_markdown(), "run: uv run python -m llm_dit.cli.parameters_doc > docs/parameters.md"


def test_every_group_that_is_chosen_from_has_a_folder_of_options():
    assert {g for g in groups() if not (ROOT / "conf" / g).is_dir()} == {"output", "report", "sweep"}


@pytest.mark.parametrize("command", [c for c in commands() if c.why_not], ids=lambda c: f"{c.page}: {c.line[:70]}")
def test_a_command_that_cannot_be_run_here_composes(command):
    words = command.words
    left_out = ("sweep=", "hydra", "+hydra")  # a study is expanded below; launchers may need packages of their own
    overrides = [w for w in words if w not in ("-m", "--cfg", "job", "--help") and not w.startswith(left_out)]
    for study in (load_study(w.removeprefix("sweep=")) for w in words if w.startswith("sweep=")):
        overrides += ["-m", *study.settings]
    if "-m" in words or "-m" in overrides:  # the first value of each axis of a sweep
        overrides = [o for o in overrides if o != "-m"]
        overrides = [re.sub(r"^([\w.]+=[^\[,(]*),.*$", r"\1", o) if re.match(r"[\w.]+=", o) else o for o in overrides]
        overrides = [re.sub(r"=(?:choice|interval)\(([^,)]*).*$", r"=\1", o) for o in overrides]
    compose(overrides)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
