"""The sweep that every tracker test runs."""

from __future__ import annotations

import pytest
from readback import Outcome, finish, start


@pytest.fixture
def sweep(tmp_path):
    """sweep(tracker, scenario, **environment) -> Outcome, in tmp_path."""

    def run(tracker: str, scenario: str, **variables: str) -> Outcome:
        return finish(tmp_path, start(tmp_path, tracker, scenario, **variables))

    return run
