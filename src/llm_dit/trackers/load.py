"""The tracker of a name, guarded."""

from __future__ import annotations

from pathlib import Path

from llm_dit.base.errors import ConfigError, nearest
from llm_dit.trackers.base import GuardedTracker, NoTracker
from llm_dit.trackers.trackio import TrackioTracker
from llm_dit.trackers.wandb import WandbTracker

TRACKERS = ("none", "trackio", "wandb")


def make_tracker(
    name: str, folder: str | Path, project: str = "llm-dit", trackio_dir: str | Path | None = None
) -> GuardedTracker:
    """name: one of TRACKERS. folder: of the sweep; wandb writes below it. project: of W&B (in Trackio a sweep is one).
    trackio_dir: where Trackio keeps all projects; None takes TRACKIO_DIR, or outputs/trackio.

    Nothing is imported or written before the first cell, and the tracker never raises. Raises ConfigError for another
    name.
    """
    if name == "none":
        return GuardedTracker(name, NoTracker())
    if name == "wandb":
        return GuardedTracker(name, WandbTracker(Path(folder), project))
    if name == "trackio":
        return GuardedTracker(name, TrackioTracker(Path(trackio_dir) if trackio_dir else None))
    raise ConfigError(f"tracker={name} is unknown. {nearest(name, TRACKERS)}")
