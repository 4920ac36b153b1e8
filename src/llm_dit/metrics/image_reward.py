"""ImageReward (Xu and others 2023, arXiv:2304.05977): learned human preference for a picture of a prompt.

A port of the image-reward package (1.5) over transformers' BLIP parts: a vision transformer reads the picture, a BERT
with cross attention reads the prompt beside it, and a linear head scores the text's first position. Not the training,
and none of the package's other scores. Every weight of the checkpoint must land, but for two projections that the
score does not use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llm_dit.base.errors import ModelError, one_line
from llm_dit.metrics.aesthetic import linear_head
from llm_dit.metrics.base import Metric, Sample, Score
from llm_dit.metrics.weights import (
    batches,
    describe,
    enough_memory,
    files_hash,
    fill,
    find_file,
    find_file_in,
    find_folder,
    quiet,
    read_tensors,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

# Mean and standard deviation of rewards on ImageReward's own test set, from the package.
MEAN, STD = 0.16717362830052426, 1.0333394966054072
SIZE = 224
PIXEL_MEAN, PIXEL_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Sizes:
    """The architecture; ImageReward's own by default. Patches of 16 pixels of a picture of 224."""

    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    text_mlp: int = 3072
    vocabulary: int = 30524


class ImageReward(Metric):
    """ImageReward: about -2 to 2, normalised on the authors' test set; the prompt is cut at 35 tokens."""

    name = "image_reward"
    max_tokens = 35
    sizes: ClassVar[Sizes] = Sizes()

    @cached_property
    def file(self) -> Path:
        """The checkpoint."""
        return find_file("metrics.image_reward.weights", self.settings.weights, ("ImageReward.pt", "model.safetensors"))

    @cached_property
    def tokenizer_folder(self) -> Path:
        """Where BERT's tokenizer is."""
        patterns = ("tokenizer*.json", "vocab.txt", "special_tokens_map.json", "config.json")
        return find_folder("metrics.image_reward.tokenizer", self.settings.tokenizer, patterns)

    @cached_property
    def tokenizer(self) -> Any:
        """BERT's tokenizer with BLIP's two special tokens. Raises ModelError when it is not one of that size."""
        key, source, folder = "metrics.image_reward.tokenizer", self.settings.tokenizer, str(self.tokenizer_folder)
        from transformers import AutoTokenizer

        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                tokenizer.add_special_tokens({"bos_token": "[DEC]"})
                tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
        except Exception as error:  # transformers' own have many types
            raise ModelError(f"{key}={source}: cannot be loaded as a tokenizer ({one_line(error)}).") from error
        if len(tokenizer) != self.sizes.vocabulary:
            raise ModelError(
                f"{key}={source}: has {len(tokenizer)} tokens with [DEC] and [ENC], where ImageReward has "
                f"{self.sizes.vocabulary}. It must be that of bert-base-uncased."
            )
        return tokenizer

    @cached_property
    def identity(self) -> str:
        weights = files_hash(self.file)
        words = find_file_in(self.tokenizer_folder, "tokenizer.json", "vocab.txt")
        return describe(
            self.name, self.version, weights=self.settings.weights, sha256=weights,
            tokenizer=self.settings.tokenizer, tokenizer_sha256=files_hash(words),
        )  # fmt: skip

    @cached_property
    def model(self) -> Any:
        """The network on the device, float32."""
        with quiet():
            network = build(self.sizes)
        return fill(network, to_transformers(read_tensors(self.file)), self.file).to(self.device)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample: {image_reward: value}, with the prompt's tokens and whether it was cut."""
        import torch

        scores = []
        for batch in batches(samples, self.batch_size):
            prompts = [sample.prompt for sample in batch]
            text = self.tokenizer(
                prompts, padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
            ).to(self.device)
            pixels = torch.stack([to_pixels(sample.image) for sample in batch]).to(self.device)
            with torch.inference_mode(), enough_memory(len(batch), self.device):
                values = self.model(pixels, text.input_ids, text.attention_mask).tolist()
            for prompt, value in zip(prompts, values, strict=True):
                tokens = len(self.tokenizer(prompt).input_ids)
                scores.append(Score({self.name: value}, tokens, tokens > self.max_tokens))
        return scores


def to_pixels(image: Image.Image) -> Tensor:
    """A picture as the network takes it, float32 [3, 224, 224]: short side to 224, bicubic, and its middle."""
    import numpy as np
    import torch
    from PIL import Image

    image = image.convert("RGB")
    short = min(image.size)
    width, height = (SIZE if side == short else int(SIZE * side / short) for side in image.size)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + SIZE, top + SIZE))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32) / 255
    return (pixels - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[:, None, None]


def build(sizes: Sizes) -> Any:
    """The network with random weights: (pixels [n, 3, 224, 224], ids [n, t], mask [n, t]) to rewards [n]."""
    import torch
    from transformers import BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vision_model = BlipVisionModel(
                BlipVisionConfig(
                    hidden_size=sizes.vision_width, intermediate_size=4 * sizes.vision_width,
                    num_hidden_layers=sizes.vision_layers, num_attention_heads=sizes.vision_heads, image_size=SIZE,
                    patch_size=16, layer_norm_eps=1e-6, hidden_act="gelu", attention_dropout=0.0,
                )
            )  # fmt: skip
            self.text_encoder = BlipTextModel(
                BlipTextConfig(
                    vocab_size=sizes.vocabulary, hidden_size=sizes.text_width, encoder_hidden_size=sizes.vision_width,
                    intermediate_size=sizes.text_mlp, num_hidden_layers=sizes.text_layers,
                    num_attention_heads=sizes.text_heads, max_position_embeddings=512, hidden_act="gelu",
                    layer_norm_eps=1e-12, pad_token_id=0, bos_token_id=sizes.vocabulary - 2, sep_token_id=102,
                    is_decoder=True,  # makes the cross attention; the call below reads both ways
                ),
                add_pooling_layer=False,
            )  # fmt: skip
            self.mlp = torch.nn.Module()
            self.mlp.layers = linear_head(sizes.text_width)

        def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
            picture = self.vision_model(pixels).last_hidden_state
            text = self.text_encoder(
                input_ids=ids, attention_mask=mask, encoder_hidden_states=picture,
                encoder_attention_mask=torch.ones(picture.shape[:2], dtype=torch.long, device=picture.device),
                is_decoder=False,
            )  # fmt: skip
            return (self.mlp.layers(text.last_hidden_state[:, 0].float())[:, 0] - MEAN) / STD

    return Network()


# What the checkpoint calls a part of the vision tower, and what transformers does. In order: a block's own first.
_VISION = [
    (r"^blocks\.", "encoder.layers."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"^norm\.", "post_layernorm."),
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
]
_UNUSED = re.compile(r"blip\.(vision_proj|text_proj)\.(weight|bias)|blip\.text_encoder\.embeddings\.position_ids")


def to_transformers(tensors: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's tensors under the names of build()'s network; names it does not know come through unchanged."""
    converted = {}
    for name, tensor in tensors.items():
        if _UNUSED.fullmatch(name):
            continue
        new = name
        if name.startswith("blip.visual_encoder."):
            new = name.removeprefix("blip.visual_encoder.")
            for theirs, ours in _VISION:
                new = re.sub(theirs, ours, new)
            new = f"vision_model.{new}"
        elif name.startswith("blip.text_encoder."):
            new = name.removeprefix("blip.")
        converted[new] = tensor
    return converted
