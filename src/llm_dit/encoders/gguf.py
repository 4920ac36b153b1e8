"""Language models out of GGUF files, read fast.

transformers' own `gguf_file=` loading takes 15 to 30 s for a model of 135 M parameters; this reader takes one or
two, and its parameters are equal bit for bit. It knows the llama architecture, which is what the text encoder of the
shipped image model is (SmolLM2-135M-Instruct: smollm2.py), and dequantises every tensor type that the `gguf` package
can.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ModelError
from llm_dit.base.inputs import refuse_special

if TYPE_CHECKING:
    from transformers import LlamaModel, PreTrainedTokenizerFast

# GGUF name -> LlamaModel name; `blk.N.X` is `layers.N.` + BLOCK[X].
TOP = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NOT_NEEDED = {"output.weight"}  # the head that predicts tokens: hidden states do not use it

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
CONTROL_TOKEN = 3  # tokenizer.ggml.token_type of <|im_start|> and its like

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass
class Record:
    """One tensor of the file: shape in torch's order, ggml type number, first byte counted from the data section."""

    shape: tuple[int, ...]
    type: int
    offset: int


def load_gguf_llm(path: str | Path) -> tuple[LlamaModel, PreTrainedTokenizerFast]:
    """Read a llama-architecture GGUF into (LlamaModel in float32, eval mode, on the CPU; tokenizer with chat template).

    The model has no token-predicting head. Raises ModelError when the file is missing, cut short, of another
    architecture, or lacks or has too many tensors.
    """
    path = Path(path)
    with opened(path) as data:
        meta, records, start = read_header(path, data)
        architecture = meta.get("general.architecture")
        if architecture != "llama":
            raise ModelError(f"{path}: architecture is {architecture!r}; this reader knows 'llama'.")
        model = build_model(path, meta, read_tensors(path, data, records, start, meta))
    return model, build_tokenizer(path, meta)


def load_gguf_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer alone, in a quarter of a second: enough to count a prompt's tokens."""
    path = Path(path)
    with opened(path) as data:
        return build_tokenizer(path, read_header(path, data)[0])


@contextmanager
def opened(path: Path) -> Iterator[mmap.mmap]:
    """The file's bytes; a file that is missing, unreadable or empty is a ModelError."""
    refuse_special(path, str(path), ModelError)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except ValueError as error:  # mmap of an empty file
        raise ModelError(f"{path}: not a GGUF file ({error}).") from error


