"""The training loop: steps, checkpoints, the log, and an orderly end. It knows neither model nor loss.

A step's random numbers and its batch follow from its number (flow.py, data/), so that a run that was killed and goes on
from its last checkpoint is, on the CPU, the unbroken run bit for bit.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from llm_dit.base.errors import RenderError
from llm_dit.config import TrainConfig
from llm_dit.train.checkpoint import (
    State,
    check_optimizer_tensors,
    check_same,
    check_tensors,
    checkpoints,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizers,
    write_checkpoint,
)
from llm_dit.train.ema import Average
from llm_dit.train.meter import Meter, append_log, cut_log
from llm_dit.train.optimizers import make_optimizers, rate_factor, set_rates

if TYPE_CHECKING:
    from accelerate import Accelerator

Piece = Callable[[], tuple[torch.Tensor, torch.Tensor]]


class Task(Protocol):
    """What a step consists of."""

    module: torch.nn.Module

    def pieces(self, step: int, micro: int) -> list[Piece]:
        """The forwards of one micro batch; each gives its share of the mean loss, and errors by band of levels."""

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass
class Training:
    """One training while it runs. facts: what a checkpoint must share with the run that goes on from it."""

    task: Task
    trained: dict[str, torch.nn.Parameter]
    settings: TrainConfig
    folder: Path
    facts: dict[str, Any]
    accelerator: Accelerator
    on_log: list[Callable[[int, dict[str, Any]], None]] = field(default_factory=list)
    validate: Callable[[int], dict[str, float]] | None = None
    meter: Meter = field(default_factory=Meter)
    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.optimizers = make_optimizers(self.trained, self.settings)
        self.average = Average(self.trained, self.settings.ema_decay) if self.settings.ema_decay > 0 else None
        set_rates(self.optimizers, 1.0)  # each group's first rate is remembered before anything else sets it
        self._began, self._cpu = time.perf_counter(), time.process_time()

    @property
    def log(self) -> Path:
        """log.jsonl of this training."""
        return self.folder / "log.jsonl"

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model has its averaged weights, if an average is kept; afterwards its own, to the bit."""
        with self.average.in_place() if self.average else contextlib.nullcontext():
            yield

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one. What was logged beyond it is dropped, and written again.

        Raises RecordError when it is damaged or of other settings.
        """
        found = checkpoints(self.folder / "checkpoints")
        if found:
            state = read_checkpoint(found[-1])
            check_same(state.plain, self.facts, found[-1])
            check_optimizer_tensors(self.optimizers, self.trained, state.optimizer, found[-1])
            check_tensors(state, self.trained, self.average is not None, found[-1])
            with torch.no_grad():
                for name, p in self.trained.items():
                    p.copy_(state.weights[name])
                if self.average:
                    for name, value in self.average.values.items():
                        value.copy_(state.average[name])
            restore_optimizers(self.optimizers, self.trained, state.optimizer)
            self.step, self.meter = state.step, Meter(state.plain["meter"])
            self.seconds, self.cpu_seconds = state.plain["seconds"], state.plain["cpu_seconds"]
        if self.accelerator.is_main_process and self.log.is_file():
            cut_log(self.log, self.step)

    def run(self) -> None:
        """Train to the last step. Raises KeyboardInterrupt after a checkpoint when it was asked to stop."""
        self._began, self._cpu = time.perf_counter(), time.process_time()
        with asked_to_stop() as asked:
            while self.step < self.settings.steps:
                self.one_step()
                last, stop = self.step == self.settings.steps, self.anyone(asked())
                self.after_step(last or stop)
                if stop and not last:
                    raise KeyboardInterrupt(
                        f"stopped after step {self.step} of {self.settings.steps}, which is saved in {self.folder}; "
                        "the same command continues"
                    )

    def one_step(self) -> None:
        """Forwards, backwards, and one step of the optimisers."""
        s, module = self.settings, self.task.module
        pieces = [(micro, piece) for micro in range(s.accumulation) for piece in self.task.pieces(self.step, micro)]
        total, bands = None, None
        for number, (_, piece) in enumerate(pieces):
            last = number == len(pieces) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(module):
                loss, band = piece()
                (loss / s.accumulation).backward()
            share = loss.detach() / s.accumulation
            total, bands = (share, band) if total is None else (total + share, bands + band)
        set_rates(self.optimizers, rate_factor(self.step, s))
        limit = s.max_grad_norm if s.max_grad_norm > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), limit)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average:
            self.average.update(self.step)
        self.meter.add(torch.cat([total.view(1).float(), norm.view(1).float(), bands]))

    def after_step(self, stopping: bool) -> None:
        """Log, check, save and validate as the settings ask."""
        s, step = self.settings, self.step
        logs, saves = step % s.log_every == 0, step % s.checkpoint_every == 0 or stopping
        due = s.validate_every > 0 and (step % s.validate_every == 0 or step == s.steps)
        validates = self.validate is not None and due
        if logs or saves or validates:
            self.meter.fetch(step, self.gather)
        if logs or validates:
            line = self.line()
            if validates:
                line |= self.validate(step)
            if self.accelerator.is_main_process:
                append_log(self.log, line)
                for told in self.on_log:
                    told(step, line)
        if saves:
            self.save()
        if step in (1, s.steps) and not (logs or validates):
            self.show_end()

    def show_end(self) -> None:
        """Tell the loss of the first or the last step between two lines of the log, which the last one is added to.

        The meter keeps its rows: a training that goes on from the last step averages as if it had never ended.
        """
        self.meter.fetch(self.step, self.gather)
        if self.accelerator.is_main_process and self.meter.rows:
            line = self.line(keep=True)
            if self.step == self.settings.steps:
                append_log(self.log, line)
            for told in self.on_log:
                told(self.step, line)

    def line(self, keep: bool = False) -> dict[str, Any]:
        """The log's line for the steps since the last one. keep: the next line counts them too."""
        rate = self.settings.learning_rate * rate_factor(self.step - 1, self.settings)
        values = (self.meter.means() if keep else self.meter.take()) if self.meter.rows else {}
        return {"step": self.step, **values, "learning_rate": rate, "seconds": round(self.spent(), 3)}

    def spent(self) -> float:
        """Seconds of all runs of this training."""
        return self.seconds + time.perf_counter() - self._began

    def save(self) -> None:
        """Write a checkpoint, by the first process."""
        if self.accelerator.is_main_process:
            plain = {
                **self.facts,
                "step": self.step,
                "meter": self.meter.rows,
                "seconds": self.spent(),
                "cpu_seconds": self.cpu_seconds + time.process_time() - self._cpu,
            }
            state = State(
                {name: p.detach() for name, p in self.trained.items()},
                self.average.values if self.average else None,
                optimizer_tensors(self.optimizers, self.trained),
                plain,
            )
            write_checkpoint(self.folder / "checkpoints", state, self.settings.keep)
        self.accelerator.wait_for_everyone()

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of all processes as one: mean losses, and sums by band added up."""
        world = self.accelerator.num_processes
        if world == 1:
            return rows
        summed = self.accelerator.reduce(rows, "sum")
        summed[:, :2] /= world
        return summed

    def anyone(self, asked: bool) -> bool:
        """Whether any process was asked to stop, so that all stop at one step; several ask each other when they log."""
        if self.accelerator.num_processes == 1:
            return asked
        if self.step % self.settings.log_every:
            return False
        return bool(self.accelerator.reduce(torch.tensor(float(asked), device=self.accelerator.device), "sum") > 0)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C and SIGTERM are noted, so that a step is never cut in two; a second Ctrl-C acts at once."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, _frame: Any) -> None:
        if noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_cost(training: Training, pictures: int) -> dict[str, Any]:
    """What a training took, for its record."""
    device = training.accelerator.device
    cost: Mapping[str, Any] = {
        "seconds": round(training.spent(), 1),
        "cpu_seconds": round(training.cpu_seconds + time.process_time() - training._cpu, 1),
        "steps": training.step,
        "pictures_seen": training.step * pictures,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": training.accelerator.num_processes,
    }
    if device.type == "cuda":
        cost = {**cost, "peak_memory_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 3)}
    return dict(cost)


def refuse_nothing_finite(trained: Mapping[str, torch.Tensor]) -> None:
    """Raises RenderError when a weight that is about to be saved is not finite."""
    for name, p in trained.items():
        if not torch.isfinite(p).all():
            raise RenderError(f"the weight {name} is not finite after the last step; the last checkpoint is kept.")
