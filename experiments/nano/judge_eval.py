"""Is nano's judge to be trusted? Confusions, what it refuses, and whether its scores mean what they say.

    uv run python experiments/nano/judge_eval.py [--count N] [--folder assets/nano/v1/judge]

Judges by the weights of the metric, or those of a folder that judge_train.py wrote. The scenes are those of
heldout.json, true pictures of them, through the VAE, made unfit, and asked for wrongly. Nothing is drawn by nano's
transformer; agreement with a person on its pictures is judge_labels.py's matter.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import through_vae, to_tensor
from domain import COUNTS, STYLES
from judge_bank import make_bank
from judge_batches import batch
from judge_icons import KEYS, load_icons
from judge_nothing import nothing
from layouts import compose, load_sprites, picture, places, shade
from make_data import scene_of
from paths import V1
from train_vae import newest_vae
from write_prompts import asked_pairs

from llm_dit.metrics.nano_judge import KINDS, NanoJudge, Vocabulary
from llm_dit.metrics.nano_judge.net import marginals
from llm_dit.metrics.nano_judge.scene import OPPOSITE, RELATIONS, count_is, in_relation
from llm_dit.metrics.nano_judge.words import Asked

SEED = 83


def asked_of(words: Vocabulary, entry: dict) -> Asked:
    """What an entry of heldout.json asks for."""
    return words.asked("", asked_pairs(entry))


def line(what: str, judge: NanoJudge, x: torch.Tensor, asked: list[dict]) -> None:
    """One row: mean score and share over one half (%), of all that is asked and of each part."""
    rows = [
        judge.score_of(sight, asked_of(judge.vocabulary, entry)).values
        for sight, entry in zip(judge.see(x), asked, strict=True)
    ]
    cells = []
    for column in rows[0]:
        values = np.array([row[column] for row in rows if row[column] is not None])
        cells.append(f"{values.mean():.3f} ({100 * (values > 0.5).mean():3.0f})" if len(values) else " " * 11)
    print(f"{what:40s} " + " ".join(cells), flush=True)


def unfit(x: torch.Tensor, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Pictures made unfit: what -> pictures."""
    n = len(x)
    noise = torch.from_numpy(rng.uniform(-1, 1, x.shape)).float()
    tiles = x.reshape(n, 3, 8, 16, 8, 16).permute(0, 2, 4, 1, 3, 5).reshape(n, 64, 3, 16, 16)
    tiles = tiles[:, torch.from_numpy(rng.permutation(64))].reshape(n, 8, 8, 3, 16, 16)
    another = x.roll(n // 3, 0)
    blurs = {
        f"blurred to {side} x {side}": F.interpolate(F.interpolate(x, size=side, mode="area"), size=128, mode="bicubic")
        for side in (64, 32, 16, 8)
    }
    return {
        **blurs,
        **{f"{share} % noise": x * (1 - share / 100) + noise * share / 100 for share in (30, 60, 90)},
        "in 64 shuffled pieces": tiles.permute(0, 3, 1, 4, 2, 5).reshape(n, 3, 128, 128),
        "left half, right half of another": torch.cat([x[..., :64], another[..., 64:]], 3),
        "mean with another": (x + another) / 2,
        "mirrored": x.flip(3),
        "upside down": x.flip(2),
        "nothing (noise, one colour, stripes)": to_tensor(nothing(rng, n)[0]),
    }


def wrongly(rng: np.random.Generator) -> dict[str, Callable[[dict], dict | None]]:
    """What else is asked of a true picture: a changed entry, or None where it does not apply."""

    def other(words: list[str], word: str) -> str:
        return str(rng.choice([w for w in words if w != word]))

    def one_more(entry: dict) -> int:
        return entry["count"] + 1 if entry["count"] < 3 else 2

    return {
        "another subject": lambda e: {**e, "subjects": [other(KEYS[0], e["subjects"][0]), *e["subjects"][1:]]},
        "the opposite relation": lambda e: {**e, "relation": OPPOSITE[e["relation"]]} if e["kind"] == "pair" else None,
        "the two exchanged": lambda e: {**e, "subjects": e["subjects"][::-1]} if e["kind"] == "pair" else None,
        "a relation across": lambda e: (
            {**e, "relation": list(RELATIONS)[(list(RELATIONS).index(e["relation"]) + 2) % 4]}
            if e["kind"] == "pair"
            else None
        ),
        "another count": lambda e: {**e, "count": one_more(e)} if e["kind"] == "count" else None,
        "another size": lambda e: (
            {**e, "size": "large" if e["size"] == "small" else "small"} if e["kind"] == "single" else None
        ),
        "another style": lambda e: {**e, "style": other(KEYS[1], e["style"])},
        "another colour": lambda e: {**e, "colour": other(KEYS[2], e["colour"])},
    }


def table(title: str, rows: list[str], columns: list[str], pairs: list[tuple[str, str]]) -> None:
    """A confusion table: what it is, against what the judge says."""
    counts = Counter(pairs)
    print(f"{title}: what it is (rows), what the judge says (columns)")
    print(f"{'':12s}" + "".join(f"{c:>10s}" for c in columns))
    for row in rows:
        print(f"{row:12s}" + "".join(f"{counts[row, column]:10d}" for column in columns))


def confusions(judge: NanoJudge, x: torch.Tensor, entries: list[dict]) -> None:
    """Tables of style, relation and count, and the commonest mistakes of subject and colour."""
    style, colour, relation, count, subject = [], [], [], [], []
    right = drawn_in_all = 0
    for i, (sight, entry) in enumerate(zip(judge.see(x), entries, strict=True)):
        found = sight.drawings
        style.append((entry["style"], [*KEYS[1], "none"][sight.style.argmax()]))
        colour.append((entry["colour"], [*KEYS[2], "none"][sight.colour.argmax()]))
        numbers = [KEYS[0].index(s) for s in entry["subjects"]]
        if entry["kind"] == "pair":
            said = {r: in_relation(found, numbers[0], r, numbers[1]) for r in RELATIONS}
            best = max(said, key=said.get)
            relation.append((entry["relation"], best if said[best] > 0.25 else "none"))
        if entry["kind"] == "count":
            chances = [count_is(found, numbers[0], n) for n in range(5)]
            count.append((COUNTS[entry["count"]], ["none", *COUNTS.values(), "four"][int(np.argmax(chances))]))
        scene = scene_of(entry)
        for place in places(scene, np.random.default_rng((SEED, i))):
            near = min(found, key=lambda d: np.hypot(d.x - place.x, d.y - place.y), default=None)
            said = "nothing" if near is None else [*KEYS[0], "none"][near.subjects.argmax()]
            drawn_in_all, right = drawn_in_all + 1, right + (said == place.subject)
            subject += [(place.subject, said)] if said != place.subject else []
    print(f"subject of each drawing: {right} of {drawn_in_all} right")
    print("   " + ", ".join(f"{a} -> {b} {n}" for (a, b), n in Counter(subject).most_common(20)))
    table("style", list(STYLES), [*KEYS[1], "none"], style)
    table("relation", list(RELATIONS), [*RELATIONS, "none"], relation)
    table("count", list(COUNTS.values()), ["none", *COUNTS.values(), "four"], count)
    wrong = Counter(pair for pair in colour if pair[0] != pair[1])
    print(f"colour: {len(colour) - sum(wrong.values())} of {len(colour)} right; "
          + ", ".join(f"{a} -> {b} {n}" for (a, b), n in wrong.most_common(8)))  # fmt: skip


@torch.no_grad()
def calibration(judge: NanoJudge, batches: int = 30) -> None:
    """Scores of the first choice in ten bins against the share that was right, on damaged pictures never seen."""
    icons = load_icons()
    bank = make_bank(newest_vae(), icons, 192, SEED)
    seen: dict[str, list[np.ndarray]] = {"subject": [], "style": [], "colour": []}
    for i in range(batches):
        made = batch(np.random.default_rng((SEED, i)), icons, bank, 48)
        _, _, drawing, colour = judge.net(made.pictures)
        at, heat = made.cells.unbind(1), judge.config["temperature"]
        said = marginals((drawing[at[0], :, at[1], at[2]] / heat["drawing"]).softmax(1), len(KEYS[0]))
        told = marginals(made.drawing, len(KEYS[0]))
        for kind, p, target, weight in (
            ("subject", said[0], told[0], made.drawing_weight),
            ("style", said[1], told[1], made.drawing_weight),
            ("colour", (colour / heat["colour"]).softmax(1), made.colour, made.colour_weight),
        ):
            p = p[:, :-1]
            best = p.argmax(1)
            share = target[torch.arange(len(best)), best]
            seen[kind].append(torch.stack([p.amax(1), share], 1)[weight == 1].numpy())
    for kind, parts in seen.items():
        score, right = np.concatenate(parts).T
        bins = np.minimum((score * 10).astype(int), 9)
        error = sum(abs((score - right)[bins == b].sum()) for b in range(10)) / len(score)
        print(f"{kind}: expected calibration error {error:.3f}")
        for b in range(10):
            if (bins == b).any():
                print(f"   {b / 10:.1f} to {(b + 1) / 10:.1f}: {(bins == b).sum():5d}, mean score "
                      f"{score[bins == b].mean():.3f}, right {right[bins == b].mean():.3f}")  # fmt: skip


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=700)
    parser.add_argument("--folder", type=Path, help="weights and config.json of another judge")
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge, sprites, rng = NanoJudge(None, "cpu", 32), load_sprites(), np.random.default_rng(SEED)
    judge.weights = args.folder or judge.weights
    print(judge.identity)
    entries = json.loads((V1 / "heldout.json").read_text())
    entries = entries[:: max(1, len(entries) // args.count)]
    scenes = [scene_of(entry) for entry in entries]
    pixels = [picture(sprites, scene, np.random.default_rng((SEED, i))) for i, scene in enumerate(scenes)]
    x = to_tensor(np.stack(pixels))
    confusions(judge, x, entries)
    print(f"{'mean score (share over 0.5, %)':40s} " + " ".join(f"{kind:>11s}" for kind in ("all", *KINDS)))
    for kind in ("single", "pair", "count"):
        at = [i for i, entry in enumerate(entries) if entry["kind"] == kind]
        line(f"true {kind}s", judge, x[at], [entries[i] for i in at])
    line("all, through the VAE", judge, through_vae(newest_vae(), x), entries)
    for what, change in wrongly(rng).items():
        changed = [(i, change(entry)) for i, entry in enumerate(entries)]
        kept = [(i, entry) for i, entry in changed if entry is not None]
        line(f"asked: {what}", judge, x[[i for i, _ in kept]], [entry for _, entry in kept])
    for what, made in unfit(x, rng).items():
        line(what, judge, made, entries)
    icons = load_icons()
    foreign = []
    for i, scene in enumerate(scenes):
        where = places(scene, np.random.default_rng((SEED, i)))
        numbers = rng.choice(icons.unseen, len(where)).tolist()
        foreign.append(compose(sprites, numbers, KEYS[1].index(scene.style), where, shade(scene.colour, rng)))
    foreign = to_tensor(np.stack(foreign))
    line("icons never seen", judge, foreign, entries)
    named = [max((d.there * d.subjects[:-1].max() for d in sight.drawings), default=0) for sight in judge.see(foreign)]
    print(f"   icons never seen: {100 * np.mean(np.array(named) > 0.5):.1f} % of pictures have one named as a subject")
    calibration(judge)


if __name__ == "__main__":
    main()
