"""Draw the training set of nano, version 1, and write what is held out of it.

    uv run python experiments/nano/make_data.py             # assets/nano/v1: train-*.tar, unseen_*.tar, heldout.json
    uv run python experiments/nano/make_data.py --sheets    # only sheets to look at: assets/nano/v1/sheet_*.png

A shard holds KEY.png (128 px) and KEY.json: {"prompts": [...], ...}, of which one prompt is taken at each visit; the
other fields say what is shown. The mix of the first part, train-0*.tar, of 25,200 pictures, is 69 % single subjects (a
sixth of them small or large), 22 % pairs, 9 % counts: a single subject has to teach 450 drawings on 12 grounds each;
pairs and counts show the same drawings again, small, each as often as plain. Its last shards, from 008 on, hold only
second and third pictures, most of them of singles. The second part, train-1*.tar, has 6,300 pictures of other pairs and
counts, which are harder to learn. unseen_STYLE-*.tar are for adapters. Every prompt is encoded once before training, so
the number of different prompts is kept below 30,000. Everything follows from SEED.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle, permutations

import numpy as np
from domain import (
    KEPT_FROM_ADAPTERS,
    STYLES,
    SUBJECTS,
    TAUGHT_STYLES,
    TAUGHT_SUBJECTS,
    UNCOUNTED,
    UNSEEN_STYLES,
    Scene,
    drawn,
    held_out_count,
    held_out_look,
    held_out_placement,
    looks,
    taught,
    why_held_out,
)
from layouts import STYLE_INDEX, compose, load_sprites, load_unseen, picture, places, shade
from paths import V1
from phrasings import prompt
from PIL import Image
from vocabulary import COLOURS

from llm_dit.metrics.nano_judge.scene import RELATIONS

SEED = 101
SHARD = 2000  # pictures in a file
PICTURES = 3  # of each plain single scene
WORDY = 0.3  # of all scenes have a prompt of many words too
TWICE_TOLD = 0.1  # of the plain single scenes have a second full prompt
OPEN_TOO = 0.35  # of them have an open prompt as well
SIZED = 0.3  # of the looks are drawn small, as many large
PAIRS, PAIRS_TWICE, PAIRS_OPEN = 7500, 2000, 0.12  # pairs; how many are drawn twice; share with open prompts only
COUNTED = {1: 420, 2: 1500, 3: 1350}  # how many scenes of each count
MORE_PAIRS, MORE_COUNTED = 8000, {2: 1200, 3: 1100}  # of the second part, train-1*.tar
FOR_ADAPTERS = 12  # pictures of each subject, for an adapter
# FxEmoji draws these as a square with a scene of its own; left out for all adapters alike.
NOT_FOR_ADAPTERS = {"volcano", "tent", "rainbow"}

Entry = tuple[Scene, list[str], int]  # what is shown, its prompts, how many pictures


def shuffled(words: Iterable[str], rng: np.random.Generator) -> Iterator[str]:
    """The words again and again, each time round in a new order."""
    words = list(words)
    while True:
        yield from rng.permutation(words).tolist()


def singles(rng: np.random.Generator) -> Iterator[Entry]:
    """Every look of the training, plain and PICTURES times; some of them small, some large."""
    for look in looks():
        if held_out_look(*look):
            continue
        scene = Scene("single", *look)
        prompts = [prompt(scene, rng)]
        if rng.random() < TWICE_TOLD:
            prompts.append(prompt(scene, rng))
        if rng.random() < OPEN_TOO:
            prompts.append(prompt(scene, rng, "open"))
        yield scene, prompts, PICTURES
        for size in ("small", "large"):
            if rng.random() < SIZED:
                scene = Scene("single", *look, size=size)
                yield scene, [prompt(scene, rng)], 1


def pairs(rng: np.random.Generator, wanted: int = PAIRS, twice: int = PAIRS_TWICE) -> Iterator[Entry]:
    """Two different subjects; every subject, style, colour and relation about as often as any other.

    wanted: scenes; twice: how many of them, the first ones, have two pictures.
    """
    first, second = shuffled(SUBJECTS, rng), shuffled(SUBJECTS, rng)
    styles, colours, relations = shuffled(STYLES, rng), shuffled(COLOURS, rng), cycle(RELATIONS)
    made = 0
    for subject, other in zip(first, second, strict=False):
        scene = Scene("pair", subject, next(styles), next(colours), other=other, relation=next(relations))
        if subject == other or not all(drawn(s, scene.style) for s in scene.subjects) or why_held_out(scene):
            continue
        yield scene, [prompt(scene, rng, "open" if rng.random() < PAIRS_OPEN else "full")], 1 + (made < twice)
        made += 1
        if made == wanted:
            return


def counts(rng: np.random.Generator, scenes: dict[int, int] = COUNTED) -> Iterator[Entry]:
    """One, two or three of a subject that can be counted: how many scenes of each count."""
    countable = [s for s in SUBJECTS if s not in UNCOUNTED]
    for count, wanted in scenes.items():
        styles, colours = shuffled(STYLES, rng), shuffled(COLOURS, rng)
        made = 0
        for subject in shuffled(countable, rng):
            scene = Scene("count", subject, next(styles), next(colours), count=count)
            if drawn(subject, scene.style) and not why_held_out(scene):
                yield scene, [prompt(scene, rng, "open" if rng.random() < PAIRS_OPEN else "full")], 1
                made += 1
                if made == wanted:
                    break


def first_entries() -> list[Entry]:
    """All scenes of the first part with their prompts, in a fixed mixed order.

    They are made for the whole domain, so that a scene's prompts, and what was encoded of them, stay when another part
    of it is taught.
    """
    entries = [
        *singles(np.random.default_rng((SEED, 0))),
        *pairs(np.random.default_rng((SEED, 1))),
        *counts(np.random.default_rng((SEED, 2))),
    ]
    rng = np.random.default_rng((SEED, 8))
    for scene, prompts, _ in entries:
        if rng.random() < WORDY:
            prompts.append(prompt(scene, rng, "wordy"))
    return _taught_and_mixed(entries, 3)


def second_entries() -> list[Entry]:
    """The second part: other pairs and counts, which are the harder to learn, told in known words."""
    entries = [
        *pairs(np.random.default_rng((SEED, 11)), MORE_PAIRS, 0),
        *counts(np.random.default_rng((SEED, 12)), MORE_COUNTED),
    ]
    return _taught_and_mixed(entries, 13)


def training_entries() -> list[Entry]:
    """Both parts."""
    return first_entries() + second_entries()


def _taught_and_mixed(entries: list[Entry], seed: int) -> list[Entry]:
    entries = [entry for entry in entries if all(taught(s, entry[0].style) for s in entry[0].subjects)]
    return [entries[i] for i in np.random.default_rng((SEED, seed)).permutation(len(entries))]


def facts(scene: Scene) -> dict:
    """What a scene shows, as it is written to the files."""
    whole = {"kind": scene.kind, "subjects": list(scene.subjects), "style": scene.style, "colour": scene.colour}
    more = {
        "single": {"size": scene.size},
        "pair": {"relation": scene.relation},
        "count": {"count": scene.count},
    }
    return {**whole, **more[scene.kind]}


def scene_of(entry: dict) -> Scene:
    """What facts wrote, an entry of heldout.json say, as a Scene again."""
    subject, *other = entry["subjects"]
    rest = {key: entry[key] for key in ("size", "relation", "count") if key in entry}
    return Scene(entry["kind"], subject, entry["style"], entry["colour"], other=other[0] if other else None, **rest)


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """One member, with no time or owner, so that the same data make the same file."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


