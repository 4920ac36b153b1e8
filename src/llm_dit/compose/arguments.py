"""Command-line arguments as Hydra overrides: the bare one is the prompt, and texts need no quoting rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields

from hydra.core.override_parser.types import Quote, QuotedString

from llm_dit.base.errors import ConfigError, nearest, short
from llm_dit.compose.given import without_plus
from llm_dit.compose.groups import options_of
from llm_dit.compose.messages import HYDRA_ERRORS, unknown_key
from llm_dit.config import Config, parameters
from llm_dit.config.rule import check_text_length

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
    overrides = [without_plus(a) for a in arguments if _is_override(a)]
    prompts = [a for a in arguments if not _is_override(a)] + verbatim
    if len(prompts) > 1:
        raise ConfigError(
            f"two prompts: {short(prompts[0])} and {short(prompts[1])}. Put the whole prompt in one pair of quotes; "
            "settings are key=value."
        )
    if prompts and (beside := [o for o in overrides if o.startswith("prompt.text=") and o != "prompt.text=null"]):
        raise ConfigError(f"two prompts: {short(prompts[0])} and {short(beside[0])}; leave one out.")
    overrides = [_listed(_data_path(o), sweep) for o in overrides]
    if sweep:
        overrides = [_quote_parts(o) for o in overrides]
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
    return override[: match.end()] + _as_text(match["key"], override[match.end() :])


def _as_text(key: str, value: str) -> str:
    """A value in Hydra's grammar that is this text: quoted, unless it is one quoted text already, or null."""
    if value == "null" or is_quoted(value):
        return value
    # A path may well hold an interpolation such as ${oc.env:HOME}; a prompt's ${...} is just text.
    return quote(value) if key.startswith(("prompt.", "mix.")) else QuotedString(value, Quote.double).with_quotes()


def is_quoted(value: str) -> bool:
    """Whether a value is one quoted text from its first character to its last: "a", "b" are two."""
    return re.fullmatch(r"""(['"])(?:\\.|(?!\1).)*\1""", value, re.DOTALL) is not None


def _quote_parts(override: str) -> str:
    """An axis of texts that Hydra cannot read, such as lora=epoch=3.safetensors,none, with each of its parts quoted."""
    match = _OVERRIDE.match(override)
    texts = {p.key for p in parameters() if p.type is str and not p.rule.choices} | {"lora"}
    if match is None or match["key"] not in texts or _is_readable(override):
        return override
    return override[: match.end()] + ",".join(_part(match["key"], p) for p in _parts(override[match.end() :]))


def _part(key: str, part: str) -> str:
    """One value of an axis of texts; in a list each item is quoted."""
    if part.startswith("[") and part.endswith("]"):
        return "[" + ",".join(_as_text(key, p) for p in _parts(part[1:-1]) if p) + "]"
    return part if part in ("none", "null") else _as_text(key, part)


def _parts(value: str) -> list[str]:
    """A value parted at the commas outside of quotes and brackets, without blanks around the parts."""
    parts, depth, quote_mark, begin = [], 0, "", 0
    for i, c in enumerate(value):
        if quote_mark:
            quote_mark = "" if c == quote_mark and value[i - 1] != "\\" else quote_mark
        elif c in "'\"" and not value[begin:i].strip(" ["):  # inside of a word it is an apostrophe
            quote_mark = c
        elif c in "[]":
            depth += 1 if c == "[" else -1
        elif c == "," and depth <= 0:
            parts.append(value[begin:i].strip())
            begin = i + 1
    return [*parts, value[begin:].strip()]


def _is_readable(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        OverridesParser.create().parse_override(override)
    except HYDRA_ERRORS:
        return False
    return True


def _listed(override: str, sweep: bool) -> str:
    """lora=blob.safetensors:0.8 as the list of one that it means; several values of a sweep stay as they are."""
    match = _OVERRIDE.match(override)
    if match is None or match["key"].split(".")[0] != "lora":
        return override
    if match["key"] != "lora":  # Hydra would take it for a place in the list
        raise ConfigError(unknown_key(match["key"]))
    value = override[match.end() :]
    parted = _parts(value)
    if sweep and (len(parted) > 1 or _is_sweep(override)):
        return override
    if value.startswith("[") and not _is_readable(override):
        return override[: match.end()] + _part("lora", value)
    return override[: match.end()] + in_list("lora", value, whole=True)


def _is_sweep(override: str) -> bool:
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
    return f"[{_as_text(key, value) if whole else value}]"


def quote(text: str) -> str:
    """Text as a value of Hydra's override grammar that comes back unchanged, with or without --multirun."""
    check_text_length(text)
    # OmegaConf would read ${...} as an interpolation; it unescapes backslashes only in front of one.
    text = re.sub(r"(\\*)\$\{", lambda m: m.group(1) * 2 + r"\${", text)
    return QuotedString(text, Quote.double).with_quotes()


def changed_keys(overrides: Iterable[str]) -> list[str]:
    """The keys that overrides of the form key=value set, in order: dotted keys and names of groups."""
    matches = (_OVERRIDE.match(o) for o in overrides)
    return [m["key"] for m in matches if m and m[3] == "="]
