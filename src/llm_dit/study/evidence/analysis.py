"""The analysis of a sweep: the long table to one plain dict, which report.html, trackers and notebooks show.

analyse reads folders; analyse_arms is pure. Numbers are computed in statistics.py, variance.py, versus.py and
effects.py; docs/statistics.md says what each of them means. The dict is JSON as it stands: NaN and infinities are None.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_dit.base.errors import ConfigError, nearest
from llm_dit.metrics.registry import METRICS, info, metric_of
from llm_dit.study.axes import is_number
from llm_dit.study.evidence import effects, statistics, variance
from llm_dit.study.evidence.arms import Arm, find_baseline, read_arms
from llm_dit.study.evidence.costs import Costs
from llm_dit.study.evidence.remarks import many, note_of, warnings_of, why_not
from llm_dit.study.evidence.repeats import repeats
from llm_dit.study.evidence.statistics import RESAMPLES
from llm_dit.study.evidence.versus import Pairs, compare, flip, judge, not_compared, pair
from llm_dit.study.store import SweepFolder

# Metrics of all seeds of a prompt together: their values of single seeds are not repeated measurements.
GROUPED = frozenset({"diversity"})


def analyse(
    folders: Sequence[SweepFolder],
    *,
    primary: str | None = None,
    baseline: str | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The analysis of one sweep, or of several whose arms stand together; the first one names it.

    primary: the score that decides; None takes the sweep's, else the first there is. baseline: an arm by label, such
    as 'encoder_layer.index=-2', or by id; None takes the sweep's, else the first arm. Raises ConfigError for a score
    or an arm that is not known. Whatever is missing, half drawn or failed is in the warnings, never an error.
    """
    folders = list({folder.path.resolve(): folder for folder in folders}.values())
    told = [folder.read() for folder in folders]
    first = told[0] if told else {}
    described = {
        "name": first.get("name") or (folders[0].path.name if folders else ""),
        "question": first.get("question") or "",
        "axes": list(dict.fromkeys(axis for sweep in told for axis in sweep.get("axes", []))),
        "baselines": {
            folder.path.name: sweep.get("baseline") or {} for folder, sweep in zip(folders, told, strict=True)
        },
        "primary": first.get("primary"),
        "searches": [folder.path.name for folder, sweep in zip(folders, told, strict=True) if sweep.get("search")],
    }
    return analyse_arms(read_arms(folders), described, primary=primary, baseline=baseline, resamples=resamples)


