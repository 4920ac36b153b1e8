"""Command-line arguments as Hydra overrides: the bare one is the prompt, and texts need no quoting rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields

from hydra.core.override_parser.types import Quote, QuotedString

from llm_dit.compose.groups import options_of
from llm_dit.compose.messages import HYDRA_ERRORS, short, too_long, unknown_key
from llm_dit.config import MAX_PROMPT_CHARACTERS, Config, parameters
from llm_dit.errors import ConfigError, nearest

_OVERRIDE = re.compile(r"^(~|\+\+?)?(?P<key>[A-Za-z_][\w./@-]*)(=|$)", re.DOTALL)
_HYDRA_ROOTS = ("hydra",)


def prepare_overrides(arguments: Sequence[str], sweep: bool = False) -> list[str]:
    """Command-line arguments with the bare one, the prompt, turned into a quoted override.

    What follows '--' is the prompt whatever it looks like. Other texts (a negative prompt, a path) are quoted
    too, unless they are already, or sweep says that their commas part values. Raises ConfigError for two prompts.
    """
    arguments = list(arguments)
    verbatim: list[str] = []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, verbatim = arguments[:cut], arguments[cut + 1 :]
    overrides = [a for a in arguments if _is_override(a)]
    prompts = [a for a in arguments if not _is_override(a)] + verbatim
    if len(prompts) > 1:
        raise ConfigError(
            f"two prompts: {short(prompts[0])} and {short(prompts[1])}. Put the whole prompt in one pair of quotes; "
            "settings are key=value."
        )
    overrides = [_listed(_data_path(o), sweep) for o in overrides]
    if not sweep:
        overrides = [_quote_text(o) for o in overrides]
    return overrides + [f"prompt.text={quote(p)}" for p in prompts]


def _is_override(argument: str) -> bool:
    """Whether an argument is 'key=value' (or '~key') rather than a prompt.

    A sentence may well hold an equals sign, so 'word=...' counts as a sentence when it has white space
    and its word is nowhere near a known key.
    """
    match = _OVERRIDE.match(argument)
    if match is None or (match[3] != "=" and match[1] != "~"):
        return False
    root = re.split(r"[./@]", match["key"])[0]
    known = [f.name for f in fields(Config)] + list(_HYDRA_ROOTS)
    if root in known or match[1] or not re.search(r"\s", argument):
        return True
    return nearest(root, known).startswith("Did you mean")


def _data_path(override: str) -> str:
    """data=PATH as data.path=PATH: the group's options are few, and what people give it is a file or a folder."""
    key, _, value = override.partition("=")
    return f"data.path={value}" if key == "data" and value not in options_of("data") else override


def _quote_text(override: str) -> str:
    """An override of a text parameter with its value quoted, so that commas, brackets and blanks in it are its own."""
    match = _OVERRIDE.match(override)
    if match is None or match["key"] not in {p.key for p in parameters() if p.type is str and not p.rule.choices}:
        return override
    start, value = override[: match.end()], override[match.end() :]
    if value == "null" or (len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]):
        return override
    # A path may well hold an interpolation such as ${oc.env:HOME}; a prompt's ${...} is just text.
    return start + (
        quote(value)
        if match["key"].startswith(("prompt.", "mix."))
        else QuotedString(value, Quote.double).with_quotes()
    )


def _listed(override: str, sweep: bool) -> str:
    """lora=blob.safetensors:0.8 as the list of one that it means; several values of a sweep stay as they are."""
    match = _OVERRIDE.match(override)
    if match is None or match["key"].split(".")[0] != "lora":
        return override
    if match["key"] != "lora":  # Hydra would take it for a place in the list
        raise ConfigError(unknown_key(match["key"]))
    if sweep and _has_several_values(override):
        return override
    return override[: match.end()] + in_list("lora", override[match.end() :], whole=True)


def _has_several_values(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        return OverridesParser.create().parse_override(override).is_sweep_override()
    except HYDRA_ERRORS:
        return False


def in_list(key: str, value: str, whole: bool = False) -> str:
    """A value of Hydra's grammar for this key; one LoRA alone stands for a list of it, none and null for no LoRA.

    whole: the value is one text, whatever it holds.
    """
    if value.startswith("[") or key != "lora":
        return value
    if value in ("", "none", "null"):
        return "[]"
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    return f"[{value if quoted or not whole else QuotedString(value, Quote.double).with_quotes()}]"


def quote(text: str) -> str:
    """Text as a value of Hydra's override grammar that comes back unchanged, with or without --multirun."""
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ConfigError(too_long(text))
    # OmegaConf would read ${...} as an interpolation; it unescapes backslashes only in front of one.
    text = re.sub(r"(\\*)\$\{", lambda m: m.group(1) * 2 + r"\${", text)
    return QuotedString(text, Quote.double).with_quotes()


def changed_keys(overrides: Iterable[str]) -> list[str]:
    """The keys that overrides of the form key=value set, in order: dotted keys and names of groups."""
    matches = (_OVERRIDE.match(o) for o in overrides)
    return [m["key"] for m in matches if m and m[3] == "="]
