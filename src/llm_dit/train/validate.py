"""Validation: the config's prompts and seeds drawn with the weights as they are, and scored.

Kept as a sweep whose axis is train.step, in NAME/validation, by the study code: its table, grids and report are made by

    run.py task=report sweep.dir=outputs/train/NAME sweep.name=validation
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ConfigError, told
from llm_dit.config import Config, SweepConfig
from llm_dit.metrics.registry import ready_metrics
from llm_dit.models.cache import PARTS, PartCache
from llm_dit.study.cell import prompts_of, run_cell
from llm_dit.study.grids.sheet import gallery, is_own_sheet, write_sheet
from llm_dit.study.score import mean_scores, score_cell, scores_of
from llm_dit.study.store import CellFolder, SweepFolder
from llm_dit.train.checkpoint import STEP
from llm_dit.train.forward import stock_attention
from llm_dit.weights.fingerprint import fingerprint

AXIS = "train.step"
COLUMNS = 8


class HeldTransformer(PartCache):
    """The parts of another cache, but for the transformer, which is the one in training."""

    def __init__(self, transformer: Any, others: PartCache = PARTS):
        super().__init__()
        self.transformer, self.others = transformer, others

    def get(self, kind: str, key: Hashable, build: Callable[[], Any]) -> Any:
        return self.transformer if kind == "transformer" else self.others.get(kind, key, build)


@dataclass
class Validation:
    """Draws and scores. averaged: a context in which the model has the weights to draw with.

    on_picture(path, caption) for the sheet of each validation.
    """

    config: Config
    model: Any
    folder: Path
    averaged: Callable[[], AbstractContextManager]
    parts: PartCache = PARTS
    on_picture: Callable[[Path, str], None] = lambda path, caption: None

    def __call__(self, step: int) -> dict[str, float]:
        """Draw at a step what is not drawn yet. Returns mean scores as score_NAME; a failure is one warning."""
        sweep = SweepFolder(self.folder / "validation")
        cell = sweep.cell(step_name(step))
        sweep.write({"name": "validation", "axes": [AXIS], "question": f"How {self.folder.name} comes along."})
        drawn = replace(self.config, sweep=SweepConfig(name="validation", dir=str(self.folder), axes=[]))
        outcome = self.draw(drawn, cell, {AXIS: str(step)})
        if outcome.error:
            return self.failed(step, outcome.error)
        try:
            score_cell(cell, ready_metrics(self.config))
            records = cell.records()
            means = mean_scores(scores_of(cell, records).values())
            self.sheet(cell, records, step, means)
        except Exception as error:
            return self.failed(step, told(error))
        return {f"score_{name}": value for name, value in means.items()}

    def failed(self, step: int, why: str) -> dict[str, float]:
        """Say so; training is worth more than one of its validations."""
        print(f"warning: the validation of step {step} failed, training goes on: {why}", file=sys.stderr)
        return {}

    def draw(self, config: Config, cell: CellFolder, labels: dict[str, str]) -> Any:
        """The cell's pictures with the weights as they are, and the model back in training mode."""
        model, training = self.model, self.model.training
        device = next(model.parameters()).device
        model.eval()
        try:
            with self.averaged(), stock_attention(model):
                model.weights_fingerprint = fingerprint(model)
                try:
                    return run_cell(config, cell, labels, parts=HeldTransformer(model, self.parts))
                finally:
                    model.to(device)  # with hardware.offload drawing leaves it on the CPU
        finally:
            model.train(training)

    def sheet(self, cell: CellFolder, records: list[dict[str, Any]], step: int, means: dict[str, float]) -> None:
        """All pictures of a validation on one sheet beside its folder."""
        scores = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
        pictures = [(r["prompt"], cell.path / r["path"]) for r in records]
        sizes = [(r["width"], r["height"]) for r in records]
        texts = [("title", f"{self.folder.name}, step {step}"), ("subtitle", scores)]
        path = write_sheet(gallery(pictures, sizes, COLUMNS, texts), sheet_path(self.folder, step))
        self.on_picture(path, f"step {step}")


def sheet_path(folder: Path, step: int) -> Path:
    """Where the sheet of a validation lies in a training's folder."""
    return folder / "validation" / f"{step_name(step)}.png"


def step_name(step: int) -> str:
    """The name of a validation's cell and of its sheet."""
    return f"step-{step:08d}"


def drop_later(folder: Path, step: int) -> None:
    """Remove the validations of steps that are to be trained again: their pictures are of other weights."""
    last = step_name(step)
    for path in (folder / "validation").glob("step-*.png"):
        if STEP.fullmatch(path.stem) and path.stem > last and is_own_sheet(path):
            path.unlink()
    for cell in SweepFolder(folder / "validation").cells():
        if STEP.fullmatch(cell.id) and cell.id > last:
            cell.delete()


def check_validation(config: Config) -> None:
    """Raises LabError when the validation that is asked for cannot be drawn or scored: before hours of training."""
    if not config.train.validate_every or config.train.method == "vae":
        return
    if config.prompts.set is None and config.prompt.text is None and config.prompt_file is None:
        raise ConfigError("train.validate_every needs something to draw: a prompt, or a set such as prompts=starter.")
    ready_metrics(config)
    prompts_of(config)
