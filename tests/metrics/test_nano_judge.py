"""nano's judge sees what nano draws, and is not fooled by noise, grey, blur, or another subject, style or colour."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from llm_dit.compose import compose
from llm_dit.errors import ModelError
from llm_dit.metrics.base import Sample
from llm_dit.metrics.nano_judge import KINDS, WEIGHTS, NanoJudge, Vocabulary
from llm_dit.render import render
from llm_dit.study.prompts import Element, load_prompts

ROOT = Path(__file__).parents[2]
SCENES = [("red apple", "3d", "blue"), ("cat", "cartoon", "green"), ("snowman", "flat", "purple"),
          ("pizza", "cartoon", "teal")]  # fmt: skip


@pytest.fixture(scope="module")
def judge():
    return NanoJudge(None, "cpu", 16)


@pytest.fixture(scope="module")
def drawn():
    """nano's picture of each scene."""
    prompts = [f"a {subject}, {style} style, {colour} background" for subject, style, colour in SCENES]
    return [render(compose(["hardware=cpu"], prompt=prompt))[0].image for prompt in prompts]


def ask(image, subject=None, style=None, colour=None):
    asked = {"subject": subject, "style": style, "colour": colour}
    return Sample(image, "", tuple(Element(kind, word) for kind, word in asked.items() if word))


def values(judge, *samples):
    return [score.values for score in judge.score(samples)]


def test_it_sees_what_nano_draws(judge, drawn):
    samples = [ask(image, *scene) for image, scene in zip(drawn, SCENES, strict=True)]
    for scene, seen in zip(SCENES, values(judge, *samples), strict=True):
        assert seen["nano_judge"] > 0.7, (scene, seen)
        parts = [seen[f"nano_judge_{kind}"] for kind in KINDS]
        assert seen["nano_judge"] == pytest.approx(np.prod(parts))


def test_another_subject_style_or_colour_is_not_there(judge, drawn):
    for number, (scene, image) in enumerate(zip(SCENES, drawn, strict=True)):
        for place, kind in enumerate(KINDS):
            other = list(scene)
            other[place] = {"style": "flat" if scene[1] != "flat" else "3d"}.get(kind, SCENES[number - 1][place])
            (seen,) = values(judge, ask(image, *other))
            assert seen[f"nano_judge_{kind}"] < 0.1, (scene, other)
            assert seen["nano_judge"] < 0.1


def empty_pictures():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    coarse = Image.fromarray(noise[:16, :16]).resize((128, 128), Image.Resampling.BICUBIC)
    ramp = np.broadcast_to(np.linspace(0, 255, 128, dtype=np.uint8)[:, None, None], (128, 128, 3))
    return {
        "noise": Image.fromarray(noise),
        "large noise": Image.fromarray(rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)),
        "coarse noise": coarse,
        "grey": Image.new("RGB", (128, 128), (128, 128, 128)),
        "blue": Image.new("RGB", (128, 128), (50, 105, 220)),
        "black": Image.new("RGB", (64, 64)),
        "gradient": Image.fromarray(np.ascontiguousarray(ramp)),
    }


@pytest.mark.parametrize("what", empty_pictures())
def test_a_picture_of_nothing_shows_no_subject_and_no_style(judge, what):
    subject, style, _ = judge.probabilities([empty_pictures()[what]])
    assert subject[0, :-1].max() < 0.2
    assert style[0, :-1].max() < 0.2


def test_noise_has_no_background_colour_and_one_colour_is_one(judge):
    pictures = empty_pictures()
    _, _, colour = judge.probabilities([pictures["noise"], pictures["blue"]])
    assert colour[0, -1] > 0.8
    assert colour[1, judge.vocabulary.index["colour"]["blue"]] > 0.8


def test_blur_noise_and_shuffled_pieces_hide_the_subject(judge, drawn):
    rng = np.random.default_rng(1)
    for scene, image in zip(SCENES, drawn, strict=True):
        pixels = np.array(image)
        noisy = 0.1 * pixels + 0.9 * rng.integers(0, 256, pixels.shape)
        tiles = pixels.reshape(8, 16, 8, 16, 3).swapaxes(1, 2).reshape(64, 16, 16, 3)[rng.permutation(64)]
        shuffled = tiles.reshape(8, 8, 16, 16, 3).swapaxes(1, 2).reshape(128, 128, 3)
        damaged = [image.filter(ImageFilter.GaussianBlur(20)), Image.fromarray(noisy.astype(np.uint8)),
                   Image.fromarray(shuffled)]  # fmt: skip
        for seen in values(judge, *(ask(d, *scene) for d in damaged)):
            assert seen["nano_judge_subject"] < 0.3, (scene, seen)
            assert seen["nano_judge"] < 0.2


def test_any_size_and_mode(judge, drawn):
    subject, style, colour = SCENES[0]
    whole = [ask(drawn[0].resize(size, Image.Resampling.BICUBIC), subject, style, colour)
             for size in ((64, 64), (200, 200), (256, 256), (517, 480), (1024, 1024))]  # fmt: skip
    assert min(seen["nano_judge"] for seen in values(judge, *whole)) > 0.6
    odd = [drawn[0].resize(size) for size in ((1, 1), (300, 20), (7, 900))]
    odd += [drawn[0].convert(mode) for mode in ("L", "RGBA", "P", "1", "CMYK")]
    for seen in values(judge, *(ask(image, subject, style, colour) for image in odd)):
        assert all(0 <= value <= 1 for value in seen.values())


