"""Signs of other programs' prompts, which are plain text here: what would do the same."""

from __future__ import annotations

import re

# What AUTOMATIC1111's prompts mean by a sign, and what does it here.
SIGNS = (
    (re.compile(r"<lora:[^<>]+>", re.IGNORECASE), "lora=PATH:SCALE adds a LoRA"),
    (
        re.compile(r"<(?:lyco|lycoris|hypernet|embedding):[^<>]+>", re.IGNORECASE),
        "lora=PATH:SCALE adds a LoRA",
    ),
    (
        re.compile(r"\[[^\[\]:|]*:[^\[\]:|]*:\s*\d*\.?\d+\s*\]"),
        "mix=switch with mix.text changes the prompt midway",
    ),
    (re.compile(r"\[[^\[\]|]+(?:\|[^\[\]|]+)+\]"), "mix.text with a mode of mix draws of two prompts"),
    (re.compile(r"\[[^\[\]:|,\"'0-9]+\]"), "emphasis with (words:0.9) weakens words"),
    (re.compile(r"(?<![A-Z]\s)(?<!\S)BREAK(?!\S)(?!\s[A-Z]{2})"), "long_prompt says what becomes of long prompts"),
    (re.compile(r"(?<![A-Z]\s)(?<!\S)AND(?!\S)(?!\s[A-Z]{2})"), "mix.text with a mode of mix draws of two prompts"),
)


def foreign_signs(text: str, key: str = "the prompt") -> list[str]:
    """One warning for signs of AUTOMATIC1111 in a text, which is read as it stands; none where there are none.

    key: what the text is, for the message.
    """
    found = [(match[0], here) for sign, here in SIGNS if (match := sign.search(text))]
    if not found:
        return []
    told = ", ".join(repr(sign if len(sign) < 40 else sign[:37] + "...") for sign, _ in found)
    does = "; ".join(dict.fromkeys(here for _, here in found))
    return [f"{key}: {told} is read as plain text; here {does}."]
