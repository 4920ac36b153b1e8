"""The modules of experiments/nano, which is no package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

NANO = Path(__file__).parents[2] / "experiments" / "nano"


@pytest.fixture
def recipe(monkeypatch):
    """Modules of experiments/nano by name, forgotten again afterwards (their names are common words)."""
    monkeypatch.syspath_prepend(str(NANO))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(NANO) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
