"""What a reader has to know beside the numbers: the warnings of a report, the note of a comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from llm_dit.metrics.registry import METRICS
from llm_dit.study.axes import is_number
from llm_dit.study.evidence.arms import Arm
from llm_dit.study.evidence.effects import factorial
from llm_dit.study.evidence.statistics import MIN_PROMPTS
from llm_dit.study.evidence.versus import Pairs

WEIGHTS = ("path", "revision", "transformer_file", "text_encoder")  # of config.model, what says which weights are meant
NAMED = 4  # arms of one kind of weights that are named


def warnings_of(
    arms: Sequence[Arm], base: Arm | None, analysis: dict[str, Any], searches: Sequence[str] = ()
) -> list[str]:
    """What a reader has to know before any number, in one line each. searches: sweeps whose arms a search chose."""
    told, prompts, metrics = [], analysis["prompts"], analysis["metrics"]
    for arm in arms:
        if arm.status == "failed":
            told.append(f"1 cell failed: {arm.label}: {arm.error}")
    waiting = sum(arm.status == "unfinished" for arm in arms)
    if waiting:
        told.append(
            f"{waiting} of {len(arms)} cells are not finished: p-values and intervals hold for the whole sweep, "
            "and looking again and again makes chance findings likely"
        )
    gone = sum(max(0, (arm.asked or 0) - len(arm.rows)) for arm in arms if arm.status == "complete")
    if gone:
        told.append(
            f"{many(gone, 'picture')} {'is' if gone == 1 else 'are'} missing: drawn once, and the files are gone"
        )
    if not prompts:
        return [*told, "there are no pictures yet"]
    if not metrics:
        told.append("no scores: arms are told by their cost alone (metrics=... and task=score add scores)")
    for metric in metrics:
        if metric["missing"] + metric["not_finite"]:
            told.append(
                f"{metric['name']}: {many(metric['missing'], 'picture')} without a score, {metric['not_finite']} not "
                "finite; only pairs of scores are compared"
            )
        if len(metric["identities"]) > 1 and metric["name"] in METRICS:
            told.append(f"{metric['name']}: scores of {len(metric['identities'])} versions are mixed: score again")
        if metric["truncated"] and metric["name"] in METRICS:
            told.append(
                f"{metric['name']}: {many(metric['truncated'], 'picture')} scored with a prompt cut to what it reads"
            )
    told += [
        f"the arms of {name} were chosen by the score they are compared on: the best of many is partly lucky; draw the "
        "winner again on fresh prompts"
        for name in searches
    ]
    told += mixed_weights(arms)
    for name in dict.fromkeys(arm.sweep for arm in arms):
        mine = [arm for arm in arms if arm.sweep == name]
        empty = sum(not arm.rows for arm in mine)
        if metrics and empty and factorial(mine):
            told.append(f"main effects are left out: {many(empty, 'combination')} of the axes without pictures")
    compared = max((entry["n_prompts"] for arm in analysis["arms"] for entry in arm["versus"].values()), default=0)
    if len(prompts) == 1:
        told.append("one prompt only: nothing can be said of other prompts")
    elif 0 < compared < MIN_PROMPTS:
        told.append(f"{compared} prompts are compared: under {MIN_PROMPTS} there is no p-value and no verdict")
    if base and base.rows and len(base.seeds) == 1:
        told.append("one seed only: the noise of other seeds is not known")
    sizes = Counter((row.get("width"), row.get("height")) for arm in arms for row in arm.rows)
    if len(sizes) > 1:
        listed = ", ".join(f"{w} x {h}" for w, h in sizes)
        told.append(f"noise differs between arms of different size ({listed}): equal seeds do not pair their noise")
    texts = {(row["prompt_id"], row.get("prompt")) for arm in arms for row in arm.rows}
    if len(texts) > len(prompts):
        told.append("prompts of one id have different texts in different arms; they are paired by id")
    return told


def mixed_weights(arms: Sequence[Arm]) -> list[str]:
    """One line for each part of a model, asked for in the same way by several arms, whose weights were not the same."""
    drawn = [arm for arm in arms if arm.rows]
    columns = dict.fromkeys(key for arm in drawn for key in arm.rows[0] if key.endswith("_fingerprint"))
    told = []
    for column in columns:
        models: dict[tuple[Any, ...], dict[str, dict[str, None]]] = {}
        for arm in drawn:
            asked = tuple(arm.model.get(key) for key in WEIGHTS)
            for row in arm.rows:
                if row.get(column):
                    known = models.setdefault((row.get("model"), *asked), {})
                    known.setdefault(row[column], {})[arm.label] = None
        for (name, *_), known in models.items():
            if len(known) > 1:
                groups = " | ".join(named(list(labels)) for labels in known.values())
                part = column.removesuffix("_fingerprint").replace("_", " ")
                told.append(
                    f"arms were drawn with different weights of {name} ({part}): {groups}; a difference between these "
                    "groups may be of the weights"
                )
    return told


def named(labels: Sequence[str]) -> str:
    """'a, b, c, d and 3 more'."""
    rest = len(labels) - NAMED
    return ", ".join(labels[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def note_of(pairs: Pairs, arm: Arm, base: Arm) -> str | None:
    """What a reader has to know of one comparison."""
    told = []
    mine, theirs = ({(r["prompt_id"], r["seed"]): r for r in a.rows} for a in (arm, base))
    shared = mine.keys() & theirs.keys()
    if shared and all(
        mine[k].get("pixels_sha256") and mine[k]["pixels_sha256"] == theirs[k].get("pixels_sha256") for k in shared
    ):
        told.append("identical: the pictures of both arms are the same")
    elif not pairs.d.any():
        told.append("identical: every difference is 0")
    if pairs.each is None:
        told.append(
            "unpaired seeds: no prompt has one in both arms, so prompts are paired over means of different seeds"
        )
    elif any((mine[k].get("width"), mine[k].get("height")) != (theirs[k].get("width"), theirs[k].get("height"))
             for k in shared):  # fmt: skip
        told.append("unpaired noise: the pictures differ in size, so one seed is not one noise")
    if any(mine[k].get("prompt") != theirs[k].get("prompt") for k in shared):
        told.append("the texts of prompts with the same id differ")
    if pairs.left_out:
        told.append(f"{pairs.left_out} scores without a partner are left out")
    return "; ".join(told) or None


def why_not(arm: Arm, base: Arm, column: str) -> str:
    """Why two arms have nothing to compare."""
    if arm.status == "failed" and not arm.rows:
        return "the cell failed"
    for who in (arm, base):
        name = "the baseline" if who is base else "the arm"
        if not who.rows:
            return f"{name} has no pictures"
        if not any(is_number(row.get(column)) for row in who.rows):
            return f"{name} has no scores"
    return "no prompt has a score in both arms"


def many(number: int, what: str) -> str:
    """'1 arm', '2 arms'."""
    return f"{number} {what}{'' if number == 1 else 's'}"
