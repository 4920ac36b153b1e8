"""What is wrong with a setting, in one line: the key, the value, and the nearest that would be right."""

from __future__ import annotations

import difflib
import re
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException, ValidationError

from llm_dit.base.errors import ConfigError, nearest, one_line, short
from llm_dit.compose.groups import group_names, options_of
from llm_dit.config import parameters

# Hydra raises bare ValueErrors too, for instance for sampler=3.
HYDRA_ERRORS = (HydraException, OmegaConfBaseException, ValueError)


def explain(error: Exception) -> ConfigError:
    """Hydra's and OmegaConf's errors as one line that names the key and the nearest valid one."""
    text = str(error)
    chain = [error, error.__cause__, error.__context__]
    full_key = next((k for e in chain if (k := getattr(e, "full_key", None))), None)
    missing = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' (?:is )?not in", text)
    option = re.search(r"Could not (?:find|load) '([^']+?)/([^'/]+)'", text)
    if option:
        group, name = option[1].rstrip("/"), option[2]
        if group.split("/")[0] == "prompts":
            known = nearest(name, options_of("prompts"))
            return ConfigError(f"prompts={name}: no such set. {known} A file of your own is prompts.set=PATH.")
        if group.startswith("hydra/"):
            return ConfigError(f"{group}={name}: no such option, or its package is missing: see docs/scaling.md.")
        hint = nearest(name, options_of(group))
        if group == "prompt":
            hint += " To give the prompt's text, pass it bare, in quotes, or as prompt.text=..."
        return ConfigError(f"{group}={name}: no such option. {hint}".strip())
    if full_key and any(isinstance(e, ValidationError) for e in chain):
        said = " ".join(map(str, chain))
        value = re.search(r"Value '(.*?)' of type", said, re.DOTALL)
        typed = re.fullmatch(r"Error merging override \S+?=(.*)", text, re.DOTALL)
        hint = next((p for p in parameters() if p.key == full_key), None)
        if hint is None and full_key.startswith("hydra"):
            return ConfigError(f"{full_key}: Hydra refuses the value ({one_line(error)}).")
        if hint is None:
            return ConfigError(f"{full_key} is a group of settings, not a value; {options_hint(full_key)}")
        wanted = type_name(hint.type) + (" or null" if hint.optional else "")
        if get_origin(hint.type) is list and typed:
            instead = f" Write {full_key}=[{typed[1]}]." if re.fullmatch(r"[-\d.]+", typed[1]) else ""
            return ConfigError(f"{full_key}={typed[1]}: must be {wanted}.{instead}")
        return ConfigError(f"{full_key}={short(value[1]) if value else 'null'}: must be {wanted}.")
    if missing and (full_key or missing[1]).startswith("hydra"):
        return ConfigError(f"unknown key '{full_key or missing[1]}': Hydra has no such setting.")
    if missing:
        return ConfigError(unknown_key(full_key or missing[1]))
    ambiguous = re.search(r"Ambiguous value for argument '(.*?)'", text, re.DOTALL)
    if ambiguous:
        return ConfigError(f"{short(ambiguous[1])}: several values; add -m to sweep them, or write [a,b] for one list.")
    if "Config group override must be" in text:
        return ConfigError(f"a group takes the name of one of its options. Groups: {', '.join(group_names())}.")
    twice = re.search(r"(\S+) appears more than once in the final defaults list", text)
    if twice:
        return ConfigError(f"+{twice[1]}=...: the group {twice[1]} is there already; leave the plus sign out.")
    given = getattr(error, "override", None)
    if re.search("mismatched input|no viable alternative|extraneous input|token recognition|LexerNoViable", text):
        return ConfigError(unreadable(given) if given else "cannot read a value; put it into quotes.")
    return ConfigError(" ".join(line.strip() for line in text.splitlines()[:2]) or type(error).__name__)


def unreadable(argument: str) -> str:
    """The message for an argument whose value is not in Hydra's grammar."""
    key, _, value = argument.partition("=")
    values = value.strip("[]() ")
    if values.endswith(",") or values.startswith(","):
        place = "end" if values.endswith(",") else "beginning"
        return f"{short(argument)}: a comma at the {place} has no value beside it; leave it out."
    return f"{short(argument)}: the value cannot be read; put it into quotes, as \"{key}='...'\"."


def unknown_key(key: str) -> str:
    """The message for a key that does not exist, with the nearest one that does."""
    every = [p.key for p in parameters()]
    groups = sorted({k.split(".")[0] for k in every if "." in k})
    last = key.split(".")[-1]
    if key.startswith("lora."):
        hint = nearest(key.replace(".", "_"), [k for k in every if k.startswith("lora_")])
        return f"unknown key {short(key)}. {hint}"
    # data.sizes is data.size mistyped, although model.sizes exists.
    own = {k.split(".")[-1]: k for k in every if "." in key and k.startswith(key.split(".")[0] + ".")}
    if close := difflib.get_close_matches(last, own, n=1, cutoff=0.85):
        return f"unknown key {short(key)}. Did you mean '{own[close[0]]}'?"
    by_leaf = [k for k in every if k.split(".")[-1] == last]
    if by_leaf:
        return f"unknown key {short(key)}. Did you mean '{by_leaf[0]}'?"
    # Inside a known group its own keys come first: guidance.scael is not sampler.shift.
    if "." in key and key.split(".")[0] in groups:
        hint = nearest(key, [k for k in every if k.startswith(key.split(".")[0] + ".")])
    else:
        # step=3 means sampler.steps rather than the group sweep: the last part of a key is what people remember.
        places = {k.split(".")[-1]: k for k in reversed(every)} | {name: name for name in groups}
        close = difflib.get_close_matches(last, places, n=3, cutoff=0.6)
        close.sort(key=lambda name: sorted(name) != sorted(last))  # swapped letters before added ones
        hint = f"Did you mean '{places[close[0]]}'?" if close else nearest(key, groups)
    return f"unknown key {short(key)}. {hint}"


def options_hint(group: str) -> str:
    """What can be written in place of a value for a whole group."""
    options = options_of(group)
    keys = ", ".join(p.key for p in parameters() if p.key.startswith(group + "."))
    chosen = f"choose an option of it ({', '.join(options)}) or " if options else ""
    return f"{chosen}set one of its keys: {keys}."


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


def type_name(annotation: Any) -> str:
    """A type as people say it: 'a whole number or null', 'a list of whole numbers'."""
    if isinstance(annotation, UnionType):
        return " or ".join(type_name(a) for a in get_args(annotation))
    if get_origin(annotation) is list:
        return "a list, each item " + type_name(get_args(annotation)[0])
    return _TYPE_NAMES[annotation]
