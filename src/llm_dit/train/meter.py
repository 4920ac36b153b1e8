"""What happened since the last line of log.jsonl: a row of numbers a step, kept on the device until it is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import RenderError
from llm_dit.base.files import append_lines, write_whole
from llm_dit.records.schema import LogLine, lines_of
from llm_dit.train.flow import BANDS

if TYPE_CHECKING:
    import torch

# In hundredths: trackers take a dot in a name for a level of names.
BAND_NAMES = tuple(f"loss_sigma_{100 * low:02.0f}_{100 * high:02.0f}" for low, high in pairwise(BANDS))


def band_sums(errors: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Sums of a batch's errors [batch] by band of noise levels, then counts: [2 x bands]. Sigma 1 is of the last."""
    import torch

    count = len(BANDS) - 1
    which = (sigma * count).long().clamp(0, count - 1)
    sums = torch.zeros(2 * count, device=errors.device, dtype=torch.float32)
    sums.index_add_(0, which, errors.float())
    return sums.index_add_(0, which + count, torch.ones_like(errors, dtype=torch.float32))


class Meter:
    """Rows [loss, gradient norm, sums by band..., counts by band...]; of several processes, added up.

    A row waits on the device, so that no step waits for the device. Sums over rows are exact, so that they do not
    depend on when rows were fetched.
    """

    def __init__(self, rows: Sequence[Sequence[float]] = ()):
        self.rows = [list(row) for row in rows]
        self._waiting: list[torch.Tensor] = []

    def add(self, row: torch.Tensor) -> None:
        """Take in one step."""
        self._waiting.append(row)

    def fetch(self, step: int, gather: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Bring the waiting rows over; step: how many are done. gather: sums over processes.

        Raises RenderError for a loss that is not finite, naming its step.
        """
        import torch

        if not self._waiting:
            return
        rows = gather(torch.stack(self._waiting)).tolist()
        self._waiting = []
        for number, row in enumerate(rows, start=step - len(rows) + 1):
            if not (math.isfinite(row[0]) and math.isfinite(row[1])):
                what = "loss" if not math.isfinite(row[0]) else "gradient"
                raise RenderError(
                    f"the {what} of step {number} is not finite; the last checkpoint is kept. A lower "
                    "train.learning_rate, train.warmup_steps, or train.max_grad_norm=1 may help."
                )
        self.rows += rows

    def take(self) -> dict[str, float]:
        """means(), after which the rows are forgotten."""
        values, self.rows = self.means(), []
        return values

    def means(self) -> dict[str, float]:
        """Means over the rows: loss, grad_norm, and the loss by band where one has pictures."""
        columns = list(zip(*self.rows, strict=True))
        steps, bands = len(self.rows), len(BAND_NAMES)
        values = {
            "loss": math.fsum(columns[0]) / steps,
            "grad_norm": math.fsum(columns[1]) / steps,
        }
        for i, name in enumerate(BAND_NAMES):
            count = math.fsum(columns[2 + bands + i])
            if count:
                values[name] = math.fsum(columns[2 + i]) / count
        return values


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that are whole. Raises RecordError for one that is none of a training."""
    return lines_of(path, LogLine)


def cut_log(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines beyond a step, which a training that goes on from there writes again. Returns what is left."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    write_whole({path: "".join(json.dumps(line) + "\n" for line in kept).encode()})
    return kept


def append_log(path: Path, line: dict[str, Any]) -> None:
    """Add a line. Raises OutputError, also when the training's folder is gone."""
    append_lines(path, f"{json.dumps(line)}\n".encode())
