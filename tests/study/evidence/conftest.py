"""Scores to analyse."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def base():
    """Scores of 24 prompts x 3 seeds: hard and easy prompts, noise of sd 0.1 between seeds."""
    rng = np.random.default_rng(3)
    return rng.normal(0.5, 0.3, (24, 1)) + rng.normal(0, 0.1, (24, 3))
