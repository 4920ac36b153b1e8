"""Sweeps whose cells a search chooses (hydra/sweeper=optuna): what it may vary, what it is told, what it ends with.

Hydra turns an error of a callback into a warning, and Optuna's plugin tells an error of a job three times over. So an
error here is printed as one line and ends the process by SystemExit, which both let through.
"""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from llm_dit.base.errors import ConfigError, LabError, nearest
from llm_dit.config import Config, parameters
from llm_dit.study.axes import label_of
from llm_dit.study.cell import Outcome, prompts_of
from llm_dit.study.store import LONGEST, CellFolder, SweepFolder, sweep_of
from llm_dit.study.table import rows_of

RESULTS = "optimization_results.yaml"  # Optuna's plugin writes it into the sweep's folder
# The table's numbers that every picture has; metrics bring more.
NUMBERS = ("seed", "width", "height", "nfe", "token_count", "padded_length", "shift", "cfg_weight")
NUMBERS += ("seconds", "seconds_load", "seconds_encode", "seconds_denoise", "seconds_decode")
# An axis of one of these brings the prompt, which the settings shared by all trials then lack.
PROMPT_KEYS = {"prompt.text", "prompt_file", "prompts", "prompts.set"}


class SearchStoppedError(LabError):
    """A cell of a search could not be drawn, scored or valued."""

    exit_code = 1


@dataclass(frozen=True)
class Stop:
    """What a job returns to end the search: it crosses processes, and reading it as a number ends this one."""

    message: str
    exit_code: int

    def __float__(self) -> float:
        self.end()

    def end(self) -> NoReturn:
        """Say why, and end the process."""
        print(f"error: {self.message}", file=sys.stderr)
        raise SystemExit(self.exit_code)


class SearchCallback(Callback):
    """Hydra calls this around every multirun; the sweeper `study` does all of it itself and is left alone."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Find what is wrong before the first trial is drawn, then write sweep.json."""
        if is_search(config.hydra.sweeper):
            with ending():
                self.before = count_records(prepare_search(config))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Show the winner; write the table, the grids and the report of what the search drew."""
        if is_search(config.hydra.sweeper):
            with ending():
                finish_search(config, self.before)


@contextmanager
def ending() -> Iterator[None]:
    """An error for a person ends the process with its line."""
    try:
        yield
    except LabError as error:
        Stop(str(error), error.exit_code).end()


def is_search(sweeper: Any) -> bool:
    """Whether a sweeper's config is another one than ours."""
    return not str(sweeper.get("_target_", "")).endswith("StudySweeper")


def searched_axes(parsed: Sequence[Override]) -> dict[str, str]:
    """The searched keys and their values as written. Raises ConfigError for what a search cannot vary."""
    from llm_dit.study.plan import SEEDS, refuse_single_settings

    whole = {p.key for p in parameters() if p.type is int}
    searched = [o for o in parsed if o.is_sweep_override()]
    if not searched:
        raise ConfigError("a search needs a key to vary, such as 'sampler.steps=choice(4,8,16)'.")
    refuse_single_settings([o.get_key_element() for o in searched])
    for override in searched:
        key = override.get_key_element()
        if key in SEEDS:
            raise ConfigError(f"{key} cannot be searched: every trial draws the same seeds. Write seeds=[0,1,2].")
        if not isinstance(override.value(), ChoiceSweep | RangeSweep | IntervalSweep):
            raise ConfigError(f"{override.input_line}: a search takes choice(...), range(...) or interval(...).")
        if isinstance(override.value(), IntervalSweep) and isinstance(override.value().start, float) and key in whole:
            inside = str(override.input_line).partition("=")[2]
            raise ConfigError(f"{override.input_line} has fractions; for whole numbers write '{key}=int({inside})'.")
    return {o.get_key_element(): str(o.input_line).partition("=")[2] for o in searched}


