"""What one parameter is: its default, its help, and the rule that its value must satisfy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from llm_dit.base.errors import ConfigError, short

MAX_SEED = 2**63 - 1
MAX_PROMPT_CHARACTERS = 100_000

FLOAT16_REASON = (
    "float16 overflows in Z-Image's activations and gives black pictures; "
    "use bfloat16 (same memory) or float32, or 'auto' to choose by device"
)


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy, and what it is for.

    help: one line for people. image: whether the value can change the pixels beyond rounding.
    ge, gt, le: bounds, inclusive but for gt; for a list they hold for each item. multiple_of: for pixel sizes.
    choices: the allowed strings. refused: strings that are refused with a reason of their own. place: a path, a folder
    or a hub id, which makes the program read, fetch or write; what a record names is used only by leave (trust.py).
    """

    help: str
    image: bool = True
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    multiple_of: int | None = None
    choices: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    place: bool = False

    def describe_range(self) -> str:
        """The rule as a person reads it, such as '1 to 1000' or 'auto, cpu, cuda'; empty if anything goes."""
        if self.choices:
            return ", ".join(self.choices)
        words = []
        if self.ge is not None and self.le is not None:
            words.append(f"{self.ge:g} to {self.le:g}" if self.le != MAX_SEED else f"{self.ge:g} to 2^63 - 1")
        elif self.ge is not None:
            words.append(f"at least {self.ge:g}")
        elif self.gt is not None and self.le is not None:
            words.append(f"above {self.gt:g}, up to {self.le:g}")
        elif self.gt is not None:
            words.append(f"above {self.gt:g}")
        elif self.le is not None:
            words.append(f"at most {self.le:g}")
        if self.multiple_of:
            words.append(f"a multiple of {self.multiple_of}")
        return ", ".join(words)


def param(default: Any, help: str, **rule: Any) -> Any:
    """A dataclass field with its Rule."""
    metadata = {"rule": Rule(help, **rule)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Group:
    """A group of parameters. What its values contradict together is its own check()."""

    def check(self) -> None:
        """Raises ConfigError for values that are right one by one and wrong together."""


def check_window(key: str, sigma_low: float, sigma_high: float) -> None:
    """Raises ConfigError for a window (sigma_low, sigma_high] that is empty. key: what stands before sigma_low."""
    if sigma_low >= sigma_high:
        raise ConfigError(f"{key}sigma_low={sigma_low:g} must be below {key}sigma_high={sigma_high:g}.")


def check_name(key: str, name: str | None) -> None:
    """Raises ConfigError for a name that is no plain file or folder name on every system."""
    if name is None:
        return
    if not name.strip(". ") or re.search(r'[/\\\x00-\x1f:*?"<>|]', name) or len(name.encode()) > 200:
        raise ConfigError(f"{key}={short(name)}: not a plain name of at most 200 bytes.")


def check_text_length(text: str | None, prefix: str = "") -> None:
    """Raises ConfigError for a prompt of too many characters. prefix: of the message."""
    if text is not None and len(text) > MAX_PROMPT_CHARACTERS:
        count = f"{len(text):,}"
        raise ConfigError(f"{prefix}the prompt has {count} characters; at most {MAX_PROMPT_CHARACTERS:,} are taken.")
