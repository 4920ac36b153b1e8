"""The names in a LoRA file to modules of diffusers' ZImageTransformer2DModel.

Tools name the same module in five ways (docs/lora.md) and keep its strength in three places. Here every tensor of a
file finds its module, or the file is refused: a LoRA of which a part is dropped draws another picture than its
author's, and nothing says so. Only names and shapes are settled here; nothing is added to any weight.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

from llm_dit.errors import ModelError
from llm_dit.models.lora_file import LoraFile

if TYPE_CHECKING:
    import torch

# What stands before the module's name, and which tool writes it so. Dots and underscores are taken alike, because
# converters split names at either; several may stand one behind the other.
PREFIXES = {
    "base_model.model": "peft",
    "model.diffusion_model": "diffusion_model",
    "diffusion_model": "diffusion_model",
    "transformer": "diffusers",
    "lora_unet": "kohya",
    "lora_transformer": "kohya",
    "lycoris": "kohya",
    "pipe.dit": "DiffSynth",
    "dit": "DiffSynth",
    "module": "",
}
_PREFIX = {re.compile(re.sub("[._]", "[._]", p) + "[._]+"): tool for p, tool in PREFIXES.items()}
_COMPILED = re.compile(r"(?:^|(?<=[._]))_orig_mod[._]")  # what torch.compile puts before the names within
TEXT_ENCODER = ("lora_te", "text_encoder", "text_model.", "te1.", "te2.", "clip_l.", "cond_stage_model.")
# Other kinds of adapters, by what only their keys hold.
OTHER_KINDS = {
    "DoRA": ("dora_scale", "lora_magnitude_vector"),
    "LoKr": (".lokr_",),
    "LoHa": (".hada_",),
    "OFT": (".oft_",),
    "GLoRA": (".a1.weight", ".b1.weight"),
    "a LoRA with biases": ("lora_B.bias", "lora_up.bias"),
    "a LoRA of convolutions": ("lora_mid",),
    "a difference of whole weights": (".diff", ".diff_b"),
}
_PART = re.compile(
    r"(?P<base>.+)\.(?:(?P<a>lora_A|lora_down|lora\.down)|(?P<b>lora_B|lora_up|lora\.up))(?:\.(?P<adapter>[^.]+))?\.weight"
)


@dataclass(frozen=True)
class Pair:
    """The update alpha / rank B A of one linear layer. a: [rank, in]; b: [out, rank]."""

    a: torch.Tensor
    b: torch.Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return len(self.a)

    @property
    def strength(self) -> float:
        """alpha / rank: what B A is multiplied by at scale 1."""
        return self.alpha / self.rank


@dataclass
class _Entry:
    """What a file holds for one of its own module names."""

    layout: str
    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    alpha: float | None = None
    keys: list[str] = field(default_factory=list)


def normalise(file: LoraFile, shapes: Mapping[str, tuple[int, int]]) -> tuple[dict[str, Pair], str]:
    """({module: Pair}, the file's layout in words).

    shapes: (out, in) of the model's linear layers by name. The update of a fused qkv layer is split among the three.
    Raises ModelError for another kind of adapter, and for any tensor that has no place in the model.
    """
    _refuse_other_kinds(file)
    places = known_names(shapes)
    entries = _entries(file, places)
    absent = [name for name in entries if name not in places]
    if absent:
        raise ModelError(f"{file.path}: {_absent(absent, len(entries), places)}")
    pairs: dict[str, Pair] = {}
    fused = False
    for name, entry in entries.items():
        modules = places[name]
        fused |= len(modules) > 1
        whole = _pair(file, name, entry)
        for module, pair in _split(file, name, whole, modules, shapes).items():
            if module in pairs and not _same_update(pairs[module], pair):
                raise ModelError(f"{file.path}: holds two updates of '{module}' that differ, one as '{name}'.")
            pairs.setdefault(module, pair)
    parts = sorted({e.layout for e in entries.values()})
    return pairs, ", ".join([*parts, "fused qkv"] if fused else parts)


def known_names(shapes: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Every name that a file may have for linear layers of the model -> the layers meant; three for a fused qkv.

    Diffusers' names and those of the model's first release, with dots, and with underscores as kohya's tools write.
    """
    dotted: dict[str, tuple[str, ...]] = {name: (name,) for name in shapes}
    for name in shapes:
        block, _, last = name.rpartition(".attention.")
        if last == "to_q":
            dotted[f"{block}.attention.qkv"] = tuple(f"{block}.attention.to_{x}" for x in "qkv")
        if last in ("to_q", "to_k", "to_v"):
            dotted[f"{block}.attention.to.{last[-1]}"] = (name,)
        if last == "to_out.0":
            dotted[f"{block}.attention.out"] = dotted[f"{block}.attention.to_out"] = (name,)
        released = re.sub(r"^all_(x_embedder|final_layer)\.\d+-\d+", r"\1", name)
        dotted.setdefault(released, (name,))
    return {name.replace(".", "_"): modules for name, modules in dotted.items()} | dotted


def _refuse_other_kinds(file: LoraFile) -> None:
    for key in file.tensors:
        if _of_text_encoder(key):
            count = sum(map(_of_text_encoder, file.tensors))
            raise ModelError(
                f"{file.path}: trains the text encoder too ({count} of its {len(file.tensors)} tensors, the first is "
                f"'{key}'), to which no LoRA can be added here."
            )
        for kind, marks in OTHER_KINDS.items():
            if any(mark in key if mark.endswith("_") or "." not in mark else key.endswith(mark) for mark in marks):
                raise ModelError(f"{file.path}: is {kind} ('{key}'), which is not read; only plain LoRA is.")
    if file.settings.get("use_dora"):
        raise ModelError(f"{file.path}: is DoRA (use_dora in its settings), which is not read; only plain LoRA is.")


def _of_text_encoder(key: str) -> bool:
    return _COMPILED.sub("", key).removeprefix("base_model.model.").removeprefix("pipe.").startswith(TEXT_ENCODER)


def _entries(file: LoraFile, places: Mapping[str, Any]) -> dict[str, _Entry]:
    """A file's tensors by its own module names, prefixes taken off."""
    entries: dict[str, _Entry] = {}
    unknown = []
    for key, tensor in file.tensors.items():
        match = _PART.fullmatch(key)
        base = match["base"] if match else key.removesuffix(".alpha")
        if not match and base == key:
            unknown.append(key)
            continue
        name, tool = _without_prefix(base, places)
        entry = entries.setdefault(name, _Entry(tool))
        entry.keys.append(key)
        part = "alpha" if not match else "a" if match["a"] else "b"
        if getattr(entry, part) is not None:
            raise ModelError(f"{file.path}: holds two updates of '{name}', the second as '{key}'.")
        setattr(entry, part, tensor if match else _number(file, key, tensor))
        if match:
            entry.layout = f"{tool} {'A/B' if (match['a'] or match['b']) in ('lora_A', 'lora_B') else 'down/up'}"
    if unknown:
        kind = "" if len(unknown) < len(file.tensors) else " It is not a LoRA file."
        raise ModelError(
            f"{file.path}: {len(unknown)} of its {len(file.tensors)} tensors are not parts of a LoRA, the first is "
            f"'{unknown[0]}'.{kind}"
        )
    return entries


def _without_prefix(base: str, places: Mapping[str, Any]) -> tuple[str, str]:
    """(the module's name as places has it, or as the file does; the tool that writes such prefixes)."""
    base, tool = _COMPILED.sub("", base), ""
    while base not in places:
        underscored = base.replace(".", "_").strip("_")
        if underscored in places:
            return underscored, tool or "bare"
        found = next(((match, its) for prefix, its in _PREFIX.items() if (match := prefix.match(base))), None)
        if found is None:
            break
        base, tool = base[found[0].end() :], tool or found[1]
    return base, tool or "bare"


def _number(file: LoraFile, key: str, tensor: torch.Tensor) -> float:
    value = float(tensor) if tensor.numel() == 1 else float("nan")
    if not isfinite(value):
        raise ModelError(f"{file.path}: '{key}' must be one finite number.")
    return value


def _absent(names: list[str], count: int, places: Mapping[str, Any]) -> str:
    told = []
    for name in names[:3]:
        close = difflib.get_close_matches(name, places, n=1, cutoff=0.6)
        told.append(f"'{name}'" + (f" (nearest is '{close[0]}')" if close else ""))
    more = ", ..." if len(names) > 3 else ""
    known = f"none of its {count} modules is" if len(names) == count else f"{len(names)} of its {count} modules are not"
    return f"{known} in this transformer: {', '.join(told)}{more}. It was made for another model."


def _pair(file: LoraFile, name: str, entry: _Entry) -> Pair:
    """An entry as a Pair in the file's own shapes, in a dtype that can be computed with."""
    import torch

    if entry.a is None or entry.b is None:
        raise ModelError(
            f"{file.path}: '{name}' has no {'A (down)' if entry.a is None else 'B (up)'}, only '{entry.keys[0]}'; "
            "the file is not complete."
        )
    for tensor in (entry.a, entry.b):
        if tensor.ndim != 2 or not tensor.is_floating_point():
            what = "integers" if not tensor.is_floating_point() else f"{tensor.ndim} dimensions"
            raise ModelError(f"{file.path}: '{name}' has {what}; an update of a linear layer has floats of 2.")
    rank = len(entry.a)
    if not rank or entry.b.shape[1] != rank:
        raise ModelError(
            f"{file.path}: '{name}' has A {tuple(entry.a.shape)} and B {tuple(entry.b.shape)}, which do not multiply."
        )
    a, b = (t.float() if t.element_size() == 1 else t for t in (entry.a, entry.b))
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ModelError(f"{file.path}: '{name}' is not finite: its training broke down.")
    return Pair(a, b, _settled_alpha(file, name, rank) if entry.alpha is None else entry.alpha)


def _settled_alpha(file: LoraFile, name: str, rank: int) -> float:
    """alpha of a module without a tensor for it: from peft's settings, else kohya's header, else its rank."""
    settings = file.settings
    value = settings.get("lora_alpha", file.header.get("ss_network_alpha", rank))
    patterns = settings.get("alpha_pattern") or {}
    for pattern, its in patterns.items() if isinstance(patterns, dict) else ():
        plain = pattern.removeprefix("^").removesuffix("$").replace("\\", "")
        if not re.fullmatch(r"[\w.-]+", plain):
            raise ModelError(f"{file.path}: alpha_pattern '{pattern}' in its settings is not a module's name.")
        if name == plain or (name.endswith(f".{plain}") and not pattern.startswith("^")):
            value = its
            break
    try:
        alpha = float(value) if str(value) != "None" else float(rank)
    except (TypeError, ValueError):
        alpha = float("nan")
    if not isfinite(alpha):
        raise ModelError(f"{file.path}: alpha {value!r} in its settings is not a number.")
    return alpha * sqrt(rank) if settings.get("use_rslora") else alpha


def _split(
    file: LoraFile, name: str, whole: Pair, modules: tuple[str, ...], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, Pair]:
    """The update of each module: B's rows in order, A shared. Raises ModelError when the shapes are not the model's."""
    outs, ins = [shapes[m][0] for m in modules], shapes[modules[0]][1]
    if (len(whole.b), whole.a.shape[1]) != (sum(outs), ins):
        raise ModelError(
            f"{file.path}: '{name}' is made for a layer of {len(whole.b)} x {whole.a.shape[1]}, this transformer's is "
            f"{sum(outs)} x {ins}. It was made for another model."
        )
    return {m: Pair(whole.a, b.contiguous(), whole.alpha) for m, b in zip(modules, whole.b.split(outs), strict=True)}


def _same_update(one: Pair, other: Pair) -> bool:
    """Whether two pairs mean the same, as where a tool writes the fused and the single layers side by side."""
    import torch

    updates = [p.strength * (p.b.float() @ p.a.float()) for p in (one, other)]
    return bool(torch.allclose(*updates, rtol=1e-2, atol=1e-3 * float(updates[0].abs().max())))