class Shards:
    """Writes KEY.png and KEY.json into NAME00.tar, NAME01.tar ... of SHARD pictures; old ones are replaced."""

    def __init__(self, name: str):
        self.name, self.count, self.tar = name, 0, None
        for old in V1.glob(f"{name}[0-9][0-9].tar"):
            old.unlink()

    def add(self, pixels: np.ndarray, about: dict) -> None:
        """One picture (uint8 [h, w, 3]) with its JSON."""
        if self.count % SHARD == 0:
            self.close()
            self.tar = tarfile.open(V1 / f"{self.name}{self.count // SHARD:02d}.tar", "w")  # noqa: SIM115
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG", compress_level=4)
        text = json.dumps(about, ensure_ascii=False).encode()
        for ending, data in (("png", png.getvalue()), ("json", text)):
            add_file(self.tar, f"{self.count:06d}.{ending}", data)
        self.count += 1

    def close(self) -> None:
        """Finish the open file."""
        if self.tar is not None:
            self.tar.close()


def write_training(entries: list[Entry], name: str, seed: int) -> None:
    """Draw everything: the second pictures of scenes come after all first ones, and the third ones at last."""
    sprites, shards, began = load_sprites(), Shards(name), time.time()
    for time_round in range(PICTURES):
        for number, (scene, prompts, pictures) in enumerate(entries):
            if time_round < pictures:
                rng = np.random.default_rng((SEED, seed, number, time_round))
                shards.add(picture(sprites, scene, rng), {"prompts": prompts, **facts(scene)})
                if shards.count % 4000 == 0:
                    print(f"{shards.count} pictures, {time.time() - began:.0f} s", flush=True)
    shards.close()


