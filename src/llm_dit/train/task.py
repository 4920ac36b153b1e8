"""task=train: a config to a trained model. Prints for people; the loop is loop.py's, the loss transformer.py's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ConfigError, OutputError, RecordError
from llm_dit.base.files import PREFIX, remove_leftovers, write_whole
from llm_dit.base.lock import locked
from llm_dit.base.paths import user_path
from llm_dit.base.versions import versions
from llm_dit.config import Config, get, parameters, to_dict
from llm_dit.models.cache import PARTS, PartCache
from llm_dit.records.schema import read_object
from llm_dit.train.checkpoint import is_own_weights
from llm_dit.train.outputs import PARTS as COMPONENTS
from llm_dit.train.outputs import WEIGHTS
from llm_dit.weights.place import choose_placement

# What may change between a checkpoint and the run that goes on from it: where things go, how it is computed, how long.
FREE = {
    f"train.{key}"
    for key in (
        "name", "dir", "steps", "compile", "gradient_checkpointing", "log_every", "checkpoint_every", "keep",
        "validate_every", "save_dtype",
    )
} | {"model.name", "model.sizes", "model.vocabulary"}  # fmt: skip
LOCK_MARK = b"llm-dit: a training\n"
SHARED_GROUPS = ("train.", "model.", "encoder_layer.")
OF_DISTILLATION = ("sampler.", "guidance.", "default_size")  # the teacher's and the grid's
# While one process encodes the data or validates, the others wait; the usual ten minutes would end the training.
LONGEST_WAIT = timedelta(days=1)


def train(config: Config, *, parts: PartCache = PARTS, dataset: Any = None) -> Path:
    """Train as config.train says and save what comes of it. Returns the folder or file that it is saved as.

    dataset: in place of the one that config.data names. Raises LabError, KeyboardInterrupt after an orderly stop.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    from llm_dit.render.draw import set_threads, translated_memory_errors
    from llm_dit.train.jobs import Where, make_job
    from llm_dit.train.loop import Training, describe_cost, refuse_nothing_finite
    from llm_dit.train.start import trained_parameters
    from llm_dit.train.tracking import tracked
    from llm_dit.train.validate import check_validation, drop_later

    settings = config.train
    warnings = idle_settings(config)
    check_validation(config)
    refuse_drawing_settings(config)
    set_threads(config.hardware.threads)
    together = [
        DistributedDataParallelKwargs(find_unused_parameters=True),
        InitProcessGroupKwargs(timeout=LONGEST_WAIT),
    ]
    # Left to itself accelerate takes processes on a machine without a GPU for trainings of their own.
    on_cpu = choose_placement(config.hardware.device).device == "cpu"
    # Precision is the settings' own: what `accelerate config` wrote for other programs has no say.
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=together)
    device = accelerator.device
    main = accelerator.is_main_process
    autocast = settings.precision == "bf16" or (settings.precision == "auto" and device.type == "cuda")
    for line in warnings if main else []:
        print(f"warning: {line}", file=sys.stderr)
    with accelerator.main_process_first():  # what it encodes is then in the cache for the others
        dataset = open_data(config, parts) if dataset is None else dataset
    refuse_small(dataset, config)
    folder = training_folder(config)
    refuse_own_source(folder, config)
    accelerator.wait_for_everyone()  # with resume=false, before any process makes the folder that is free
    make_folder(folder)
    refuse_foreign_weights(folder, settings.method)
    with alone_in(folder) if main else contextlib.nullcontext(), translated_memory_errors():
        processes = (accelerator.process_index, accelerator.num_processes)
        job = make_job(config, dataset, parts, Where(device, autocast, *processes, accelerator.prepare))
        trained = trained_parameters(job.model)
        facts = {
            "settings": shared_settings(config),
            "data_fingerprint": dataset.fingerprint,
            "base_fingerprint": base_fingerprint(job.model),
            "processes": accelerator.num_processes,
        }
        training = Training(job.task, trained, settings, folder, facts, accelerator)
        training.resume()
        if main:
            drop_later(folder, training.step)
        if settings.validate_every:
            training.validate = job.validation(training) if main else nothing
        with contextlib.closing(job.task), progress(training, main), tracked(config, training, main):
            training.run()
        refuse_nothing_finite(trained)
        if not main:
            return folder
        if not (folder / "lock").is_file():
            raise OutputError(f"{folder}: the training's folder was removed while it ran.")
        about = {**facts, "step": training.step}
        with training.averaged():
            saved = job.save(folder, about)
        record = {
            "config": to_dict(config),
            **about,
            "shift": job.shift,
            "trained_parameters": sum(p.numel() for p in trained.values()),
            "pictures": dataset.count,
            "problems": list(dataset.problems),
            "notes": list(dataset.notes),
            "cost": describe_cost(training, settings.batch_size * settings.accumulation * accelerator.num_processes),
            "warnings": warnings,
            "saved": str(saved),
            "versions": versions(),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False)
        # A file's name in a note may be no UTF-8.
        write_whole({folder / "train.json": text.encode(errors="backslashreplace")})
        print(saved)
        return saved


