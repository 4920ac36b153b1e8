"""The logger of what the program is at: library code logs a stage to it, the command line shows those that last."""

from __future__ import annotations

import logging

STAGES = logging.getLogger("llm_dit.stages")
