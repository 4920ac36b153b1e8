"""Seeded noise, drawn on the CPU in float32 from each picture's own seed.

So a picture does not depend on its batch, on its place in a sweep, or on the device that runs it. Whatever a picture
draws, it draws from a stream of its seed; a variation seed moves all of it towards another seed's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llm_dit.base.errors import ConfigError
from llm_dit.base.seeds import WORD
from llm_dit.config import DiversityConfig

if TYPE_CHECKING:
    import torch


def seeded_generator(seed: int) -> torch.Generator:
    """A CPU generator at the start of a seed's stream, of 0 to 2^63 - 1.

    torch's own for a seed below 2^32, and it takes no more than 32 bits: from there on the Mersenne Twister is set up
    from both words of the seed, low and high, by its authors' init_by_array (Matsumoto and Nishimura 2002).
    """
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    return generator if seed < WORD else _from_both_words(generator, seed)


def _from_both_words(generator: torch.Generator, seed: int) -> torch.Generator:
    """A fresh generator with its state filled from all bits of the seed. Raises ConfigError if torch's state changed.

    The state in torch: 24 bytes of seed and counters, then the 624 words of the twister, 8 bytes each.
    """
    import torch
    from numpy.random import RandomState

    state = generator.get_state()
    words = state[24:].view(torch.int64)[:624] if state.numel() == 5056 else state
    if words.tolist() != RandomState(seed % WORD).get_state(legacy=False)["state"]["key"].tolist():
        raise ConfigError(f"seed {seed}: the generator of this version of torch cannot take it; use a seed below 2^32.")
    key = RandomState([seed % WORD, seed // WORD]).get_state(legacy=False)["state"]["key"]
    words.copy_(torch.from_numpy(key.astype("int64")))
    return generator.set_state(state)


def named_generator(name: str, seed: int) -> torch.Generator:
    """A CPU generator at the start of another stream of a seed; each name is one.

    Seeded by the first 7 bytes of SHA-256("name seed"), of which torch takes 32 bits for a seed below 2^32.
    """
    import hashlib

    import torch

    hashed = int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:7])
    return torch.Generator("cpu").manual_seed(hashed) if seed < WORD else seeded_generator(hashed)


def draw_noise(generators: list[torch.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise [len(generators), *shape], float32 on the CPU, each item from its own generator."""
    import torch

    return torch.stack([torch.randn((1, *shape), generator=g)[0] for g in generators])


class Streams:
    """A batch's generators of one stream, moved towards a variation seed's (A1111's subseed) where one is given.

    generators: one a picture, for what is drawn from them directly; such draws follow the variation seed only at
    strength 1, where all generators are its own.
    """

    def __init__(
        self,
        stream: Callable[[int], torch.Generator],
        seeds: Sequence[int],
        variation: DiversityConfig | None = None,
    ):
        self.strength = variation.variation_strength if variation else 0.0
        other = variation.variation_seed if variation else None
        self.generators = [stream(other if self.strength == 1 else seed) for seed in seeds]
        self._other = stream(other) if 0 < self.strength < 1 else None

    def draw(self, shape: tuple[int, ...], draw: Callable[..., torch.Tensor] = draw_noise) -> torch.Tensor:
        """The next noise [pictures, *shape]. draw: makes it from (generators, shape); normal noise as it is."""
        own = draw(self.generators, shape)
        return own if self._other is None else slerp_noise(own, draw([self._other], shape), self.strength)

    def pass_over(self, shape: tuple[int, ...]) -> None:
        """Go on in the variation seed's stream by what each of `generators` was asked for directly."""
        if self._other is not None:
            draw_noise([self._other], shape)


def slerp_noise(a: torch.Tensor, b: torch.Tensor, amount: float) -> torch.Tensor:
    """Noise between a [n, ...] and b [n or 1, ...], each item as a whole along the great circle; lengths linearly.

    A straight line would lower the noise's deviation: to .71 in the middle.
    """
    from llm_dit.text.layers import slerp

    return slerp([a.flatten(1), b.expand_as(a).flatten(1)], [1 - amount, amount]).view_as(a)


def renoiser(
    seeds: Sequence[int],
    shape: tuple[int, ...],
    device: str,
    second_stage: bool = False,
    variation: DiversityConfig | None = None,
) -> Callable[[], torch.Tensor]:
    """A source of the noise that stochastic samplers add between steps: each call gives [len(seeds), *shape] anew.

    Each seed has a stream of its own for it in each stage, another than that of its first noise.
    """
    where = "between steps of the second stage" if second_stage else "between steps"
    streams = Streams(lambda seed: named_generator(where, seed), seeds, variation)
    return lambda: streams.draw(shape).to(device)


def mix_noise(clean: torch.Tensor, noise: torch.Tensor, sigma: float) -> torch.Tensor:
    """The noisy latents at sigma on the straight path: sigma noise + (1 - sigma) clean."""
    return sigma * noise + (1.0 - sigma) * clean
