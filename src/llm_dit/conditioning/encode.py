"""A config's prompts to embeddings: chat format, length, encoder, layer, with what was done kept for the record."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import PromptError
from llm_dit.base.inputs import read_text
from llm_dit.base.paths import command_name, user_path
from llm_dit.conditioning.layers import (
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
from llm_dit.config import MAX_PROMPT_CHARACTERS, Config, EncoderLayerConfig, LongPromptConfig
from llm_dit.families.z_image.text_axis import text_stretch
from llm_dit.families.z_image.velocity import padded_length
from llm_dit.models.cache import Models
from llm_dit.prompts.templates import load_template
from llm_dit.text import emphasis as weighing
from llm_dit.text.chat import ChatParts, FormattedPrompt, clean_whitespace, format_prompt, strip_quotes
from llm_dit.text.foreign import foreign_signs
from llm_dit.text.length import FittedPrompt, split_user, truncate_user
from llm_dit.weights.place import at_work

if TYPE_CHECKING:
    import torch

TEMPLATE_PARTS = ("system", "thinking", "assistant", "force_think_block")
REMEMBER = 512  # prompts kept in memory; a real one takes about 150 kB


@dataclass(frozen=True)
class Encoded:
    """One prompt as the transformer gets it: embeds [tokens, features] on the CPU, the text that was encoded.

    weights: [tokens], what attention is to make of them; None where all are 1.
    """

    embeds: torch.Tensor
    text: str
    encoder_fingerprint: str
    layers: dict[str, Any]  # what was asked of the encoder, for the record
    length: dict[str, Any]  # what was done about the text's length, for the record
    warnings: tuple[str, ...] = ()
    weights: torch.Tensor | None = None
    emphasis: dict[str, Any] | None = None  # the weights that were read, for the record
    users: tuple[int, int] = (0, 0)  # which of the tokens are the user's

    def record(self, positions: dict[str, Any] | None) -> dict[str, Any]:
        """positions: of the text's axis, which all texts of a run share."""
        tokens = len(self.embeds)
        return {
            "formatted_prompt": self.text,
            "token_count": tokens,
            "padded_length": padded_length(tokens),
            "encoder_layer": self.layers,
            "long_prompt": self.length | {"positions": positions},
            "emphasis": self.emphasis,
        }


_known: OrderedDict[Any, Encoded] = OrderedDict()


def read_prompt(config: Config) -> str:
    """The prompt's text, from the config or from prompt_file. Raises PromptError."""
    if config.prompt.text is not None:
        return config.prompt.text
    if config.prompt_file is None:
        raise PromptError(
            f'no prompt: give it in quotes, as in {command_name()} "a red apple", or as prompt_file=PATH.'
        )
    where = f"prompt_file={config.prompt_file}"
    text = read_text(user_path(config.prompt_file), where, PromptError).rstrip("\n")
    if len(text) > MAX_PROMPT_CHARACTERS:
        limit = f"a prompt has at most {MAX_PROMPT_CHARACTERS:,} characters"
        raise PromptError(f"{where}: {limit}, and this has {len(text):,}.")
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


def read_said(config: Config, user: str) -> weighing.Said:
    """Some user text as emphasis.mode reads it: without its signs, with its weights. Raises PromptError."""
    if config.emphasis.mode == "none":
        return weighing.as_said(user)
    return weighing.read_weights(user, config.emphasis.weight, _named(config, user))


def _named(config: Config, user: str) -> str:
    """What a text is called in messages."""
    if user == (config.prompt.text or ""):
        return "the prompt"
    return "mix.text" if config.mix.mode != "none" and user == config.mix.text else "the negative prompt"


def reading_limit(lp: LongPromptConfig) -> tuple[int, str]:
    """How many tokens the LLM reads at most, and the setting that says so."""
    if lp.mode in ("truncate", "refuse") and lp.max_tokens <= lp.encoder_max_tokens:
        return lp.max_tokens, "long_prompt.max_tokens"
    return lp.encoder_max_tokens, "long_prompt.encoder_max_tokens"


def fit_prompt(
    config: Config, user: str, tokenizer: Any, refuse: bool = True, name: str = "the prompt"
) -> FittedPrompt:
    """User text formatted, tokenized and cut to what the LLM reads. tokenizer: a TextEncoder, or one that only
    tokenizes. refuse=False cuts even where long_prompt.mode=refuse asks for an error. name: of the text in messages.
    """
    limit, key = reading_limit(config.long_prompt)
    refused = refuse and config.long_prompt.mode == "refuse"
    return truncate_user(chat_parts(config, user), *_formatter(config, tokenizer), limit, refused, key, name)


