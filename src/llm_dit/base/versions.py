"""What software drew a picture."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("llm-dit", "torch", "diffusers", "transformers", "safetensors", "numpy", "pillow")


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "unknown"
    return found


def versions() -> dict[str, str]:
    """Names and versions of Python and the libraries that take part."""
    return dict(_versions())
