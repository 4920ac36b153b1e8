"""Arms of made-up scores to analyse, and their analysis."""

from __future__ import annotations

import json

from llm_dit.study.evidence.analysis import analyse_arms
from llm_dit.study.evidence.arms import Arm, name_apart

VERSUS = {
    "n_prompts", "n_pairs", "delta", "se", "d_z", "ci", "ci_unpaired", "wins", "ties", "losses", "win_rate", "win_ci",
    "epsilon", "p", "p_holm", "p_bh", "p_wilcoxon", "mde", "exploratory", "verdict", "note", "best", "worst",
}  # fmt: skip


def rows(scores, seeds=(0, 1, 2), size=128, **more):
    """Rows of one cell. scores: {column: matrix (prompts, seeds)}."""
    count = len(next(iter(scores.values())))
    return [
        {
            "prompt_id": f"p{i:02}",
            "prompt": f"prompt {i}",
            "category": "odd" if i % 2 else "even",
            "seed": seed,
            "width": size,
            "height": size,
            "nfe": 24,
            "seconds": 0.5,
            "token_count": 10 + i,
            **{name: matrix[i][j] for name, matrix in scores.items()},
            **more,
        }
        for i in range(count)
        for j, seed in enumerate(seeds)
    ]


def arm(number, scores, sweep="s", **more):
    fields = {key: more.pop(key) for key in ("status", "error", "asked") if key in more}
    if not isinstance(scores, dict):
        scores = {"nano_judge": scores}
    return Arm(f"cell{number}", {"layer": number}, sweep, f"cell{number}", rows=rows(scores, **more), **fields)


def study(*arms, resamples=2000, **more):
    """analyse_arms with few resamples, the first arm as baseline; the result must be JSON."""
    options = {key: more.pop(key) for key in ("primary", "baseline") if key in more}
    judged = any("nano_judge" in row for a in arms for row in a.rows)
    named = {"primary": "nano_judge"} if judged else {}
    sweep = {"name": "s", "question": "Which?", "axes": ["layer"]} | named | more
    name_apart(arms)
    found = analyse_arms(arms, sweep, resamples=resamples, **options)
    json.dumps(found, allow_nan=False)
    return found


def versus(found, number=1, metric="nano_judge"):
    return found["arms"][number]["versus"][metric]
