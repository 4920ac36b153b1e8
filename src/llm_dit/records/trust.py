"""Which paths and hub ids of a picture's record are used without a question: those that this project ships.

A picture may come from a stranger. Its record is read as data; nothing that it names is opened, looked up or fetched
before the user agrees.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from llm_dit.base.errors import ConfigError, short
from llm_dit.base.paths import visible
from llm_dit.compose import conf_dir
from llm_dit.config import Config, get, parameters, value_at
from llm_dit.config.lora import parse_lora
from llm_dit.prompts.sets import list_prompt_sets
from llm_dit.prompts.templates import templates_dir

_SHIPPED = re.compile(r"shipped:[\w-]+|random:tiny", re.ASCII)
_LISTS = {
    "prompt.template": lambda: [path.stem for path in visible(templates_dir(), "*.md")],
    "encoder_layer.fit_prompts": list_prompt_sets,
}


def refuse_unknown_places(record: Mapping[str, Any], config: Config, keys: Collection[str], picture: str) -> None:
    """Raise ConfigError for a path or hub id in a record that is neither shipped nor this command's own.

    record: the recorded config's values as they were read. config: of this command. keys: those of the record that
    are about to be used. Values of other types than text are left to check(), which refuses them.
    """
    if config.trust_record:
        return
    unknown = []
    for p in parameters():
        if not p.rule.place or p.key not in keys:
            continue
        value, own = value_at(dict(record), p.key), get(config, p.key)
        items = value if isinstance(value, list) else [value]
        strange = [v for v in items if isinstance(v, str) and value != own and not is_shipped(p.key, v)]
        if strange:
            unknown.append(f"{p.key}={short(strange if isinstance(value, list) else strange[0])}")
    if unknown:
        them = "it" if len(unknown) == 1 else "them"
        keys_to_set = " ".join(f"{text.partition('=')[0]}=..." for text in unknown)
        raise ConfigError(
            f"from_image={picture}: its record names {', '.join(unknown)}, which this project does not ship; "
            f"trust_record=true uses {them}, {keys_to_set} takes what you give instead."
        )


def is_shipped(key: str, value: str) -> bool:
    """Whether a parameter's value is one of this project: a name that it ships, or what an option in conf/ sets."""
    if key == "lora":
        try:
            value = parse_lora(value)[0]
        except ConfigError:
            return False
    names = _LISTS.get(key, list)()
    return bool(_SHIPPED.fullmatch(value)) or value in names or value in _values_of_options(key)


@lru_cache
def _values_of_options(key: str) -> frozenset[str]:
    """What the options in conf/ set a key to, but for conf/local, which is read as part of this command's config."""
    import yaml

    found = []
    for path in conf_dir().glob("*/*.yaml"):
        text, group = path.read_text(encoding="utf-8"), path.parent.name
        if text.startswith("# @package _global_"):
            inside = key
        else:
            group_of_key, _, inside = key.partition(".")
            if group_of_key != group:
                continue
        if group != "local":
            value = value_at(yaml.safe_load(text), inside)
            found += value if isinstance(value, list) else [value]
    return frozenset(v for v in found if isinstance(v, str))
