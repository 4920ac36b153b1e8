"""The page of a sweep: what it shows is gathered here, how it shows it is in page.html, style.css and the scripts.

Everything the page needs is inside it: style and scripts under a content security policy that knows them by their hash
and allows no network at all, numbers and small pictures as JSON blocks, which no browser runs. Full pictures are read
from the sweep's folder, by their path relative to the page.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ImageError
from llm_dit.base.files import write_whole
from llm_dit.base.paths import whole_command
from llm_dit.config import Config, get, parameters, value_at
from llm_dit.images.read import read_picture
from llm_dit.metrics.registry import metric_of
from llm_dit.study.store import CellFolder, SweepFolder
from llm_dit.study.table import rows

# One script in this order; each file may use what stands before it, and main.js starts the page.
SCRIPTS = (
    "dom.js",
    "format.js",
    "data.js",
    "figure.js",
    "summary.js",
    "arms.js",
    "plots.js",
    "pareto.js",
    "versus.js",
    "noise.js",
    "fields.js",
    "grid.js",
    "tiles.js",
    "moves.js",
    "compare.js",
    "viewer.js",
    "method.js",
    "main.js",
)
THUMBNAILS_IN_A_BLOCK = 50
WEBP_QUALITY = 80
# What of a row the page shows under a picture's name, beside its scores.
FACTS = ("width", "height", "nfe", "seconds", "shift", "token_count", "padded_length", "device", "dtype")


def write_report(
    analysis: dict[str, Any], pictures: list[dict[str, Any]], target: Path, *, facts: dict[str, Any] | None = None
) -> Path:
    """Write the page, whole, and return its path. facts: what provenance() found, for the page's last part."""
    source = resources.files("llm_dit.study.report")
    style = source.joinpath("style.css").read_text(encoding="utf-8")
    modules = "\n".join(source.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{modules}\n}})();'
    thumbnails = [p.get("thumb") for p in pictures]
    data = {
        "analysis": analysis,
        "facts": facts or {},
        "command": whole_command(),
        # The small pictures stand apart, in blocks that are parsed only when one of them is looked at.
        "pictures": [{k: v for k, v in p.items() if k != "thumb"} | {"thumb": bool(p.get("thumb"))} for p in pictures],
        "block": THUMBNAILS_IN_A_BLOCK,
    }
    blocks = [thumbnails[i : i + THUMBNAILS_IN_A_BLOCK] for i in range(0, len(thumbnails), THUMBNAILS_IN_A_BLOCK)]
    parts = {
        "policy": content_policy(style, script),
        "title": html.escape(str(analysis.get("name") or "sweep")),
        "question": html.escape(str(analysis.get("question") or analysis.get("name") or "Sweep")),
        "style": style,
        "script": script,
        "data": as_json(data),
        "thumbnails": "\n".join(
            f'<script type="application/json" class="thumbs">{as_json(b)}</script>' for b in blocks
        ),
    }
    page = source.joinpath("page.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], page)  # in one pass: a prompt may hold {{data}} itself
    write_whole({target: page.encode()})
    return target


def content_policy(style: str, script: str) -> str:
    """The policy of the page: its own style and script by their hash, pictures from disk, and nothing else.

    Hashes hold for file:// too, where 'self' means nothing; 'self' is for a page that is served after all.
    """

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'sha256-{digest(script)}'",
            f"style-src 'sha256-{digest(style)}'",
            "img-src data: file: 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def as_json(value: Any) -> str:
    """JSON that stands safely inside a script element: no '<' at all, and null for what is not finite."""
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def finite(value: Any) -> Any:
    """The same value with None in place of NaN and infinities, and seeds too large for JavaScript as text."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) >= 2**53:
        return str(value)
    return value


def collect_pictures(
    folders: Sequence[SweepFolder | Path],
    analysis: dict[str, Any],
    *,
    thumbnail_size: int = 256,
    max_pictures: int = 4000,
) -> list[dict[str, Any]]:
    """One entry a picture of the analysis' arms, paths relative to the first folder, where the report goes.

    Small pictures are embedded for the first max_pictures: the best and worst pairs, then every prompt of every arm
    with its first seed, and so on.
    A picture that a finished cell once drew and whose file is gone, or cannot be read, has missing=True.
    """
    sweeps = [f if isinstance(f, SweepFolder) else SweepFolder(Path(f)) for f in folders]
    base = sweeps[0].path
    names = [m["name"] for m in analysis.get("metrics", [])]
    order = {arm["id"]: i for i, arm in enumerate(analysis.get("arms", []))}
    known = arms_by_cell(analysis)
    prompts = {p["id"]: i for i, p in enumerate(analysis.get("prompts", []))}
    pictures: list[dict[str, Any]] = []
    for sweep in sweeps:
        drawn: dict[str, list[dict[str, Any]]] = {}
        for row in rows(sweep):
            drawn.setdefault(row["cell"], []).append(row)
        for cell in sweep.cells():
            arm = known.get((sweep.path.name, cell.id), known.get((None, cell.id)))
            if arm is None:
                continue
            found = [entry_of(row, arm, sweep, base, names) for row in drawn.get(cell.id, [])]
            have = {(p["prompt_id"], p["seed"]) for p in found}
            gone = [(p, s) for p, s in asked_of(cell) if (p, s) not in have and p in prompts]
            pictures += found + [absent(arm, prompt, seed) for prompt, seed in gone]
    pictures = [p for p in pictures if p["prompt_id"] in prompts]
    seeds = {s: i for i, s in enumerate(dict.fromkeys(p["seed"] for p in pictures))}
    # The order in which a grid of prompts and arms first shows them.
    pictures.sort(key=lambda p: (seeds[p["seed"]], prompts[p["prompt_id"]], order[p["arm"]]))
    shown = pairs_of(analysis)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # reading and packing leave Python's lock alone
        there = [p for p in pictures if not p["missing"]]
        there.sort(key=lambda p: (p["arm"], p["prompt_id"], p["seed"]) not in shown)
        embedded = there[:max_pictures]
        for entry, small in zip(
            embedded, pool.map(lambda p: thumbnail(base / p["path"], thumbnail_size), embedded), strict=True
        ):
            entry["thumb"] = small
            entry["missing"] = small is None
    return pictures


def pairs_of(analysis: dict[str, Any]) -> set[tuple[str, str, int]]:
    """(arm, prompt id, seed) of the best and worst pairs on the primary metric, which the page shows by themselves."""
    found = set()
    for arm in analysis.get("arms", []):
        entry = arm.get("versus", {}).get(analysis.get("primary")) or {}
        for one in [*(entry.get("best") or []), *(entry.get("worst") or [])]:
            found.add((arm["id"], one["prompt_id"], one["seed"]))
            found.add((analysis["baseline"], one["prompt_id"], one.get("seed_baseline", one["seed"])))
    return found


def arms_by_cell(analysis: dict[str, Any]) -> dict[tuple[str | None, str], str]:
    """The ids of arms by sweep and cell. An arm that names no cell is its id's, CELL or SWEEP/CELL."""
    found: dict[tuple[str | None, str], str] = {}
    for arm in analysis.get("arms", []):
        for cell in (arm.get("cell"), arm["id"].rsplit("/", 1)[-1]):
            if cell:
                found.setdefault((arm.get("sweep"), cell), arm["id"])
    return found


def entry_of(row: dict[str, Any], arm: str, sweep: SweepFolder, base: Path, names: Iterable[str]) -> dict[str, Any]:
    """A row of the table as the page reads it."""
    return {
        "arm": arm,
        "prompt_id": row["prompt_id"],
        "seed": row["seed"],
        "path": Path(os.path.relpath(sweep.path / row["path"], base)).as_posix(),
        **{k: row.get(k) for k in FACTS},
        "pixels": str(row.get("pixels_sha256") or "")[:16],
        "scores": {m: row.get(m) for m in names},
        "truncated": [m for m in names if row.get(f"truncated_{metric_of(m)}")],
        "missing": False,
        "thumb": None,
    }


def absent(arm: str, prompt: str, seed: int) -> dict[str, Any]:
    """The entry of a picture that was drawn and is gone."""
    entry = {"arm": arm, "prompt_id": prompt, "seed": seed, "path": None, "scores": {}, "truncated": []}
    return entry | dict.fromkeys(FACTS) | {"pixels": "", "missing": True, "thumb": None}


def asked_of(cell: CellFolder) -> list[tuple[str, int]]:
    """Prompt and seed of every picture that a finished cell drew; none for a cell that is not finished."""
    done = cell.read("cell.json") or {}
    return [(p, s) for p in done.get("prompts", []) for s in done.get("seeds", [])]


def thumbnail(path: Path, size: int) -> str | None:
    """The picture as WebP in a data URI, its longest side at most size, never enlarged; None if it cannot be read."""
    try:
        image = read_picture(path)
    except ImageError:
        return None
    image.thumbnail((size, size))
    data = io.BytesIO()
    image.save(data, "WEBP", quality=WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def provenance(folders: Sequence[SweepFolder | Path]) -> dict[str, Any]:
    """What the pictures were drawn with: settings that all cells share, versions, devices, weights, the commands.

    Settings are those that can change a picture; changed says which of them are not the default.
    """
    sweeps = [f if isinstance(f, SweepFolder) else SweepFolder(Path(f)) for f in folders]
    default = Config()
    keys = ["model.name", "prompts.set", "seeds", *(p.key for p in parameters() if p.rule.image)]
    values: dict[str, list[Any]] = {}
    versions: dict[str, list[str]] = {}
    devices, weights, tables = [], [], []
    for sweep in sweeps:
        table = rows(sweep)
        tables += table
        for row in {row["cell"]: row for row in table}.values():  # one picture of a cell speaks for it
            devices.append(f"{row['device']}, {row['dtype']}")
            weights.append(f"{row['model']}, transformer {row['transformer_fingerprint']}")
            for key in row:
                if key.startswith("version_"):
                    versions.setdefault(key.removeprefix("version_"), []).append(str(row[key]))
        for cell in sweep.cells():
            config = (cell.read("cell.json") or {}).get("config")
            for key in keys if config else ():
                if holds(config, key):  # a record of an earlier version knows no setting that came after it
                    values.setdefault(key, []).append(value_at(config, key))
    shared = {k: v[0] for k, v in values.items() if all(x == v[0] for x in v)}
    shared = {k: v for k, v in shared.items() if k not in ("prompt.text", "seed", "from_image")}
    changed = [k for k, v in shared.items() if v != _plain(get(default, k))]
    return {
        "settings": shared,
        "changed": changed,
        "versions": {k: list(dict.fromkeys(v)) for k, v in versions.items()},
        "devices": list(dict.fromkeys(devices)),
        "weights": list(dict.fromkeys(weights)),
        "sweeps": [
            {
                "name": s.path.name,
                "question": s.read().get("question"),
                "arguments": shlex.join((s.read().get("runs") or [{}])[-1].get("arguments", [])),
            }
            for s in sweeps
        ],
        "pictures": len(tables),
    }


def holds(values: dict[str, Any], key: str) -> bool:
    """Whether nested dicts have a dotted key at all."""
    *groups, leaf = key.split(".")
    return leaf in ((value_at(values, ".".join(groups)) if groups else values) or {})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
