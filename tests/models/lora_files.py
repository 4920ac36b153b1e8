"""LoRAs for the tiny transformer in canonical form."""

from __future__ import annotations

import torch

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor, float]]

# One of each kind of place: main layers, both refiners, and the parts around them.
MODULES = (
    "layers.0.attention.to_q",
    "layers.0.attention.to_k",
    "layers.0.attention.to_v",
    "layers.0.attention.to_out.0",
    "layers.2.feed_forward.w1",
    "layers.2.feed_forward.w2",
    "layers.1.adaLN_modulation.0",
    "noise_refiner.0.attention.to_q",
    "noise_refiner.0.attention.to_k",
    "noise_refiner.0.attention.to_v",
    "noise_refiner.1.feed_forward.w3",
    "context_refiner.0.attention.to_out.0",
    "cap_embedder.1",
    "t_embedder.mlp.0",
    "all_x_embedder.2-1",
    "all_final_layer.2-1.linear",
    "all_final_layer.2-1.adaLN_modulation.1",
)


def make_pairs(transformer, modules=MODULES, rank=4, alpha=2.0, seed=0, ranks=None, strength=0.2) -> Pairs:
    """Random A and B for these modules; ranks: others for some of them."""
    generator = torch.Generator().manual_seed(seed)
    places = dict(transformer.named_modules())
    pairs = {}
    for module in modules:
        linear, r = places[module], (ranks or {}).get(module, rank)
        a = torch.randn(r, linear.in_features, generator=generator) * strength
        b = torch.randn(linear.out_features, r, generator=generator) * strength
        pairs[module] = (a, b, alpha)
    return pairs


def add_by_hand(transformer, pairs: Pairs, scale: float = 1.0) -> None:
    """W + scale alpha / rank B A, in place: what a LoRA means."""
    places = dict(transformer.named_modules())
    for module, (a, b, alpha) in pairs.items():
        places[module].weight.data += scale * alpha / len(a) * (b.float() @ a.float())
