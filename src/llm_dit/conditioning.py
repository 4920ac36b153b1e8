"""A config's prompts to embeddings: chat format, length, encoder, layer, with what was done kept for the record."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_dit.compose import MAX_PROMPT_CHARACTERS
from llm_dit.config import Config
from llm_dit.denoise.velocity import padded_length
from llm_dit.errors import PromptError
from llm_dit.layer_choice import (
    LayerFit,
    asked_layers,
    choose_tokens,
    combine_layers,
    describe_layers,
    encoding_settings,
    fit_layers,
    idle_layer_settings,
    is_plain,
)
from llm_dit.models.cache import Models
from llm_dit.models.place import at_work
from llm_dit.paths import user_path
from llm_dit.text.chat import ChatParts, clean_whitespace, format_prompt, strip_quotes
from llm_dit.text.length import FittedPrompt, truncate_user
from llm_dit.text.template import load_template

if TYPE_CHECKING:
    import torch

TEMPLATE_PARTS = ("system", "thinking", "assistant", "force_think_block")
REMEMBER = 512  # prompts kept in memory; a real one takes about 150 kB


@dataclass(frozen=True)
class Encoded:
    """One prompt as the transformer gets it: embeds [tokens, features] on the CPU, the text that was encoded."""

    embeds: torch.Tensor
    text: str
    encoder_fingerprint: str
    layers: dict[str, Any]  # what was asked of the encoder, for the record
    warnings: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        tokens = len(self.embeds)
        return {
            "formatted_prompt": self.text,
            "token_count": tokens,
            "padded_length": padded_length(tokens),
            "encoder_layer": self.layers,
        }


_known: OrderedDict[Any, Encoded] = OrderedDict()


def read_prompt(config: Config) -> str:
    """The prompt's text, from the config or from prompt_file. Raises PromptError."""
    if config.prompt.text is not None:
        return config.prompt.text
    if config.prompt_file is None:
        raise PromptError('no prompt: give it in quotes, as in run.py "a red apple", or as prompt_file=PATH.')
    path = user_path(config.prompt_file)
    try:
        size = path.stat().st_size
        if size > 4 * MAX_PROMPT_CHARACTERS:
            raise PromptError(f"{path}: {size:,} bytes; a prompt has at most {MAX_PROMPT_CHARACTERS:,} characters.")
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise PromptError(f"prompt_file={path}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise PromptError(f"prompt_file={path}: not UTF-8 text (byte {error.start}).") from error
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise PromptError(f"{path}: {len(text):,} characters; a prompt has at most {MAX_PROMPT_CHARACTERS:,}.")
    return text


def settle_prompt(config: Config) -> Config:
    """The config with its prompt in prompt.text, read from prompt_file, and the template's parts filled in."""
    prompt = replace(config.prompt, text=read_prompt(config))
    if prompt.template:
        template = load_template(prompt.template)
        parts = {part: getattr(prompt, part) or getattr(template, part) for part in TEMPLATE_PARTS}
        prompt = replace(prompt, template=None, **parts)
    return replace(config, prompt=prompt, prompt_file=None)


def chat_parts(config: Config, user: str) -> ChatParts:
    """The parts of the chat around some user text, cleaned as the config asks. The negative prompt uses them too."""
    p = config.prompt
    parts = ChatParts(user, p.system, p.thinking, p.assistant, p.force_think_block)
    if p.strip_quotes:
        parts = parts.map(strip_quotes)
    return parts.map(clean_whitespace) if p.clean_whitespace else parts


def fit_prompt(config: Config, user: str, tokenizer: Any) -> FittedPrompt:
    """User text formatted, tokenized and cut to the limit. tokenizer: a TextEncoder, or one that only tokenizes."""
    chat_format = config.model.chat_format
    return truncate_user(
        chat_parts(config, user),
        lambda parts: format_prompt(parts, chat_format, tokenizer.apply_chat_template),
        tokenizer.tokenize,
        config.long_prompt.max_tokens,
        refuse=config.long_prompt.mode == "refuse",
    )


def encode_prompt(config: Config, user: str, models: Models) -> Encoded:
    """Embeddings of one prompt, remembered by everything they depend on: if known, the encoder is not even loaded."""
    key = (_encoder_key(config, models), chat_parts(config, user), encoding_settings(config))
    if key in _known:
        _known.move_to_end(key)
        return _known[key]
    encoder = models.text_encoder
    with at_work(encoder.model, models.placement):
        encoded = _encode(config, user, models, encoder)
    _known[key] = encoded
    if len(_known) > REMEMBER:
        _known.popitem(last=False)
    return encoded


def _encode(config: Config, user: str, models: Models, encoder: Any) -> Encoded:
    """Embeddings of one prompt by an encoder that is in its place."""
    el = config.encoder_layer
    layers = asked_layers(el, encoder.num_layers)
    fitted = fit_prompt(config, user, encoder)
    states = encoder.encode(fitted.token_ids, layers, el.pre_norm)
    fit = LayerFit()
    if is_plain(el, layers):
        embeds = states[0]
    else:
        key = (_encoder_key(config, models), chat_parts(config, ""))
        fit = fit_layers(config, key, encoder, lambda text: fit_prompt(config, text, encoder), layers)
        embeds = combine_layers(states, el, fit).to(states[0].dtype)
    embeds, _ = choose_tokens(embeds, fitted, el.tokens)
    warnings = [fitted.warning] if fitted.warning else []
    warnings += idle_layer_settings(el, layers, encoder.num_layers)
    report = describe_layers(el, layers, encoder.num_layers, fit)
    return Encoded(embeds.cpu(), fitted.formatted.text, encoder.fingerprint, report, tuple(warnings))


def _encoder_key(config: Config, models: Models) -> Hashable:
    """What the hidden states of a chat depend on beside its parts and the choice of layers."""
    p = config.prompt
    length = config.long_prompt
    return (
        models.text_encoder_key, config.model.chat_format, p.strip_quotes, p.clean_whitespace, repr(astuple(length))
    )  # fmt: skip
