"""The training pictures once more, some kinds oftener than others: assets/nano/v1/NAME.tar.

    uv run python experiments/nano/mix_data.py mix1 --singles 2 0.5 --others 0.35 0.3
    uv run python experiments/nano/mix_data.py mix2 --singles 1.3 0.6 --others 0.9 0.7

Two numbers each: how often a picture is shown in which a drawing is new to version 0 (another subject, or ink), and
one in which none is; a fraction is the share that is shown once more. The bytes are copied, so that latents and
embeddings made of the shards serve the mix too.
"""

from __future__ import annotations

import argparse
import json
import random
import tarfile
from collections import Counter
from pathlib import Path

from make_data import add_file
from paths import V1
from vocabulary import SUBJECTS as FIRST_SUBJECTS

SEED = 7


def is_new(about: dict) -> bool:
    """Whether a picture shows a drawing that version 0 never saw."""
    return any(subject not in FIRST_SUBJECTS or about["style"] == "ink" for subject in about["subjects"])


def mix(shards: list[Path], target: Path, singles: tuple[float, float], others: tuple[float, float]) -> Counter:
    """Write the mix; how many pictures of each kind it holds."""
    rng, counts = random.Random(SEED), Counter()
    with tarfile.open(target, "w") as out:
        for shard in shards:
            with tarfile.open(shard) as tar:
                files = {member.name: tar.extractfile(member).read() for member in tar}
            for name in (name for name in files if name.endswith(".json")):
                about = json.loads(files[name])
                single, new = about["kind"] == "single", is_new(about)
                often = (singles if single else others)[0 if new else 1]
                times = int(often) + (rng.random() < often % 1)
                for _ in range(times):
                    number = counts.total()
                    for ending in ("png", "json"):
                        add_file(out, f"{number:06d}.{ending}", files[f"{name[:-5]}.{ending}"])
                    counts[f"{'new' if new else 'known'} {'single' if single else 'pair or count'}"] += 1
    return counts


def main() -> None:
    """Mix all shards of the training."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--singles", type=float, nargs=2, required=True, metavar=("NEW", "KNOWN"))
    parser.add_argument("--others", type=float, nargs=2, required=True, metavar=("NEW", "KNOWN"))
    args = parser.parse_args()
    counts = mix(sorted(V1.glob("train-*.tar")), V1 / f"{args.name}.tar", args.singles, args.others)
    print(counts.total(), dict(counts))


if __name__ == "__main__":
    main()
