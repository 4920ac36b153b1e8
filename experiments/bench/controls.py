"""What the controls outside of guidance cost beyond the forwards they need, as ratios of CPU seconds in one run:

    uv run python experiments/bench/controls.py

samplers   a run of 12 velocities on nano against 12 bare forwards
positions  a velocity at twice the trained size, with the positions set anew, against one with the stock positions
text       a prompt's embeddings from several layers, or compressed, against those of the deepest layer alone
tiles      a decode in tiles against a whole one: here the ratio is the price of the memory saved

Not above 1.02 is the aim for all but the tiles. Guidance has its own script, guidance.py. One thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from pairs import print_ratio

from llm_dit.config import DypeConfig, EncoderLayerConfig, TilingConfig

PROMPT = "a red apple, 3d style, blue background"
LONG = " ".join(["a small red apple on a wooden table beside a window"] * 24)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=("samplers", "positions", "text", "tiles"), help="one part alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    from llm_dit.compose import compose
    from llm_dit.render.draw import prepare

    run = prepare(compose([PROMPT, "hardware=cpu"]))
    with torch.inference_mode():
        for name, part in {"samplers": samplers, "positions": positions, "text": text, "tiles": tiles}.items():
            if arguments.only in (None, name):
                part(run, arguments.rounds)


def forwards(run: Any, size: int, count: int) -> Callable[[], None]:
    """Bare calls of the transformer on one picture of so many pixels a side."""
    import torch

    latents = [torch.randn(16, 1, size // 8, size // 8)]
    embeds, time = [run.positive.embeds.float()], torch.tensor([0.5])

    def call() -> None:
        for _ in range(count):
            run.models.transformer(latents, time, embeds, return_dict=False)

    return call


def samplers(run: Any, rounds: int) -> None:
    import torch

    from llm_dit.diffusion.noise import renoiser
    from llm_dit.diffusion.samplers import SAMPLERS, STOCHASTIC, velocities
    from llm_dit.families.z_image.velocity import ZImageVelocity

    x, velocity = torch.randn(1, 16, 16, 16), ZImageVelocity(run.models.transformer, run.positive.embeds)
    for name, sample in SAMPLERS.items():
        steps = 6 if name == "flow_heun" else 12
        sigmas = torch.linspace(1, 0, steps + 1).tolist()
        extra = {"noise": renoiser([0], x.shape[1:], "cpu")} if name in STOCHASTIC else {}
        bare = forwards(run, 128, velocities(name, steps))
        print_ratio(name, rounds, lambda s=sample, n=sigmas, e=extra: s(velocity, x, n, **e), bare)


def positions(run: Any, rounds: int) -> None:
    import torch

    from llm_dit.families.z_image.rotary import following
    from llm_dit.families.z_image.velocity import ZImageVelocity

    x, velocity = torch.randn(1, 16, 32, 32), ZImageVelocity(run.models.transformer, run.positive.embeds)
    levels = iter(range(1, 10**6))  # a new noise level each time, as in a run: nothing may be remembered
    for method in ("none", "pi", "ntk", "yarn", "vision_yarn", "dy_ntk", "dy_yarn"):
        at = following(velocity, run.models.transformer, DypeConfig(method=method), (256, 256), 128)
        print_ratio(f"dype {method}", rounds, lambda at=at: at(x, 1 / (1 + 1e-3 * next(levels))), forwards(run, 256, 1))


def text(run: Any, rounds: int) -> None:
    from llm_dit.conditioning.layers import LayerFit, combine_layers
    from llm_dit.text.compress import COMPRESS, compress

    encoder = run.models.text_encoder
    short, long = (encoder.tokenize(t)[0] for t in (PROMPT, LONG))

    def bare(ids: list[int]) -> Callable[[], object]:
        return lambda: encoder.encode(ids, [-2])

    for combine in ("mean", "weighted", "norm_mean", "slerp"):
        el = EncoderLayerConfig(layers=[-8, -4, -2], weights=[1.0, 1.0, 2.0] if combine == "weighted" else [])
        el.combine = combine
        ours = lambda el=el: combine_layers(encoder.encode(short, el.layers), el, LayerFit())  # noqa: E731
        print_ratio(f"layers, {combine}", rounds, ours, bare(short))
    for norm in ("rms", "layernorm"):
        el = EncoderLayerConfig(norm=norm)
        ours = lambda el=el: combine_layers(encoder.encode(short, [-2]), el, LayerFit())  # noqa: E731
        print_ratio(f"norm {norm}", rounds, ours, bare(short))
    for mode in COMPRESS:
        ours = lambda mode=mode: compress(encoder.encode(long, [-2])[0], 32, mode)  # noqa: E731
        print_ratio(f"{mode}, {len(long)} tokens to 32", rounds, ours, bare(long))


def tiles(run: Any, rounds: int) -> None:
    import torch

    from llm_dit.families.autoencoder_kl.codec import decode

    z, whole = torch.randn(16, 64, 64), TilingConfig()
    tiled = TilingConfig(enabled=True, tile_size=256)
    print_ratio("512 px in tiles of 256", rounds, lambda: decode(run.models.vae, z, tiled),
                lambda: decode(run.models.vae, z, whole))  # fmt: skip


if __name__ == "__main__":
    main()
