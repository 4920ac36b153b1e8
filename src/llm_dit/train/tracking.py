"""A training as one run of a tracker: its log line by line, and the sheets of its validations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.config import Config
from llm_dit.study.track import flat_config
from llm_dit.trackers.load import make_tracker
from llm_dit.train.meter import read_log
from llm_dit.train.validate import sheet_path

if TYPE_CHECKING:
    from llm_dit.train.loop import Training

GROUP = "train"  # all trainings are runs beside each other


@contextmanager
def tracked(config: Config, training: Training, shown: bool) -> Iterator[None]:
    """Within, a tracker is told what the log is told. A training that goes on is told from its start, as one run."""
    if not shown or config.tracker.name == "none":
        yield
        return
    tracker = make_tracker(config.tracker.name, training.folder, config.tracker.project)
    tracker.start_cell(GROUP, training.folder.name, flat_config(config))

    def tell(step: int, line: dict[str, Any]) -> None:
        tracker.log_values(step, {key: value for key, value in line.items() if key != "step"})

    def show(path: Path, caption: str) -> None:
        tracker.log_image(path, caption, {})

    for line in read_log(training.log):
        tell(line["step"], line)
        if (sheet := sheet_path(training.folder, line["step"])).is_file():
            show(sheet, f"step {line['step']}")
    training.on_log.append(tell)
    if hasattr(training.validate, "on_picture"):
        training.validate.on_picture = show
    status = "failed"
    try:
        yield
        status = "complete"
    finally:
        tracker.finish_cell(status)
        tracker.close()
        if where := tracker.where():
            print(where)