def test_a_batch_equals_one_by_one(judge, drawn):
    samples = [ask(image, *scene) for image, scene in zip(drawn, SCENES, strict=True)]
    together = values(judge, *samples)
    for sample, seen in zip(samples, together, strict=True):
        assert values(NanoJudge(None, "cpu", 1), sample)[0] == pytest.approx(seen, abs=1e-5)
    assert judge.score([]) == []


def test_features_are_of_length_one_and_differ(judge, drawn):
    features = judge.features(drawn)
    assert features.dtype == torch.float32
    assert features.shape[0] == len(drawn)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(drawn)))
    alike = features @ features.T
    assert (alike - torch.eye(len(drawn))).max() < 0.6
    same = judge.features([drawn[0], drawn[0].resize((256, 256), Image.Resampling.BICUBIC)])
    assert same[0] @ same[1] > 0.95
    assert judge.features([]).shape == (0, features.shape[1])


def test_what_is_not_asked_or_not_known_has_no_score(judge, drawn):
    nothing = dict.fromkeys(("nano_judge", *(f"nano_judge_{kind}" for kind in KINDS)))
    image = drawn[0]
    (seen,) = values(judge, Sample(image, "a lighthouse at dusk"))
    assert seen == nothing
    assert values(judge, Sample(image, "a red apple", (Element("count", "two"),))) == [nothing]
    (seen,) = values(judge, ask(image, subject="a hedgehog", colour="blue"))
    assert seen["nano_judge_subject"] is None
    assert seen["nano_judge_colour"] > 0.5
    assert seen["nano_judge"] is None  # whether all is there cannot be said
    (seen,) = values(judge, ask(image, colour="blue"))
    assert seen["nano_judge"] == seen["nano_judge_colour"]
    two = Sample(image, "", (Element("subject", "red apple"), Element("subject", "cat")))
    assert values(judge, two)[0]["nano_judge_subject"] is None


@pytest.fixture(scope="module")
def find(judge):
    """What a prompt asks for, in words."""

    def words(prompt):
        names = {kind: list(index) for kind, index in judge.vocabulary.index.items()}
        found = judge.vocabulary.find(prompt)
        return {kind: None if number is None else names[kind][number] for kind, number in found.items()}

    return words


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red apple, 3d style, blue background", ("red apple", "3d", "blue")),
        ("A HOT DOG in Cartoon style on a Gray background.", ("hot dog", "cartoon", "grey")),
        ("flat style ice cream, pink background", ("ice cream", "flat", "pink")),
        ("yellow background, an owl, 3D style", ("owl", "3d", "yellow")),
        ("fox, flat, teal", ("fox", "flat", "teal")),
        ("birthday cake cartoon brown", ("birthday cake", "cartoon", "brown")),
        ("a 3d picture of the moon on black", ("moon", "3d", "black")),
        ("please show me a volcano as a cartoon icon; make the background white", ("volcano", "cartoon", "white")),
        ("a red car", ("car", None, None)),
        ("a green car, orange background", ("car", None, "orange")),
        ("a carpet, a caterpillar and a cargo ship", (None, None, None)),
        ("an orange and green tulip in front of a plain purple background", ("tulip", None, "purple")),
        ("a drawing that falls flat", (None, "flat", None)),
        ("", (None, None, None)),
    ],
)
def test_words_of_a_prompt(find, prompt, expected):
    wanted = {kind: word for kind, word in zip(KINDS, expected, strict=True) if word}
    assert find(prompt) == wanted


def test_two_answers_are_none(find):
    assert find("a cat and a dog, flat style, red and blue") == {"subject": None, "style": "flat", "colour": None}


@pytest.mark.parametrize("name", ["starter", "nano_heldout"])
def test_the_prompt_s_words_are_its_elements(judge, name):
    for prompt in load_prompts(name):
        from_elements = judge.vocabulary.asked(Sample(Image.new("RGB", (8, 8)), prompt.prompt, prompt.elements))
        assert judge.vocabulary.find(prompt.prompt) == from_elements
        assert None not in from_elements.values()


def test_every_scene_in_every_phrasing_is_understood(judge, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "nano"))
    import vocabulary as v

    monkeypatch.delitem(sys.modules, "vocabulary")
    words = [list(v.SUBJECTS), list(v.STYLES), list(v.COLOURS)]
    assert [list(judge.vocabulary.index[kind]) for kind in KINDS] == words
    for scene in v.scenes()[::7]:
        numbers = {kind: keys.index(word) for kind, keys, word in zip(KINDS, words, scene, strict=True)}
        for phrasing in (*v.PHRASINGS, v.HELD_OUT_PHRASING):
            assert judge.vocabulary.find(v.caption(phrasing, *scene)) == numbers, (phrasing, scene)


def test_a_vocabulary_of_other_words():
    words = Vocabulary({"subject": ["a.b", "a"], "style": ["ink"], "colour": ["red"]})
    assert words.find("a.b in ink") == {"subject": 0, "style": 0}


def test_identity_is_of_the_weights(judge, tmp_path):
    assert judge.identity == NanoJudge(None, "cpu", 1).identity
    assert judge.identity.startswith("nano_judge v")
    other = NanoJudge(None, "cpu", 1)
    other._weights = tmp_path / "judge.safetensors"
    with pytest.raises(ModelError, match="not there"):
        _ = other.identity
    for file in WEIGHTS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() + b" ")
    assert other.identity != judge.identity


def test_the_weights_are_small():
    assert (WEIGHTS / "judge.safetensors").stat().st_size < 1.6 * 2**20
