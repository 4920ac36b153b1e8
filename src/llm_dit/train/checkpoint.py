"""Checkpoints of a training: one folder each, whole or not there, and what a training may go on from.

    NAME/checkpoints/step-00000500/weights.safetensors    the trained weights
                                   average.safetensors    their average, if one is kept
                                   optimizer.safetensors  the optimisers' state, by optimiser, weight and kind
                                   state.json             step, cost, settings, fingerprints, versions

Nothing is pickled. Random numbers have no state: each step's are drawn from its number (flow.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import OutputError, RecordError, told
from llm_dit.base.files import put_in_place, remove_known, temporary_beside
from llm_dit.base.versions import versions
from llm_dit.records.schema import TrainState, check_version, checked, read_object

if TYPE_CHECKING:
    import torch

STATE_VERSION = 1
KINDS = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "muon": {"momentum_buffer"}}  # of a weight's state
BEFORE = "Delete the checkpoint to go on from the one before."
HEADER_KEY = "llm_dit"
STEP = re.compile(r"step-\d{8}")
FILES = ("state.json", "weights.safetensors", "average.safetensors", "optimizer.safetensors")  # in this order removed


@dataclass(frozen=True)
class State:
    """One moment of a training: tensors by name on the CPU, and plain values. average: None where none is kept."""

    weights: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor] | None
    optimizer: dict[str, torch.Tensor]
    plain: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.plain["step"]


def optimizer_tensors(
    optimizers: Mapping[str, torch.optim.Optimizer], trained: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The optimisers' state as OPTIMISER/WEIGHT/KIND: tensor; a plain whole number as an int64 of no dimensions."""
    import torch

    names = {id(p): name for name, p in trained.items()}
    found = {}
    for which, optimizer in optimizers.items():
        for p, state in optimizer.state.items():
            for kind, value in state.items():
                found[f"{which}/{names[id(p)]}/{kind}"] = torch.as_tensor(value).detach()
    return found


