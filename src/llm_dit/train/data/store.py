"""Tensors by content on disk: safetensors shards that only grow in number, read through a memory map.

A shard holds `values` [all rows, features], `starts` [items + 1] and `keys` [items, 16 bytes], and is written whole or
not at all; what an interrupted run wrote counts. Several processes may write at once: the same item twice does no harm.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.files import write_whole

if TYPE_CHECKING:
    import torch

KEY_BYTES = 16
SHARD = re.compile(r"[0-9a-f]{16}\.safetensors")  # what flush() calls them
SHARD_BYTES = 64 * 2**20
FLUSH_AFTER = 60.0  # seconds that an interrupted run may lose


def key_of(*parts: object) -> bytes:
    """16 bytes for some values."""
    return hashlib.sha256(repr(parts).encode()).digest()[:KEY_BYTES]


class Store:
    """Items [rows, features] by key. folder=None keeps them in memory.

    notes: damaged shards, which are removed, so that their items are made again.
    """

    def __init__(self, folder: Path | None, dtype: torch.dtype):
        self.folder = folder
        self.dtype = dtype
        self.notes: list[str] = []
        self._places: dict[bytes, tuple[Any, int, int]] = {}
        self._waiting: dict[bytes, torch.Tensor] = {}
        self._bytes = 0
        self._flushed = time.monotonic()
        for path in sorted(folder.glob("*.safetensors")) if folder and folder.is_dir() else []:
            self._open(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places or key in self._waiting

    def __getitem__(self, key: bytes) -> torch.Tensor:
        """The item as float32, a copy."""
        import torch

        if key in self._waiting:
            return self._waiting[key].to(torch.float32, copy=True)
        values, start, end = self._places[key]
        return values[start:end].to(torch.float32, copy=True)

    def rows(self, key: bytes) -> int:
        """How many rows the item has, without reading it."""
        if key in self._waiting:
            return len(self._waiting[key])
        _, start, end = self._places[key]
        return end - start

    def add(self, key: bytes, item: torch.Tensor) -> None:
        """Keep an item [rows, features]. Raises OverflowError when the store's dtype cannot hold it."""
        import torch

        stored = item.detach().to("cpu", self.dtype)
        if not torch.isfinite(stored).all():
            raise OverflowError("not finite" if not torch.isfinite(item).all() else f"too large for {self.dtype}")
        self._waiting[key] = stored.clone()
        self._bytes += stored.numel() * stored.element_size()
        if self.folder and (self._bytes >= SHARD_BYTES or time.monotonic() - self._flushed > FLUSH_AFTER):
            self.flush()

    def flush(self) -> None:
        """Write what waits as one shard."""
        import torch
        from safetensors.torch import save

        if not self._waiting or self.folder is None:
            return
        keys = list(self._waiting)
        lengths = torch.tensor([0, *(len(self._waiting[key]) for key in keys)])
        shard = {
            "values": torch.cat([self._waiting[key] for key in keys]),
            "starts": lengths.cumsum(0),
            "keys": torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).reshape(-1, KEY_BYTES),
        }
        path = self.folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:16]}.safetensors"
        write_whole({path: save(shard)})
        self._waiting, self._bytes, self._flushed = {}, 0, time.monotonic()
        self._open(path)

    def _open(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                values, starts = file.get_slice("values"), file.get_tensor("starts").tolist()
                keys = file.get_tensor("keys").numpy().tobytes()
                if len(keys) != KEY_BYTES * (len(starts) - 1) or values.get_shape()[0] != starts[-1]:
                    raise ValueError("its parts do not fit together")
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            self.notes.append(f"{path}: damaged ({' '.join(str(error).split())[:80]}), so what it held is made again.")
            if SHARD.fullmatch(path.name) and not path.is_symlink() and not path.parent.is_symlink():
                path.unlink(missing_ok=True)
            return
        for i, (start, end) in enumerate(itertools.pairwise(starts)):
            self._places[keys[i * KEY_BYTES : (i + 1) * KEY_BYTES]] = (values, start, end)