def write_for_adapters(style: str) -> None:
    """FOR_ADAPTERS pictures of each subject in a style nano is not taught; the .json says which are kept for asking."""
    if style in UNSEEN_STYLES:
        icons, drawings = load_unseen(style)
        sprites, column = drawings[:, None], 0
    else:
        icons, sprites, column = list(SUBJECTS), load_sprites(), STYLE_INDEX[style]
    subjects = [s for s in icons if drawn(s, style)]
    usable = [s for s in subjects if s in TAUGHT_SUBJECTS and s not in NOT_FOR_ADAPTERS]
    kept = KEPT_FROM_ADAPTERS[style]
    rng = np.random.default_rng((SEED, 5))
    shards, colours = Shards(f"unseen_{style}-0"), shuffled(COLOURS, rng)
    for _ in range(FOR_ADAPTERS):
        for subject in usable:
            if subject not in kept:
                scene = Scene("single", subject, style, next(colours))
                where, ground = places(scene, rng), shade(scene.colour, rng)
                pixels = compose(sprites, [icons.index(subject)], column, where, ground)
                shards.add(pixels, {"prompts": [prompt(scene, rng) for _ in range(2)], **facts(scene)})
    shards.close()
    about = {"style": style, "trained": [s for s in usable if s not in kept], "kept": kept,
             "not_in_the_set": [s for s in SUBJECTS if s not in subjects]}  # fmt: skip
    (V1 / f"unseen_{style}.json").write_text(json.dumps(about, indent=1))
    print(f"unseen_{style}: {shards.count} pictures of {len(about['trained'])} subjects; {len(kept)} kept")


