"""Speed of a single render, as ratios taken in one run, the two sides interleaved:

    uv run python experiments/bench/render.py

warm: our render() against diffusers' ZImagePipeline on the same nano weights and embeddings, one process.
      Not above 1.0 is the aim.
cold: `experiments/run.py "..."` from process start to picture against plain_script.py. Not above 1.25 is the aim.
--help and a config error: seconds to their answer. Not above 2 s is the aim.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pairs import paired, seconds

HERE = Path(__file__).resolve().parent
RUN = HERE.parent / "run.py"
PROMPT = "a red apple, 3d style, blue background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm", type=int, default=30, help="pairs of warm renders")
    parser.add_argument("--cold", type=int, default=5, help="pairs of cold starts")
    arguments = parser.parse_args()
    bench_answers()
    bench_cold(arguments.cold)
    bench_warm(arguments.warm)


def report(name: str, ours: list[float], theirs: list[float]) -> None:
    """Medians, and the median of the pairs' ratios with its range."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"{name}: ours {statistics.median(ours):.3f} s, theirs {statistics.median(theirs):.3f} s, "
        f"ratio {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f}, n {len(ratios)})"
    )


def alternate(pairs: int, ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Wall seconds of both sides, each going first in turn, after one untimed round."""
    times = paired(pairs, ours, theirs, time.perf_counter)
    return [a for a, _ in times], [b for _, b in times]


def bench_warm(pairs: int) -> None:
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
    from diffusers.models.transformers.transformer_z_image import RopeEmbedder

    from llm_dit.compose import compose
    from llm_dit.render.draw import prepare, render

    config = compose([PROMPT, "hardware=cpu"])
    run = prepare(config)
    transformer = run.models.transformer
    stock = RopeEmbedder(transformer.rope_theta, transformer.axes_dims, transformer.axes_lens)
    pipe = ZImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=run.models.shift), run.models.vae, None, None, transformer
    )
    pipe.set_progress_bar_config(disable=True)
    call = {
        "prompt_embeds": [run.positive.embeds],
        "negative_prompt_embeds": [run.negative.embeds] if run.negative else None,
        "guidance_scale": config.guidance.guidance_scale,
        "num_inference_steps": config.sampler.steps,
        "height": run.size[0],
        "width": run.size[1],
    }

    def theirs() -> object:
        computed, transformer.rope_embedder = transformer.rope_embedder, stock
        try:
            return pipe(**call, generator=torch.Generator().manual_seed(0)).images[0]
        finally:
            transformer.rope_embedder = computed

    report("warm render against ZImagePipeline", *alternate(pairs, lambda: render(config), theirs))


def bench_cold(pairs: int) -> None:
    from llm_dit.compose import compose
    from llm_dit.weights.schedule import load_shift

    config = compose([])
    shift = config.sampler.shift or load_shift(config.model)
    numbers = [config.sampler.steps, shift, config.guidance.guidance_scale, config.encoder_layer.index]
    with tempfile.TemporaryDirectory() as folder:
        plain = [HERE / "plain_script.py", Path(folder) / "plain.png", *map(str, numbers)]
        ours = [RUN, PROMPT, f"output.dir={folder}", "output.name=ours"]
        report(
            "cold start to picture against a plain script",
            *alternate(pairs, lambda: python(*ours), lambda: python(*plain)),
        )
        compare(Path(folder) / "ours.png", Path(folder) / "plain.png")


def bench_answers() -> None:
    for name, arguments in (("--help", ["--help"]), ("a config error", [PROMPT, "seeed=3"])):
        times = [seconds(lambda a=arguments: python(RUN, *a, fails=a != ["--help"])) for _ in range(5)]
        print(f"{name}: median {statistics.median(times):.2f} s, max {max(times):.2f} s")


def python(*arguments: object, fails: bool = False) -> None:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    if (done.returncode != 0) != fails:
        sys.exit(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-500:]}")


def compare(ours: Path, plain: Path) -> None:
    """Both sides must have drawn the same picture, or the times compare nothing."""
    import numpy as np
    from PIL import Image

    a, b = (np.asarray(Image.open(p)).astype(int) for p in (ours, plain))
    worst = abs(a - b).max()
    if worst > 2:
        sys.exit(f"the pictures differ by up to {worst} of 255")


if __name__ == "__main__":
    main()
