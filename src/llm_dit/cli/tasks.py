"""What run.py does with a config: one function a task. They print for people; render/ and records/ do the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ConfigError, ImageError, LabError, OutputError, printable
from llm_dit.base.files import check_writable
from llm_dit.base.paths import user_path
from llm_dit.conditioning.encode import fit_prompt, read_prompt, read_said, settle_prompt, token_weights
from llm_dit.config import Config, get, parameters, seeds_of
from llm_dit.families.z_image.velocity import padded_length
from llm_dit.records.foreseen import asked_size, foreseen, prompt_warnings, reader_of
from llm_dit.records.picture import Picture, identity, picture_name, read_record, save_picture
from llm_dit.records.replay import compare_with_original, config_from_image
from llm_dit.records.schema import PictureRecord, read_object


def render_task(config: Config) -> list[str]:
    """Draw, save as each picture is finished, print where. Returns the paths."""
    config = settle_prompt(config)
    folder = check_writable(config.output.dir)
    names = file_names(config, folder)
    check_writable(folder, files=[f"{name}{ending}" for name in names.values() for ending in (".png", ".json")])
    refuse_taken(config, folder, names)
    if config.dry_run:
        return plan_render(config, [folder / f"{name}.png" for name in names.values()])

    from llm_dit.render.draw import render

    original = read_record(config.from_image) if config.from_image else None

    paths: list[str] = []
    with ProgressBars(pictures=len(names)) as bars:

        def save(picture: Picture) -> None:
            seed = picture.record["seed"]
            refuse_taken(config, folder, {seed: names[seed]})  # something may have come while it was drawn
            paths.append(str(save_picture(picture, folder, names[seed])))
            if len(paths) == 1:
                for warning in picture.record["warnings"]:
                    bars.write(f"warning: {printable(warning)}", file=sys.stderr)
            bars.write(paths[-1])
            bars.picture_done()

        pictures = render(config, on_step=bars.step, on_picture=save)
    if original:
        print(compare_with_original(original, pictures[0].record))
    return paths


def file_names(config: Config, folder: Path) -> dict[int, str]:
    """Seed -> file name without ending. A replay takes no original's place: NAME is drawn again as NAME_again."""
    seeds = seeds_of(config)
    names = {seed: picture_name(config, seed, alone=len(seeds) == 1) for seed in seeds}
    if config.from_image:
        original = user_path(config.from_image).resolve()
        taken = (original, original.with_stem(original.stem.removesuffix("_again")))
        names = {s: f"{n}_again" if (folder / f"{n}.png").resolve() in taken else n for s, n in names.items()}
    return names


def refuse_taken(config: Config, folder: Path, names: dict[int, str]) -> None:
    """Raises OutputError where a file is in the way that is not this very picture, drawn before."""
    for seed, name in names.items():
        for path in (folder / f"{name}.png", folder / f"{name}.json"):
            if os.path.lexists(path) and not is_drawn_before(path, config, seed):
                raise OutputError(
                    f"{path}: is there and is not this picture, so it is not written over. Take another output.name or "
                    "output.dir."
                )


def is_drawn_before(path: Path, config: Config, seed: int) -> bool:
    """Whether a file is the PNG or the JSON of an earlier picture of these settings and this seed."""
    from llm_dit.compose import check

    if path.is_symlink() or not path.is_file():
        return False
    try:
        record = read_record(path) if path.suffix == ".png" else read_object(path, PictureRecord) or {}
        if record["seed"] != seed:
            return False
        # An identity hashes the files that its config names. A record is not believed: it has to name this run's own.
        recorded = check(record["config"])
        named = [p.key for p in parameters() if p.rule.place and p.rule.image]
        return all(get(recorded, k) == get(config, k) for k in named) and identity(recorded) == identity(config)
    except (LabError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def plan_render(config: Config, paths: list[Path]) -> list[str]:
    """Print the files that would be written and the memory it takes, and draw nothing."""
    from llm_dit.study.dry_run import forwards_of, memory_lines

    for warning in foreseen(config, asked_size(config)):
        print(f"warning: {printable(warning)}", file=sys.stderr)
    print(*paths, sep="\n")
    print(f"{len(paths)} pictures to draw, {forwards_of(config):g} forwards each", *memory_lines([config]), sep="\n")
    return [str(path) for path in paths]


def preview_task(config: Config) -> str:
    """Print the exact text that the encoder would read and its token count, without loading the language model."""
    from llm_dit.encoders.load import load_tokenizer

    config = settle_prompt(config)
    tokenizer = load_tokenizer(config.model)
    for warning in prompt_warnings(config, reader_of(config)):
        print(f"warning: {printable(warning)}", file=sys.stderr)
    text = _preview(config, config.prompt.text or "", tokenizer)
    if config.mix.mode != "none":
        print(f"--- the second prompt, by mix.mode={config.mix.mode}", file=sys.stderr)
        _preview(config, config.mix.text or "", tokenizer)
    return text


def _preview(config: Config, user: str, tokenizer: Any) -> str:
    said = read_said(config, user)
    fitted = fit_prompt(config, said.text, tokenizer)
    count = len(fitted.token_ids)
    print(printable(fitted.formatted.text))
    lp = config.long_prompt
    if lp.mode in ("interpolate", "pool", "attention_pool", "merge") and count > lp.max_tokens:
        read, count = f"{count} tokens read, {lp.max_tokens} after long_prompt.mode={lp.mode}", lp.max_tokens
    else:
        read = f"{count} tokens"
    print(f"--- {read}, padded to {padded_length(count)}; limit {lp.max_tokens}", file=sys.stderr)
    if config.emphasis.mode != "none":
        weights = [(words, w) for words, w in token_weights(config, said, [fitted], tokenizer)[0] if w != 1]
        read = ", ".join(f"{words!r} {w:.3g}" for words, w in weights)
        print(f"--- tokens with a weight: {read or 'none'}; all others weigh 1", file=sys.stderr)
    for warning in filter(None, (fitted.warning, *said.warnings)):
        print(f"warning: {printable(warning)}", file=sys.stderr)
    return fitted.formatted.text


def vocabulary_task(config: Config) -> None:
    """Print what the model was taught, or what of it the prompt finds."""
    from llm_dit.cli.vocabulary_list import listed, listed_matches
    from llm_dit.prompts.vocabulary import load_vocabulary

    model, text = config.model, read_prompt(config) if config.prompt_file else config.prompt.text
    if model.vocabulary is None:
        print(f"{printable(model.name)} has no list of words: it was trained on captions of any kind.")
        return
    vocabulary = load_vocabulary(model.vocabulary)
    print(*map(printable, listed_matches(vocabulary, text) if text else listed(vocabulary)), sep="\n")


def grid_task(config: Config) -> list[Path]:
    """Write a sweep's table and grids again from its records, also while it is still being drawn."""
    from llm_dit.study.finish import existing_sweep, write_table_and_grids

    written = write_table_and_grids(existing_sweep(config))
    print(*written, sep="\n")
    return written


def report_task(config: Config) -> Path:
    """Write a sweep's report.html from its records and scores, also while it is still being drawn."""
    from llm_dit.study.finish import existing_sweep, write_sweep_report

    path = write_sweep_report(existing_sweep(config), config)
    print(path)
    return path


def score_task(config: Config) -> None:
    """Score the pictures of a sweep that have no score by the chosen metrics yet, then its table, grids and report."""
    from tqdm import tqdm

    from llm_dit.metrics.registry import METRICS, ready_metrics
    from llm_dit.study.finish import existing_sweep, finish_sweep
    from llm_dit.study.score import score_cell

    folder, metrics = existing_sweep(config), ready_metrics(config)
    if not metrics:
        raise ConfigError(f"task=score needs metrics=NAME or metrics=[NAME,NAME]. Valid: {', '.join(METRICS)}.")
    cells = folder.cells()
    total = len(metrics) * sum(len(cell.records()) for cell in cells)
    with tqdm(total=total, unit="score", disable=None, leave=False) as bar:
        done = [score_cell(cell, metrics, bar.update) for cell in cells]
    names = ", ".join(metric.name for metric in metrics)
    print(f"{folder.path}: {sum(d.new for d in done)} new scores by {names}, {sum(d.kept for d in done)} kept")
    print(*finish_sweep(folder, config), sep="\n")
    problems = list(dict.fromkeys(problem for d in done for problem in d.problems))
    if problems:
        raise ImageError(f"{len(problems)} pictures could not be scored; the first: {problems[0]}")


def sync_task(config: Config) -> None:
    """Send a sweep to a tracker from its records: after a sweep without one, or one whose tracker failed."""
    from llm_dit.study.finish import existing_sweep, write_table_and_grids
    from llm_dit.study.track import sync

    if config.tracker.name == "none":
        raise ConfigError("task=sync needs a tracker: add tracker=wandb or tracker=trackio.")
    folder = existing_sweep(config)
    done, where = sync(config, folder, [p for p in write_table_and_grids(folder) if p.suffix == ".png"])
    if not done.ok:
        raise OutputError(f"the tracker {config.tracker.name} took only a part of the sweep; see the warning above.")
    for path in done.missing:
        print(f"warning: {printable(path)} is gone and was left out", file=sys.stderr)
    print(f"{done.cells} cells, {done.images} pictures sent to {config.tracker.name}", where, sep="\n")


def train_task(config: Config) -> Any:
    """Train, save checkpoints and what comes of it, print where."""
    from llm_dit.train.task import train

    return train(config)


TASKS: dict[str, Callable[[Config], Any]] = {
    "render": render_task,
    "preview": preview_task,
    "grid": grid_task,
    "score": score_task,
    "report": report_task,
    "sync": sync_task,
    "train": train_task,
    "vocabulary": vocabulary_task,
}


def run_task(config: Config, overrides: Iterable[str] = ()) -> Any:
    """Run the config's task. overrides: what it was composed from, which from_image lays over the record."""
    if config.from_image:
        config = config_from_image(config, overrides)
    return TASKS[config.task](config)


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
