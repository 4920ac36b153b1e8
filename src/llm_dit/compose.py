"""Overrides to a checked Config: the one way in for the command line, the API, notebooks and tests.

Hydra composes conf/; this module finds that folder, turns bare arguments into the prompt, refuses unknown
keys wherever they stand, checks ranges, and says what is wrong in one line. Below this module nothing knows
Hydra or sees a DictConfig. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from llm_dit.config import Config, EncoderLayerConfig, Rule, get, is_group, parameters, type_hints
from llm_dit.denoise.sigmas import problem_of
from llm_dit.errors import ConfigError, nearest
from llm_dit.models.lora_file import parse_lora
from llm_dit.paths import shipped_folder, user_path

ConfigStore.instance().store(name="base_config", node=Config)

# Hydra raises bare ValueErrors too, for instance for sampler=3.
HYDRA_ERRORS = (HydraException, OmegaConfBaseException, ValueError)
MAX_PROMPT_CHARACTERS = 100_000
TAKE_A_BIAS = ("native", "flex", "_native_math", "_native_efficient")  # attention kernels that add a bias to logits
_LOCK = threading.Lock()
_OVERRIDE = re.compile(r"^(~|\+\+?)?(?P<key>[A-Za-z_][\w./@-]*)(=|$)", re.DOTALL)
_HYDRA_ROOTS = ("hydra",)


def conf_dir() -> Path:
    """The folder of config groups."""
    folder = shipped_folder("conf")
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} is missing: reinstall the package.")
    return folder


def compose(overrides: Sequence[str] = (), *, prompt: str | None = None, config_dir: Path | None = None) -> Config:
    """A checked Config from Hydra overrides, exactly as the command line would build it.

    overrides: 'key=value' strings; a string without '=' is the prompt. prompt: the prompt as it is, with no
    quoting rules. config_dir: a folder of config groups other than the shipped one. Raises ConfigError.
    """
    listed = isinstance(overrides, Sequence) and not isinstance(overrides, str)
    if not listed or not all(isinstance(o, str) for o in overrides):
        raise ConfigError("compose takes a list of strings such as ['seed=1', 'model=tiny'].")
    if prompt is not None and not isinstance(prompt, str):
        raise ConfigError(f"prompt={_short(prompt)}: must be text.")
    overrides = prepare_overrides([*overrides, *([] if prompt is None else ["--", prompt])])
    # Hydra keeps one global instance; an application around us may be using it.
    with _LOCK:
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(config_dir or conf_dir()), version_base="1.3"):
                composed = hydra_compose("config", overrides=list(overrides))
        except HYDRA_ERRORS as error:
            raise explain(error) from error
        finally:
            GlobalHydra.instance().hydra = outer
    return check(composed)


def prepare_overrides(arguments: Sequence[str], sweep: bool = False) -> list[str]:
    """Command-line arguments with the bare one, the prompt, turned into a quoted override.

    What follows '--' is the prompt whatever it looks like. Other texts (a negative prompt, a path) are quoted
    too, unless they are already, or sweep says that their commas part values. Raises ConfigError for two prompts.
    """
    arguments = list(arguments)
    verbatim: list[str] = []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, verbatim = arguments[:cut], arguments[cut + 1 :]
    overrides = [a for a in arguments if _is_override(a)]
    prompts = [a for a in arguments if not _is_override(a)] + verbatim
    if len(prompts) > 1:
        raise ConfigError(
            f"two prompts: {_short(prompts[0])} and {_short(prompts[1])}. Put the whole prompt in one pair of quotes; "
            "settings are key=value."
        )
    overrides = [_listed(_data_path(o), sweep) for o in overrides]
    if not sweep:
        overrides = [_quote_text(o) for o in overrides]
    return overrides + [f"prompt.text={quote(p)}" for p in prompts]


def _data_path(override: str) -> str:
    """data=PATH as data.path=PATH: the group's options are few, and what people give it is a file or a folder."""
    key, _, value = override.partition("=")
    return f"data.path={value}" if key == "data" and value not in _options("data") else override