def refuse_drawing_settings(config: Config) -> None:
    """Raises ConfigError for what belongs to a picture, and would not reach the pictures and captions trained on."""
    if config.lora:
        raise ConfigError("lora: training starts from the model without LoRAs; leave it out.")
    if config.long_prompt.positions != "plain":
        raise ConfigError("long_prompt.positions: captions are trained on at plain positions; leave it out.")
    for group in ("emphasis", "mix", "diversity"):
        given = getattr(config, group)
        if given != type(given)():
            raise ConfigError(f"{group}: captions are trained on as they stand; leave it out, or take {group}=none.")


def open_data(config: Config, parts: PartCache) -> Any:
    """The data set that config.data names. Raises ConfigError when it names none."""
    from llm_dit.train.data.dataset import open_dataset

    if config.data.path is None:
        raise ConfigError("task=train needs data: data=PATH, a .jsonl, .csv or .tar file or a folder of pictures.")
    return open_dataset(config.data, config, parts=parts, encode=config.train.method != "vae")


def refuse_small(dataset: Any, config: Config) -> None:
    """Raises ConfigError when one batch is larger than the data."""
    if dataset.count * config.data.repeat < config.train.batch_size:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size}: the data have {dataset.count} pictures. Take a smaller "
            "batch, train.accumulation for a larger step, or data.repeat."
        )


def refuse_own_source(folder: Path, config: Config) -> None:
    """Raises ConfigError when the training would write over the model that it reads from."""
    if ":" not in config.model.path and folder.resolve() == user_path(config.model.path).resolve():
        raise ConfigError(
            f"model.path={config.model.path}: the training would be saved over the model it starts from. Take another "
            "train.name."
        )


def base_fingerprint(model: Any) -> str:
    """The weights a training starts from, adapters left out: they are new."""
    from types import SimpleNamespace

    from llm_dit.weights.fingerprint import fingerprint

    weights = {name: p for name, p in model.state_dict().items() if "lora_" not in name}
    return fingerprint(SimpleNamespace(state_dict=lambda: weights))


def shared_settings(config: Config) -> dict[str, Any]:
    """Dotted keys to values of what a checkpoint must share with the run that goes on from it."""
    groups = SHARED_GROUPS + (OF_DISTILLATION if config.train.method == "distill" else ())
    return {p.key: get(config, p.key) for p in parameters() if p.key.startswith(groups) and p.key not in FREE}


def training_folder(config: Config) -> Path:
    """Where a training is kept: by name, or by method and settings. With resume=false the next that is free."""
    name = config.train.name
    if name is None:
        told = {**shared_settings(config), "data": to_dict(config.data)}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
        name = f"{config.model.name}_{config.train.method}_{digest}"
    folder = user_path(config.train.dir) / name
    number = 2
    while not config.resume and folder.exists():
        folder = user_path(config.train.dir) / f"{name}-{number}"
        number += 1
    return folder


def nothing(_step: int) -> dict[str, float]:
    """The validation of processes beside the first."""
    return {}


def make_folder(folder: Path) -> None:
    """Make a training's folder. Raises OutputError before anything is loaded."""
    refuse_foreign(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}).") from error


def refuse_foreign(folder: Path) -> None:
    """Raises OutputError for a folder that holds something and was not made by a training.

    A training makes its lock first; its checkpoints or train.json speak for it where the lock was deleted.
    """
    there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    there = {name for name in there if not name.startswith(PREFIX)}
    begun = any((p / "state.json").is_file() for p in (folder / "checkpoints").glob("step-*"))
    begun = begun or there == {"lock"} or is_marked(folder / "lock")
    if there and not (begun or is_train_record(folder / "train.json")):
        raise OutputError(
            f"{folder}: holds {min(there)!r} and no training of llm-dit, so nothing is written there. Take another "
            "train.name."
        )
    for name in (*COMPONENTS, "checkpoints", "validation", "lora.safetensors", "log.jsonl", "lock", "train.json"):
        if (folder / name).is_symlink():
            raise OutputError(f"{folder / name}: a link, which is not written through. Take another train.name.")


def is_marked(lock: Path) -> bool:
    """Whether a file is the lock of a training."""
    try:
        return not lock.is_symlink() and lock.is_file() and lock.read_bytes() == LOCK_MARK
    except OSError:
        return False


def refuse_foreign_weights(folder: Path, method: str) -> None:
    """Raises OutputError for weights in the way of those that will be saved and that no training here has written."""
    if method == "lora":
        place = weights = folder / "lora.safetensors"
    else:
        place = folder / ("vae" if method == "vae" else "transformer")
        weights = place / WEIGHTS
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return
    if not is_own_weights(weights):
        raise OutputError(
            f"{place}: holds weights of another origin, which are not written over. Take another train.name."
        )


def is_train_record(path: Path) -> bool:
    """Whether a file is the train.json that a training ends with."""
    try:
        values = read_object(path, dict)
    except RecordError:
        return False
    return values is not None and {"config", "saved", "trained_parameters"} <= values.keys()


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within, no other process trains in the folder. Raises OutputError when one does."""
    with locked(folder / "lock", LOCK_MARK) as mine:
        if not mine:
            raise OutputError(f"{folder}: another process trains there. Wait for it, or take another train.name.")
        parts = (Path(where) for part in COMPONENTS for where, _, _ in os.walk(folder / part))
        remove_leftovers(folder, folder / "checkpoints", folder / "validation", *parts)
        yield


@contextlib.contextmanager
def progress(training: Any, shown: bool) -> Iterator[None]:
    """A bar on a terminal, else a line at each line of the log."""
    from tqdm import tqdm

    settings = training.settings
    with tqdm(
        total=settings.steps, unit="step", initial=training.step, disable=None if shown else True, leave=False
    ) as bar:

        def tell(step: int, line: dict[str, Any]) -> None:
            bar.update(step - bar.n)
            bar.set_postfix_str(f"loss {line.get('loss', float('nan')):.4f}")
            if bar.disable and shown:
                print(f"step {step}/{settings.steps} loss {line.get('loss', float('nan')):.4f} {line['seconds']:.0f} s",
                      file=sys.stderr, flush=True)  # fmt: skip

        training.on_log.append(tell)
        yield


def idle_settings(config: Config) -> list[str]:
    """Settings of train that were given and cannot act, one line each."""
    from llm_dit.config import TrainConfig

    s, plain = config.train, TrainConfig()
    idle: dict[str, str] = {}
    if s.method != "lora":
        idle |= {f"lora.{key}": f"train.method is {s.method}" for key in ("rank", "alpha", "dropout", "targets")}
    if s.method == "lora":
        idle["trainable"] = "train.method is lora"
    if s.method != "distill":
        idle["distill.substeps"] = f"train.method is {s.method}"
    if s.method != "vae":
        idle |= {
            f"vae.{key}": f"train.method is {s.method}"
            for key in ("kl_weight", "edge_weight", "shrink_share", "rescale")
        }
    flow = ("sigma_sampling", "logit_mean", "logit_std", "mode_scale", "uniform_share", "shift", "caption_dropout")
    if s.method == "distill":
        idle |= dict.fromkeys(flow, "train.method is distill, on the sampler's noise levels and without guidance")
    if s.method == "vae":
        idle |= dict.fromkeys((*flow, "loss_weighting", "compile"), "train.method is vae")
    if s.optimizer != "muon":
        idle |= dict.fromkeys(("other_learning_rate", "momentum"), f"train.optimizer is {s.optimizer}")
    if s.sigma_sampling != "logit_normal":
        idle |= dict.fromkeys(("logit_mean", "logit_std"), f"train.sigma_sampling is {s.sigma_sampling}")
    if s.sigma_sampling != "mode":
        idle["mode_scale"] = f"train.sigma_sampling is {s.sigma_sampling}"
    if s.scheduler == "constant":
        idle["warmup_steps"] = "train.scheduler is constant"
    if s.scheduler != "trapezoid":
        idle["cooldown"] = f"train.scheduler is {s.scheduler}"
    lines = []
    for key, why in idle.items():
        now, before = s, plain
        for part in key.split("."):
            now, before = getattr(now, part), getattr(before, part)
        if now != before:
            lines.append(f"train.{key} has no effect: {why}.")
    return lines
