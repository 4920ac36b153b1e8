"""Random weights in the real classes, small enough for unit tests: Qwen3, the Z-Image transformer, AutoencoderKL.

Made in memory from a fixed seed. They draw noise; what they prove is that the code path is the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TEXT_WIDTH = 32
LATENT_CHANNELS = 16


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_transformer() -> Any:
    """A ZImageTransformer2DModel of width 64: 2 refiner blocks of each kind and 3 main ones."""
    import torch
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    with seeded_init(1):
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

    with seeded_init(2):
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