def read_header(path: Path, data: mmap.mmap) -> tuple[dict[str, Any], dict[str, Record], int]:
    """The metadata, the tensor records and the first byte of the data section of an open GGUF file."""
    position = 0

    def scalar(kind: str) -> Any:
        nonlocal position
        (value,) = struct.unpack_from("<" + kind, data, position)
        position += struct.calcsize("<" + kind)
        return value

    def text() -> str:
        nonlocal position
        size = scalar("Q")
        if position + size > len(data):
            raise struct.error("string past the end")
        value = data[position : position + size].decode("utf-8", "replace")
        position += size
        return value

    def value_of(kind: int) -> Any:
        nonlocal position
        if kind == STRING:
            return text()
        if kind == ARRAY:
            item, count = scalar("I"), scalar("Q")
            if item not in SCALARS:
                return [value_of(item) for _ in range(count)]
            form = f"<{count}{SCALARS[item]}"
            values = list(struct.unpack_from(form, data, position))
            position += struct.calcsize(form)
            return values
        if kind not in SCALARS:
            raise ModelError(f"{path}: damaged header (value type {kind} at byte {position}).")
        return scalar(SCALARS[kind])

    if data[:4] != b"GGUF":
        raise ModelError(f"{path}: not a GGUF file (it starts with {data[:4]!r}).")
    position = 4
    try:
        version, tensor_count, key_count = scalar("I"), scalar("Q"), scalar("Q")
        if version not in (2, 3):
            raise ModelError(f"{path}: GGUF version {version}; this reader knows 2 and 3.")
        meta = {}
        for _ in range(key_count):
            key = text()
            meta[key] = value_of(scalar("I"))
        records = {}
        for _ in range(tensor_count):
            name = text()
            sizes = [scalar("Q") for _ in range(scalar("I"))]
            records[name] = Record(tuple(reversed(sizes)), scalar("I"), scalar("Q"))
    except (struct.error, OverflowError, MemoryError) as error:
        raise ModelError(f"{path}: cut short or damaged inside its header (byte {position} of {len(data)}).") from error
    alignment = meta.get("general.alignment", 32)
    return meta, records, -(-position // alignment) * alignment


def read_tensors(
    path: Path, data: mmap.mmap, records: dict[str, Record], start: int, meta: dict[str, Any]
) -> dict[str, Any]:
    """LlamaModel's state dict, float32, with the rotary permutation of the query and key rows undone."""
    import numpy as np
    import torch
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    heads = int(need(path, meta, "llama.attention.head_count"))
    heads_of = {"attn_q": heads, "attn_k": int(meta.get("llama.attention.head_count_kv", heads))}
    state = {}
    for name, record in records.items():
        if name in NOT_NEEDED:
            continue
        parts = name.split(".")
        part = parts[2] if len(parts) == 4 and parts[0] == "blk" else ""
        target = TOP.get(name) or (f"layers.{parts[1]}.{BLOCK[part]}.{parts[3]}" if part in BLOCK else None)
        if target is None:
            raise ModelError(f"{path}: unexpected tensor '{name}'; a llama model has no such weight.")
        try:
            kind = GGMLQuantizationType(record.type)
            block, size = GGML_QUANT_SIZES[kind]
            count = prod(record.shape) // block * size
            begin = start + record.offset
            if begin + count > len(data):
                raise ModelError(
                    f"{path}: cut short: '{name}' ends at byte {begin + count}, the file at byte {len(data)}."
                )
            raw = np.frombuffer(data[begin : begin + count], np.uint8).reshape(*record.shape[:-1], -1)
            values = dequantize(raw.view(np.float32) if kind == GGMLQuantizationType.F32 else raw, kind)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ModelError(f"{path}: '{name}' is stored in a way that cannot be read ({error}).") from error
        values = np.array(values, dtype=np.float32).reshape(record.shape)
        if part in heads_of:  # GGUF keeps the two halves of each head's rows interleaved
            rows, columns = values.shape
            values = values.reshape(heads_of[part], rows // heads_of[part] // 2, 2, columns).swapaxes(1, 2)
            values = np.ascontiguousarray(values.reshape(rows, columns))
        state[target] = torch.from_numpy(values)
    return state


def build_model(path: Path, meta: dict[str, Any], state: dict[str, Any]) -> LlamaModel:
    """A LlamaModel around the tensors of `state`, which it takes over without a copy."""
    import torch
    from transformers import LlamaConfig, LlamaModel
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    if "embed_tokens.weight" not in state:
        raise ModelError(f"{path}: missing tensor 'token_embd.weight'.")
    hidden, heads = need(path, meta, "llama.embedding_length"), need(path, meta, "llama.attention.head_count")
    config = LlamaConfig(
        vocab_size=state["embed_tokens.weight"].shape[0],
        hidden_size=hidden,
        intermediate_size=need(path, meta, "llama.feed_forward_length"),
        num_hidden_layers=need(path, meta, "llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=meta.get("llama.attention.head_count_kv", heads),
        head_dim=meta.get("llama.rope.dimension_count", hidden // heads),
        max_position_embeddings=need(path, meta, "llama.context_length"),
        rms_norm_eps=need(path, meta, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": meta.get("llama.rope.freq_base", 10000.0)},
        bos_token_id=meta.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=meta.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=meta.get("tokenizer.ggml.padding_token_id"),
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        model = LlamaModel(config)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())}") from error
    if missing or unexpected:
        what = [f"missing weights {missing[:3]}"] if missing else []
        what += [f"unexpected weights {unexpected[:3]}"] if unexpected else []
        raise ModelError(f"{path}: {' and '.join(what)} ({len(missing) + len(unexpected)} in all).")
    model.rotary_emb = LlamaRotaryEmbedding(config)  # its buffers are computed, not stored: they are still on meta
    return model.eval().requires_grad_(False)


def build_tokenizer(path: Path, meta: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The byte-level BPE tokenizer that the file describes, with its chat template."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    kind, pre = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre", "gpt-2")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    splitters = {
        "gpt-2": lambda: byte_level,
        "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
        "llama-bpe": lambda: pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    }
    if kind != "gpt2" or pre not in splitters:
        raise ModelError(
            f"{path}: tokenizer '{kind}' with pre-tokenizer '{pre}'; known: gpt2 with {sorted(splitters)}."
        )
    tokens, types = need(path, meta, "tokenizer.ggml.tokens"), meta.get("tokenizer.ggml.token_type", [])
    merges = [tuple(merge.split(" ", 1)) for merge in need(path, meta, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = splitters[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=False) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: meta.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=meta.get("tokenizer.chat_template"),
        model_max_length=meta.get("llama.context_length", 8192),
        clean_up_tokenization_spaces=False,
        **{name: tokens[i] for name, i in ids.items() if i is not None},
    )


def need(path: Path, meta: dict[str, Any], key: str) -> Any:
    """A metadata value, or a ModelError that names the key."""
    if key not in meta:
        raise ModelError(f"{path}: metadata key '{key}' is missing.")
    return meta[key]
