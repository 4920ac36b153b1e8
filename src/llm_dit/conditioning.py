"""A config's prompts to embeddings: chat format, length, encoder, layer, with what was done kept for the record."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_dit.compose import MAX_PROMPT_CHARACTERS
from llm_dit.config import Config
from llm_dit.denoise.velocity import padded_length
from llm_dit.errors import PromptError
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
    warning: str = ""

    def record(self) -> dict[str, Any]:
        tokens = len(self.embeds)
        return {"formatted_prompt": self.text, "token_count": tokens, "padded_length": padded_length(tokens)}


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
    key = (
        models.text_encoder_key,
        config.model.chat_format,
        chat_parts(config, user),
        config.encoder_layer.index,
        config.long_prompt.max_tokens,
        config.long_prompt.mode,
    )
    if key in _known:
        _known.move_to_end(key)
        return _known[key]
    encoder = models.text_encoder
    fitted = fit_prompt(config, user, encoder)
    with at_work(encoder.model, models.placement):
        embeds = encoder.encode(fitted.token_ids, [config.encoder_layer.index])[0].cpu()
    encoded = Encoded(embeds, fitted.formatted.text, encoder.fingerprint, fitted.warning)
    _known[key] = encoded
    if len(_known) > REMEMBER:
        _known.popitem(last=False)
    return encoded
