"""Training of the VAE: L1, edges, and a light KL term, with neither a perceptual network nor an adversary."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from llm_dit.config import TrainConfig
from llm_dit.images.pixels import as_image
from llm_dit.study.grids.sheet import gallery, write_sheet
from llm_dit.train.ahead import Ahead
from llm_dit.train.flow import BANDS, stream
from llm_dit.train.validate import sheet_path

if TYPE_CHECKING:
    from llm_dit.train.loop import Training

POSTERIOR, SHRINK, SHOWN = 0, 1, 2  # uses of flow.stream; SHOWN is a data seed of its own
PICTURES = 8  # that a validation shows and measures
MEASURED = 64  # batches whose latents give shift_factor and scaling_factor, at most


def edge_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of vertical and of horizontal pixel differences, added up."""
    d = a - b
    return d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()


def kl_loss(mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Distance of the posterior from a unit normal, the mean over its elements, in nats."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


class VaeForward(nn.Module):
    """Pictures [b, 3, H, W] in -1..1 to (reconstruction, its target, mean, log variance)."""

    def __init__(self, vae: Any):
        super().__init__()
        self.vae = vae

    def forward(self, x: torch.Tensor, noise: torch.Tensor, shrink: bool) -> tuple[torch.Tensor, ...]:
        """noise: of the latents' shape. shrink: decode the latents at half their size."""
        posterior = self.vae.encode(x).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        z = mean + (0.5 * logvar).exp() * noise
        if shrink:
            half = {"scale_factor": 0.5, "mode": "bilinear", "antialias": True}
            z, x = F.interpolate(z, **half), F.interpolate(x, **half)
        return self.vae.decode(z).sample.float(), x, mean, logvar


class VaeTraining:
    """The loss of a VAE over pictures."""

    def __init__(
        self,
        module: nn.Module,
        dataset: Any,
        settings: TrainConfig,
        device: torch.device,
        autocast: bool,
        rank: int = 0,
        world: int = 1,
    ):
        self.module, self.dataset, self.settings = module, dataset, settings
        self.device, self.autocast, self.rank, self.world = device, autocast, rank, world
        self.ahead = Ahead(self.pictures, settings.accumulation, settings.steps)

    def pictures(self, step: int, micro: int) -> torch.Tensor:
        """One micro batch, float32 [batch, 3, H, W] in -1..1 on the CPU."""
        s = self.settings
        return self.dataset.pictures(step, micro, s.batch_size, s.seed, self.rank, self.world).float()

    def pieces(self, step: int, micro: int) -> list[Callable[[], tuple[torch.Tensor, torch.Tensor]]]:
        """The forward of one micro batch; there are no noise levels to sort its errors by."""
        return [lambda: self.piece(step, micro)]

    def piece(self, step: int, micro: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of one batch."""
        s = self.settings
        x = self.ahead.get(step, micro).to(self.device)
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        shape = (len(x), self.vae.config.latent_channels, x.shape[2] // factor, x.shape[3] // factor)
        noise = torch.randn(shape, generator=stream(s.seed, step, micro, self.rank, POSTERIOR)).to(self.device)
        drawn = torch.rand((), generator=stream(s.seed, step, micro, self.rank, SHRINK)).item()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            out, target, mean, logvar = self.module(x, noise, drawn < s.vae.shrink_share)
        loss = (out - target).abs().mean() + s.vae.edge_weight * edge_loss(out, target)
        loss = loss + s.vae.kl_weight * kl_loss(mean, logvar)
        return loss, torch.zeros(2 * (len(BANDS) - 1), device=self.device)

    @property
    def vae(self) -> Any:
        """The model itself, without what accelerate may have put around it."""
        return getattr(self.module, "module", self.module).vae

    def close(self) -> None:
        """Let go of the thread."""
        self.ahead.close()


def psnr(out: torch.Tensor, x: torch.Tensor) -> float:
    """Mean over pictures in -1..1 of the peak signal-to-noise ratio, in dB."""
    errors = ((out.clamp(-1, 1) - x) / 2).square().flatten(1).mean(1).clamp(min=1e-10)
    return float((-10 / math.log(10) * errors.log()).mean())


@torch.no_grad()
def reconstruct(vae: Any, x: torch.Tensor) -> torch.Tensor:
    """Pictures through the middle of their posterior and back, on the CPU."""
    device = next(vae.parameters()).device
    return vae.decode(vae.encode(x.to(device)).latent_dist.mean).sample.float().cpu()


def show(vae: Any, task: VaeTraining, training: Training, step: int, on_picture: Callable[[Path, str], None]) -> dict:
    """A sheet of pictures and their reconstructions, in NAME/validation, and score_psnr."""
    x = task.dataset.pictures(0, 0, min(PICTURES, task.dataset.count), task.settings.seed + SHOWN, 0, 1).float()
    out = reconstruct(vae, x)
    value = psnr(out, x)
    tiles = [picture for pair in zip(x, out, strict=True) for picture in pair]
    images = [("", as_image(((t.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())) for t in tiles]
    texts = [
        ("title", f"{training.folder.name}, step {step}"),
        ("subtitle", f"picture, reconstruction; {value:.2f} dB"),
    ]
    sheet = gallery(images, [(t.shape[2], t.shape[1]) for t in tiles], 8, texts)
    path = write_sheet(sheet, sheet_path(training.folder, step))
    on_picture(path, f"step {step}")
    return {"score_psnr": value}


@torch.no_grad()
def measure_latents(vae: Any, task: VaeTraining) -> tuple[float, float]:
    """(shift_factor, scaling_factor) that give the latents of the data mean 0 and spread 1."""
    device, s = next(vae.parameters()).device, task.settings
    count = min(MEASURED, -(-task.dataset.count // s.batch_size))
    means = [
        vae.encode(task.dataset.pictures(i, 0, s.batch_size, s.seed, 0, 1).float().to(device)).latent_dist.mean.cpu()
        for i in range(count)
    ]
    latents = torch.cat([m.flatten() for m in means]).double()
    return latents.mean().item(), 1 / latents.std().item()
