"""What a sweep is going to do, known before anything is written: a study and a command line to composed cells."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, RangeSweep
from omegaconf import DictConfig, OmegaConf

from llm_dit.base.errors import ConfigError, LabError
from llm_dit.base.paths import user_path
from llm_dit.base.stages import STAGES
from llm_dit.compose import check, compose, in_list, prepare_overrides, quote
from llm_dit.config import Config, OutputConfig, parameters, seeds_of
from llm_dit.study.acting import acting, steps_run
from llm_dit.study.axes import label_of, numbers_as_written, range_values, same
from llm_dit.study.cell import axis_labels, cell_id, prompts_of
from llm_dit.study.definition import Study, load_study
from llm_dit.study.expand import expand, fold_seeds, grammar, sweep_name
from llm_dit.study.store import SweepFolder

SEEDS = {"seed", "seeds", "num_images"}
OWN_KEYS = ("sweep.name", "sweep.axes", "sweep.dir")


@dataclass(frozen=True)
class PlannedCell:
    """job: overrides for Hydra. id and config are None for a cell whose settings contradict each other."""

    job: list[str]
    labels: dict[str, str]
    config: Config | None
    id: str | None

    def wanted(self) -> set[tuple[str, int, str]]:
        """(prompt id, seed, prompt) of every picture of the cell."""
        if self.config is None:
            return set()
        return {(p.id, seed, p.prompt) for p in prompts_of(self.config) for seed in seeds_of(self.config)}


@dataclass(frozen=True)
class Plan:
    """A sweep's folder, its study, the swept keys, and its cells, no two of which draw the same."""

    folder: SweepFolder
    study: Study
    axes: list[str]
    cells: list[PlannedCell]

    @property
    def first(self) -> Config:
        """The config whose settings of the run (tracker, metrics, report ...) hold for the sweep."""
        return next(c.config for c in self.cells if c.config)


def plan_sweep(parser: Any, arguments: list[str], master: DictConfig) -> Plan:
    """Arguments to a Plan. parser: Hydra's override parser; master: the sweep's shared settings.

    Raises ConfigError for a study, an axis or a setting that is wrong. Writes nothing.
    """
    file = check(master_without_hydra(master)).sweep.file
    study = load_study(file) if file else Study("")
    fixed, swept = read_overrides(parser, prepare_overrides(study.settings), arguments)
    if "seed" in study.axes and not SEEDS & (fixed.keys() | swept.keys()):
        swept["seed"] = [grammar(seed) for seed in study.axes["seed"]]
    study = replace(
        study,
        axes={k: v for k, v in study.axes.items() if k != "seed"},
        # An axis that the command line pins is the same in all arms; the others tell which is the baseline.
        baseline={k: v for k, v in study.baseline.items() if k not in fixed},
    )
    fold_seeds(swept, fixed)
    cells = expand(study, fixed, swept)
    axes = [k for k in dict.fromkeys([*swept, *study.keys]) if k not in fixed]
    refuse_single_settings(axes)
    first = compose_job([f"{k}={v}" for k, v in cells[0].items()])
    if first.output != OutputConfig():
        raise ConfigError("output.* is for single pictures; a sweep goes to sweep.dir under sweep.name.")
    prompts_of(first)  # no prompt, no such set: told before anything is written
    name = first.sweep.name or sweep_name(study.name, fixed, swept)
    root = user_path(first.sweep.dir)
    if not first.resume:
        name = unused_name(root, name)
    folder = SweepFolder(root / name)
    folder.refuse_foreign()
    labelled = [*axes, *(axis for axis in picture_axes(folder.read().get("axes", [])) if axis not in axes)]
    # Workers of a cluster start in folders of their own, so the sweep's place is told whole.
    told = [f"sweep.name={quote(name)}", f"sweep.dir={quote(str(root.resolve()))}"]
    planned = drop_twins(compose_cells(cells, axes, [*told, f"sweep.axes=[{','.join(labelled)}]"]))
    check_baseline(study, planned)
    return Plan(folder, study, axes, planned)


def picture_axes(axes: list[str]) -> list[str]:
    """The axes of an earlier command that are settings of the picture: this one's cells have a value there too."""
    own = {p.key for p in parameters() if p.rule.image and p.key not in ("seed", "seeds")}
    return [axis for axis in axes if axis in own]


def compose_cells(cells: list[dict[str, str]], axes: list[str], told: list[str]) -> list[PlannedCell]:
    """Compose every cell. Raises ConfigError for a value that is wrong where it first appears."""
    STAGES.info("planning %d cells", len(cells))
    planned = []
    seen: set[tuple[str, str | None]] = set()
    for cell in cells:
        job = [*(f"{k}={in_list(k, v)}" for k, v in cell.items() if k not in OWN_KEYS), *told]
        values = {(axis, cell.get(axis)) for axis in axes}
        first = not planned
        try:
            config = compose_job(job)
            planned.append(PlannedCell(job, axis_labels(config, cell), config, cell_id(config)))
        except LabError:
            if first or values - seen:  # what all cells share shows in the first
                raise
            # Each value is fine by itself: the cell fails in its turn, and the others go on.
            planned.append(PlannedCell(job, {a: cell[a] for a in axes if a in cell}, None, None))
        seen |= values
    return planned


