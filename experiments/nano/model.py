"""nano's DiT: its configuration, its start, and a batched forward for training.

`forward` computes what ZImageTransformer2DModel.forward computes, for a batch of equal sizes and without Python
lists, with real-valued rotary embedding, so that it can be compiled; `python experiments/nano/model.py` prints the
largest difference between the two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import ZImageTransformer2DModel
from torch import nn

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
CAPTION = 32  # tokens; every training prompt fits, and the model itself pads to a multiple of 32


class RealRotary:
    """Attention processor that takes (cos, sin) [tokens, 1, head] and leaves complex numbers out."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None):
        cos, sin = freqs_cis
        query, key, value = (
            layer(hidden_states).unflatten(-1, (attn.heads, -1)) for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = (rotate(norm(x.float()), cos, sin) for norm, x in ((attn.norm_q, query), (attn.norm_k, key)))
        out = F.scaled_dot_product_attention(
            query.to(value.dtype).transpose(1, 2), key.to(value.dtype).transpose(1, 2), value.transpose(1, 2)
        )
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs (0, 1), (2, 3), ... of the last axis."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def angles(model: ZImageTransformer2DModel, height: int, width: int) -> tuple[tuple, tuple]:
    """(cos, sin), each [tokens, 1, head / 2], of the image tokens (height x width) and of the caption tokens."""
    caption = torch.zeros(CAPTION, 3)
    caption[:, 0] = torch.arange(1, CAPTION + 1)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([torch.full_like(rows, CAPTION + 1), rows, columns], -1).reshape(-1, 3)
    result = []
    for positions in (image, caption):
        parts = []
        for axis, size in enumerate(model.axes_dims):
            rates = 1.0 / (model.rope_theta ** (torch.arange(0, size, 2, dtype=torch.float64) / size))
            parts.append(torch.outer(positions[:, axis].double(), rates))
        phase = torch.cat(parts, 1).unsqueeze(1)
        result.append((phase.cos().float(), phase.sin().float()))
    return result[0], result[1]


def use_real_rotary(model: ZImageTransformer2DModel) -> None:
    """Put the processor above into every block."""
    for block in [*model.noise_refiner, *model.context_refiner, *model.layers]:
        block.attention.processor = RealRotary()


def forward(
    model: ZImageTransformer2DModel,
    x: torch.Tensor,
    sigma: torch.Tensor,
    captions: torch.Tensor,
    padding: torch.Tensor,
    rope: tuple[tuple, tuple],
) -> torch.Tensor:
    """Velocity [b, 16, h, w] (noise minus picture) at x [b, 16, h, w], sigma [b].

    captions [b, 32, 576] with anything where padding [b, 32] is true. The model must have RealRotary processors.
    """
    image_rope, caption_rope = rope
    time = model.t_embedder((1 - sigma) * model.t_scale).float()
    b, c, h, w = x.shape
    tokens = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    tokens = model.all_x_embedder["2-1"](tokens).float()
    for block in model.noise_refiner:
        tokens = block(tokens, None, image_rope, time)
    text = model.cap_embedder(captions.float()).float()
    text = torch.where(padding.unsqueeze(-1), model.cap_pad_token, text)
    for block in model.context_refiner:
        text = block(text, None, caption_rope)
    both = tuple(torch.cat(pair) for pair in zip(image_rope, caption_rope, strict=True))
    tokens = torch.cat([tokens, text], 1)
    for block in model.layers:
        tokens = block(tokens, None, both, time)
    out = model.all_final_layer["2-1"](tokens, c=time)[:, : h // 2 * (w // 2)].float()
    out = out.reshape(b, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
    return -out


def build(gain: torch.Tensor) -> ZImageTransformer2DModel:
    """A fresh model. `gain` [576] is the start of the caption RMSNorm's weight (captions.channel_gain)."""
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
    """Compare with the stock forward on random weights and captions of unequal length."""
    torch.manual_seed(0)
    model = build(torch.ones(576)).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.05)
    lengths = (9, 20, 32)
    captions = torch.randn(3, CAPTION, 576)
    padding = torch.tensor([[i >= n for i in range(CAPTION)] for n in lengths])
    x, sigma = torch.randn(3, 16, 16, 16), torch.tensor([0.1, 0.5, 1.0])
    with torch.no_grad():
        stock = model(list(x.unsqueeze(2)), 1 - sigma, [c[:n] for c, n in zip(captions, lengths, strict=True)])[0]
        stock = -torch.stack(list(stock)).squeeze(2)
        use_real_rotary(model)
        ours = forward(model, x, sigma, captions, padding, angles(model, 8, 8))
    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{size:.2f} M parameters; largest difference {(ours - stock).abs().max():.1e} of {stock.abs().max():.2f}")


if __name__ == "__main__":
    main()
