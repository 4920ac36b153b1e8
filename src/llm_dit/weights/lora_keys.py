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
from itertools import accumulate
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ModelError
from llm_dit.weights.lora_file import LoraFile
from llm_dit.weights.lora_updates import Additive, Decomposed, Difference, Pair, Product, Update

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
    "OFT or BOFT": (".oft_",),
    "GLoRA": (".a1.weight", ".b1.weight"),
    "IA3": (".ia3_", ".on_input"),
    "VeRA": ("vera_lambda",),
    "a LoRA with biases": ("lora_B.bias", "lora_up.bias"),
    "a LoRA of convolutions": ("lora_mid",),
    "a difference of biases": (".diff_b",),
    "a training of norms": (".w_norm", ".b_norm"),
}
_PART = re.compile(
    r"(?P<base>.+)\.(?:(?P<a>lora_A|lora_down|lora\.down)|(?P<b>lora_B|lora_up|lora\.up))(?:\.(?P<adapter>[^.]+))?\.weight"
)


# Parts of LoKr, LoHa, whole differences and DoRA, as LyCORIS, peft and diffusers call them.
_FACTOR = re.compile(
    r"(?P<base>.+)\.(?P<part>lokr_w[12](?:_[ab])?|lokr_t2|hada_w[12]_[ab]|hada_t[12]|diff|dora_scale|"
    r"lora_magnitude_vector)(?:\.(?P<adapter>[^.]+))?(?:\.weight)?"
)
_MAGNITUDE = re.compile(r"\.(?:dora_scale|lora_magnitude_vector)")
_KINDS = {"lokr": "LoKr", "hada": "LoHa", "diff": "difference"}


@dataclass
class _Entry:
    """What a file holds for one of its own module names."""

    layout: str
    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    alpha: float | None = None
    factors: dict[str, torch.Tensor] = field(default_factory=dict)
    magnitude: torch.Tensor | None = None
    keys: list[str] = field(default_factory=list)


def normalise(file: LoraFile, shapes: Mapping[str, tuple[int, int]]) -> tuple[dict[str, Update], str]:
    """({module: Update}, the file's layout in words).

    shapes: (out, in) of the model's linear layers by name. The update of a fused qkv layer is split among the three.
    Raises ModelError for another kind of adapter, and for any tensor that has no place in the model.
    """
    _refuse_other_kinds(file)
    places = known_names(shapes)
    entries = _entries(file, places)
    absent = [name for name in entries if name not in places]
    if absent:
        raise ModelError(f"{file.path}: {_absent(absent, len(entries), places)}")
    pairs: dict[str, Update] = {}
    fused = False
    for name, entry in entries.items():
        modules = places[name]
        fused |= len(modules) > 1
        whole = _update(file, name, entry, modules)
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
                raise ModelError(f"{file.path}: is {kind} ('{key}'), which is not read; LoRA, LoKr, LoHa, DoRA are.")
    if file.settings.get("use_dora") and not any(_MAGNITUDE.search(key) for key in file.tensors):
        raise ModelError(f"{file.path}: is DoRA by its settings (use_dora), and holds no magnitudes; it is incomplete.")


def _of_text_encoder(key: str) -> bool:
    return _COMPILED.sub("", key).removeprefix("base_model.model.").removeprefix("pipe.").startswith(TEXT_ENCODER)


def _entries(file: LoraFile, places: Mapping[str, Any]) -> dict[str, _Entry]:
    """A file's tensors by its own module names, prefixes taken off."""
    entries: dict[str, _Entry] = {}
    unknown = []
    for key, tensor in file.tensors.items():
        match, factor = _PART.fullmatch(key), _FACTOR.fullmatch(key)
        found = match or factor
        base = found["base"] if found else key.removesuffix(".alpha")
        if not found and base == key:
            unknown.append(key)
            continue
        name, tool = _without_prefix(base, places)
        entry = entries.setdefault(name, _Entry(tool))
        entry.keys.append(key)
        if factor:
            part = factor["part"]
            held = entry.magnitude if _MAGNITUDE.search(f".{part}") else entry.factors.get(part)
            if held is not None:
                raise ModelError(f"{file.path}: holds two updates of '{name}', the second as '{key}'.")
            if _MAGNITUDE.search(f".{part}"):
                entry.magnitude = tensor
            else:
                entry.factors[part] = tensor
                entry.layout = f"{tool} {_KINDS[part[:4]]}"
            continue
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