def refuse_study(file: str) -> None:
    """A study's cells leave a search nothing to choose. Raises ConfigError with the words that search its axes."""
    from llm_dit.study.definition import load_study
    from llm_dit.study.expand import grammar

    study = load_study(file)
    axes = {key: ",".join(grammar(v) for v in values) for key, values in study.axes.items()}
    seeds = [f"seeds=[{axes.pop('seed')}]"] if "seed" in axes else []
    instead = shlex.join([*study.settings, *seeds, *(f"{key}=choice({values})" for key, values in axes.items())])
    raise ConfigError(f"sweep={file} lists its cells, and a search chooses its own. Write instead: -m {instead}")


def search_name(fixed: Mapping[str, str], axes: Mapping[str, str]) -> str:
    """A name made of the axes and a hash of what is searched for in which settings, so that a command finds its own."""
    from llm_dit.study.expand import sweep_name

    wanted = {f"search {k}": fixed[k] for k in ("sweep.metric", "hydra.sweeper.direction") if k in fixed}
    drawn = {k: v for k, v in fixed.items() if not k.startswith("hydra")}
    return "search-" + sweep_name(None, drawn | wanted, {k: [v] for k, v in axes.items()})


def prepare_search(config: DictConfig) -> SweepFolder:
    """Check what all trials share and write sweep.json. Returns the sweep's folder.

    Raises LabError for a value, a metric or weights that the first trials would fail for.
    """
    from llm_dit.base.files import check_writable
    from llm_dit.metrics.registry import ready_metrics
    from llm_dit.study.definition import Study
    from llm_dit.study.plan import Plan, PlannedCell

    shared = shared_config(config)
    sweeper = config.hydra.sweeper
    axes = shared.sweep.axes
    if sweeper.get("params") or sweeper.get("search_space"):
        raise ConfigError("hydra.sweeper.params: write what is searched as 'KEY=choice(...)' on the command line.")
    check_direction(sweeper.get("direction"))
    check_metric(shared)
    if not sweeper.get("max_failure_rate"):  # else a value that cannot be drawn is one of the failures
        check_ends(list(config.hydra.overrides.task))
    if not PROMPT_KEYS & set(axes):
        prompts_of(shared)
    folder = sweep_of(shared)
    plan = Plan(folder, Study(""), axes, [PlannedCell([], {}, shared, None)])
    ready_metrics(shared)
    folder.refuse_foreign()
    check_writable(shared.sweep.dir, "sweep.dir")
    check_writable(folder.path, "sweep.dir", [LONGEST])
    folder.clear_leftovers()
    folder.forget_refused()
    describe_search(plan, config.hydra.overrides)
    return folder


def shared_config(config: DictConfig) -> Config:
    """The settings that all trials share; searched keys are at their defaults. Refuses tasks that are no sweep."""
    from llm_dit.compose import check
    from llm_dit.study.plan import master_without_hydra

    return check(master_without_hydra(config))


def check_direction(direction: Any) -> None:
    """Raise ConfigError for another direction than the two, or for several."""
    name = getattr(direction, "name", direction)
    if direction is not None and name not in ("minimize", "maximize"):
        raise ConfigError(f"hydra.sweeper.direction={name}: must be minimize or maximize, of the one sweep.metric.")


def check_metric(config: Config) -> None:
    """Raise ConfigError for a sweep.metric that no picture will have."""
    from llm_dit.metrics.registry import chosen, metric_of

    metric, scored = config.sweep.metric, chosen(config.metrics)
    name = metric_of(metric)
    if metric in NUMBERS or name in scored:
        return
    if name:
        raise ConfigError(f"sweep.metric={metric}: nothing scores it. Add metrics={name}.")
    raise ConfigError(f"sweep.metric={metric}: no such number in the table. {nearest(metric, [*NUMBERS, *scored])}")


def check_ends(overrides: list[str]) -> None:
    """Compose every choice and both ends of every interval, the other keys at their defaults. Raises ConfigError."""
    from llm_dit.study.plan import compose_job

    parsed = OverridesParser.create().parse_overrides(overrides)
    fixed = [o for o, p in zip(overrides, parsed, strict=True) if not p.is_sweep_override()]
    for override in parsed:
        if override.is_sweep_override():
            for end in ends(override):
                compose_job([*fixed, f"{override.get_key_element()}={end}"])