def drop_twins(planned: list[PlannedCell]) -> list[PlannedCell]:
    """The cells without those that draw what an earlier one draws, which are told."""
    kept: dict[str | int, PlannedCell] = {}
    for number, cell in enumerate(planned):
        twin = kept.setdefault(cell.id or number, cell)
        if twin is not cell:
            print(
                f"note: {label_of(cell.labels)} draws the same as {label_of(twin.labels)}; drawn once", file=sys.stderr
            )
    tell_alike([cell for cell in kept.values() if cell.config])
    return list(kept.values())


def tell_alike(planned: list[PlannedCell]) -> None:
    """One line for each cell whose settings differ from an earlier one's only in what cannot act."""
    first: dict[str, PlannedCell] = {}
    for cell in planned:
        alike = first.setdefault(cell_id(acting(cell.config)), cell)
        if alike is not cell:
            run, steps = steps_run(cell.config)
            why = f" ({run} of {steps} steps)" if cell.config.strength != alike.config.strength and run < steps else ""
            print(
                f"note: {label_of(cell.labels)} draws the same as {label_of(alike.labels)}{why}; both are drawn, "
                "and their difference is 0",
                file=sys.stderr,
            )


def check_baseline(study: Study, planned: list[PlannedCell]) -> None:
    """Warn when no cell is the study's baseline, because the command line took it away: the first cell stands in.

    Raises ConfigError when none of the study's own cells is: everything would be compared with the wrong one.
    """
    wanted = {key: grammar(value) for key, value in study.baseline.items()}
    own = expand(study, {}, {})
    if wanted and not any(all(k in cell and same(cell[k], v) for k, v in wanted.items()) for cell in own):
        swept = "; ".join(f"{k}: {', '.join(dict.fromkeys(c[k] for c in own if k in c))}" for k in wanted)
        raise ConfigError(f"the study's baseline {label_of(wanted)} is none of its cells. Swept are {swept}.")
    if wanted and not any(all(k in c.labels and same(c.labels[k], v) for k, v in wanted.items()) for c in planned):
        said = label_of(wanted)
        print(f"warning: no cell is the baseline {said}; the first cell is compared with instead", file=sys.stderr)


def refuse_single_settings(keys: list[str]) -> None:
    """What belongs to a run or to a single picture would reach nothing as an axis. Raises ConfigError."""
    own = ("output", "sweep", "tracker", "metrics", "report")
    for key in keys:
        if key in ("task", "from_image", "trust_record", "resume", "dry_run") or key.split(".")[0] in own:
            raise ConfigError(f"{key} cannot be swept: it belongs to the run, not to a cell.")


def master_without_hydra(master: DictConfig) -> dict[str, Any]:
    """The sweep's shared settings; swept keys are still at their defaults here. Refuses what is not a sweep."""
    values = OmegaConf.to_container(master, resolve=False)
    values.pop("hydra", None)
    if values["task"] != "render":
        raise ConfigError(f"task={values['task']} cannot be swept; leave -m out.")
    if values["from_image"]:
        raise ConfigError("from_image draws one picture again and cannot be swept; leave -m out.")
    return values


def read_overrides(
    parser: Any, settings: list[str], arguments: Sequence[str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """A study's settings and the command line as fixed {key: value} and swept {key: values}; the command line wins.

    Seeds in any of their three forms on the command line replace the study's.
    """
    fixed: dict[str, str] = {}
    swept: dict[str, list[str]] = {}
    for source in (settings, arguments):
        parsed = parser.parse_overrides(list(source))
        keys = {o.get_key_element() for o in parsed}
        for key in keys | (SEEDS if keys & SEEDS else set()):
            fixed.pop(key, None)
            swept.pop(key, None)
        for override in parsed:
            key = override.get_key_element()
            if override.is_sweep_override():
                swept[key] = values_of(override)
                if not swept[key]:
                    raise ConfigError(f"{key}: the axis has no values.")
            else:
                fixed[key] = override.get_value_element_as_str()
    return fixed, swept


def values_of(override: Any) -> list[str]:
    """The values of an axis in Hydra's grammar. Raises ConfigError with the argument for what cannot be listed."""
    axis = override.value()
    if isinstance(axis, IntervalSweep):
        raise ConfigError(
            f"{override.input_line}: an interval has no values to list; a search varies it (docs/scaling.md)."
        )
    if not isinstance(axis, RangeSweep):
        return list(override.sweep_string_iterator())
    try:
        return [str(number) for number in range_values(axis.start, axis.stop, axis.step, axis.shuffle)]
    except ConfigError as error:
        raise ConfigError(f"{override.input_line}: {error}") from error


def compose_job(job: list[str]) -> Config:
    """The config that a list of overrides will run with."""
    return numbers_as_written(compose([o for o in job if not o.lstrip("+~").startswith("hydra")]))


def unused_name(root: Path, name: str) -> str:
    """The name, with the first number behind it that no folder has."""
    number, free = 2, name
    while os.path.lexists(root / free):
        free, number = f"{name}-{number}", number + 1
    return free
