"""What the program is at, told on stderr once it takes longer than a moment.

Library code logs a stage to STAGES (`STAGES.info("planning 200 cells")`); nothing is shown unless the command line
listens. A stage that is over before its time is never told.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llm_dit.base.errors import printable
from llm_dit.base.stages import STAGES

PATIENCE = 1.0  # seconds; imports hold Python's lock for up to half a second more


class Notices(logging.Handler):
    """Prints the stage that has lasted for `patience` seconds, each once."""

    def __init__(self, patience: float):
        super().__init__(logging.INFO)
        self.patience = patience
        self._stage = ""
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self._stage = record.getMessage()
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()
        super().close()

    def _watch(self) -> None:
        with self._changed:
            while not self._over:
                stage = self._stage
                changed = self._changed.wait(self.patience if stage else None)
                if not changed and not self._over and stage == self._stage:
                    print(f"{printable(stage)} ...", file=sys.stderr, flush=True)
                    self._stage = ""


@contextmanager
def told_stages(patience: float | None) -> Iterator[None]:
    """Within, stages that last are told; None tells none."""
    if patience is None:
        yield
        return
    notices, level = Notices(patience), STAGES.level
    STAGES.addHandler(notices)
    STAGES.setLevel(logging.INFO)
    try:
        yield
    finally:
        STAGES.removeHandler(notices)
        STAGES.setLevel(level)
        notices.close()