def ends(override: Override) -> list[str]:
    """The values of a searched key that are known beforehand."""
    values = override.value()
    if isinstance(values, IntervalSweep):
        return [str(values.start), str(values.end)]
    if isinstance(values, RangeSweep):
        return [str(values.start)]  # where it stops, Optuna and Hydra say differently
    return list(override.sweep_string_iterator())


def describe_search(plan: Any, overrides: Any) -> None:
    """Write sweep.json: a sweep's, with the mark that its cells were chosen by what the earlier ones gave."""
    from llm_dit.study.run import describe_sweep

    added = ("sweep.axes=", "hydra.sweep.dir=", "hydra.mode=")
    arguments = [o for o in [*overrides.hydra, *overrides.task] if not o.startswith(added)]
    before = plan.folder.read()
    kept = {key: before[key] for key in ("study", "question") if key in before}
    # A cell's place among those asked for is not known: cells stand in the order in which they were drawn.
    whole = describe_sweep(plan, arguments, before) | kept | {"cells": before.get("cells", []), "search": True}
    plan.folder.write(whole)


def trial_value(config: Config, folder: CellFolder | None, outcome: Outcome, sweeper: Any) -> float | Stop:
    """What the search is given of a cell: sweep.metric's mean, or the end of the search."""
    try:
        if folder is None or outcome.status != "complete" or outcome.unscored:
            failed = outcome.status == "failed" and outcome.cell
            where = f" (traceback in {folder.path / 'failed.json'})" if folder and failed else ""
            raise SearchStoppedError(f"the search stops: {outcome.error or outcome.unscored or outcome.status}{where}")
        return cell_metric(folder, config.sweep.metric)
    except LabError as error:
        return stop_search(error, sweeper)


def stop_search(error: LabError, sweeper: Any) -> Stop:
    """The end of the search; where the sweeper may count failures, or is not Optuna's, the error itself."""
    if sweeper.get("max_failure_rate") != 0:
        raise error
    return Stop(str(error), error.exit_code)


def cell_metric(folder: CellFolder, metric: str) -> float:
    """Mean of a column of the table over the cell's pictures that have it; 'seconds' is all of them but loading."""
    values = [row.get(metric) for row in rows_of(folder)]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if not numbers:
        raise SearchStoppedError(f"the search stops: sweep.metric={metric} has no value for any picture of the cell.")
    return statistics.fmean(numbers)


def count_records(folder: SweepFolder) -> int:
    """How many pictures are there."""
    return sum(len(cell.records()) for cell in folder.cells())


def finish_search(config: DictConfig, before: int) -> None:
    """Print the winner, write what a sweep ends with, tell the tracker. before: pictures that were there already."""
    from llm_dit.study.finish import finish_sweep
    from llm_dit.study.track import track_summary

    shared = shared_config(config)
    folder = sweep_of(shared)
    results = folder.path / RESULTS
    print(best_line(results, shared.sweep.metric, config.hydra.sweeper.get("direction")), end="")
    written = finish_sweep(folder, shared)
    print(*[results][: results.exists()], *written, sep="\n")
    if count_records(folder) > before:
        shown = track_summary(shared, folder, [p for p in written if p.suffix == ".png"])
        print(shown, end="\n" if shown else "")


def best_line(results: Path, metric: str, direction: Any) -> str:
    """The best value and its settings, for a person; empty where a sweeper writes no such file."""
    found = OmegaConf.to_container(OmegaConf.load(results)) if results.exists() else {}
    if "best_value" not in found:
        return ""
    chosen = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in found["best_params"].items()}
    kind = "highest" if getattr(direction, "name", direction) == "maximize" else "lowest"
    return f"best: {label_of(chosen)}, with the {kind} {metric}, {found['best_value']:.6g}\n"