def _quote_text(override: str) -> str:
    """An override of a text parameter with its value quoted, so that commas, brackets and blanks in it are its own."""
    match = _OVERRIDE.match(override)
    if match is None or match["key"] not in {p.key for p in parameters() if p.type is str and not p.rule.choices}:
        return override
    start, value = override[: match.end()], override[match.end() :]
    if value == "null" or (len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]):
        return override
    # A path may well hold an interpolation such as ${oc.env:HOME}; a prompt's ${...} is just text.
    return start + (
        quote(value)
        if match["key"].startswith(("prompt.", "mix."))
        else QuotedString(value, Quote.double).with_quotes()
    )


def _listed(override: str, sweep: bool) -> str:
    """lora=blob.safetensors:0.8 as the list of one that it means; several values of a sweep stay as they are."""
    match = _OVERRIDE.match(override)
    if match is None or match["key"].split(".")[0] != "lora":
        return override
    if match["key"] != "lora":  # Hydra would take it for a place in the list
        raise ConfigError(unknown_key(match["key"]))
    if sweep and _has_several_values(override):
        return override
    return override[: match.end()] + in_list("lora", override[match.end() :], whole=True)


def _has_several_values(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        return OverridesParser.create().parse_override(override).is_sweep_override()
    except HYDRA_ERRORS:
        return False


def in_list(key: str, value: str, whole: bool = False) -> str:
    """A value of Hydra's grammar for this key; one LoRA alone stands for a list of it, none and null for no LoRA.

    whole: the value is one text, whatever it holds.
    """
    if value.startswith("[") or key != "lora":
        return value
    if value in ("", "none", "null"):
        return "[]"
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    return f"[{value if quoted or not whole else QuotedString(value, Quote.double).with_quotes()}]"


def quote(text: str) -> str:
    """Text as a value of Hydra's override grammar that comes back unchanged, with or without --multirun."""
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ConfigError(_too_long(text))
    # OmegaConf would read ${...} as an interpolation; it unescapes backslashes only in front of one.
    text = re.sub(r"(\\*)\$\{", lambda m: m.group(1) * 2 + r"\${", text)
    return QuotedString(text, Quote.double).with_quotes()


def _is_override(argument: str) -> bool:
    """Whether an argument is 'key=value' (or '~key') rather than a prompt.

    A sentence may well hold an equals sign, so 'word=...' counts as a sentence when it has white space
    and its word is nowhere near a known key.
    """
    match = _OVERRIDE.match(argument)
    if match is None or (match[3] != "=" and match[1] != "~"):
        return False
    root = re.split(r"[./@]", match["key"])[0]
    known = [f.name for f in fields(Config)] + list(_HYDRA_ROOTS)
    if root in known or match[1] or not re.search(r"\s", argument):
        return True
    return nearest(root, known).startswith("Did you mean")


def check(composed: DictConfig | Mapping[str, Any]) -> Config:
    """A Config from composed or recorded values: unknown keys refused, types, ranges and combinations checked."""
    try:
        values = OmegaConf.to_container(composed, resolve=True) if isinstance(composed, DictConfig) else composed
    except OmegaConfBaseException as error:
        raise explain(error) from error
    config = _build(Config, values, "")
    _check_ranges(config)
    _check_combinations(config)
    return config


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    """An instance of a config dataclass; absent keys keep their defaults.

    Done by hand rather than by a second OmegaConf pass, which would read '${' and '???' in a prompt as its own.
    """
    hints = type_hints(cls)
    arguments = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in hints:
            raise ConfigError(unknown_key(key))
        if is_group(hints[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{key} is a group of settings, not a value; {_options_hint(key)}")
            arguments[name] = _build(hints[name], value, f"{key}.")
        else:
            arguments[name] = _typed(value, hints[name], key)
    return cls(**arguments)


def _typed(value: Any, annotation: Any, key: str) -> Any:
    """The value as its declared type; an integer may stand for a float, nothing else is converted."""
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if value is None and NoneType in options:
        return None
    expected = next(o for o in options if o is not NoneType)
    if get_origin(expected) is list:
        if isinstance(value, list | tuple):
            return [_typed(item, get_args(expected)[0], key) for item in value]
    elif expected is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, expected) and not (isinstance(value, bool) and expected is not bool):
        return value
    raise ConfigError(f"{key}={_short(value)}: must be {type_name(annotation)}.")


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


def type_name(annotation: Any) -> str:
    """A type as people say it: 'a whole number or null', 'a list of whole numbers'."""
    if isinstance(annotation, UnionType):
        return " or ".join(type_name(a) for a in get_args(annotation))
    if get_origin(annotation) is list:
        return "a list, each item " + type_name(get_args(annotation)[0])
    return _TYPE_NAMES[annotation]


def unknown_key(key: str) -> str:
    """The message for a key that does not exist, with the nearest one that does."""
    every = [p.key for p in parameters()]
    groups = sorted({k.split(".")[0] for k in every if "." in k})
    last = key.split(".")[-1]
    if key.startswith("lora."):
        return f"unknown key '{key}'. {nearest(key.replace('.', '_'), [k for k in every if k.startswith('lora_')])}"
    by_leaf = [k for k in every if k.split(".")[-1] == last]
    if by_leaf:
        return f"unknown key '{key}'. Did you mean '{by_leaf[0]}'?"
    # Inside a known group its own keys come first: guidance.scael is not sampler.shift.
    if "." in key and key.split(".")[0] in groups:
        hint = nearest(key, [k for k in every if k.startswith(key.split(".")[0] + ".")])
    else:
        # step=3 means sampler.steps rather than the group sweep: the last part of a key is what people remember.
        places = {k.split(".")[-1]: k for k in reversed(every)} | {name: name for name in groups}
        close = difflib.get_close_matches(last, places, n=3, cutoff=0.6)
        close.sort(key=lambda name: sorted(name) != sorted(last))  # swapped letters before added ones
        hint = f"Did you mean '{places[close[0]]}'?" if close else nearest(key, groups)
    return f"unknown key '{key}'. {hint}"


def _options_hint(group: str) -> str:
    options = _options(group)
    keys = ", ".join(p.key for p in parameters() if p.key.startswith(group + "."))
    chosen = f"choose an option of it ({', '.join(options)}) or " if options else ""
    return f"{chosen}set one of its keys: {keys}."


def _check_ranges(config: Config) -> None:
    for p in parameters():
        value = get(config, p.key)
        if value is None and p.optional:
            continue
        for item in value if isinstance(value, list) else [value]:
            problem = rule_problem(item, p.rule)
            if problem:
                raise ConfigError(f"{p.key}={_short(item)}: {problem}")


def rule_problem(value: Any, rule: Rule) -> str | None:
    """What is wrong with a value under a rule, or None."""
    if rule.choices:
        if value in rule.choices:
            return None
        if value in rule.refused:
            return f"refused, because {rule.refused[value]}."
        return f"not a choice. {nearest(str(value), rule.choices)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    in_range = (
        value == value  # NaN is not
        and (rule.ge is None or value >= rule.ge)
        and (rule.gt is None or value > rule.gt)
        and (rule.le is None or value <= rule.le)
    )
    if not in_range:
        return f"out of range; {rule.describe_range()}."
    if rule.multiple_of and value % rule.multiple_of:
        down = value // rule.multiple_of * rule.multiple_of
        return f"not a multiple of {rule.multiple_of}; the nearest are {down} and {down + rule.multiple_of}."
    return None


def _check_combinations(config: Config) -> None:
    if config.prompt.text is not None and config.prompt_file is not None:
        raise ConfigError("two prompts: prompt_file and prompt.text are both given; leave one out.")
    if config.prompts.set is not None and (config.prompt.text is not None or config.prompt_file is not None):
        raise ConfigError("a prompt and a set of prompts are both given; leave one out (prompts=none).")
    if len(set(config.seeds)) != len(config.seeds):
        raise ConfigError(f"seeds={config.seeds}: a seed stands twice, and would draw the same picture twice.")
    if not config.seeds and config.seed + config.num_images - 1 > 2**63 - 1:
        raise ConfigError("seed + num_images runs past the largest seed, 2^63 - 1.")
    if config.prompt.text is not None and len(config.prompt.text) > MAX_PROMPT_CHARACTERS:
        raise ConfigError(_too_long(config.prompt.text))
    problem = problem_of(config.sampler.sigmas)
    if problem:
        raise ConfigError(f"sampler.sigmas={_short(config.sampler.sigmas)}: {problem}")
    if config.dype.alpha >= config.dype.beta:
        raise ConfigError("dype.alpha must be below dype.beta.")
    if config.sampler.base_image_tokens >= config.sampler.max_image_tokens:
        raise ConfigError("sampler.base_image_tokens must be below sampler.max_image_tokens.")
    _check_layers(config.encoder_layer)
    _check_loras(config.lora)
    _check_second_prompt(config)
    for window in ("guidance.", "slg.", "nag.", "diversity.embed_"):
        low, high = (get(config, f"{window}sigma_{end}") for end in ("low", "high"))
        if low >= high:
            raise ConfigError(f"{window}sigma_low={low:g} must be below {window}sigma_high={high:g}.")
    if config.emphasis.mode == "attention" and config.hardware.attention_backend not in TAKE_A_BIAS:
        raise ConfigError(
            f"emphasis.mode=attention adds to the attention's logits, which hardware.attention_backend="
            f"{config.hardware.attention_backend} does not take: use hardware.attention_backend=native, or "
            "emphasis=from_empty."
        )
    model = config.model
    if (config.prompt.thinking or config.prompt.force_think_block) and model.chat_format != "qwen3":
        raise ConfigError(f"a think block needs model.chat_format=qwen3; this model uses {model.chat_format}.")
    if model.revision is not None and (":" in model.path or user_path(model.path).is_dir()):
        raise ConfigError(f"model.revision={model.revision}: only a hub id has one; model.path={model.path} is none.")
    _check_name("output.name", config.output.name)
    _check_name("sweep.name", config.sweep.name)


def _check_second_prompt(config: Config) -> None:
    mix, diversity = config.mix, config.diversity
    if mix.mode != "none" and mix.text is None:
        raise ConfigError(f"mix.mode={mix.mode} needs a second prompt: give it as mix.text, or take mix=none.")
    if mix.text is not None and len(mix.text) > MAX_PROMPT_CHARACTERS:
        raise ConfigError(f"mix.text: {_too_long(mix.text)}")
    if diversity.variation_strength > 0 and diversity.variation_seed is None:
        raise ConfigError(
            f"diversity.variation_strength={diversity.variation_strength:g} needs diversity.variation_seed, the seed "
            "towards whose noise the picture's is moved."
        )


def _check_layers(el: EncoderLayerConfig) -> None:
    """What can be said about a choice of layers before the encoder is known."""
    if el.layers and el.layer_range:
        raise ConfigError("encoder_layer.layers and encoder_layer.layer_range are both given; leave one out.")
    if el.layer_range and len(el.layer_range) not in (2, 3):
        raise ConfigError(f"encoder_layer.layer_range={el.layer_range}: must be [first,last] or [first,last,step].")
    if el.layer_range[2:] and el.layer_range[2] < 1:
        raise ConfigError(f"encoder_layer.layer_range={el.layer_range}: the step must be at least 1.")
    if el.weights and el.layers and len(el.weights) != len(el.layers):
        raise ConfigError(f"encoder_layer.weights: {len(el.weights)} weights for {len(el.layers)} layers.")
    if el.weights and abs(sum(el.weights)) < 1e-6:
        raise ConfigError(f"encoder_layer.weights={el.weights}: they add up to 0.")
    if el.combine == "slerp" and el.weights and min(el.weights) < 0:
        raise ConfigError(f"encoder_layer.weights={el.weights}: slerp takes no negative weights.")
    if el.align != "none" and el.trained_index is None:
        raise ConfigError(
            f"encoder_layer.align={el.align} needs encoder_layer.trained_index, the layer the model was trained on."
        )


def _check_loras(entries: list[str]) -> None:
    paths = [parse_lora(entry)[0] for entry in entries]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"lora: {path} is given twice; give it once, with the sum of the scales.")


