"""A model's text encoder and its tokenizer, from files or made at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_dit.base.errors import ModelError
from llm_dit.base.paths import user_path, visible
from llm_dit.config import ModelConfig
from llm_dit.encoders.causal_lm import TransformersTextEncoder
from llm_dit.weights.folder import RANDOM, component_folder, language_model_folder, read_json
from llm_dit.weights.modules import loading, own_memory, settle, shapes
from llm_dit.weights.place import Placement
from llm_dit.weights.tensors import (
    check_weights,
    folder_shapes,
)


def load_text_encoder(model: ModelConfig, placement: Placement) -> TransformersTextEncoder:
    """The text encoder of a model with its tokenizer; model.text_encoder replaces the model's own."""
    source = model.text_encoder
    if (source is None and model.path == RANDOM) or source == RANDOM:
        from llm_dit.encoders.tiny import tiny_text_encoder

        language_model, tokenizer = tiny_text_encoder()
    elif source and (source == "shipped:smollm2" or source.endswith(".gguf")):
        from llm_dit.encoders.gguf import load_gguf_llm
        from llm_dit.encoders.smollm2 import smollm2_gguf_path

        path = smollm2_gguf_path() if source == "shipped:smollm2" else user_path(source)
        language_model, tokenizer = load_gguf_llm(path)
    else:
        language_model, tokenizer = _load_language_model(model, placement)
    language_model = settle(language_model.to(placement.torch_dtype), placement)
    return TransformersTextEncoder(language_model, tokenizer, language_model.weights_fingerprint)


def load_tokenizer(model: ModelConfig) -> TransformersTextEncoder:
    """A text encoder that can only tokenize: enough to preview a prompt without loading the language model."""
    from types import SimpleNamespace

    source = model.text_encoder
    if (source is None and model.path == RANDOM) or source == RANDOM:
        from llm_dit.encoders.tiny import tiny_tokenizer

        tokenizer = tiny_tokenizer()
    elif source and (source == "shipped:smollm2" or source.endswith(".gguf")):
        from llm_dit.encoders.gguf import load_gguf_tokenizer
        from llm_dit.encoders.smollm2 import smollm2_gguf_path

        tokenizer = load_gguf_tokenizer(smollm2_gguf_path() if source == "shipped:smollm2" else user_path(source))
    else:
        tokenizer = _load_hf_tokenizer(model)
    return TransformersTextEncoder(
        SimpleNamespace(config=SimpleNamespace(num_hidden_layers=0, hidden_size=0)), tokenizer
    )


def _load_language_model(model: ModelConfig, placement: Placement) -> tuple[Any, Any]:
    from transformers import AutoModel

    folder = _language_model_folder(model, "text_encoder")
    read_json(folder / "config.json")
    folder_shapes(folder, "model", integers=True)
    with loading(folder, "text encoder"):
        language_model, info = AutoModel.from_pretrained(
            str(folder),
            dtype=placement.torch_dtype,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,  # left open, transformers asks a question on the terminal
            ignore_mismatched_sizes=True,  # reported in info, and refused below
        )
    # Checkpoints saved with the token-predicting head carry one tensor that hidden states do not need.
    unexpected = [k for k in info["unexpected_keys"] if not k.startswith("lm_head.")]
    found = dict.fromkeys(unexpected, ()) | {name: found for name, found, _ in info["mismatched_keys"]}
    wanted = shapes(language_model)
    found |= {k: shape for k, shape in wanted.items() if k not in info["missing_keys"] and k not in found}
    check_weights(folder, type(language_model).__name__, found, wanted)
    config = language_model.config
    if config.is_encoder_decoder or not hasattr(config, "num_hidden_layers"):
        raise ModelError(
            f"{folder}: holds {type(language_model).__name__}; the text encoder must be a decoder-only language model."
        )
    return own_memory(language_model, placement), _load_hf_tokenizer(model)


def _load_hf_tokenizer(model: ModelConfig) -> Any:
    from transformers import AutoTokenizer

    folder = _language_model_folder(model, "tokenizer")
    there = [p.name for p in visible(folder)]
    if not any(name.startswith(("tokenizer.", "vocab.")) for name in there):
        raise ModelError(f"{folder}: no tokenizer in it; it must hold tokenizer.json (found: {', '.join(there[:8])}).")
    with loading(folder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: its tokenizer does not report positions in the text; it needs a tokenizer.json.")
    return tokenizer


def _language_model_folder(model: ModelConfig, component: str) -> Path:
    """The folder of the text encoder or tokenizer; a model.text_encoder folder may hold both side by side."""
    if model.text_encoder is None:
        return component_folder(model.path, component, model.revision)
    return language_model_folder(model.text_encoder, component)
