"""Training of the transformer by flow matching: the pieces of one step, for method full and lora."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from llm_dit.config import TrainConfig
from llm_dit.families.z_image.velocity import padded_length
from llm_dit.train.ahead import Ahead
from llm_dit.train.flow import (
    noised,
    sample_sigmas,
    squared_errors,
    stream,
    stream_seed,
    target_velocity,
    weights_of,
)
from llm_dit.train.forward import stack_captions
from llm_dit.train.meter import band_sums

# Uses of flow.stream within a step; noise and dropout count on from theirs by group.
SIGMAS, DROPPED, NOISE, DROPOUT = 0, 1, 100, 200


@dataclass(frozen=True)
class Group:
    """Pictures of one batch whose captions pad to one length, on the CPU."""

    latents: torch.Tensor
    texts: torch.Tensor
    padding: torch.Tensor
    sigma: torch.Tensor

    def to(self, device: Any) -> Group:
        """The same on a device."""
        moved = (x.to(device, non_blocking=True) for x in (self.latents, self.texts, self.padding, self.sigma))
        return Group(*moved)


class FlowTraining:
    """The flow-matching loss of a transformer over a data set.

    module: the forward that gets gradients, as given or wrapped by accelerate. shift: of the drawn noise levels.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        dataset: Any,
        settings: TrainConfig,
        shift: float,
        device: torch.device,
        autocast: bool,
        rank: int = 0,
        world: int = 1,
    ):
        self.module, self.dataset, self.settings, self.shift = module, dataset, settings, shift
        self.device, self.autocast, self.rank, self.world = device, autocast, rank, world
        self.ahead = Ahead(self.groups, settings.accumulation, settings.steps)

    def levels(self, generator: torch.Generator, count: int) -> torch.Tensor:
        """Noise levels [count] to train at."""
        return sample_sigmas(generator, count, self.settings, self.shift)

    def target(self, x: torch.Tensor, clean: torch.Tensor, noise: torch.Tensor, group: Group) -> torch.Tensor:
        """The velocity to predict at x, of the group's noise levels."""
        return target_velocity(clean, noise)

    def groups(self, step: int, micro: int) -> list[Group]:
        """One micro batch, its noise levels drawn and its captions dropped, split by the captions' padded length.

        The empty prompt may pad to another length than the captions: as in drawing, neither is padded to the other's.
        """
        s = self.settings
        batch = self.dataset.batch(step, micro, s.batch_size, s.seed, self.rank, self.world)
        count = len(batch.latents)
        sigma = self.levels(stream(s.seed, step, micro, self.rank, SIGMAS), count)
        drawn = torch.rand(count, generator=stream(s.seed, step, micro, self.rank, DROPPED))
        empty = self.dataset.empty_embeds
        captions = [
            empty.to(embeds.dtype) if share < s.caption_dropout else embeds
            for embeds, share in zip(batch.embeds, drawn.tolist(), strict=True)
        ]
        by_length: dict[int, list[int]] = defaultdict(list)
        for number, caption in enumerate(captions):
            by_length[padded_length(len(caption))].append(number)
        made = []
        for _, numbers in sorted(by_length.items()):
            group = Group(batch.latents[numbers], *stack_captions([captions[i] for i in numbers]), sigma[numbers])
            made.append(pinned(group) if self.device.type == "cuda" else group)
        return made

    def pieces(self, step: int, micro: int) -> list[Callable[[], tuple[torch.Tensor, torch.Tensor]]]:
        """The forwards of one micro batch. Each gives its share of the mean loss, and its errors by band.

        Called one after the other, with a backward after each.
        """
        groups = self.ahead.get(step, micro)
        total = sum(len(group.latents) for group in groups)
        return [
            lambda group=group, number=number: self.piece(group, total, (step, micro, number))
            for number, group in enumerate(groups)
        ]

    def piece(self, group: Group, total: int, place: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """One forward: the loss summed over the group and divided by total, and errors by band."""
        (step, micro, number), s = place, self.settings
        group = group.to(self.device)
        clean = group.latents.float()
        generator = stream(s.seed, step, micro, self.rank, NOISE + number, self.device)
        noise = torch.randn(clean.shape, generator=generator, device=self.device)
        if s.lora.dropout > 0:
            torch.manual_seed(stream_seed(s.seed, step, micro, self.rank, DROPOUT + number))
        x = noised(clean, noise, group.sigma)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            target = self.target(x, clean, noise, group)
            predicted = self.module(x, group.sigma, group.texts, group.padding)
        errors = squared_errors(predicted, target)
        loss = (errors * weights_of(group.sigma, s.loss_weighting)).sum() / total
        return loss, band_sums(errors.detach(), group.sigma)

    def close(self) -> None:
        """Let go of the thread."""
        self.ahead.close()


def pinned(group: Group) -> Group:
    """The same in memory that a copy to the card need not wait for."""
    return Group(*(x.pin_memory() for x in (group.latents, group.texts, group.padding, group.sigma)))
