"""Where nano's training starts: a fresh transformer as a folder in diffusers' layout, for train.init.

    uv run python experiments/nano/start.py [--prompts SET]

Random weights with a start of their own: the caption's RMSNorm evens out the channels of the text encoder, measured
on a set of prompts as the model's config formats and encodes them; blocks start a third open. Writes
assets/nano/start/transformer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from diffusers import ZImageTransformer2DModel
from paths import ASSETS
from torch import nn

from llm_dit.base.clock import Clock
from llm_dit.compose import compose
from llm_dit.conditioning.encode import encode_prompt
from llm_dit.models.cache import Models
from llm_dit.prompts.sets import load_prompts
from llm_dit.weights.place import choose_placement

SEED = 31
CONFIG = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "in_channels": 16,
    "dim": 192,
    "n_layers": 7,
    "n_refiner_layers": 1,
    "n_heads": 6,
    "n_kv_heads": 6,
    "cap_feat_dim": 576,
    "rope_theta": 256.0,
    "t_scale": 1000.0,
    "axes_dims": [8, 12, 12],
    "axes_lens": [1536, 512, 512],
}


def channel_gain(states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weight [576] for the transformer's caption RMSNorm that gives every channel unit spread after it.

    Measured over all tokens [tokens, 576] but each text's first, whose few huge channels are the same for every prompt.
    Without it one channel holds two thirds of the energy and drowns the rest.
    """
    tokens = torch.cat([s[1:].float() for s in states])
    normed = tokens * torch.rsqrt(tokens.square().mean(1, keepdim=True) + 1e-5)
    return 1 / normed.std(0).clamp_min(1e-3)


def build(gain: torch.Tensor) -> ZImageTransformer2DModel:
    """A fresh model. `gain` [576] is the start of the caption RMSNorm's weight."""
    model = ZImageTransformer2DModel(**CONFIG)
    with torch.no_grad():
        model.cap_embedder[0].weight.copy_(gain)
        nn.init.normal_(model.cap_pad_token, std=0.5)
        for block in [*model.noise_refiner, *model.layers]:
            linear = block.adaLN_modulation[0]
            nn.init.zeros_(linear.weight)
            # scale and gate of attention, scale and gate of feed-forward: branches start a third open
            linear.bias.copy_(torch.tensor([0.0, 0.3, 0.0, 0.3]).repeat_interleave(CONFIG["dim"]))
        final = model.all_final_layer["2-1"]
        for linear in (final.linear, final.adaLN_modulation[1]):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
    return model


def main() -> None:
    """Encode, measure, build, save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", default="nano_fit")
    prompts = load_prompts(parser.parse_args().prompts)
    config = compose(["model=nano"])
    models = Models(config, choose_placement("cpu"), clock=Clock())
    states = [encode_prompt(config, prompt.prompt, models).embeds for prompt in prompts]
    torch.manual_seed(SEED)
    model = build(channel_gain(states))
    model.save_pretrained(ASSETS / "start" / "transformer")
    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{ASSETS / 'start' / 'transformer'}: {size:.2f} M parameters, gain from {len(prompts)} prompts")


if __name__ == "__main__":
    main()