def restore_optimizers(
    optimizers: Mapping[str, torch.optim.Optimizer],
    trained: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Put a state from optimizer_tensors back, on the devices and in the types that each optimiser wants."""
    names = {id(p): name for name, p in trained.items()}
    for which, optimizer in optimizers.items():
        plain = optimizer.state_dict()
        order = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, torch.Tensor | int]] = {}
        for key, tensor in tensors.items():
            owner, name, kind = key.split("/")
            if owner == which:
                whole = tensor.ndim == 0 and not tensor.is_floating_point()
                state.setdefault(order.index(name), {})[kind] = tensor.item() if whole else tensor
        optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})


def header(plain: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the header of every weight file of a training."""
    return {"format": "pt", HEADER_KEY: json.dumps({**plain, "versions": versions()}, ensure_ascii=False)}


def is_own_weights(path: Path) -> bool:
    """Whether this is a safetensors file, and no link to one, that a training here has written."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.is_symlink() or not path.is_file():
            return False
        with safe_open(path, "pt") as file:
            return HEADER_KEY in (file.metadata() or {})
    except (OSError, ValueError, SafetensorError):
        return False


def write_checkpoint(folder: Path, state: State, keep: int) -> Path:
    """Write folder/step-N, then delete all but the newest `keep`. Raises OutputError, leaving earlier ones whole."""
    from safetensors import SafetensorError

    target = folder / f"step-{state.step:08d}"
    staged = temporary_beside(target)
    plain = {**state.plain, "state_version": STATE_VERSION, "versions": versions()}
    try:
        folder.mkdir(exist_ok=True)  # not its parents: a training's folder that was removed is not made again
        staged.mkdir()
        shared = header({k: plain[k] for k in ("step", "settings", "data_fingerprint")})
        write_tensors(staged / "weights.safetensors", state.weights, shared)
        if state.average is not None:
            write_tensors(staged / "average.safetensors", state.average, shared)
        write_tensors(staged / "optimizer.safetensors", state.optimizer, shared)
        with (staged / "state.json").open("w", encoding="utf-8") as file:
            json.dump(plain, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(staged, target, last="state.json")
        sync_folder(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"{target}: the checkpoint cannot be written ({reason}); earlier ones are whole.") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    for old in checkpoints(folder)[:-keep]:
        remove_known(old, FILES)
    return target


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Tensors as a safetensors file that has reached the disk; one that several names share is written for each."""
    from safetensors.torch import save_file

    ready, stored = {}, set()
    for name, tensor in tensors.items():
        kept = tensor.cpu().contiguous()
        ready[name] = kept.clone() if kept.data_ptr() in stored else kept
        stored.add(kept.data_ptr())
    save_file(ready, path, dict(metadata))
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder last through a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in a folder, oldest first."""
    found = (p for p in folder.glob("step-*") if STEP.fullmatch(p.name) and not p.is_symlink())
    return sorted(p for p in found if (p / "state.json").is_file())


def read_checkpoint(folder: Path) -> State:
    """A checkpoint as it was written. Raises RecordError for a damaged one, or one of another version."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    def tensors(name: str) -> dict[str, torch.Tensor]:
        if not (folder / name).is_file():
            raise RecordError(f"{folder / name}: there is no such file. {BEFORE}")
        try:
            return load_file(folder / name)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise RecordError(f"{folder / name}: damaged ({told(error)}). {BEFORE}") from error

    path = folder / "state.json"
    plain = read_object(path, dict, BEFORE) or {}
    check_version(plain, "state_version", STATE_VERSION, str(path))
    try:
        checked(plain, TrainState, str(path))
    except RecordError as error:
        raise RecordError(f"{error} {BEFORE}") from error
    average = tensors("average.safetensors") if os.path.lexists(folder / "average.safetensors") else None
    return State(tensors("weights.safetensors"), average, tensors("optimizer.safetensors"), plain)


def check_tensors(state: State, trained: Mapping[str, torch.Tensor], averaged: bool, where: Path) -> None:
    """Raises RecordError for tensors of other names or shapes than the weights in training."""
    groups = {"weights": state.weights} | ({"average": state.average or {}} if averaged else {})
    for group, tensors in groups.items():
        file = where / f"{group}.safetensors"
        for name in sorted(trained.keys() ^ tensors.keys()):
            what = "lacks" if name in trained else "holds, beside those in training,"
            raise RecordError(f"{file}: {what} {name}. {BEFORE}")
        for name, p in trained.items():
            if tensors[name].shape != p.shape:
                shapes = f"is {list(tensors[name].shape)}, is {list(p.shape)} in training"
                raise RecordError(f"{file}: {name} {shapes}. {BEFORE}")
            if not tensors[name].is_floating_point():
                raise RecordError(f"{file}: {name} is {tensors[name].dtype}, no floating point. {BEFORE}")


def check_optimizer_tensors(
    optimizers: Mapping[str, torch.optim.Optimizer],
    trained: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    where: Path,
) -> None:
    """Raises RecordError for a state that belongs to other optimisers or weights, or of another shape.

    adamw8bit's blocks are bitsandbytes' own; only what has the weight's shape by name is compared.
    """
    file = where / "optimizer.safetensors"
    names = {id(p): name for name, p in trained.items()}
    owned = {
        (o, names[id(p)]) for o, optimizer in optimizers.items() for g in optimizer.param_groups for p in g["params"]
    }
    kinds: dict[tuple[str, str], set[str]] = {}
    for key, tensor in tensors.items():
        owner, _, rest = key.partition("/")
        name, _, kind = rest.partition("/")
        if (owner, name) not in owned:
            raise RecordError(f"{file}: {key} belongs to no optimiser and weight of this training. {BEFORE}")
        kinds.setdefault((owner, name), set()).add(kind)
        shape = torch_shape(kind, trained[name])
        if shape is not None and list(tensor.shape) != shape:
            raise RecordError(f"{file}: {key} is {list(tensor.shape)}, is {shape} in training. {BEFORE}")
        if owner in KINDS and not tensor.is_floating_point():
            raise RecordError(f"{file}: {key} is {tensor.dtype}, no floating point. {BEFORE}")
    for (owner, name), found in kinds.items():
        if owner in KINDS and found != KINDS[owner]:
            raise RecordError(
                f"{file}: {owner}/{name} has {', '.join(sorted(found))} rather than "
                f"{', '.join(sorted(KINDS[owner]))}. {BEFORE}"
            )


def torch_shape(kind: str, weight: torch.Tensor) -> list[int] | None:
    """The shape of a kind of optimiser state of a weight, None where it is not known."""
    if kind == "step":
        return []
    return list(weight.shape) if kind in ("exp_avg", "exp_avg_sq", "momentum_buffer", "state1", "state2") else None


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    """Raises RecordError when a training was begun with other settings, data or weights than now.

    Both hold settings (dotted keys to values), data_fingerprint, base_fingerprint and processes.
    """
    then, today = before["settings"], now["settings"]
    keys = sorted(k for k in then.keys() | today.keys() if then.get(k) != today.get(k))
    faults = [f"{key} was {then.get(key)!r}, is {today.get(key)!r}" for key in keys]
    if before["data_fingerprint"] != now["data_fingerprint"]:
        faults.append("data.path: the data are not the same, or were encoded in another hardware.dtype")
    if before["base_fingerprint"] != now["base_fingerprint"]:
        faults.append("model.path or train.init: the weights to start from are not the same")
    if before["processes"] != now["processes"]:
        faults.append(f"{before['processes']} processes before, {now['processes']} now")
    if faults:
        raise RecordError(
            f"{where}: begun with other settings ({'; '.join(faults[:4])}). Take another train.name, or resume=false."
        )
