"""Drawing a picture again from its own record, as it was or with single settings changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from llm_dit.compose import changed_keys, check
from llm_dit.conditioning import TEMPLATE_PARTS
from llm_dit.config import Config, PromptConfig, get, parameters, put, to_dict, value_at
from llm_dit.errors import ConfigError
from llm_dit.picture import read_record

# Keys of the config that say which pictures of it are drawn, and where to: they differ without a difference in pixels.
BOOKKEEPING = ("from_image", "hardware", "output", "seed", "seeds", "num_images", "task")


def config_from_image(config: Config, overrides: Iterable[str]) -> Config:
    """The config recorded in config.from_image, with this run's hardware, output and task, and with its overrides.

    overrides: as given on the command line; each must be key=value, because a group option stands for several
    keys at once. Raises ImageError for a picture without a record, ConfigError for a group option.
    """
    record = read_record(str(config.from_image))
    changed = set(changed_keys(overrides))
    leaves = {p.key for p in parameters()}
    for key in sorted(changed - leaves - {"hardware"}):
        raise ConfigError(
            f"{key}=...: from_image takes single keys (key=value), not group options; set the keys one by one."
        )
    recorded = replace(check(record["config"]), seed=record["seed"], seeds=[], num_images=1)
    current = {k for k in leaves if k in ("task", "from_image") or k.startswith(("hardware.", "output."))}
    if "prompt_file" in changed:
        recorded = replace(recorded, prompt=replace(recorded.prompt, text=None))
    if "prompt.template" in changed:  # the record holds the old template's parts, which would win over the new one's
        empty = {part: getattr(PromptConfig(), part) for part in TEMPLATE_PARTS}
        recorded = replace(recorded, prompt=replace(recorded.prompt, **empty))
    values = to_dict(recorded)
    for key in current | (changed & leaves):
        put(values, key, get(config, key))
    return check(values)


def compare_with_original(before: dict[str, Any], record: dict[str, Any]) -> str:
    """One line: whether a replay gave the pixels of its original, and if not, what was different in their records."""
    if record["pixels_sha256"] == before["pixels_sha256"]:
        return "the same pixels as the original"
    facts = ("device", "dtype", "model_fingerprint", "versions", "init_image_sha256", "seed")
    different = [k for k in facts if before[k] != record[k]]
    # Records made before there were LoRAs have none.
    if [r["sha256"] for r in before.get("lora", [])] != [r["sha256"] for r in record["lora"]]:
        different.append("the files of lora")
    old, new = before["config"], record["config"]
    leaves = [p.key for p in parameters() if p.key.split(".")[0] not in BOOKKEEPING]
    different += [key for key in leaves if value_at(new, key) != value_at(old, key)]
    return f"not the same pixels as the original; different: {', '.join(different) or 'nothing that is recorded'}"
