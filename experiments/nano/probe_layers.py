"""Which hidden state of the text encoder to feed the DiT: how fast can a small reader learn from it?

    uv run python experiments/nano/probe_layers.py

For each layer k, a one-block attention reader with the DiT's own entrance (RMSNorm, Linear) is trained for a short
fixed budget to name subject, style and colour from the tokens, then asked about held-out scenes in the held-out
phrasing. Printed with the RMSNorm weight at one and with the per-channel weight of `channel_gain`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from captions import channel_gain, encode, load_encoder
from torch import nn
from vocabulary import COLOURS, HELD_OUT_PHRASING, PHRASINGS, STYLES, SUBJECTS, caption, held_out, scenes

LAYERS = (2, 6, 10, 14, 18, 22, 26, 28, 29, 30)
TRAIN, TEST, STOPS = 1500, 150, (60, 120, 400)
KEYS = (list(SUBJECTS), list(STYLES), list(COLOURS))


class Reader(nn.Module):
    """RMSNorm and Linear like the DiT's cap_embedder, one learned query a question, one linear answer each."""

    def __init__(self, gain: torch.Tensor):
        super().__init__()
        self.norm = nn.RMSNorm(576, eps=1e-5)
        self.norm.weight.data.copy_(gain)
        self.enter = nn.Linear(576, 192)
        self.queries = nn.Parameter(torch.randn(1, 3, 192) * 0.1)
        self.attention = nn.MultiheadAttention(192, 6, batch_first=True)
        self.answers = nn.ModuleList(nn.Linear(192, len(keys)) for keys in KEYS)

    def forward(self, tokens: torch.Tensor, padding: torch.Tensor) -> list[torch.Tensor]:
        x = self.enter(self.norm(tokens))
        read, _ = self.attention(self.queries.expand(len(x), -1, -1), x, x, key_padding_mask=padding)
        return [answer(read[:, i]) for i, answer in enumerate(self.answers)]


def main() -> None:
    """Print one line per layer and gain."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    everything = scenes()
    seen = [s for s in everything if not held_out(*s)]
    unseen = [s for s in everything if held_out(*s)]
    train = [seen[i] for i in rng.choice(len(seen), TRAIN, replace=False)]
    test = [unseen[i] for i in rng.choice(len(unseen), TEST, replace=False)]
    prompts = [caption(PHRASINGS[rng.integers(len(PHRASINGS))], *s) for s in train]
    prompts += [caption(HELD_OUT_PHRASING, *s) for s in test]
    labels = torch.tensor([[keys.index(v) for keys, v in zip(KEYS, s, strict=True)] for s in train + test])
    states = encode(load_encoder(), prompts, LAYERS)
    longest = max(len(s) for s in states[LAYERS[0]])
    padding = torch.tensor([[i >= len(s) for i in range(longest)] for s in states[LAYERS[0]]])
    print("layer gain     held-out subject/style/colour right after " + ", ".join(map(str, STOPS)) + " steps")
    for layer in LAYERS:
        tokens = torch.stack([F.pad(s.float(), (0, 0, 0, longest - len(s))) for s in states[layer]])
        for name, gain in (("ones", torch.ones(576)), ("channel", channel_gain(states[layer][:TRAIN]))):
            torch.manual_seed(0)
            reader = Reader(gain)
            optimiser = torch.optim.AdamW(reader.parameters(), 1e-3)
            line = []
            for step in range(max(STOPS)):
                pick = torch.randint(TRAIN, (64,))
                answers = reader(tokens[pick], padding[pick])
                loss = sum(F.cross_entropy(a, labels[pick, i]) for i, a in enumerate(answers))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if step + 1 in STOPS:
                    with torch.no_grad():
                        answers = reader(tokens[TRAIN:], padding[TRAIN:])
                    right = [(a.argmax(1) == labels[TRAIN:, i]).float().mean().item() for i, a in enumerate(answers)]
                    line.append("/".join(f"{100 * r:3.0f}" for r in right))
            print(f"{layer:5d} {name:9s} {'   '.join(line)}", flush=True)


if __name__ == "__main__":
    main()
