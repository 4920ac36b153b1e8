"""Rounding to float32, the type of all noise levels, without numpy or torch."""

from __future__ import annotations

from ctypes import c_float


def in_float32(value: float) -> float:
    """A value rounded to float32."""
    return c_float(value).value
