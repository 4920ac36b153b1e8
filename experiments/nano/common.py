"""Small things that the stages of the recipe share: optimisers, checkpoints, picture tensors, a round trip, a grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from paths import ASSETS, SHIPPED
from PIL import Image
from torch.optim.swa_utils import AveragedModel

from llm_dit.config import TrainConfig
from llm_dit.train.optimizers import make_optimizers as package_optimizers
from llm_dit.train.vae import reconstruct


def make_optimizers(net: torch.nn.Module, rate: float) -> dict[str, torch.optim.Optimizer]:
    """Muon for kernels at `rate`, AdamW for the rest at half of it, as the trainings of the package have them."""
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    settings = TrainConfig(optimizer="muon", learning_rate=rate, other_learning_rate=rate / 2, beta2=0.99)
    return package_optimizers(trained, settings)


Optimizers = dict[str, torch.optim.Optimizer]


def take_step(
    loss: torch.Tensor, net: torch.nn.Module, average: AveragedModel, optimizers: Optimizers, max_norm: float
) -> None:
    """Backward, one step of the optimisers with gradients of at most `max_norm` together, and the average after it."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], max_norm)
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    average.update_parameters(net)


def keep(
    path: Path, net: torch.nn.Module, average: AveragedModel, optimizers: Optimizers, step: int, cpu_seconds: float
) -> None:
    """Write a checkpoint, whole or not at all."""
    state = {"model": net.state_dict(), "average": average.state_dict(), "step": step, "cpu_seconds": cpu_seconds}
    state["optimizers"] = {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def resume(path: Path, net: torch.nn.Module, average: AveragedModel, optimizers: Optimizers) -> tuple[int, float]:
    """Go on from a checkpoint, if it is there: steps and CPU seconds before."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    net.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    return state["step"], state["cpu_seconds"]


def average_of(path: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a checkpoint."""
    state = torch.load(path, weights_only=True)["average"]
    return {k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")}


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [n, h, w, 3] -> float [n, 3, h, w] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(x: torch.Tensor) -> np.ndarray:
    """float [n, 3, h, w] in -1..1 -> uint8 [n, h, w, 3]."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def shipped_vae() -> AutoencoderKL:
    """nano's VAE as it ships, in float32."""
    return AutoencoderKL.from_pretrained(SHIPPED, subfolder="vae", torch_dtype=torch.float32).eval()


def through_vae(vae: AutoencoderKL, x: torch.Tensor) -> torch.Tensor:
    """Pictures [n, 3, h, w] in -1..1 as they come back from the VAE (its mean latents), in -1..1."""
    return torch.cat([reconstruct(vae, part) for part in x.split(16)]).clamp(-1, 1)


def save_grid(x: torch.Tensor, columns: int, name: str) -> None:
    """Pictures [n, 3, h, w] in -1..1, row by row, to assets/nano/NAME."""
    pictures = to_pictures(x.float())
    n, height, width, _ = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height, i % columns * width
        sheet[top : top + height, left : left + width] = picture
    Image.fromarray(sheet).save(ASSETS / name)
