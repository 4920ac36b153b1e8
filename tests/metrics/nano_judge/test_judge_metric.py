"""nano's judge sees what nano draws, where and how often, and is not fooled by noise, grey, blur, or another scene."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from llm_dit.base.errors import ModelError
from llm_dit.compose import compose
from llm_dit.metrics.base import Sample
from llm_dit.metrics.nano_judge import KINDS, WEIGHTS, NanoJudge
from llm_dit.metrics.nano_judge.metric import pixels_of
from llm_dit.metrics.nano_judge.scene import OPPOSITE, RELATIONS
from llm_dit.metrics.nano_judge.words import LABELLED
from llm_dit.prompts.sets import Element
from llm_dit.render.draw import render

SCENES = [("red apple", "3d", "blue"), ("cat", "cartoon", "white"), ("banana", "flat", "red"),
          ("pizza", "cartoon", "teal")]  # fmt: skip
CAT = 1


@pytest.fixture(scope="module")
def judge():
    return NanoJudge(None, "cpu", 16)


def draw(subject, style, colour):
    prompt = f"a {subject}, {style} style, {colour} background"
    return render(compose(["hardware=cpu"], prompt=prompt))[0].image


@pytest.fixture(scope="module")
def drawn():
    """nano's picture of each scene."""
    return [draw(*scene) for scene in SCENES]


@pytest.fixture(scope="module")
def owl():
    """nano's picture of an owl in the cat's style, on the cat's ground."""
    return draw("owl", *SCENES[CAT][1:])


def ask(image, subject=None, style=None, colour=None, **more):
    asked = {"subject": subject, "style": style, "colour": colour, **more}
    return Sample(image, "", tuple(Element(kind, word) for kind, word in asked.items() if word))


def pair(image, first, relation, second):
    return Sample(image, "", (Element("subject", first), Element("subject", second), Element("relation", relation)))


def values(judge, *samples):
    return [score.values for score in judge.score(samples)]


def test_it_sees_what_nano_draws(judge, drawn):
    samples = [ask(image, *scene) for image, scene in zip(drawn, SCENES, strict=True)]
    for scene, seen in zip(SCENES, values(judge, *samples), strict=True):
        assert seen["nano_judge"] > 0.7, (scene, seen)
        parts = [seen[f"nano_judge_{kind}"] for kind in LABELLED]
        assert seen["nano_judge"] == pytest.approx(np.prod(parts))
        assert [seen[f"nano_judge_{kind}"] for kind in KINDS if kind not in LABELLED] == [None] * 3


def test_another_subject_style_or_colour_is_not_there(judge, drawn):
    for number, (scene, image) in enumerate(zip(SCENES, drawn, strict=True)):
        for place, kind in enumerate(LABELLED):
            other = list(scene)
            other[place] = {"style": "flat" if scene[1] != "flat" else "3d"}.get(kind, SCENES[number - 1][place])
            (seen,) = values(judge, ask(image, *other))
            assert seen[f"nano_judge_{kind}"] < 0.1, (scene, other)
            assert seen["nano_judge"] < 0.1


def arranged(*placed):
    """Pictures at half their size, by (row, column) in 0..2, on the first one's ground."""
    canvas = Image.new("RGB", (128, 128), placed[0][0].getpixel((2, 2)))
    for image, (row, column) in placed:
        canvas.paste(image.resize((64, 64), Image.Resampling.BOX), (32 * column, 32 * row))
    return canvas


@pytest.mark.parametrize(
    ("relation", "first", "second"),
    [
        ("left of", (1, 0), (1, 2)),
        ("right of", (1, 2), (1, 0)),
        ("above", (0, 1), (2, 1)),
        ("below", (2, 1), (0, 1)),
    ],
)
def test_which_of_two_lies_where(judge, drawn, owl, relation, first, second):
    image = arranged((drawn[CAT], first), (owl, second))
    asked = [pair(image, "cat", r, "owl") for r in RELATIONS] + [pair(image, "owl", OPPOSITE[relation], "cat")]
    *seen, turned = values(judge, *asked)
    for said, score in zip(RELATIONS, seen, strict=True):
        assert score["nano_judge_subject"] > 0.7
        assert (score["nano_judge_relation"] > 0.9) == (said == relation), (said, score)
        assert (score["nano_judge"] > 0.6) == (said == relation), (said, score)
    assert turned["nano_judge"] == pytest.approx(max(score["nano_judge"] for score in seen))
    (seen,) = values(judge, pair(image, "cat", relation, "pizza"))
    assert seen["nano_judge_subject"] < 0.1
    assert seen["nano_judge"] < 0.1


def test_how_many_there_are(judge, drawn, owl):
    places = [(0, 0), (0, 2), (2, 1)]
    for number, word in enumerate(("one", "two", "three"), 1):
        image = arranged(*((drawn[CAT], place) for place in places[:number]))
        seen = {said: values(judge, ask(image, "cat", count=said))[0] for said in ("one", "two", "three")}
        assert max(seen, key=lambda said: seen[said]["nano_judge"]) == word
        assert seen[word]["nano_judge_count"] > 0.6, seen
        parts = [seen[word][f"nano_judge_{kind}"] for kind in ("subject", "count")]
        assert seen[word]["nano_judge"] == pytest.approx(np.prod(parts))
    two = arranged((drawn[CAT], (1, 0)), (owl, (1, 2)))
    assert values(judge, ask(two, "cat", count="one"))[0]["nano_judge"] > 0.6  # an owl is no cat


def test_how_large_it_is(judge, drawn):
    small, large = arranged((drawn[CAT], (1, 1))), drawn[CAT].crop((18, 18, 110, 110))
    for image, size in ((small, "small"), (large, "large")):
        for said in ("small", "large"):
            (seen,) = values(judge, ask(image, "cat", size=said))
            assert (seen["nano_judge_size"] > 0.5) == (said == size), (size, said, seen)


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
    (sight,) = judge.see(pixels_of([empty_pictures()[what]]))
    assert max((d.there * d.subjects[:-1].max() for d in sight.drawings), default=0) < 0.2
    assert sight.style[:-1].max() < 0.2


def test_noise_has_no_background_colour_and_one_colour_is_one(judge):
    pictures = empty_pictures()
    noise, blue = judge.see(pixels_of([pictures["noise"], pictures["blue"]]))
    assert noise.colour[-1] > 0.8
    assert blue.colour[judge.vocabulary.index["colour"]["blue"]] > 0.8


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
        assert all(value is None or 0 <= value <= 1 for value in seen.values())


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
    assert values(judge, Sample(image, "a red apple", (Element("mood", "calm"),))) == [nothing]
    assert values(judge, Sample(image, "a red apple", (Element("count", "two"),))) == [nothing]
    (seen,) = values(judge, ask(image, subject="lighthouse", colour="blue"))
    assert seen["nano_judge_subject"] is None
    assert seen["nano_judge_colour"] > 0.5
    assert seen["nano_judge"] is None  # whether all is there cannot be said
    (seen,) = values(judge, ask(image, colour="blue"))
    assert seen["nano_judge"] == seen["nano_judge_colour"]
    (seen,) = values(judge, Sample(image, "a red apple behind a cat, blue background"))
    assert seen["nano_judge_relation"] is None
    assert seen["nano_judge_subject"] < 0.1
    assert seen["nano_judge"] is None
    three = Sample(image, "", tuple(Element("subject", word) for word in ("red apple", "cat", "owl")))
    assert values(judge, three) == [nothing]


def test_identity_is_of_the_weights(judge, tmp_path):
    assert judge.identity == NanoJudge(None, "cpu", 1).identity
    assert judge.identity.startswith("nano_judge v3 ")
    other = NanoJudge(None, "cpu", 1)
    other.weights = tmp_path
    with pytest.raises(ModelError, match="not there"):
        _ = other.identity
    for file in WEIGHTS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() + b" ")
    assert other.identity != judge.identity


def test_the_weights_are_small():
    assert (WEIGHTS / "judge.safetensors").stat().st_size < 2.25 * 2**20