def analyse_arms(
    arms: Sequence[Arm],
    sweep: dict[str, Any],
    *,
    primary: str | None = None,
    baseline: str | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """analyse without folders.

    sweep: name, question, axes, primary, baselines, {sweep: {axis: value}}, and searches, names of sweeps whose arms a
    search chose.
    """
    base, warnings = find_baseline(arms, baseline, next(iter(sweep.get("baselines", {}).values()), {}))
    if baseline is not None and base:
        own, _ = find_baseline(arms, None, next(iter(sweep.get("baselines", {}).values()), {}))
        if own is not base:
            warnings = [*warnings, f"compared with {base.label}, chosen after the run; the sweep's own is {own.label}"]
    columns = metric_columns(arms)
    chosen, told = choose_primary(columns, primary, sweep.get("primary"))
    warnings += told
    table = Table(arms, columns, base)
    versus, pairs = compare_all(table, chosen, resamples)
    costs = Costs(arms)
    fronts = {column: front(table, column, costs) for column in columns}
    analysis = {
        "name": sweep.get("name", ""),
        "question": sweep.get("question", ""),
        "generated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "status": "running" if not arms or any(arm.status == "unfinished" for arm in arms) else "complete",
        "primary": chosen,
        "axes": sweep.get("axes") or list(dict.fromkeys(axis for arm in arms for axis in arm.axes)),
        "primary_named": bool(chosen) and chosen == sweep.get("primary"),
        "baseline": base.id if base else None,
        "baseline_asked": baseline,
        "cost": costs.column,
        "prompts": table.described(),
        "metrics": [describe_metric(arms, column, column == chosen) for column in columns],
        "arms": [
            {
                "id": arm.id,
                "label": arm.label,
                "axes": arm.axes,
                "sweep": arm.sweep,
                "cell": arm.cell,
                "status": arm.status,
                "error": arm.error,
                "is_baseline": arm is base,
                "pictures": len(arm.rows),
                "missing": max(0, (arm.asked or 0) - len(arm.rows)),
                "nfe": arm.mean("nfe"),
                "seconds": arm.mean("seconds"),
                "seconds_ci": list(costs.interval(arm)),
                "pareto": bool(chosen) and fronts[chosen][i],
                "metrics": {
                    column: describe_arm(table, arm, column, resamples) | {"pareto": fronts[column][i]}
                    for column in columns
                },
                "versus": versus[arm.id],
            }
            for i, arm in enumerate(arms)
        ],
        "aa": {column: describe_noise(table, base, column, resamples) for column in columns if base},
        "repeats": repeats(arms, columns, base),
        "variance": {column: describe_variance(table, pairs, column) for column in columns if pairs},
        "slices": slices(table, pairs, resamples),
        "effects": all_effects(table, sweep.get("baselines", {}), effects.main_effects, resamples),
        "interactions": all_effects(table, sweep.get("baselines", {}), effects.interactions, resamples),
    }
    analysis["warnings"] = [*warnings, *warnings_of(arms, base, analysis, sweep.get("searches", []))]
    return plain(analysis)


@dataclass
class Table:
    """Scores as matrices over all prompts and seeds of the arms, made when asked for and kept."""

    arms: Sequence[Arm]
    columns: list[str]
    base: Arm | None

    def __post_init__(self):
        ordered = sorted(self.arms, key=lambda arm: arm is not self.base)  # the baseline's texts and order come first
        rows = [row for arm in ordered for row in arm.rows]
        self.rows = {row["prompt_id"]: row for row in reversed(rows)}
        self.prompts = list(dict.fromkeys(row["prompt_id"] for row in rows))
        self.seeds = list(dict.fromkeys(row["seed"] for row in rows))
        self.bins = effects.length_bins([self.rows[p].get("token_count") for p in self.prompts])
        self._scores: dict[tuple[str, str], np.ndarray] = {}

    def scores(self, arm: Arm, column: str) -> np.ndarray:
        """(prompts, seeds), NaN where there is none."""
        key = (arm.id, column)
        if key not in self._scores:
            self._scores[key] = arm.scores(column, self.prompts, self.seeds)
        return self._scores[key]

    def prompt_means(self, arm: Arm, column: str) -> list[float]:
        """The mean over seeds of each prompt that has a score."""
        means = variance.mean_of_seeds(self.scores(arm, column))
        return means[np.isfinite(means)].tolist()

    def described(self) -> list[dict[str, Any]]:
        return [
            {
                "id": p,
                "prompt": self.rows[p].get("prompt", ""),
                "category": self.rows[p].get("category") or "",
                "length_bin": length,
            }
            for p, length in zip(self.prompts, self.bins, strict=True)
        ]


def metric_columns(arms: Sequence[Arm]) -> list[str]:
    """The scores in the rows, in the registry's order, each metric's parts behind it."""
    rows = [row for arm in arms for row in arm.rows]
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if info(name)]
    scored = [name for name in names if any(is_number(row.get(name)) for row in rows)]
    order = list(METRICS)
    return sorted(scored, key=lambda name: (order.index(metric_of(name)), name != metric_of(name)))


def choose_primary(columns: list[str], asked: str | None, named: str | None) -> tuple[str | None, list[str]]:
    """The score that decides, and warnings. asked: now; named: before the run. Raises ConfigError if asked is none."""
    if asked is not None and info(asked) is None:
        raise ConfigError(f"metrics.primary={asked}: no such score. {nearest(asked, columns or METRICS)}")
    wanted = asked or named
    if wanted and columns and wanted not in columns:
        return None, [f"the primary metric {wanted} has no scores: all comparisons are exploratory"]
    warnings = []
    if asked and named and asked != named and columns:
        warnings.append(f"{named} was named the primary metric before the run; {asked}, taken now, was chosen after it")
    if not named and columns:
        warnings.append(f"no primary metric was named before the run; {asked or columns[0]} was taken after it")
    return (wanted if columns else None) or next(iter(columns), None), warnings


