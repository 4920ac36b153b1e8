"""A short name for a set of weights, cheap enough to take at every load."""

from __future__ import annotations

import hashlib
from typing import Any

SAMPLES = 64


def fingerprint(module: Any) -> str:
    """16 hex digits from every weight's name, shape and 64 evenly spaced values.

    Not a checksum of the files: it survives a change of container, device or dtype (values are compared in
    bfloat16) and tells any two trainings apart, since training moves every tensor.
    """
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        flat = weight.detach().reshape(-1)
        step = max(1, flat.numel() // SAMPLES)
        sample = flat[::step][:SAMPLES].to("cpu", torch.float32).to(torch.bfloat16)
        digest.update(sample.contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]
