"""Parameters of sweeps, their reports and their trackers, and of where files go."""

from __future__ import annotations

from dataclasses import dataclass

from llm_dit.config.rule import Group, check_name, param


@dataclass
class OutputConfig(Group):
    """Where results go."""

    dir: str = param(
        "outputs/images", "Folder for pictures and their records; made when missing.", image=False, place=True
    )
    name: str | None = param(
        None, "File name without ending; null makes one from prompt, seed and settings.", image=False, place=True
    )

    def check(self) -> None:
        check_name("output.name", self.name)


@dataclass
class PromptsConfig(Group):
    """A set of prompts for a sweep: every cell draws all of them. Without one, a sweep draws prompt.text."""

    set: str | None = param(
        None, "Name of a set in prompts/, or a path to a .yaml file; null uses prompt.text.", image=False, place=True
    )
    ids: list[str] = param([], "Only the prompts with these ids.", image=False)
    categories: list[str] = param([], "Only the prompts of these categories.", image=False)
    difficulties: list[str] = param([], "Only the prompts of these difficulties.", image=False)
    count: int | None = param(
        None,
        "A balanced choice of so many, after the other filters.",
        image=False,
        ge=1,
    )


@dataclass
class TrackerConfig(Group):
    """Where a sweep's pictures and numbers are shown as they come. The sweep's own folder holds them all anyway."""

    name: str = param("none", "Tracker of sweeps and trainings.", image=False, choices=("none", "trackio", "wandb"))
    project: str = param("llm-dit", "Project in W&B; in Trackio every sweep is a project.", image=False)


@dataclass
class SweepConfig(Group):
    """Where a sweep is kept and what it compares. sweep=NAME runs the study in sweeps/NAME.yaml."""

    name: str | None = param(
        None, "Folder in sweep.dir; null makes one from the axes and the fixed settings, so a command finds its own.",
        image=False, place=True,
    )  # fmt: skip
    dir: str = param("outputs/sweeps", "Folder of all sweeps.", image=False, place=True)
    file: str | None = param(
        None, "The study being run: a name in sweeps/, or a path; set by sweep=NAME.", image=False, place=True
    )
    axes: list[str] = param([], "The keys that are swept; set by the sweeper for each cell.", image=False)
    metric: str = param(
        "seconds", "What hydra/sweeper=optuna is given of a cell: the mean of a column of the table.", image=False
    )

    def check(self) -> None:
        check_name("sweep.name", self.name)


@dataclass
class ReportConfig(Group):
    """The page of evidence that a sweep ends with, and task=report makes again."""

    baseline: str | None = param(
        None,
        "The arm that others are compared with, as 'encoder_layer.index=-2'; null takes the study's, else the first.",
        image=False,
    )
    sweeps: list[str] = param(
        [], "Further sweeps, by name, whose arms stand in the same report.", image=False, place=True
    )
    resamples: int = param(
        10_000,
        "Resamples of intervals; sign flips are never fewer than 10,000.",
        image=False, ge=100, le=1_000_000,
    )  # fmt: skip
    thumbnail_size: int = param(
        256, "Longest side of the pictures inside the page, in pixels.", image=False, ge=32, le=2048
    )
    max_pictures: int = param(
        4000, "Most pictures inside the page; the rest are read from the sweep's folder.", image=False, ge=0
    )
