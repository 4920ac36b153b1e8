"""Texts to embeddings, equal to a render's (conditioning/), several a forward. Made once, kept by content."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import DataError, PromptError
from llm_dit.conditioning.encode import chat_parts, encode_prompt, fit_length, fit_prompt, settle_prompt
from llm_dit.conditioning.layers import (
    LayerFit,
    asked_layers,
    choose_tokens,
    combine_layers,
    encoding_settings,
    is_plain,
)
from llm_dit.config import Config
from llm_dit.models.cache import Models
from llm_dit.train.data.rows import Row
from llm_dit.train.data.store import Store, key_of
from llm_dit.weights.place import at_work

if TYPE_CHECKING:
    import torch

    from llm_dit.text.length import FittedPrompt

VERSION = 1
OPENED = 2  # of texts with words of the assistant, from which on its turn stays open and line breaks are dropped
# Tokens of one forward of the encoder, padding included.
AT_ONCE = {"cpu": 1024, "mps": 8192, "cuda": 16384}


@dataclass(frozen=True)
class Text:
    """A caption with the parts of the chat around it: a config whose prompt is settled."""

    config: Config
    user: str

    @property
    def key(self) -> bytes:
        parts = chat_parts(self.config, self.user)
        version = OPENED if parts.assistant or parts.thinking else VERSION
        return key_of(version, astuple(parts), self.config.model.chat_format)


def row_texts(row: Row, config: Config) -> list[Text]:
    """The phrasings of a row, each with the row's own parts and, where it has none, the config's.

    Raises PromptError for a template that does not exist, or parts that the model's chat cannot hold.
    """
    given = {
        name: value
        for name in ("template", "system", "thinking", "assistant", "force_think_block")
        if (value := getattr(row, name)) is not None
    }
    prompt = replace(config.prompt, text="", **given)
    settled = settle_prompt(replace(config, prompt=prompt, prompt_file=None))
    p, chat_format = settled.prompt, config.model.chat_format
    if (p.thinking or p.force_think_block) and chat_format != "qwen3":
        raise PromptError(f"a think block needs model.chat_format=qwen3; this model uses {chat_format}.")
    if p.assistant and chat_format == "tokenizer":
        raise PromptError("an assistant part needs model.chat_format=qwen3 or chatml.")
    return [Text(settled, text) for text in row.prompts]


def empty_text(config: Config) -> Text:
    """What a dropped caption is replaced by: the empty negative prompt of a render with the same settings."""
    return Text(settle_prompt(replace(config, prompt=replace(config.prompt, text=""), prompt_file=None)), "")


def text_settings(config: Config) -> Hashable:
    """What embeddings depend on beside the text and the encoder, as one value."""
    return (encoding_settings(config), astuple(config.long_prompt))


def encode_texts(
    texts: Sequence[Text], store: Store, models: Models, tick: Callable[[], object] = lambda: None
) -> tuple[dict[bytes, str], list[str]]:
    """Put the embeddings of texts into the store. Returns what is wrong with texts that cannot be encoded, by key, and
    remarks on those that were cut.

    Raises DataError when the store's dtype cannot hold them.
    """
    problems: dict[bytes, str] = {}
    remarks: list[str] = []
    if not texts:
        return problems, remarks
    encoder = models.text_encoder
    with at_work(encoder.model, models.placement):
        fitted: list[tuple[Text, FittedPrompt]] = []
        for text in texts:
            try:
                prompt = fit_prompt(text.config, text.user, encoder)
            except PromptError as error:
                problems[text.key] = str(error)
                tick()
                continue
            if prompt.warning:
                remarks.append(prompt.warning)
            fitted.append((text, prompt))
        fitted.sort(key=lambda pair: len(pair[1].token_ids))
        try:
            for batch in _batches(fitted, AT_ONCE[models.placement.device]):
                for (text, _), embeds in zip(batch, _embed(batch, encoder, models), strict=True):
                    _keep(text, embeds, store)
                    tick()
        finally:
            store.flush()
    return problems, remarks


def _keep(text: Text, embeds: torch.Tensor, store: Store) -> None:
    try:
        store.add(text.key, embeds)
    except OverflowError as error:
        raise DataError(
            f"the embeddings of {text.user[:60]!r} are {error}; set data.cache_dtype=bfloat16 or float32."
        ) from error


def _batches(fitted: list[tuple[Text, FittedPrompt]], tokens: int) -> Iterator[list[tuple[Text, FittedPrompt]]]:
    """Texts of about one length, as many as fit into so many tokens."""
    batch: list[tuple[Text, FittedPrompt]] = []
    for pair in fitted:  # the last one is the longest, and says what the others are padded to
        if batch and (len(batch) + 1) * len(pair[1].token_ids) > tokens:
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _embed(batch: list[tuple[Text, FittedPrompt]], encoder: Any, models: Models) -> list[torch.Tensor]:
    """Embeddings [tokens, features] of each text; in one forward unless something is fitted or pieced together."""
    config = batch[0][0].config
    el, lp = config.encoder_layer, config.long_prompt
    fits = el.align != "none" or el.norm == "per_channel"
    pieces = lp.mode == "segments" and any(len(prompt.token_ids) > lp.max_tokens for _, prompt in batch)
    if fits or pieces:
        return [encode_prompt(text.config, text.user, models).embeds for text, _ in batch]
    layers = asked_layers(el, encoder.num_layers)
    found = []
    for (_, prompt), states in zip(
        batch, encoder.encode_many([prompt.token_ids for _, prompt in batch], layers, el.pre_norm), strict=True
    ):
        one = states[0] if is_plain(el, layers) else combine_layers(states, el, LayerFit()).to(states[0].dtype)
        found.append(fit_length(*choose_tokens(one, prompt, el.tokens), lp)[0])
    return found
