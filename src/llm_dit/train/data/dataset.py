"""Rows, pictures and captions to a Dataset whose batches are a pure function of step, rank and seed.

open_dataset reads the rows, looks at every picture, fills the cache, and lets go of the VAE and the text encoder on an
accelerator; from then on a batch is read from a memory map. Nothing here trains.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import DataError, printable
from llm_dit.base.files import check_writable
from llm_dit.base.paths import user_path
from llm_dit.base.seeds import seed_words
from llm_dit.config import Config, DataConfig
from llm_dit.families.z_image.velocity import padded_length
from llm_dit.models.cache import PARTS, Models, PartCache
from llm_dit.train.data.embeddings import empty_text, encode_texts, text_settings
from llm_dit.train.data.identity import MODELS_FILE, encoder_identity, vae_identity
from llm_dit.train.data.items import Item, usable_items
from llm_dit.train.data.latents import encode_pictures, image_of, latents_of
from llm_dit.train.data.order import Order
from llm_dit.train.data.pictures import random_cut
from llm_dit.train.data.progress import Bar
from llm_dit.train.data.rows import read_rows
from llm_dit.train.data.store import Store
from llm_dit.weights.place import choose_placement

if TYPE_CHECKING:
    import torch

SHOWN = 20  # problems that are printed; Dataset.problems has all
CROPS = 3  # names the random stream of crops


@dataclass(frozen=True)
class Batch:
    """Latents float32 [B, 16, h, w], shifted and scaled; B embeddings float32 [tokens, features], of one padded length;
    B ids. The last batch of a group has fewer than batch_size.
    """

    latents: torch.Tensor
    embeds: list[torch.Tensor]
    ids: list[str]


@dataclass(frozen=True)
class Encoded:
    """What items were encoded to: stores of latents by shape and of embeddings, and the empty prompt's embeddings."""

    latents: dict[tuple[int, int], Store]
    embeds: Store
    empty: torch.Tensor


