"""Pictures to latents, as the transformer takes them: (z - shift) x scale. Made once, kept by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_dit.base.errors import DataError, ImageError
from llm_dit.config import TilingConfig
from llm_dit.families.autoencoder_kl.codec import VAE_FACTOR, encode_batch
from llm_dit.models.cache import Models
from llm_dit.train.data.ahead import ahead
from llm_dit.train.data.pictures import cut, open_picture
from llm_dit.train.data.source import Source
from llm_dit.train.data.store import Store, key_of
from llm_dit.weights.place import at_work

if TYPE_CHECKING:
    import torch
    from PIL import Image

VERSION = 1
# Pixels of one forward of the VAE.
AT_ONCE = {"cpu": 8 * 128**2, "mps": 2 * 1024**2, "cuda": 4 * 1024**2}


@dataclass(frozen=True)
class Wanted:
    """Latents of a picture of that content, cut to a shape (height, width)."""

    source: Source
    sha256: str
    shape: tuple[int, int]
    mirrored: bool = False

    @property
    def key(self) -> bytes:
        return key_of(VERSION, self.sha256, self.shape, self.mirrored)


def encode_pictures(
    wanted: Sequence[Wanted],
    store: Store,
    models: Models,
    posterior: str,
    tiling: TilingConfig,
    tick: Callable[[], object] = lambda: None,
) -> None:
    """Put the latents of pictures of one shape into the store, several a forward. posterior: mode or sample.

    Raises DataError for a picture that has changed since it was scanned, or that the VAE breaks down on.
    """
    if not wanted:
        return
    height, width = wanted[0].shape
    tiled = tiling.enabled and max(height, width) > tiling.tile_size
    many = 1 if tiled else max(1, AT_ONCE[models.placement.device] // (height * width))
    try:
        with at_work(models.vae, models.placement) as vae:
            for batch, pixels in _batches(wanted, many):
                seeds = [_generator(one.key) for one in batch] if posterior == "sample" else None
                for one, latents in zip(batch, encode_batch(vae, pixels, seeds, tiling), strict=True):
                    _keep(one, latents, store)
                    tick()
    finally:
        store.flush()


def _keep(one: Wanted, latents: torch.Tensor, store: Store) -> None:
    try:
        store.add(one.key, latents.reshape(1, -1))
    except OverflowError as error:
        raise DataError(
            f"{one.source.name}: its latents are {error}; try hardware.dtype=float32 and data.cache_dtype=float32."
        ) from error


def latents_of(one: Wanted, store: Store) -> torch.Tensor:
    """float32 [16, H/8, W/8]."""
    return store[one.key].reshape(-1, one.shape[0] // VAE_FACTOR, one.shape[1] // VAE_FACTOR)


def image_of(one: Wanted) -> Image.Image:
    """The whole picture. Raises DataError when it is gone, or another than was looked at."""
    try:
        content = one.source.read()
        if hashlib.sha256(content).hexdigest() != one.sha256:
            raise ImageError("it has changed since it was looked at; start again")
        return open_picture(content)[0]
    except ImageError as error:
        raise DataError(f"{one.source.name}: {error}.") from error


def pixels_of(one: Wanted) -> torch.Tensor:
    """The picture cut to its shape, float32 [3, H, W] in -1..1. Raises DataError."""
    return cut(image_of(one), one.shape, one.mirrored)


def _batches(wanted: Sequence[Wanted], many: int) -> Iterator[tuple[list[Wanted], torch.Tensor]]:
    import torch

    batch: list[Wanted] = []
    pixels: list[torch.Tensor] = []
    for one, picture in zip(wanted, ahead(pixels_of, wanted), strict=True):
        batch.append(one)
        pixels.append(picture)
        if len(batch) == many:
            yield batch, torch.stack(pixels)
            batch, pixels = [], []
    if batch:
        yield batch, torch.stack(pixels)


def _generator(key: bytes) -> torch.Generator:
    import torch

    return torch.Generator("cpu").manual_seed(int.from_bytes(key[:7]))
