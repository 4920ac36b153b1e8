"""An analysis to show, as study/evidence/analysis.py makes it, and a look at the page that shows it."""

from __future__ import annotations

import base64
import io
import itertools
import random
from pathlib import Path

from PIL import Image


def made(
    axes: dict | None = None,
    *,
    prompts: int = 24,
    seeds: int = 2,
    metrics: tuple[str, ...] = ("nano_judge", "sharpness"),
    baseline: bool = True,
    sweeps: tuple[str, ...] = ("demo",),
    status: str = "complete",
) -> tuple[dict, list[dict]]:
    """An analysis and its pictures. Numbers follow the arm's place, so that the order of rows is known."""
    axes = {"encoder_layer.index": [-2, -6, -12]} if axes is None else axes
    dice = random.Random(0)
    texts = [{"id": f"p{i}", "prompt": f"a thing, number {i}", "category": ("odd", "even")[i % 2], "length_bin": "10"}
             for i in range(prompts)]  # fmt: skip
    arms = []
    for sweep, values in itertools.product(sweeps, itertools.product(*axes.values())):
        place = dict(zip(axes, values, strict=True))
        label = ", ".join(f"{k}={v}" for k, v in place.items())
        n = len(arms)
        arms.append(
            {
                "id": f"c{n}", "cell": f"c{n}", "label": label if len(sweeps) == 1 else f"{label} ({sweep})",
                "axes": place, "sweep": sweep, "status": "complete", "error": None,
                "is_baseline": baseline and n == 0, "pictures": prompts * seeds, "missing": 0,
                "nfe": 8.0 + n, "seconds": 0.5 + 0.1 * n, "pareto": n < 2,
                "metrics": {m: arm_metric(n, prompts, seeds) for m in metrics},
                "versus": {m: versus(n, texts, m == metrics[0]) for m in metrics} if baseline and n else {},
            }
        )  # fmt: skip
    pictures = [
        {
            "arm": arm["id"], "prompt_id": text["id"], "seed": seed,
            "path": f"cells/{arm['id']}/images/{text['id']}_s{seed}.png",
            "thumb": small(n, i, seed), "width": 128, "height": 128, "nfe": 8, "seconds": 0.5, "shift": 2.0,
            "token_count": 12, "padded_length": 32, "device": "cpu", "dtype": "float32", "pixels": f"{n}-{i}-{seed}",
            "scores": {m: round(0.9 - 0.1 * n + dice.gauss(0, 0.02), 4) for m in metrics},
            "truncated": [], "missing": False,
        }
        for seed in range(seeds) for i, text in enumerate(texts) for n, arm in enumerate(arms)
    ]  # fmt: skip
    compared = [(a["id"], m) for a in arms[1:] for m in metrics] if baseline else []
    analysis = {
        "name": "demo", "question": "Which layer does the picture need?", "generated": "2026-01-02T03:04:05+0000",
        "status": status, "primary": metrics[0] if metrics else None, "axes": list(axes),
        "baseline": "c0" if baseline and arms else None, "prompts": texts, "arms": arms,
        "metrics": [
            {"name": m, "direction": "none" if m == "sharpness" else "higher", "primary": i == 0, "help": f"about {m}",
             "identities": [f"{m}/1"], "scored": len(pictures), "missing": 0, "not_finite": 0, "truncated": 0}
            for i, m in enumerate(metrics)
        ],
        "aa": {m: {"n_prompts": prompts, "delta": 0.002, "ci": [-0.01, 0.014], "sd": 0.02, "epsilon": 0.01}
               for m in metrics if baseline},
        "variance": {m: {"prompt": 0.2, "seed": 0.1, "residual": 0.7, "advice": "more prompts"} for m in metrics},
        "slices": [{"by": "category", "value": v, "n_prompts": prompts // 2, "arm": a, "metric": m, "delta": -0.1,
                    "ci": [-0.2, 0.01], "note": None} for a, m in compared for v in ("odd", "even")],
        "effects": [{"axis": axis, "value": v, "metric": m, "n_prompts": prompts, "mean": 0.8,
                     "delta_from_first": -0.1 * i, "ci": [-0.1 * i - 0.02, -0.1 * i + 0.02]}
                    for axis in axes for i, v in enumerate(axes[axis]) for m in metrics if len(axes) > 1],
        "interactions": [{"axes": list(axes)[:2], "values": [8, 2.0], "references": [4, 1.0], "metric": m,
                          "delta": 0.01, "ci": [-0.01, 0.03], "n_prompts": prompts} for m in metrics if len(axes) > 1],
        "warnings": [],
    }  # fmt: skip
    return analysis, pictures


def arm_metric(n: int, prompts: int, seeds: int) -> dict:
    mean = 0.9 - 0.1 * n
    return {
        "mean": mean, "ci": [mean - 0.03, mean + 0.03], "n_prompts": prompts,
        "n_pictures": prompts * seeds, "sd_prompts": 0.1, "pareto": n < 2,
    }  # fmt: skip


def versus(n: int, texts: list[dict], primary: bool) -> dict:
    told = "worse" if n > 1 else "no difference seen"
    pairs = [{"prompt_id": t["id"], "seed": 0, "d": -0.01 * (i + 1)} for i, t in enumerate(texts[:8])]
    return {
        "n_prompts": len(texts), "n_pairs": 2 * len(texts), "delta": -0.1 * n, "se": 0.01, "d_z": -1.0,
        "ci": [-0.1 * n - 0.02, -0.1 * n + 0.02], "ci_unpaired": [-0.1 * n - 0.05, -0.1 * n + 0.05],
        "wins": 3, "ties": 2, "losses": len(texts) - 5, "win_rate": 0.2, "win_ci": [0.1, 0.4], "epsilon": 0.01,
        "p": 0.004, "p_holm": 0.01 * n if primary else None, "p_bh": None if primary else 0.02, "p_wilcoxon": 0.003,
        "mde": 0.021, "exploratory": not primary, "verdict": told, "note": None, "best": pairs, "worst": pairs[::-1],
    }  # fmt: skip


def small(arm: int, prompt: int, seed: int) -> str:
    """A picture of one colour, which says whose it is."""
    return as_uri(Image.new("RGB", (16, 16), colour(arm, prompt, seed)))


def colour(arm: int, prompt: int, seed: int) -> tuple[int, int, int]:
    return (30 + 50 * (arm % 5), 20 + 9 * (prompt % 25), 40 + 60 * (seed % 4))


_known: dict[tuple, str] = {}


def as_uri(image: Image.Image) -> str:
    key = image.getpixel((0, 0))
    if key not in _known:
        data = io.BytesIO()
        image.save(data, "WEBP", lossless=True)
        _known[key] = "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
    return _known[key]


def draw_files(folder: Path, pictures: list[dict], keep=lambda p: True) -> None:
    """The full pictures, where the entries say they are."""
    for p in pictures:
        if p["path"] and keep(p):
            target = folder / p["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            arm, prompt = int(p["arm"][1:]), int(p["prompt_id"][1:])
            Image.new("RGB", (64, 64), colour(arm, prompt, p["seed"])).save(target)


def text(page, selector: str) -> str:
    return page.locator(selector).first.inner_text()


def pixel(page, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[int, ...]:
    """The colour at a place of an element, as it is on the screen."""
    image = Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")
    return image.getpixel((int(x * (image.width - 1)), int(y * (image.height - 1))))


def near(a, b, most: int = 4) -> bool:
    return all(abs(x - y) <= most for x, y in zip(a, b, strict=True))
