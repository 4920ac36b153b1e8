"""The core: a config to pictures."""

from llm_dit.render.draw import render

__all__ = ["render"]