def describe_metric(arms: Sequence[Arm], column: str, primary: bool) -> dict[str, Any]:
    """A metric's entry: which way is better, what it says, how many pictures it has answered for."""
    rows = [row for arm in arms for row in arm.rows]
    values = [row.get(column) for row in rows]
    numbers = [v for v in values if is_number(v)]
    name = metric_of(column)
    entry = info(column)
    part = column.removeprefix(f"{name}_")
    cut = sum(bool(row.get(f"truncated_{name}")) for row in rows)
    return {
        "name": column,
        "direction": entry.direction,
        "primary": primary,
        "help": entry.help if column == name else f"{part}: part of {name} ({entry.help})",
        "identities": list(dict.fromkeys(str(row[k]) for row in rows if row.get(k := f"identity_{name}"))),
        "scored": sum(math.isfinite(v) for v in numbers),
        "missing": len(values) - len(numbers),
        "not_finite": sum(not math.isfinite(v) for v in numbers),
        "truncated": cut,
    }


def describe_arm(table: Table, arm: Arm, column: str, resamples: int) -> dict[str, Any]:
    """An arm's own mean: over prompts, each the mean of its seeds, with the interval clustered by prompt."""
    means = np.array(table.prompt_means(arm, column))
    return {
        "mean": float(means.mean()) if len(means) else None,
        "ci": list(statistics.mean_interval(means, resamples)),
        "n_prompts": len(means),
        "n_pictures": int(np.isfinite(table.scores(arm, column)).sum()),
        "sd_prompts": statistics.spread(means),
    }


def front(table: Table, column: str, costs: Costs) -> list[bool]:
    """Which arms no other beats in both a score and cost, all of them by the prompts that each has.

    Of arms that are complete: a half-drawn one would stand there by its prompts, or take all others' prompts away. No
    arm when all cost the same: the best mean alone is no trade.
    """
    whole = [arm for arm in table.arms if arm.status == "complete" and np.isfinite(table.scores(arm, column)).any()]
    means = effects.whole_prompts([table.scores(arm, column) for arm in whole]) if whole else np.zeros((0, 0))
    quality = {arm.id: mine.mean() for arm, mine in zip(whole, means, strict=True) if len(mine)}
    values = [quality.get(arm.id, math.nan) for arm in table.arms]
    levels = costs.levels([arm if arm.id in quality else None for arm in table.arms])
    if len({level for level in levels if math.isfinite(level)}) < 2:
        return [False] * len(levels)
    return effects.pareto(values, levels, info(column).direction)


def compare_all(
    table: Table, primary: str | None, resamples: int
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str], Pairs]]:
    """Every arm against the baseline on every metric: entries by arm and metric, and the pairs they were made from."""
    entries: dict[str, dict[str, Any]] = {arm.id: {} for arm in table.arms}
    found: dict[tuple[str, str], Pairs] = {}
    if table.base is None:
        return entries, found
    for arm in table.arms:
        for column in table.columns if arm is not table.base else ():
            scores = table.scores(table.base, column)
            pairs = pair(table.scores(arm, column), scores)
            if len(pairs.d) == 0:
                entries[arm.id][column] = not_compared(why_not(arm, table.base, column))
                continue
            found[arm.id, column] = pairs
            noise = math.nan if metric_of(column) in GROUPED else variance.seed_sd(scores)
            entry = compare(pairs, table.prompts, table.seeds, info(column).direction, noise, resamples)
            entries[arm.id][column] = entry | {"note": note_of(pairs, arm, table.base)}
    for exploratory in (False, True):
        family = {
            (arm, column): entry
            for arm, mine in entries.items()
            for column, entry in mine.items()
            if (column != primary) == exploratory
        }
        tested = [key for key in family if key in found]
        flip([family[key] for key in tested], [found[key].d for key in tested], resamples)
        judge(list(family.values()), [info(column).direction for _, column in family], exploratory)
    return entries, found


