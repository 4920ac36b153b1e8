"""A whole sweep: its plan through a launcher, then the table, the grids, the report and the last lines.

Drawing is cell.py's job, in whatever process the launcher chose; this module runs once, in the process that was
started.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from llm_dit.base.errors import LabError, printable, told
from llm_dit.base.files import check_writable
from llm_dit.base.paths import whole_command
from llm_dit.study.axes import label_of
from llm_dit.study.cell import LEFT, Outcome
from llm_dit.study.finish import finish_sweep
from llm_dit.study.foreseen import foreseen_in
from llm_dit.study.plan import Plan, PlannedCell, plan_sweep
from llm_dit.study.store import LONGEST, SweepFolder
from llm_dit.study.track import track_summary

Launch = Callable[[list[list[str]]], Sequence[Any]]


class CellsFailedError(LabError):
    """A sweep ran to its end and some of its cells, or their scores, did not."""

    exit_code = 1


def run_sweep(parser: Any, arguments: list[str], master: DictConfig, launch: Launch) -> list[Outcome]:
    """Run or continue a sweep. parser: Hydra's override parser; launch: override lists to JobReturns.

    Raises ConfigError for a study or an axis that is wrong before anything is written, CellsFailedError at the end.
    """
    from llm_dit.metrics.registry import ready_metrics
    from llm_dit.study.progress import SweepProgress

    plan = plan_sweep(parser, arguments, master)
    folder, config = plan.folder, plan.first
    for warning in foreseen_in(plan):
        print(f"warning: {printable(warning)}", file=sys.stderr)
    if config.dry_run:
        from llm_dit.study.dry_run import print_plan

        print_plan(plan)
        return []
    check_writable(config.sweep.dir, "sweep.dir")
    check_writable(folder.path, "sweep.dir", [LONGEST])
    ready_metrics(config)
    folder.clear_leftovers()
    folder.forget_refused()
    folder.write(describe_sweep(plan, arguments, folder.read()))
    begin = time.time()
    with SweepProgress(folder, {cell.id: cell.wanted() for cell in plan.cells if cell.id}):
        outcomes = launched(plan, launch)
        outcomes = [seen_on_disk(folder, outcome) for outcome in outcomes]
    print(last_lines(folder, outcomes, time.time() - begin))
    if not (folder.path / "sweep.json").is_file():  # removed: nothing may bring it back
        folder.check_there()
    written = finish_sweep(folder, config)
    print(*written, sep="\n")
    if any(o.drawn or o.status == "failed" for o in outcomes):
        shown = track_summary(config, folder, [p for p in written if p.suffix == ".png"])
        print(shown, end="\n" if shown else "")
    raise_failures(folder, outcomes)
    return outcomes


def launched(plan: Plan, launch: Launch) -> list[Outcome]:
    """The outcomes of all cells. What a process that died says no more is read from the disk."""
    try:
        returns = launch([cell.job for cell in plan.cells])
    except LabError:
        raise
    except Exception as error:  # a worker killed by the system, a cluster that is gone: the launcher's own errors
        return [outcome_on_disk(plan, cell, error) for cell in plan.cells]
    outcomes = []
    for cell, job in zip(plan.cells, returns, strict=True):
        try:
            outcomes.append(Outcome(**job.return_value))
        except Exception as error:
            outcomes.append(outcome_on_disk(plan, cell, error))
    return outcomes


def seen_on_disk(folder: SweepFolder, outcome: Outcome) -> Outcome:
    """The outcome, failed when its cell is said to be complete and is not there any more."""
    if outcome.status != "complete" or folder.cell(outcome.cell).status == "complete":
        return outcome
    return replace(outcome, status="failed", error="its folder was removed or changed while the sweep ran")


def outcome_on_disk(plan: Plan, cell: PlannedCell, error: Exception) -> Outcome:
    """What became of a cell whose process did not say so."""
    folder = plan.folder.cell(cell.id) if cell.id else None
    status = folder.status if folder else "failed"
    if status == "complete":
        return Outcome(cell.id, "complete", kept=len(folder.records()), labels=cell.labels)
    said = (folder.read("failed.json") or {}).get("error") if folder else None
    reason = said or f"its process ended before it did ({told(error)}); the same command continues"
    return Outcome(cell.id or "", "failed", error=reason, labels=cell.labels)


def describe_sweep(plan: Plan, arguments: list[str], before: dict[str, Any]) -> dict[str, Any]:
    """The content of sweep.json. before: what an earlier run wrote, whose cells and arguments are kept."""
    from llm_dit.metrics.registry import primary

    cells = [cell.labels for cell in plan.cells]
    # A cell of an earlier command that had fewer axes is among those of this one.
    earlier = [c for c in before.get("cells", []) if not any(c.items() <= cell.items() for cell in cells)]
    return {
        "sweep_version": 1,
        "name": plan.folder.path.name,
        "study": plan.study.name,
        "question": plan.study.question,
        "axes": list(dict.fromkeys([*before.get("axes", []), *plan.axes])),
        "baseline": plan.study.baseline or before.get("baseline", {}),
        # Named before the run or not at all: naming it once pictures are there would be choosing it.
        "primary": before.get("primary") if before else primary(plan.first.metrics),
        # In the order asked for; cells of an earlier command with other values come last.
        "cells": [*cells, *earlier],
        **({"search": True} if before.get("search") else {}),
        "runs": [*before.get("runs", []), {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "arguments": arguments}],
    }


def last_lines(folder: SweepFolder, outcomes: list[Outcome], seconds: float) -> str:
    """What a sweep says at its end."""
    count = {s: sum(o.status == s for o in outcomes) for s in ("complete", "failed", LEFT)}
    cells = ", ".join(f"{n} {status}" for status, n in count.items() if n or status == "complete")
    drawn, kept = sum(o.drawn for o in outcomes), sum(o.kept for o in outcomes)
    lines = [f"{folder.path}: {len(outcomes)} cells ({cells}), {drawn} pictures drawn in {seconds:.0f} s, {kept} kept"]
    lines += [f"failed: {label_of(o.labels, o.cell)}: {o.error}" for o in outcomes if o.status == "failed"]
    return "\n".join(lines)


def raise_failures(folder: SweepFolder, outcomes: list[Outcome]) -> None:
    """Raise CellsFailedError for the first failed cell, else for the first one that could not be scored."""
    failed = [o for o in outcomes if o.status == "failed"]
    if failed:
        first = failed[0]
        file = folder.cell(first.cell).path / "failed.json"
        where = f" (traceback in {file})" if first.cell and file.exists() else ""
        raise CellsFailedError(
            f"{len(failed)} of {len(outcomes)} cells failed; "
            f"the first, {label_of(first.labels, first.cell)}: {first.error}{where}"
        )
    unscored = [o for o in outcomes if o.unscored]
    if unscored:
        raise CellsFailedError(
            f"{len(unscored)} of {len(outcomes)} cells are drawn but not scored: {unscored[0].unscored} "
            f"Mend it, then: {whole_command()} task=score sweep.name={folder.path.name}"
        )