def _update(file: LoraFile, name: str, entry: _Entry, modules: tuple[str, ...]) -> Update:
    """An entry as an update in the file's own shapes, in a dtype that can be computed with."""
    kinds = {_KINDS[part[:4]] for part in entry.factors} | ({"LoRA"} if (entry.a, entry.b) != (None, None) else set())
    if len(kinds) > 1:
        raise ModelError(f"{file.path}: '{name}' mixes {' and '.join(sorted(kinds))}.")
    kind = next(iter(kinds), "LoRA")
    if kind == "LoRA":
        made: Additive = _pair(file, name, entry)
    elif kind == "difference":
        made = Difference(_matrix(file, name, entry.factors["diff"]))
    else:
        made = _product(file, name, entry, kind)
    return made if entry.magnitude is None else Decomposed(made, _lengths(file, name, entry, made), modules)


def _matrix(file: LoraFile, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A checked matrix in a dtype that can be computed with."""
    import torch

    if tensor.ndim != 2 or not tensor.is_floating_point():
        what = "integers" if not tensor.is_floating_point() else f"{tensor.ndim} dimensions"
        raise ModelError(f"{file.path}: '{name}' has {what}; an update of a linear layer has floats of 2.")
    tensor = tensor.float() if tensor.element_size() == 1 else tensor
    if not torch.isfinite(tensor).all():
        raise ModelError(f"{file.path}: '{name}' is not finite: its training broke down.")
    return tensor


def _product(file: LoraFile, name: str, entry: _Entry, kind: str) -> Product:
    """LoKr or LoHa. With a Tucker core t, w = w_a^T t w_b, which is a product of two matrices again."""
    parts = {part.split("_", 1)[1]: _matrix(file, name, t) for part, t in entry.factors.items()}
    found: list[tuple[torch.Tensor, ...]] = []
    for number in "12":
        whole, a, b, core = (parts.pop(f"{part}{number}{end}", None) for part, end in _OF_A_FACTOR)
        if core is not None and a is not None and a.shape[0] == core.shape[0]:
            a = a.float().T @ core.float()
        given = (whole,) if whole is not None else (a, b)
        if any(part is None for part in given) or (whole is not None and (a, b) != (None, None)):
            raise ModelError(f"{file.path}: '{name}' is {kind} without a whole w{number}; the file is not complete.")
        if len(given) == 2 and given[0].shape[1] != given[1].shape[0]:
            raise ModelError(f"{file.path}: '{name}' is {kind} whose w{number}_a and w{number}_b do not multiply.")
        found.append(given)
    if kind == "LoHa" and len({(one[0].shape[0], one[-1].shape[1]) for one in found}) > 1:
        raise ModelError(f"{file.path}: '{name}' is LoHa of two matrices that differ in shape.")
    rank = next((len(given[1]) for given in reversed(found) if len(given) == 2), None)
    if kind == "LoHa":
        rank = len(found[0][1])
    if file.settings.get("peft_type") == "LOKR":  # peft takes alpha / r also where both matrices are whole
        rank = int(_setting(file, name, "r", "rank_pattern", rank or 1))
    if rank is None:
        return Product(kind, *found, 1.0, None, None)
    alpha = _settled_alpha(file, name, rank) if entry.alpha is None else entry.alpha
    return Product(kind, *found, alpha / rank, rank, alpha)


_OF_A_FACTOR = (("w", ""), ("w", "_a"), ("w", "_b"), ("t", ""))


def _lengths(file: LoraFile, name: str, entry: _Entry, made: Additive) -> torch.Tensor:
    """DoRA's magnitude as [out, 1] or [1, in]; a bare vector is of outputs, as peft's are."""
    magnitude, (out, features) = entry.magnitude, made.shape
    if magnitude.ndim == 1 and len(magnitude) in (out, features):
        magnitude = magnitude.reshape(-1, 1) if len(magnitude) == out else magnitude.reshape(1, -1)
    magnitude = _matrix(file, name, magnitude) if magnitude.ndim > 1 else magnitude
    if tuple(magnitude.shape) not in ((out, 1), (1, features)):
        raise ModelError(
            f"{file.path}: '{name}' is DoRA with magnitudes of {tuple(entry.magnitude.shape)}, where {(out, 1)} or "
            f"{(1, features)} is needed."
        )
    return magnitude


def _pair(file: LoraFile, name: str, entry: _Entry) -> Pair:
    if entry.a is None or entry.b is None:
        raise ModelError(
            f"{file.path}: '{name}' has no {'A (down)' if entry.a is None else 'B (up)'}, only '{entry.keys[0]}'; "
            "the file is not complete."
        )
    a, b = (_matrix(file, name, tensor) for tensor in (entry.a, entry.b))
    if not len(a) or b.shape[1] != len(a):
        raise ModelError(f"{file.path}: '{name}' has A {tuple(a.shape)} and B {tuple(b.shape)}, which do not multiply.")
    return Pair(a, b, _settled_alpha(file, name, len(a)) if entry.alpha is None else entry.alpha)


def _settled_alpha(file: LoraFile, name: str, rank: int) -> float:
    """alpha of a module without a tensor for it: from peft's settings, else kohya's header, else its rank."""
    settings = file.settings
    stated = settings.get("lora_alpha", settings.get("alpha", file.header.get("ss_network_alpha", rank)))
    value = _setting(file, name, "lora_alpha", "alpha_pattern", stated)
    try:
        alpha = float(value) if str(value) != "None" else float(rank)
    except (TypeError, ValueError):
        alpha = float("nan")
    if not isfinite(alpha):
        raise ModelError(f"{file.path}: alpha {value!r} in its settings is not a number.")
    return alpha * sqrt(rank) if settings.get("use_rslora") else alpha


def _setting(file: LoraFile, name: str, key: str, patterns_key: str, default: Any) -> Any:
    """What peft's settings say of a module: by the pattern that names it, else for all."""
    value = file.settings.get(key, default)
    patterns = file.settings.get(patterns_key) or {}
    for pattern, its in patterns.items() if isinstance(patterns, dict) else ():
        plain = pattern.removeprefix("^").removesuffix("$").replace("\\", "")
        if not re.fullmatch(r"[\w.-]+", plain):
            raise ModelError(f"{file.path}: alpha_pattern '{pattern}' in its settings is not a module's name.")
        if name == plain or (name.endswith(f".{plain}") and not pattern.startswith("^")):
            value = its
            break
    return value


def _split(
    file: LoraFile, name: str, whole: Update, modules: tuple[str, ...], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, Update]:
    """The update of each module: its rows in order. Raises ModelError when the shapes are not the model's."""
    outs, ins = [shapes[m][0] for m in modules], shapes[modules[0]][1]
    if whole.shape != (sum(outs), ins):
        raise ModelError(
            f"{file.path}: '{name}' is made for a layer of {whole.shape[0]} x {whole.shape[1]}, this transformer's is "
            f"{sum(outs)} x {ins}. It was made for another model."
        )
    ends = list(accumulate(outs))
    return {m: whole.rows(end - out, end) for m, out, end in zip(modules, outs, ends, strict=True)}


def _same_update(one: Update, other: Update) -> bool:
    """Whether two updates mean the same, as where a tool writes the fused and the single layers side by side."""
    import torch

    if isinstance(one, Decomposed) or isinstance(other, Decomposed):
        return False
    updates = [update.delta() for update in (one, other)]
    return bool(torch.allclose(*updates, rtol=1e-2, atol=1e-3 * float(updates[0].abs().max())))
