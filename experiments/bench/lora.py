"""What LoRAs cost a forward, as ratios to the plain transformer, taken in one run with the sides interleaved:

    uv run python experiments/bench/lora.py
    uv run python experiments/bench/lora.py --device cuda --dtype bfloat16 --width 3840 --layers 30 --tokens 64

A random transformer of Z-Image's structure, with LoRAs on the attention and feed-forward layers of all main blocks:
one and three of them added as it runs, one fused. On a CPU one thread and CPU seconds, so that other work on the
machine counts little; on an accelerator seconds until it is done. The last lines are what a change of scale costs.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

KINDS = (
    "attention.to_q",
    "attention.to_k",
    "attention.to_v",
    "attention.to_out.0",
    "feed_forward.w1",
    "feed_forward.w2",
    "feed_forward.w3",
)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--width", type=int, default=512, help="of the transformer; a multiple of 128")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=16, help="a side of the picture, in tokens")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    torch.set_num_threads(1)
    with torch.inference_mode():
        bench(**vars(parser.parse_args()))


def bench(rounds: int, width: int, layers: int, tokens: int, rank: int, device: str, dtype: str) -> None:
    """Print a line for each way to have LoRAs: its best seconds and their ratio to the best of the plain model."""
    import torch
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    from llm_dit.families.z_image.rotary import install_computed_rotary
    from llm_dit.weights.lora import Lora, adapted, fuse
    from llm_dit.weights.lora_updates import Pair

    torch.manual_seed(0)
    heads = width // 128
    with torch.device(device):
        plain = ZImageTransformer2DModel(
            dim=width, n_layers=layers, n_heads=heads, n_kv_heads=heads, cap_feat_dim=128
        ).to(getattr(torch, dtype))
    plain.eval().requires_grad_(False)
    install_computed_rotary(plain)
    like = {"device": device, "dtype": plain.dtype}
    places = {f"layers.{i}.{kind}": plain.layers[i].get_submodule(kind) for i in range(layers) for kind in KINDS}

    def lora() -> Lora:
        pairs = {
            name: Pair(
                torch.randn(rank, place.in_features, **like), 0.01 * torch.randn(place.out_features, rank, **like), rank
            )
            for name, place in places.items()
        }
        return Lora("", pairs, "")

    loras = [lora() for _ in range(3)]
    fused = copy.deepcopy(plain)
    fuse(fused, [(loras[0], 0.8)])
    latents, text = [torch.randn(16, 1, 2 * tokens, 2 * tokens, **like)], [torch.randn(30, 128, **like)]

    def seconds(model: Any, chosen: list[tuple[Lora, float]]) -> float:
        with adapted(model, chosen):
            begin = now(device)
            model(latents, torch.full((1,), 0.3, device=device), text, return_dict=False)
            return now(device) - begin

    sides: dict[str, Callable[[], float]] = {
        "plain": lambda: seconds(plain, []),
        "one, as it runs": lambda: seconds(plain, [(loras[0], 0.8)]),
        "three, as it runs": lambda: seconds(plain, [(one, 0.8) for one in loras]),
        "one, fused": lambda: seconds(fused, []),
    }
    names = list(sides)
    best = dict.fromkeys(names, float("inf"))
    for i in range(rounds + 1):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            took = sides[name]()
            best[name] = min(best[name], took) if i else best[name]  # the first round warms up
    for name in names:
        print(f"{name}: {best[name]:.4f} s, ratio {best[name] / best['plain']:.3f} (best of {rounds})")

    begin = now(device)
    with adapted(plain, [(loras[0], 0.5)]):
        print(f"another scale, as it runs: {now(device) - begin:.4f} s, once a batch of pictures")
    begin = now(device)
    fuse(fused, [(loras[0], 0.1)])
    print(f"fusing: {now(device) - begin:.4f} s, and the loading of the transformer before it")


def now(device: str) -> float:
    """CPU seconds of this process, or the clock once the accelerator has done its work."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.accelerator.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