def _check_name(key: str, name: str | None) -> None:
    """Refuse what is no plain file or folder name on every system."""
    if name is None:
        return
    if not name.strip(". ") or re.search(r'[/\\\x00-\x1f:*?"<>|]', name) or len(name.encode()) > 200:
        raise ConfigError(f"{key}={_short(name)}: not a plain name of at most 200 bytes.")


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
            known = nearest(name, _options("prompts"))
            return ConfigError(f"prompts={name}: no such set. {known} A file of your own is prompts.set=PATH.")
        if group.startswith("hydra/"):
            return ConfigError(f"{group}={name}: no such option, or its package is missing: see docs/scaling.md.")
        hint = nearest(name, _options(group))
        if group == "prompt":
            hint += " To give the prompt's text, pass it bare, in quotes, or as prompt.text=..."
        return ConfigError(f"{group}={name}: no such option. {hint}".strip())
    if full_key and any(isinstance(e, ValidationError) for e in chain):
        value = re.search(r"Value '(.*?)' of type", " ".join(map(str, chain)), re.DOTALL)
        hint = next((p for p in parameters() if p.key == full_key), None)
        if hint is None:
            return ConfigError(f"{full_key} is a group of settings, not a value; {_options_hint(full_key)}")
        wanted = type_name(hint.type) + (" or null" if hint.optional else "")
        return ConfigError(f"{full_key}={_short(value[1]) if value else 'null'}: must be {wanted}.")
    if missing:
        return ConfigError(unknown_key(full_key or missing[1]))
    ambiguous = re.search(r"Ambiguous value for argument '(.*?)'", text, re.DOTALL)
    if ambiguous:
        return ConfigError(
            f"{_short(ambiguous[1])}: several values; add -m to sweep them, or write [a,b] for one list."
        )
    if "Config group override must be" in text:
        return ConfigError(f"a group takes the name of one of its options. Groups: {', '.join(_groups())}.")
    twice = re.search(r"(\S+) appears more than once in the final defaults list", text)
    if twice:
        return ConfigError(f"+{twice[1]}=...: the group {twice[1]} is there already; leave the plus sign out.")
    if re.search("mismatched input|no viable alternative|extraneous input|token recognition|LexerNoViable", text):
        return ConfigError(
            "cannot read a value. Quote it for Hydra as 'key=\"value\"', or give the prompt as a bare argument."
        )
    return ConfigError(" ".join(line.strip() for line in text.splitlines()[:2]) or type(error).__name__)


def _options(group: str) -> list[str]:
    return sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))


def _groups() -> list[str]:
    return sorted(p.name for p in conf_dir().iterdir() if p.is_dir() and p.name != "local")


def _too_long(text: str) -> str:
    return f"the prompt has {len(text):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are taken."


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def seeds_of(config: Config) -> list[int]:
    """The seeds to draw, in order."""
    return list(config.seeds) or list(range(config.seed, config.seed + config.num_images))


def changed_keys(overrides: Iterable[str]) -> list[str]:
    """The keys that overrides of the form key=value set, in order: dotted keys and names of groups."""
    matches = (_OVERRIDE.match(o) for o in overrides)
    return [m["key"] for m in matches if m and m[3] == "="]
