"""Which device and dtype a run uses, and moving parts onto the device for as long as they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Placement:
    """device: cpu, cuda or mps. dtype: float32 or bfloat16. offload: parts wait on the CPU."""

    device: str
    dtype: str
    offload: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        import torch

        return getattr(torch, self.dtype)

    @property
    def resting_device(self) -> str:
        """Where a part is kept while it does nothing."""
        return "cpu" if self.offload else self.device


def choose_placement(device: str = "auto", dtype: str = "auto", offload: bool = False) -> Placement:
    """The placement for a hardware setting. Raises ConfigError for a device that is not there."""
    import torch

    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
    elif not present.get(device, False):
        there = ", ".join(name for name, here in present.items() if here)
        raise ConfigError(f"hardware.device={device}: this machine has none that torch can use. Present: {there}.")
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    return Placement(device, dtype, offload)


@contextmanager
def at_work(module: Any, placement: Placement) -> Iterator[Any]:
    """The module on its device; with offload it goes back to the CPU afterwards and frees the accelerator."""
    if not placement.offload:
        yield module
        return
    try:
        module.to(placement.device)  # inside, because running out of memory leaves it half moved
        yield module
    finally:
        module.to("cpu")
        if placement.device == "cuda":
            import torch

            torch.cuda.empty_cache()