def _formatter(config: Config, tokenizer: Any) -> tuple[Callable[[ChatParts], FormattedPrompt], Callable]:
    chat_format = config.model.chat_format
    return lambda parts: format_prompt(parts, chat_format, tokenizer.apply_chat_template), tokenizer.tokenize


def encode_prompt(config: Config, user: str, models: Models) -> Encoded:
    """Embeddings of one prompt, remembered by everything they depend on: if known, the encoder is not even loaded."""
    # A short negative prompt beside a long one is no reason for a warning.
    name = _named(config, user)
    is_main = name != "the negative prompt"
    key = (_chat_key(config, models), user, encoding_settings(config), repr(astuple(config.long_prompt)), name)
    key += astuple(config.emphasis)
    if key in _known:
        _known.move_to_end(key)
        return _known[key]
    encoder = models.text_encoder
    with at_work(encoder.model, models.placement):
        encoded = _encode(config, user, models, encoder)
    if is_main:
        idle = idle_length_settings(config.long_prompt, encoded.length["tokens_read"], len(encoded.embeds))
        encoded = replace(encoded, warnings=(*encoded.warnings, *idle))
    _known[key] = encoded
    if len(_known) > REMEMBER:
        _known.popitem(last=False)
    return encoded


def _encode(config: Config, user: str, models: Models, encoder: Any) -> Encoded:
    """Embeddings of one prompt by an encoder that is in its place: encode -> combine layers -> fit length."""
    el, lp = config.encoder_layer, config.long_prompt
    layers = asked_layers(el, encoder.num_layers)
    said = read_said(config, user)
    fitted = fit_prompt(config, said.text, encoder, name=_named(config, user))
    limit = reading_limit(lp)[0]
    fit = fit_layers(
        config, (_chat_key(config, models), limit), encoder, lambda t: fit_prompt(config, t, encoder, False), layers
    )
    pieces = [fitted]
    if lp.mode == "segments" and len(fitted.token_ids) > lp.max_tokens:
        start, end = fitted.formatted.user_start, fitted.formatted.user_end
        read = replace(chat_parts(config, said.text), user=fitted.formatted.text[start:end])
        pieces = split_user(read, *_formatter(config, encoder), lp.max_tokens)
    embeds, users = _joined([_embed(piece, encoder, el, layers, fit) for piece in pieces])
    weights, emphasis = None, None
    if config.emphasis.mode != "none":
        tokens = token_weights(config, said, pieces, encoder)
        emphasis = weighing.describe_emphasis(config.emphasis.mode, said, tokens)
        weights = _joined([choose_tokens(_weights(t), p, el.tokens) for t, p in zip(tokens, pieces, strict=True)])[0]
        if (weights == 1).all():
            weights = None
        elif config.emphasis.mode == "from_empty":
            embeds = weighing.from_empty(embeds, _empty_token(config, encoder, layers, fit), weights)
            weights = None
    if weights is not None:
        weights = fit_weights(weights, embeds, users, lp)
    after = len(embeds) - users[1]
    embeds, length = fit_length(embeds, users, lp)
    length["tokens_asked"] = fitted.asked
    length["tokens_read"] = sum(len(piece.token_ids) for piece in pieces)
    length["segments"] = [len(piece.token_ids) for piece in pieces] if len(pieces) > 1 else None
    warnings = [fitted.warning] if fitted.warning else []
    warnings += idle_layer_settings(el, layers, encoder.num_layers)
    report = describe_layers(el, layers, encoder.num_layers, fit)
    warnings += [*said.warnings, *foreign_signs(said.text, _named(config, user))]
    return Encoded(
        embeds.cpu(), fitted.formatted.text, encoder.fingerprint, report, length, tuple(warnings), weights, emphasis,
        users=(users[0], len(embeds) - after),
    )  # fmt: skip


def token_weights(
    config: Config, said: weighing.Said, pieces: list[FittedPrompt], tokenizer: Any
) -> list[list[tuple[str, float]]]:
    """For each piece of what was said, its tokens as (characters, weight): those of the chat around it weigh 1."""
    cleaned = chat_parts(config, said.text).user
    return weighing.weights_of_tokens(cleaned, weighing.carried(said, cleaned), pieces, tokenizer.tokenize)


def _weights(tokens: list[tuple[str, float]]) -> torch.Tensor:
    import torch

    return torch.tensor([weight for _, weight in tokens])


def _empty_token(config: Config, encoder: Any, layers: list[int], fit: LayerFit) -> torch.Tensor:
    """e_0 of from_empty: the same chat without the user's words, through the same layers."""
    empty = fit_prompt(config, "", encoder, refuse=False)
    states, _ = _embed(empty, encoder, config.encoder_layer, layers, fit)
    return weighing.empty_token(states, encoder.tokenize(empty.formatted.text)[1], empty.formatted.user_start)


