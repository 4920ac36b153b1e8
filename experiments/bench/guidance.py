"""What guidance costs beyond the forwards it adds, as ratios of CPU seconds taken in one run, the sides interleaved:

    uv run python experiments/bench/guidance.py

Each method's velocity against the bare forwards it needs, on a random transformer of Z-Image's structure; for skipped
layers the second forward is a model from which they were deleted. Not above 1.02 is the aim. NAG and weights of words
(emphasis) add no forward: they are shown against one without; noise on embeddings is made once a run, at its first
forward. One thread and CPU seconds, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

from pairs import print_ratio

from llm_dit.config import DiversityConfig, GuidanceConfig, MixConfig, NagConfig, SlgConfig

SIGMA = 0.7
SCALE = 2.0


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--width", type=int, default=256, help="of the transformer; a multiple of 128")
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=16, help="a side of the picture, in tokens")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        bench(arguments.rounds, arguments.width, arguments.layers, arguments.tokens)


def bench(rounds: int, width: int, layers: int, tokens: int) -> None:
    """Print a line for each method: the seconds of both sides and their ratio."""
    import torch
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    from llm_dit.diffusion.prompts_at import FIRST, SECOND, PromptsAt
    from llm_dit.families.z_image.emphasis import Emphasis
    from llm_dit.families.z_image.rotary import install_computed_rotary
    from llm_dit.families.z_image.velocity import ZImageVelocity
    from llm_dit.text.mix import Words

    heads = width // 128
    model = ZImageTransformer2DModel(
        dim=width, n_layers=layers, n_heads=heads, n_kv_heads=heads, cap_feat_dim=128
    ).eval()
    model.requires_grad_(False)
    install_computed_rotary(model)
    shorter = copy.deepcopy(model)
    del shorter.layers[3]
    x, positive, negative = torch.randn(1, 16, 2 * tokens, 2 * tokens), torch.randn(30, 128), torch.randn(20, 128)

    def bare(network: Any, texts: list[torch.Tensor]) -> None:
        latents = [x[0].unsqueeze(1)] * len(texts)
        network(latents, torch.full((len(texts),), 1 - SIGMA), texts, return_dict=False)

    def one() -> None:
        bare(model, [positive])

    def pair() -> None:
        bare(model, [positive, negative])

    def one_and_shorter() -> None:
        one()
        bare(shorter, [positive])

    def three() -> None:
        pair()
        bare(shorter, [positive])

    def velocity(**settings: Any) -> Callable[[], None]:
        return lambda: ZImageVelocity(model, positive, negative, **settings)(x, SIGMA)

    words = torch.ones(30)
    words[5:9] = 2.0

    def prompts_at(settings: MixConfig | DiversityConfig) -> Callable[[], None]:
        groups = (settings, DiversityConfig()) if isinstance(settings, MixConfig) else (MixConfig(), settings)
        texts = {FIRST: Words(positive, (3, 25)), SECOND: Words(negative, (3, 15))}
        at = PromptsAt(texts, [0], *groups)
        return lambda: ZImageVelocity(model, at)(x, SIGMA)

    block = SlgConfig(SCALE, layers=[3])
    for name, ours, theirs in [
        ("none", velocity(), one),
        ("cfg", velocity(guidance=GuidanceConfig(SCALE)), pair),
        ("cfg, capped", velocity(guidance=GuidanceConfig(SCALE, cfg_normalization=1.0)), pair),
        ("apg", velocity(guidance=GuidanceConfig(SCALE, "apg", apg_norm_threshold=1.0)), pair),
        ("cfg_zero", velocity(guidance=GuidanceConfig(SCALE, "cfg_zero")), pair),
        ("slg", velocity(slg=block), one_and_shorter),
        ("slg, rescaled", velocity(slg=SlgConfig(SCALE, layers=[3], rescale=0.7)), one_and_shorter),
        ("cfg and slg", velocity(guidance=GuidanceConfig(SCALE), slg=block), three),
        ("nag, against one forward", velocity(nag=NagConfig(SCALE)), one),
        ("emphasis, against one forward", velocity(emphasis=Emphasis(words)), one),
        ("emphasis of all queries, the same", velocity(emphasis=Emphasis(words, queries="all")), one),
        ("emphasis of weights 1, the same", velocity(emphasis=Emphasis()), one),
        ("two prompts, mixed by velocity", prompts_at(MixConfig("velocity", "b", 0.5)), pair),
        ("noise on embeddings", prompts_at(DiversityConfig(2.0)), one),
    ]:
        print_ratio(name, rounds, ours, theirs)


if __name__ == "__main__":
    main()