def describe_noise(table: Table, base: Arm, column: str, resamples: int) -> dict[str, Any]:
    """The A/A row: the baseline's later seeds against its earlier ones, and the tie band that follows."""
    scores = table.scores(base, column)
    entry = {"n_prompts": 0, "delta": None, "ci": None, "sd": None, "epsilon": None}
    if metric_of(column) in GROUPED:
        return entry | {"note": "a score of all seeds of a prompt together has no halves; only equal scores tie"}
    found = variance.against_itself(scores, resamples)
    if found is None:
        any_score = np.isfinite(scores).any()
        why = "one seed only: the noise of other seeds is not known, and only equal scores tie"
        return entry | {"note": why if any_score else "the baseline has no scores"}
    seeds = found.first + found.second
    epsilon = variance.tie_band(variance.seed_sd(scores), seeds, seeds)
    told = (
        f"the last {found.second} of the baseline's {seeds} seeds minus the first {found.first}; epsilon is the "
        f"standard deviation of a prompt's difference between two arms of {seeds} seeds each that differ in seeds alone"
    )
    if epsilon == 0:
        told = f"every seed of a prompt has the same score; {told}"
    return entry | {
        "n_prompts": found.prompts,
        "delta": found.delta,
        "ci": list(found.interval),
        "sd": found.sd,
        "epsilon": epsilon,
        "note": told,
    }


def describe_variance(table: Table, pairs: dict[tuple[str, str], Pairs], column: str) -> dict[str, Any]:
    """Shares of the variance of paired differences, averaged over arms, and what to draw more of."""
    nothing: dict[str, Any] = {"prompt": None, "seed": None, "residual": None, "advice": None, "note": None}
    mine = [p for (_, c), p in pairs.items() if c == column]
    each = [p.each for p in mine if p.each is not None]
    if not mine:
        return nothing | {"note": "no arm was compared"}
    if metric_of(column) in GROUPED:
        return nothing | {"note": "a score of all seeds of a prompt together: seeds cannot be told apart"}
    if not each:
        return nothing | {"note": "unpaired seeds: pairs of pictures are needed"}
    found = variance.components(each)
    if found is None:
        if max(len(p.d) for p in mine) < 2:
            return nothing | {"advice": "more prompts", "note": "one prompt only: prompts cannot be told from noise"}
        return nothing | {"advice": "more seeds", "note": "one seed only: prompt and seed cannot be told apart"}
    if found.total <= 0:
        return nothing | {"advice": variance.advice(found), "note": "identical: every difference is the same"}
    shares = {part: getattr(found, part) / found.total for part in ("prompt", "seed", "residual")}
    note = f"{many(len(each), 'arm')}, {found.prompts} prompts x {found.seeds} seeds each"
    if found.seed > 0 and found.seed_by_chance:
        note += "; the seeds' share is within chance"
    return shares | {"advice": variance.advice(found), "note": note, "total": found.total}


def slices(table: Table, pairs: dict[tuple[str, str], Pairs], resamples: int) -> list[dict[str, Any]]:
    """Every comparison again on the prompts of one category and of one length; nothing for a single category or length.

    Intervals only: subsets were not planned for and not corrected for, whatever their n.
    """
    groups = {"category": [table.rows[p].get("category") or "" for p in table.prompts], "length": table.bins}
    found = []
    for by, names in groups.items():
        values = [v for v in dict.fromkeys(names) if v]
        if len(values) < 2:
            continue
        if by == "length":
            values.sort(key=lambda v: int(v.split("-")[0].split()[0]))
        for value in values:
            inside = np.array([name == value for name in names])
            for (arm, column), p in pairs.items():
                d = p.d[inside[p.prompts]]
                if len(d):
                    entry = {"by": by, "value": value, "arm": arm, "metric": column}
                    found.append(entry | effects.slice_of(d, resamples))
    return found


def all_effects(
    table: Table,
    baselines: dict[str, dict[str, Any]],
    kind: Callable[..., list[dict[str, Any]]],
    resamples: int,
) -> list[dict[str, Any]]:
    """Effects of one kind in every sweep that is a full factorial, against the baseline's value of each axis."""
    found = []
    for name in dict.fromkeys(arm.sweep for arm in table.arms):
        mine = [arm for arm in table.arms if arm.sweep == name]
        if not effects.factorial(mine):
            continue
        reference = (baselines.get(name) or {}) | (table.base.axes if table.base and table.base.sweep == name else {})
        for column in table.columns:
            scores = [table.scores(arm, column) for arm in mine]
            entries = kind(mine, scores, reference, column, resamples)
            found += [entry | {"sweep": name} for entry in entries]
    return found


def plain(value: Any) -> Any:
    """The same value of JSON's own types: numpy's numbers as Python's, NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
