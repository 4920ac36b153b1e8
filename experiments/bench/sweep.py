"""Overhead of a sweep, as ratios taken in one run, the sides interleaved:

    uv run python experiments/bench/sweep.py [--cells 24] [--seeds 4] [--rounds 3]

ours      a sweep of nano: cells x 1 prompt x seeds, model loading aside; plan, pictures, records, table, grid and
          report included
bare      the sum of its transformer forwards and VAE decodes, called in a loop with nothing around them.
          ours / bare not above 1.10 is the aim.
loop      the same pictures by diffusers' ZImagePipeline in one process, saved as PNG
separate  one process a cell (run.py without -m): one cell a round, scaled up
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from pairs import seconds

RUN = Path(__file__).resolve().parents[1] / "run.py"
PROMPT = "a red apple, 3d style, blue background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=24, help="a multiple of 4")
    parser.add_argument("--seeds", type=int, default=4, help="pictures a cell")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    # Layers cost an encoding, scales nothing: both kinds of axes are in it.
    layers = [-2, -3, -4, -6]
    scales = [1.0 + 0.25 * i for i in range(arguments.cells // len(layers))]
    seeds = list(range(arguments.seeds))
    grid = (layers, scales, seeds)
    sides = {"ours": Sweep(*grid), "bare": Bare(*grid), "loop": Loop(*grid), "separate": Separate(*grid)}
    for name in ("ours", "bare", "loop"):
        sides[name]()  # loads what it needs, untimed
    cells = len(layers) * len(scales)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(arguments.rounds):
        for name in list(sides) if turn % 2 == 0 else list(reversed(sides)):
            times[name].append(seconds(sides[name]) * (cells if name == "separate" else 1))
    for other in ("bare", "loop", "separate"):
        ratios = [a / b for a, b in zip(times["ours"], times[other], strict=True)]
        print(
            f"{cells} cells x {len(seeds)} pictures against {other}: ours {statistics.median(times['ours']):.2f} s, "
            f"{other} {statistics.median(times[other]):.2f} s, ratio {statistics.median(ratios):.3f} "
            f"(min {min(ratios):.3f}, max {max(ratios):.3f}, n {len(ratios)})"
        )


class Sweep:
    """run.py -m in this process, into a new folder each time."""

    def __init__(self, layers: list[int], scales: list[float], seeds: list[int]):
        self.axes = ["encoder_layer.index=" + ",".join(map(str, layers))]
        self.axes.append("guidance.guidance_scale=" + ",".join(map(str, scales)))
        self.axes.append(f"seeds={seeds}".replace(" ", ""))

    def __call__(self) -> None:
        from llm_dit.cli.command import main as run
        from llm_dit.conditioning.encode import _known

        _known.clear()
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as quiet, redirect_stdout(quiet):
            code = run(["-m", PROMPT, *self.axes, "hardware=cpu", "tracker=none", f"sweep.dir={folder}"])
        if code:
            sys.exit(f"the sweep ended with {code}")


class Bare:
    """Its forwards and decodes alone: embeddings and noise are ready, nothing is kept."""

    def __init__(self, layers: list[int], scales: list[float], seeds: list[int]):
        import torch

        from llm_dit.compose import compose
        from llm_dit.render.draw import first_latents, prepare

        self.runs = [prepare(compose([PROMPT, "hardware=cpu", f"encoder_layer.index={layer}"])) for layer in layers]
        self.cells = [(run, first_latents(run, [seed])) for run in self.runs for _ in scales for seed in seeds]
        self.torch = torch

    def __call__(self) -> None:
        for run, x in self.cells:
            captions = [run.positive.embeds, run.negative.embeds]
            with self.torch.inference_mode():
                for sigma in run.sigmas[:-1]:
                    time_ = self.torch.full((2,), 1 - sigma)
                    run.models.transformer([x[0].unsqueeze(1)] * 2, time_, captions, return_dict=False)
                run.models.vae.decode(x, return_dict=False)


class Loop:
    """A plain loop over diffusers' pipeline that saves PNGs; embeddings are ready."""

    def __init__(self, layers: list[int], scales: list[float], seeds: list[int]):
        from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

        self.bare, self.scales, self.seeds = Bare(layers, scales, seeds), scales, seeds
        models = self.bare.runs[0].models
        scheduler = FlowMatchEulerDiscreteScheduler(shift=models.shift)
        self.pipe = ZImagePipeline(scheduler, models.vae, None, None, models.transformer)
        self.pipe.set_progress_bar_config(disable=True)

    def __call__(self) -> None:
        import torch

        with tempfile.TemporaryDirectory() as folder:
            for r, run in enumerate(self.bare.runs):
                for scale, seed in itertools.product(self.scales, self.seeds):
                    image = self.pipe(
                        prompt_embeds=[run.positive.embeds],
                        negative_prompt_embeds=[run.negative.embeds],
                        guidance_scale=scale,
                        num_inference_steps=len(run.sigmas) - 1,
                        height=run.size[0],
                        width=run.size[1],
                        generator=torch.Generator().manual_seed(seed),
                    ).images[0]
                    image.save(Path(folder) / f"{r}_{scale}_{seed}.png")


class Separate:
    """One cell as a process of its own."""

    def __init__(self, layers: list[int], scales: list[float], seeds: list[int]):
        self.settings = [f"seeds={seeds}".replace(" ", ""), f"guidance.guidance_scale={scales[0]}"]

    def __call__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, RUN, PROMPT, "hardware=cpu", *self.settings, f"output.dir={folder}"]
            subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
