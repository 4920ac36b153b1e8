"""Settings that are right one by one and wrong together, and names that cannot be files."""

from __future__ import annotations

import re

from llm_dit.compose.messages import short, too_long
from llm_dit.config import MAX_PROMPT_CHARACTERS, Config, EncoderLayerConfig, get
from llm_dit.denoise.sigmas import problem_of
from llm_dit.errors import ConfigError
from llm_dit.models.lora_file import parse_lora
from llm_dit.paths import user_path
from llm_dit.text.vocabulary import check_vocabulary

TAKE_A_BIAS = ("native", "flex", "_native_math", "_native_efficient")  # attention kernels that add a bias to logits


def check_combinations(config: Config) -> None:
    """Raises ConfigError for the first that cannot be."""
    if config.prompt.text is not None and config.prompt_file is not None:
        raise ConfigError("two prompts: prompt_file and prompt.text are both given; leave one out.")
    if config.prompts.set is not None and (config.prompt.text is not None or config.prompt_file is not None):
        raise ConfigError("a prompt and a set of prompts are both given; leave one out (prompts=none).")
    if len(set(config.seeds)) != len(config.seeds):
        raise ConfigError(f"seeds={config.seeds}: a seed stands twice, and would draw the same picture twice.")
    if not config.seeds and config.seed + config.num_images - 1 > 2**63 - 1:
        raise ConfigError("seed + num_images runs past the largest seed, 2^63 - 1.")
    if config.prompt.text is not None and len(config.prompt.text) > MAX_PROMPT_CHARACTERS:
        raise ConfigError(too_long(config.prompt.text))
    problem = problem_of(config.sampler.sigmas)
    if problem:
        raise ConfigError(f"sampler.sigmas={short(config.sampler.sigmas)}: {problem}")
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
    if model.sizes and (len(model.sizes) != 2 or model.sizes[0] > model.sizes[1]):
        raise ConfigError(f"model.sizes={model.sizes}: must be [smallest,largest] in pixels, or [] for any size.")
    if model.vocabulary is not None:
        check_vocabulary(model.vocabulary)
    _check_name("output.name", config.output.name)
    _check_name("sweep.name", config.sweep.name)
    _check_name("train.name", config.train.name)


def _check_second_prompt(config: Config) -> None:
    mix, diversity = config.mix, config.diversity
    if mix.mode != "none" and mix.text is None:
        raise ConfigError(f"mix.mode={mix.mode} needs a second prompt: give it as mix.text, or take mix=none.")
    if mix.text is not None and len(mix.text) > MAX_PROMPT_CHARACTERS:
        raise ConfigError(f"mix.text: {too_long(mix.text)}")
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
        raise ConfigError(f"{key}={short(name)}: not a plain name of at most 200 bytes.")
