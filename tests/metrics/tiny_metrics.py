"""Tiny random models as files, as a user would point a metric at them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Noise on a coloured ground, width x height."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 96, (size[1], size[0], 3)) + rng.integers(0, 160, 3)
    return Image.fromarray(noise.astype(np.uint8))


def save_open_clip(folder: Path, model, config: dict, preprocess: dict | None = None) -> Path:
    """A folder as open_clip's hub repositories are: open_clip_config.json and open_clip_model.safetensors."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess or {}})
    (folder / "open_clip_config.json").write_text(text)
    save_file(
        {k: v.contiguous().clone() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


def save_word_tokenizer(folder: Path, words: list[str], **special: str) -> Path:
    """A tokenizer of whole words, saved as transformers saves one. special: pad_token, eos_token and so on."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*special.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if "eos_token" in special:
        eos = special["eos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(f"$A {eos}", special_tokens=[(eos, vocabulary[eos])])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder
