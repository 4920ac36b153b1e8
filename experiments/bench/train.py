"""Cost of a training step, as ratios taken in one run, the sides interleaved:

    uv run python experiments/bench/train.py [--batch 16] [--steps 4] [--rounds 5] [--device cpu]

ours   steps of the training loop on nano: batches, noise levels, dropped captions, average, log
bare   the same forward, loss, backward, clipping and optimiser in a loop with nothing around them.
       ours / bare not above 1.05 is the aim.
stock  the same by the model's own forward, which takes lists

Times are CPU seconds of the process on the CPU, so that what else the machine does counts less, and wall seconds on
CUDA. Peak memory is of one process a side, what both load included.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from llm_dit.compose import compose
from llm_dit.train.flow import noised, squared_errors, target_velocity
from llm_dit.train.forward import TrainingForward, stack_captions
from llm_dit.train.optimizers import make_optimizers
from llm_dit.train.start import start_transformer, trained_parameters

SETTINGS = ["model=nano", "tracker=none", "train.optimizer=muon", "train.learning_rate=1e-4", "train.ema_decay=0.999"]


class Data:
    """Random latents and captions of nano's shapes."""

    fingerprint, problems, count = "bench", (), 256

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.latents = torch.randn(self.count, 16, 16, 16, generator=g)
        self.captions = [torch.randn(20 + i % 12, 576, generator=g) for i in range(self.count)]
        self.empty_embeds = torch.randn(8, 576, generator=g)

    def batch(self, step: int, micro: int, batch_size: int, *_: int) -> SimpleNamespace:
        chosen = [(step * batch_size + i) % self.count for i in range(batch_size)]
        return SimpleNamespace(latents=self.latents[chosen], embeds=[self.captions[i] for i in chosen], ids=chosen)


class Ours:
    """The training loop, without its checkpoints."""

    def __init__(self, config, data: Data, folder: Path):
        from accelerate import Accelerator

        from llm_dit.train.loop import Training
        from llm_dit.train.transformer import FlowTraining

        accelerator = Accelerator(cpu=config.hardware.device == "cpu")
        model = start_transformer(config, str(accelerator.device), "float32")
        forward = accelerator.prepare(TrainingForward(model).train())
        task = FlowTraining(forward, data, config.train, 1.0, accelerator.device, False)
        self.training = Training(task, trained_parameters(model), config.train, folder, {}, accelerator)

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self.training.one_step()
            self.training.after_step(False)


class Bare:
    """What a step cannot do without."""

    def __init__(self, config, data: Data, stock: bool = False):
        self.device = "cpu" if config.hardware.device == "cpu" else "cuda"
        self.config, self.stock, self.step = config.train, stock, 0
        self.model = start_transformer(config, self.device, "float32")
        self.forward = None if stock else TrainingForward(self.model).train()
        self.trained = trained_parameters(self.model)
        self.optimizers = make_optimizers(self.trained, config.train)
        batch = data.batch(0, 0, self.config.batch_size)
        self.latents, self.captions = batch.latents.to(self.device), [c.to(self.device) for c in batch.embeds]
        self.texts = [x.to(self.device) for x in stack_captions(batch.embeds)]

    def predict(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if not self.stock:
            return self.forward(x, sigma, *self.texts)
        out = self.model(list(x.unsqueeze(2)), 1 - sigma, self.captions, return_dict=False)[0]
        return -torch.stack([o.squeeze(1) for o in out])

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            sigma, noise = torch.rand(len(self.latents), device=self.device), torch.randn_like(self.latents)
            predicted = self.predict(noised(self.latents, noise, sigma), sigma)
            squared_errors(predicted, target_velocity(self.latents, noise)).mean().backward()
            torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
            for optimizer in self.optimizers.values():
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)


def timed(side, steps: int, cuda: bool) -> float:
    """Seconds a step."""
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
    began = clock()
    side(steps)
    if cuda:
        torch.cuda.synchronize()
    return (clock() - began) / steps


def peak_gib(make, steps: int, cuda: bool) -> float:
    """Peak memory of a side, on the card, or of a process of its own."""
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        make()(steps)
        return torch.cuda.max_memory_allocated() / 2**30
    read, write = os.pipe()
    if not os.fork():
        make()(steps)
        os.write(write, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read, 100)) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    cuda = arguments.device == "cuda"
    config = compose([*SETTINGS, f"hardware.device={arguments.device}", f"train.batch_size={arguments.batch}"])
    data = Data()
    with tempfile.TemporaryDirectory() as folder:
        makes = {
            "ours": lambda: Ours(config, data, Path(folder)),
            "bare": lambda: Bare(config, data),
            "stock": lambda: Bare(config, data, stock=True),
        }
        memory = {name: peak_gib(make, 2, cuda) for name, make in makes.items()}
        sides = {name: make() for name, make in makes.items()}
        for side in sides.values():
            side(2)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(arguments.rounds):
            for name in list(sides) if turn % 2 == 0 else list(reversed(sides)):
                times[name].append(timed(sides[name], arguments.steps, cuda))
    for other in ("bare", "stock"):
        ratios = [a / b for a, b in zip(times["ours"], times[other], strict=True)]
        print(
            f"batch {arguments.batch} against {other}: ours {statistics.median(times['ours']):.3f} s a step, {other} "
            f"{statistics.median(times[other]):.3f} s, ratio {statistics.median(ratios):.3f} (min {min(ratios):.3f}, "
            f"max {max(ratios):.3f}, n {len(ratios)}); peak {memory['ours']:.2f} and {memory[other]:.2f} GiB"
        )


if __name__ == "__main__":
    main()
