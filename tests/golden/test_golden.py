"""Pictures are the stored ones within 2 of 255 a channel, on any machine; a sweep keeps its cells and columns.

golden_run.py makes the stored set, and compares two commits to the bit. The perturbed and the single options' pictures
are compared where they are drawn anyway: test_every_setting_acts.py and test_options.py.
"""

from __future__ import annotations

import pytest
from golden_cases import combinations, nano_cases
from golden_run import stored, sweep_facts

from llm_dit.compose import compose
from llm_dit.render.draw import render
from perturbations import make_workplace

# A part of the combinations: golden_run.py compare draws all of them.
CASES = dict(list(combinations().items())[:12]) | nano_cases()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the files that the cases name."""
    root = tmp_path_factory.mktemp("workplace")
    make_workplace(root)
    return root


@pytest.mark.parametrize("name", CASES)
def test_a_picture_is_the_stored_one(name, workplace, monkeypatch, check_golden):
    monkeypatch.chdir(workplace)
    check_golden(name, render(compose(CASES[name])))


def test_a_sweep_has_the_stored_cells_and_columns(tmp_path):
    facts, kept = sweep_facts(tmp_path), stored()["a sweep"]
    assert facts["columns"] == kept["columns"]
    assert [row[:5] for row in facts["rows"]] == [row[:5] for row in kept["rows"]]