def heldout_scenes(seed: int, plain: int, sized: int, paired: int, counted: int) -> list[Scene]:
    """Scenes that no training picture shows, in balance over styles, colours, relations and counts.

    plain and sized singles and counts of one in held-out looks; pairs in held-out placements; counts of two and three
    that are held out. Looks of pairs and counts may be known or not.
    """
    rng = np.random.default_rng((SEED, seed))
    result: list[Scene] = []
    unseen = [look for look in looks() if taught(*look[:2]) and held_out_look(*look)]
    order = shuffled([str(i) for i in range(len(unseen))], rng)
    styles, colours = shuffled(TAUGHT_STYLES, rng), shuffled(COLOURS, rng)

    def look() -> tuple[str, str, str]:
        style, used = next(styles), {scene.subject for scene in result[-40:]}
        return next(u for u in (unseen[int(i)] for i in order) if u[1] == style and u[0] not in used)

    result += [Scene("single", *look()) for _ in range(plain)]
    result += [Scene("single", *look(), size=("small", "large")[i % 2]) for i in range(sized)]
    both = list(permutations(TAUGHT_SUBJECTS, 2))
    left = [pair for pair in both if held_out_placement(pair[0], "left of", pair[1])]
    above = [pair for pair in both if held_out_placement(pair[0], "above", pair[1])]
    for i in range(paired):
        relation = list(RELATIONS)[i % 4]
        pool = left if relation in ("left of", "right of") else above
        a, b = pool[rng.integers(len(pool))]
        a, b = (b, a) if relation in ("right of", "below") else (a, b)
        result.append(Scene("pair", a, next(styles), next(colours), other=b, relation=relation))
    for i in range(counted):
        count = (2, 3, 2, 3, 1)[i % 5]
        if count == 1:
            result.append(Scene("count", *next(u for u in iter(look, None) if u[0] not in UNCOUNTED), count=1))
            continue
        style = next(styles)
        subjects = [s for s in TAUGHT_SUBJECTS if s not in UNCOUNTED and held_out_count(count, s, style)]
        result.append(Scene("count", str(rng.choice(subjects)), style, next(colours), count=count))
    return result


def heldout_entries(seed: int, plain: int, sized: int, paired: int, counted: int) -> list[dict]:
    """The scenes with one prompt each: two thirds in known words, a third in words never trained on."""
    rng, result = np.random.default_rng((SEED, seed, 1)), []
    for i, scene in enumerate(heldout_scenes(seed, plain, sized, paired, counted)):
        new = i // 4 % 3 == 2
        why = why_held_out(scene) + (["phrasing"] if new else [])
        text = prompt(scene, rng, "held_out" if new else "full")
        result.append({"prompt": text, **facts(scene), "held_out": why})
    return result


def write_sheets() -> None:
    """assets/nano/v1/sheet_KIND.png: 48 training pictures of each kind with their first prompts."""
    from sheets import labelled

    sprites, by_kind = load_sprites(), {}
    for scene, prompts, _ in first_entries():
        name = scene.size if scene.kind == "single" else f"{scene.kind}_{scene.relation or scene.count}"
        by_kind.setdefault(name.replace(" ", "_"), []).append((scene, prompts))
    for name, group in by_kind.items():
        pixels = [picture(sprites, s, np.random.default_rng((SEED, i))) for i, (s, _) in enumerate(group[:48])]
        labelled(pixels, [prompts[-1] for _, prompts in group[:48]], V1 / f"sheet_{name}.png")


def main() -> None:
    """Draw and write all; print what there is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sheets", action="store_true")
    if parser.parse_args().sheets:
        write_sheets()
        return
    parts, texts = (first_entries(), second_entries()), set()
    for entries in parts:
        pictures = Counter()
        for scene, _, n in entries:
            pictures[scene.kind] += n
        texts |= {text for _, prompts, _ in entries for text in prompts}
        print(f"{pictures.total()} pictures ({dict(pictures)}) of {len(entries)} scenes; {len(texts)} prompts so far")
    (V1 / "prompts.json").write_text(json.dumps(sorted(texts), indent=0))
    held = heldout_entries(6, 240, 60, 240, 160)
    overlap = texts & {entry["prompt"] for entry in held}
    print(f"{len(held)} held-out prompts; {len(overlap)} of them are also a training prompt")
    (V1 / "heldout.json").write_text(json.dumps(held, indent=1))
    write_training(parts[0], "train-0", 4)
    write_training(parts[1], "train-1", 14)
    for style in KEPT_FROM_ADAPTERS:
        write_for_adapters(style)


if __name__ == "__main__":
    main()