class Dataset:
    """Rows ready to train on.

    fingerprint: of rows, pictures, and what they were encoded with. problems: the rows that were left out, and why;
    notes: what was done to others. buckets: the shapes (height, width) that have rows. accumulation: batches that one
    rank takes in a step, so that micro counts from 0 to accumulation - 1.
    """

    def __init__(
        self,
        items: Sequence[Item],
        data: DataConfig,
        fingerprint: str,
        encoded: Encoded | None = None,
        accumulation: int = 1,
    ):
        self.items = list(items)
        self.fingerprint = fingerprint
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.buckets = sorted({item.shape for item in self.items})
        self.accumulation = accumulation
        self._flip = data.flip
        self._encoded = encoded
        shapes = [self.buckets.index(item.shape) for item in self.items]
        self._crops = Order(shapes, [[0]] * len(shapes), data.repeat)
        if encoded:
            lengths = [[padded_length(encoded.embeds.rows(text.key)) for text in item.texts] for item in self.items]
            self._order = Order(shapes, lengths, data.repeat, data.flip)

    @property
    def count(self) -> int:
        """How many rows can be used."""
        return len(self.items)

    @property
    def empty_embeds(self) -> torch.Tensor:
        """The empty prompt, float32 [tokens, features], for captions that are dropped."""
        return self._encoded.empty.clone()

    def batches(self, epoch: int, batch_size: int, seed: int) -> int:
        """How many batches an epoch has, all ranks together."""
        return len(self._order.epoch(epoch, batch_size, seed))

    def batch(self, step: int, micro: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> Batch:
        """The batch of one rank at a step, the same for the same arguments. Epochs follow each other without a gap."""
        import torch

        visits = self._order.at(self._index(step, micro, rank, world), batch_size, seed)
        pairs = [(self.items[visit.row], visit) for visit in visits]
        latents = self._encoded.latents
        return Batch(
            torch.stack([latents_of(item.picture(v.mirrored), latents[item.shape]) for item, v in pairs]),
            [self._encoded.embeds[item.texts[v.phrasing].key] for item, v in pairs],
            [item.row.id for item, _ in pairs],
        )

    def pictures(
        self, step: int, micro: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> torch.Tensor:
        """Random crops, float32 [B, 3, H, W] in -1..1: of half to all of the largest area that has the bucket's shape.

        Read from the pictures themselves, in an order of their own, for training the VAE. Raises DataError for a
        picture that is gone or has changed.
        """
        import numpy as np
        import torch

        index = self._index(step, micro, rank, world)
        generator = np.random.Generator(np.random.PCG64(seed_words(seed, index, CROPS)))
        items = [self.items[visit.row] for visit in self._crops.at(index, batch_size, seed)]
        return torch.stack([random_cut(image_of(i.picture()), i.shape, generator, self._flip) for i in items])

    def _index(self, step: int, micro: int, rank: int, world: int) -> int:
        if not 0 <= micro < self.accumulation or not 0 <= rank < world:
            raise ValueError(f"micro {micro} of {self.accumulation}, rank {rank} of {world}: counted from 0")
        return (step * self.accumulation + micro) * world + rank


def open_dataset(data: DataConfig, config: Config, parts: PartCache = PARTS, *, encode: bool = True) -> Dataset:
    """Read the rows, look at the pictures, and encode what the cache does not hold; progress on stderr.

    encode=False leaves VAE and text encoder alone, needs no captions, and gives a Dataset with pictures() only.
    Raises DataError when nothing can be used, and with data.bad_rows=fatal when anything cannot.
    """
    cache = check_writable(user_path(data.cache), "data.cache") if data.cache else None
    rows = read_rows(data, captions=encode)
    about = hashlib.sha256(f"{data.path} {data.images} {Path.cwd()}".encode()).hexdigest()[:16]
    memory = cache / "pictures" / f"{about}.json" if cache else None
    items, unusable, remarks = usable_items(rows.rows, data, config, memory)
    problems, notes = rows.problems + unusable, rows.notes + remarks
    _stop_if_bad(data, items, problems)
    encoded, said = None, ()
    if encode:
        encoded, said, items = _encode(items, data, config, cache, parts, problems, notes)
        _stop_if_bad(data, items, problems)
    dataset = Dataset(items, data, _fingerprint(items, data, said), encoded, config.train.accumulation)
    dataset.problems, dataset.notes = problems, notes
    _tell(problems, notes)
    return dataset


def _encode(
    items: list[Item],
    data: DataConfig,
    config: Config,
    cache: Path | None,
    parts: PartCache,
    problems: list[str],
    notes: list[str],
) -> tuple[Encoded, tuple[Any, ...], list[Item]]:
    """Stores that hold all of the items, what they were encoded with, and the items whose captions could be encoded.

    Captions come first: a row whose caption is refused needs no latents, and each model is let go before the next.
    """
    import torch

    hw = config.hardware
    models = Models(config, choose_placement(hw.device, hw.dtype, hw.offload), parts)
    memory = cache / MODELS_FILE if cache else None
    dtype = getattr(torch, data.cache_dtype)

    told = (encoder_identity(models, memory), text_settings(config), data.cache_dtype)
    embeds = Store(_folder(cache, "texts", told), dtype)
    empty = empty_text(config)
    texts = {text.key: text for text in (empty, *(text for item in items for text in item.texts))}
    missing = [text for key, text in texts.items() if key not in embeds]
    with Bar("captions", len(missing)) as bar:
        refused, cut = encode_texts(missing, embeds, models, bar.tick)
    if empty.key in refused:
        raise DataError(f"the empty prompt, for captions that are dropped, cannot be encoded: {refused[empty.key]}")
    problems += [f"{i.row.where}: {refused[t.key]}" for i in items for t in i.texts if t.key in refused]
    items = [item for item in items if not any(text.key in refused for text in item.texts)]
    notes += [f"{len(cut)} captions are too long, such as one: {cut[0]}"] if cut else []
    _let_go(models, "text_encoder")

    seen = (vae_identity(models, memory), data.posterior, data.cache_dtype)
    folder = _folder(cache, "latents", seen)
    latents: dict[tuple[int, int], Store] = {}
    missing_pictures = {}
    for shape in sorted({item.shape for item in items}):
        store = latents[shape] = Store(folder and folder / f"{shape[1]}x{shape[0]}", dtype)
        wanted = [i.picture(m) for i in items if i.shape == shape for m in (False, True)[: 1 + data.flip]]
        missing_pictures[shape] = list({one.key: one for one in wanted if one.key not in store}.values())
    with Bar("latents", sum(map(len, missing_pictures.values()))) as bar:
        for shape, wanted in missing_pictures.items():
            encode_pictures(wanted, latents[shape], models, data.posterior, config.tiling, bar.tick)
    _let_go(models, "vae")
    for store in (embeds, *latents.values()):
        notes += store.notes
    return Encoded(latents, embeds, embeds[empty.key]), (told, seen), items


def _folder(cache: Path | None, kind: str, what: Any) -> Path | None:
    return cache / kind / hashlib.sha256(repr(what).encode()).hexdigest()[:16] if cache else None


def _let_go(models: Models, kind: str) -> None:
    """Free an accelerator of a part that is not needed again; main memory has room."""
    if models.placement.device == "cpu":
        return
    import torch

    models.parts.forget(kind)
    if models.placement.device == "cuda":
        torch.cuda.empty_cache()


def _fingerprint(items: Sequence[Item], data: DataConfig, encoded_with: tuple[Any, ...]) -> str:
    """32 hex digits over what batches depend on, wherever the files lie."""
    digest = hashlib.sha256(repr((data.flip, data.repeat, encoded_with)).encode())
    for item in items:
        digest.update(repr((item.row.id, item.facts.sha256, item.shape, [text.key for text in item.texts])).encode())
    return digest.hexdigest()[:32]


def _stop_if_bad(data: DataConfig, items: Sequence[Item], problems: Sequence[str]) -> None:
    if problems and data.bad_rows == "fatal":
        raise DataError(
            f"{_rows(len(problems))} cannot be used, and data.bad_rows=fatal:\n  " + "\n  ".join(_some(problems))
        )
    if not items:
        wrong = ":\n  " + "\n  ".join(_some(problems)) if problems else "."
        raise DataError(f"{data.path}: no row that can be used{wrong}")


def _tell(problems: Sequence[str], notes: Sequence[str]) -> None:
    if problems:
        shown = map(printable, _some(problems))
        print(f"warning: {_rows(len(problems))} left out:", *shown, sep="\n  ", file=sys.stderr)
    for line in notes:
        print(f"warning: {printable(line)}", file=sys.stderr)


def _some(problems: Sequence[str]) -> Iterable[str]:
    more = len(problems) - SHOWN
    return [*problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