def _embed(
    prompt: FittedPrompt, encoder: Any, el: EncoderLayerConfig, layers: list[int], fit: LayerFit
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Embeddings [tokens, features] of one text in the encoder's dtype, and which of them are the user's."""
    states = encoder.encode(prompt.token_ids, layers, el.pre_norm)
    one = states[0] if is_plain(el, layers) else combine_layers(states, el, fit).to(states[0].dtype)
    return choose_tokens(one, prompt, el.tokens)


def _joined(pieces: list[tuple[torch.Tensor, tuple[int, int]]]) -> tuple[torch.Tensor, tuple[int, int]]:
    """Pieces of one text as one: the first's template before the user's words, the last's after them."""
    import torch

    if len(pieces) == 1:
        return pieces[0]
    (first, (start, _)), (last, (_, end)) = pieces[0], pieces[-1]
    words = [x[a:b] for x, (a, b) in pieces]
    count = sum(map(len, words))
    return torch.cat([first[:start], *words, last[end:]]), (start, start + count)


def fit_length(
    embeds: torch.Tensor, users: tuple[int, int], lp: LongPromptConfig
) -> tuple[torch.Tensor, dict[str, Any]]:
    """The user's tokens, from users[0] to users[1], compressed so that all are max_tokens; and what was done.

    Modes that do not compress, and texts that fit, are left as they are. Raises PromptError when the chat template
    leaves no room.
    """
    import torch

    from llm_dit.text.compress import COMPRESS, compress, nearness

    (start, end), before = users, len(embeds)
    report: dict[str, Any] = {"mode": lp.mode, "cosine_mean": None, "cosine_min": None}
    if lp.mode in COMPRESS and before > lp.max_tokens:
        room = lp.max_tokens - (before - (end - start))
        if room < 1:
            raise PromptError(
                f"the chat template alone has {before - (end - start)} tokens, the limit is "
                f"long_prompt.max_tokens={lp.max_tokens}; shorten prompt.system, prompt.thinking or prompt.assistant."
            )
        words = embeds[start:end]
        fewer = compress(words, room, lp.mode).to(embeds.dtype)
        report["cosine_mean"], report["cosine_min"] = (round(c, 6) for c in nearness(fewer, words))
        embeds = torch.cat([embeds[:start], fewer, embeds[end:]])
    report["tokens_after"] = len(embeds)
    return embeds, report


def fit_weights(
    weights: torch.Tensor, embeds: torch.Tensor, users: tuple[int, int], lp: LongPromptConfig
) -> torch.Tensor:
    """Weights [tokens] of the tokens that fit_length() makes of embeds: where tokens are averaged, so are they.

    The same shares of the same tokens, so that a word of weight 2 in a token with a word of weight 1 makes 1.5.
    """
    import torch

    from llm_dit.text.compress import COMPRESS, compress

    (start, end), before = users, len(embeds)
    room = lp.max_tokens - (before - (end - start))
    if lp.mode not in COMPRESS or before <= lp.max_tokens or room < 1:
        return weights
    fewer = compress(weights[start:end, None], room, lp.mode, embeds[start:end].cpu())[:, 0]
    return torch.cat([weights[:start], fewer, weights[end:]])


def idle_length_settings(lp: LongPromptConfig, read: int, tokens: int) -> list[str]:
    """Settings of the group that were given and cannot act, one line each. read: by the LLM; tokens: passed on."""
    lines = []
    if lp.mode not in ("truncate", "refuse") and read <= lp.max_tokens:
        lines.append(
            f"long_prompt.mode={lp.mode} has no effect: the prompt's {read} tokens are within "
            f"long_prompt.max_tokens={lp.max_tokens}."
        )
    if lp.positions != "plain" and text_stretch(lp, tokens) == 1:
        lines.append(
            f"long_prompt.positions={lp.positions} has no effect: the {tokens} tokens that the transformer gets pad to "
            f"no more than long_prompt.max_tokens={lp.max_tokens} do."
        )
    given = lp.encoder_max_tokens != LongPromptConfig().encoder_max_tokens
    if given and lp.mode in ("truncate", "refuse") and lp.max_tokens <= lp.encoder_max_tokens:
        lines.append(
            f"long_prompt.encoder_max_tokens has no effect: long_prompt.mode={lp.mode} reads "
            f"long_prompt.max_tokens={lp.max_tokens} at most."
        )
    return lines


def _chat_key(config: Config, models: Models) -> Hashable:
    """What the hidden states of a user's text depend on beside the choice of layers and the length read."""
    p = config.prompt
    return (
        models.text_encoder_key, config.model.chat_format, p.strip_quotes, p.clean_whitespace, chat_parts(config, "")
    )  # fmt: skip
