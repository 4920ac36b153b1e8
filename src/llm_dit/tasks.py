"""What run.py does with a config: one function a task. They print for people; render.py and picture.py do the work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from llm_dit.compose import check, iter_changes, seeds_of
from llm_dit.conditioning import fit_prompt, settle_prompt
from llm_dit.config import Config, get, parameters, to_dict
from llm_dit.denoise.velocity import padded_length
from llm_dit.errors import ConfigError
from llm_dit.picture import Picture, check_writable, picture_name, read_record, save_picture


def render_task(config: Config) -> list[str]:
    """Draw, save as each picture is finished, print where. Returns the paths."""
    config = settle_prompt(config)
    folder = check_writable(config.output.dir)
    seeds = seeds_of(config)

    from llm_dit.render import render

    paths: list[str] = []
    with ProgressBars(pictures=len(seeds)) as bars:

        def save(picture: Picture) -> None:
            name = picture_name(config, picture.record["seed"], alone=len(seeds) == 1)
            paths.append(str(save_picture(picture, folder, name)))
            if len(paths) == 1:
                for warning in picture.record["warnings"]:
                    bars.write(f"warning: {warning}", file=sys.stderr)
            bars.write(paths[-1])
            bars.picture_done()

        pictures = render(config, on_step=bars.step, on_picture=save)
    if config.from_image:
        _report_replay(config, pictures)
    return paths


def preview_task(config: Config) -> str:
    """Print the exact text that the encoder would read and its token count, without loading the language model."""
    from llm_dit.models.load import load_tokenizer

    config = settle_prompt(config)
    tokenizer = load_tokenizer(config.model)
    fitted = fit_prompt(config, config.prompt.text or "", tokenizer)
    count = len(fitted.token_ids)
    print(fitted.formatted.text)
    print(f"--- {count} tokens, padded to {padded_length(count)}; limit {config.long_prompt.max_tokens}", file=sys.stderr)
    if fitted.warning:
        print(f"warning: {fitted.warning}", file=sys.stderr)
    return fitted.formatted.text


TASKS: dict[str, Callable[[Config], Any]] = {"render": render_task, "preview": preview_task}


def run_task(config: Config, changes: Iterable[str] = ()) -> Any:
    """Run the config's task. changes: the overrides it was composed from, which from_image lays over the record."""
    if config.from_image:
        config = config_from_image(config, changes)
    return TASKS[config.task](config)


def config_from_image(config: Config, changes: Iterable[str]) -> Config:
    """The config recorded in config.from_image, with the settings of this run that do not change the pixels, and changes.

    changes: overrides as given; each must be key=value (a group option stands for several keys at once, so it
    is refused). Raises ImageError or ConfigError.
    """
    record = read_record(str(config.from_image))
    values = check(record["config"])
    values = replace(values, seed=record["seed"], seeds=[], num_images=1)
    leaves = {p.key for p in parameters()}
    from_now = {p.key for p in parameters() if not p.rule.image and not p.key.startswith("model.")}
    for key in iter_changes(changes):
        if key in leaves:
            from_now.add(key)
        elif key != "hardware":
            raise ConfigError(f"{key}=...: from_image takes single keys (key=value), not group options; set the keys one by one.")
    nested = to_dict(values)
    for key in from_now - ({"num_images"} if "num_images" not in iter_changes(changes) else set()):
        *groups, leaf = key.split(".")
        node = nested
        for group in groups:
            node = node[group]
        node[leaf] = get(config, key)
    if "prompt_file" in from_now and "prompt.text" not in from_now:
        nested["prompt"]["text"] = None
    return check(nested)


def _report_replay(config: Config, pictures: list[Picture]) -> None:
    """Say whether the replay gave the same pixels."""
    before = read_record(str(config.from_image))
    after = pictures[0].record
    if after["pixels_sha256"] == before["pixels_sha256"]:
        print("the same pixels as the original")
        return
    reasons = [k for k in ("device", "dtype", "versions", "model_fingerprint") if before[k] != after[k]]
    reasons += [k for k, v in after["config"].items() if k not in ("output", "from_image", "hardware", "seeds", "seed", "num_images") and v != before["config"].get(k)]
    print(f"not the same pixels as the original; different: {', '.join(reasons) or 'nothing recorded'}")


class ProgressBars:
    """Steps and pictures on stderr; quiet when that is not a terminal."""

    def __init__(self, pictures: int):
        self.pictures = pictures
        self._bars: dict[str, Any] = {}

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def _bar(self, name: str, total: int) -> Any:
        from tqdm import tqdm

        if name not in self._bars:
            self._bars[name] = tqdm(total=total, desc=name, disable=None, leave=False, position=len(self._bars))
        return self._bars[name]

    def step(self, done: int, total: int) -> None:
        if self.pictures > 1:
            self._bar("pictures", self.pictures)
        bar = self._bar("steps", total)
        bar.update(done - bar.n)

    def picture_done(self) -> None:
        if self.pictures > 1:
            self._bar("pictures", self.pictures).update()

    def write(self, line: str, file: Any = None) -> None:
        from tqdm import tqdm

        tqdm.write(line, file=file or sys.stdout)
