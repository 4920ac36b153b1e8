"""Random weights in the real classes, small enough for unit tests: Qwen3, the Z-Image transformer, AutoencoderKL.

Made in memory from a fixed seed. They draw noise; what they prove is that the code path is the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
TEXT_WIDTH = 32
TEXT_LAYERS = 4
LATENT_CHANNELS = 16


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_transformer() -> Any:
    """A ZImageTransformer2DModel of width 64: 2 refiner blocks of each kind and 3 main ones."""
    import torch
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    with _seeded(1):
        model = ZImageTransformer2DModel(
            in_channels=LATENT_CHANNELS,
            dim=64,
            n_layers=3,
            n_refiner_layers=2,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=TEXT_WIDTH,
            axes_dims=[8, 12, 12],
            axes_lens=[1536, 512, 512],
        )
        # Pad tokens start at zero, which would hide whether they are used.
        torch.nn.init.normal_(model.cap_pad_token)
        torch.nn.init.normal_(model.x_pad_token)
    return model


def tiny_vae() -> Any:
    """An AutoencoderKL with Z-Image's factor 8 and 16 latent channels."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    with _seeded(2):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=2,
            sample_size=64,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        )


def tiny_tokenizer() -> Any:
    """A byte tokenizer with Qwen3's special tokens: every byte is a token, nothing is merged."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL_TOKENS])
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def tiny_text_encoder() -> tuple[Any, Any]:
    """(Qwen3Model with 4 layers of width 32, its byte tokenizer)."""
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = tiny_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=40960,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with _seeded(3):
        return Qwen3Model(config), tokenizer


def save_tiny_folder(folder: Any) -> None:
    """The tiny model as a folder in diffusers' layout: what a downloaded Z-Image looks like on disk."""
    import json
    from pathlib import Path

    folder = Path(folder)
    tiny_transformer().save_pretrained(folder / "transformer")
    tiny_vae().save_pretrained(folder / "vae")
    language_model, tokenizer = tiny_text_encoder()
    language_model.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "use_dynamic_shifting": False}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2))
