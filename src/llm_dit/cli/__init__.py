"""The command line: one entry point over Hydra, and one function a task. The only room that prints."""

from llm_dit.cli.command import console, main

__all__ = ["console", "main"]
