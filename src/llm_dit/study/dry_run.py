"""A dry run: the cells, the pictures left to draw, and what they will take, without loading a model."""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import replace

from llm_dit.base.errors import ModelError, RecordError
from llm_dit.config import Config
from llm_dit.diffusion.guidance import forwards_at, zero_init_above
from llm_dit.diffusion.highres import has_two_stages
from llm_dit.diffusion.prompts_at import parts_at
from llm_dit.diffusion.samplers import velocities
from llm_dit.diffusion.sigmas import noise_levels, steps_of
from llm_dit.study.axes import label_of
from llm_dit.study.plan import Plan
from llm_dit.study.store import SweepFolder
from llm_dit.study.table import row_of


def print_plan(plan: Plan) -> None:
    """One line a cell, then the totals."""
    left = 0
    forwards: list[tuple[int, float]] = []
    for number, cell in enumerate(plan.cells):
        if cell.config is None:
            print(f"cell {number + 1} {label_of(cell.labels)}: its settings contradict each other; it will fail")
            continue
        wanted = cell.wanted()
        have = {(r["prompt_id"], r["seed"], r["prompt"]) for r in plan.folder.cell(cell.id).records()}
        missing = len(wanted - have)
        left += missing
        forwards.append((missing, forwards_of(cell.config)))
        print(f"cell {number + 1} {cell.id} {label_of(cell.labels)}: {missing} of {len(wanted)} pictures to draw")
    per_forward = seconds_per_forward(plan.folder, plan.first)
    print(f"{plan.folder.path}: {len(plan.cells)} cells, {left} pictures to draw")
    if per_forward is None:
        print("time: unknown, since nothing of this model and size was drawn here yet; draw one cell and ask again")
    else:
        seconds = sum(n * f * per_forward for n, f in forwards)
        print(f"time: about {seconds / 60:.1f} minutes at the {per_forward:.3f} s a forward seen so far")
    for line in memory_lines([cell.config for cell in plan.cells if cell.config]):
        print(line)


def forwards_of(config: Config) -> float:
    """Forwards of the transformer that a picture costs, by its steps and guidance.

    Right to the forward but for img2img, second stages, and windows of guidance at the model's own shift, which is
    taken for Z-Image's 3 here.
    """
    sampler, highres = config.sampler, config.highres
    steps = velocities(sampler.name, steps_of(sampler)) * (config.strength if config.init_image else 1.0)
    size = (config.height or config.default_size, config.width or config.default_size)
    if has_two_stages(highres, size, config.model.trained_size):
        again = replace(sampler, steps=highres.steps or sampler.steps)
        steps += velocities(sampler.name, steps_of(again)) * highres.strength
    return steps * forwards_a_step(config, size)


def _shift_of(config: Config) -> float:
    """The model's own shift; the usual 3 while the model is not here to be asked."""
    from llm_dit.weights.schedule import load_shift

    try:
        return load_shift(config.model)
    except ModelError:
        return 3.0


def forwards_a_step(config: Config, size: tuple[int, int]) -> float:
    """What guidance and a second prompt make of one forward, on average over the noise levels.

    size: (height, width) in pixels.
    """
    g = config.guidance
    sigmas = noise_levels(config.sampler, lambda: _shift_of(config), size)[0]
    zero_above = zero_init_above(g, sigmas)
    prompts = {s: len(parts_at(s, config.mix, config.diversity)) for s in sigmas}
    needs = (forwards_at(s, g, config.slg, config.nag, zero_above, prompts[s]) for s in sigmas[:-1])
    return statistics.mean(need.nfe for need in needs)


def seconds_per_forward(folder: SweepFolder, config: Config) -> float | None:
    """Median of all seconds but loading, per forward: in this sweep, else in the newest one of its model and size.

    None when no picture of that kind was ever drawn here.
    """
    size = (config.width or config.default_size) * (config.height or config.default_size)
    others = sorted(folder.path.parent.glob("*/sweep.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in (folder.path, *(p.parent for p in others)):
        with contextlib.suppress(RecordError):  # another sweep, of another version: it tells nothing
            seen = [
                row_of(cell, r)["seconds"] / r["nfe"]
                for cell in SweepFolder(path).cells()
                for r in cell.records(whole=True)
                if r["config"]["model"]["path"] == config.model.path and r["width"] * r["height"] == size
            ]
            if seen:
                return statistics.median(seen)
    return None


def memory_lines(configs: list[Config]) -> list[str]:
    """The weights of each model in the sweep, in gigabytes."""
    models: dict[str, Config] = {c.model.path: c for c in configs}
    lines = []
    for path, config in models.items():
        sizes = weight_gigabytes(config)
        if sizes is None:
            lines.append(f"memory: {path}: known once its weights are here")
            continue
        need = max(sizes.values()) if config.hardware.offload else sum(sizes.values())
        parts = ", ".join(f"{part} {gb:.2f}" for part, gb in sizes.items())
        lines.append(f"memory: {path}: {need:.2f} GB of weights at work ({parts}); activations come on top")
    return lines


def weight_gigabytes(config: Config) -> dict[str, float] | None:
    """Gigabytes of each part's weights in the dtype it runs in, from file headers; None when they are not here."""
    from llm_dit.machine.size import count_parameters
    from llm_dit.weights.place import choose_placement

    counts = count_parameters(config.model)
    size = 4 if choose_placement(config.hardware.device, config.hardware.dtype).dtype == "float32" else 2
    return {part: n * size / 1e9 for part, n in counts.items()} if counts else None
