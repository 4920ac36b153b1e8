"""Drawing a picture again from its own record, as it was or with single settings changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from llm_dit.base.errors import ConfigError
from llm_dit.compose import changed_keys, check
from llm_dit.conditioning.encode import TEMPLATE_PARTS
from llm_dit.config import Config, PromptConfig, get, parameters, put, to_dict, value_at
from llm_dit.records.picture import read_record
from llm_dit.records.trust import refuse_unknown_places

# What belongs to a run and not to a picture: a replay takes it from its own command and never from the record.
OF_THE_RUN = ("task", "from_image", "trust_record", "resume", "dry_run", "hardware", "prompts", "data", "train",
              "tracker", "sweep", "metrics", "report", "output")  # fmt: skip
# Keys of the config that say which pictures of it are drawn, and where to: they differ without a difference in pixels.
BOOKKEEPING = (*OF_THE_RUN, "seed", "seeds", "num_images")


def config_from_image(config: Config, overrides: Iterable[str]) -> Config:
    """The config recorded in config.from_image, with what is OF_THE_RUN from this command, and with its overrides.

    overrides: as given on the command line; each must be key=value, because a group option stands for several
    keys at once. Raises ImageError for a picture without a record, ConfigError for a group option and for a path or
    hub id of the record that is not shipped, while neither config.trust_record nor an override of its key is given.
    """
    record = read_record(str(config.from_image))
    changed = set(changed_keys(overrides))
    leaves = {p.key for p in parameters()}
    for key in sorted(changed - leaves - {"hardware"}):
        raise ConfigError(
            f"{key}=...: from_image takes single keys (key=value), not group options; set the keys one by one."
        )
    of_the_picture = {name: value for name, value in record["config"].items() if name not in OF_THE_RUN}
    if "prompt.text" in changed:
        of_the_picture.pop("prompt_file", None)
    current = {k for k in leaves if k.split(".")[0] in OF_THE_RUN}
    refuse_unknown_places(of_the_picture, config, leaves - current - changed, str(config.from_image))
    recorded = replace(check(of_the_picture), seed=record["seed"], seeds=[], num_images=1)
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
