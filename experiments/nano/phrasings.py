"""How a scene of nano, version 1, is asked for: nouns with fillers, wordings of relations and counts, and frames.

A prompt is a frame around what is to be seen ("a fox", "two tiny foxes", "a fox left of a key"). Full frames name style
and background, open ones leave one or both to the model. What is called held out is never trained on: it measures
whether the text encoder's understanding carries over to other words.

In a frame, {a} is what is to be seen and {n} the same without an article; {A} and {Picture} begin with a capital;
{picture} is "a cartoon illustration", {a_style} "a cartoon" and {noun} "illustration"; {colour} and {a_colour} are the
background's.
"""

from __future__ import annotations

import numpy as np
from domain import Scene, article, plural, with_article

from llm_dit.metrics.nano_judge.words import SIZE_WORDS

FRAMES = [
    "{a}, {style} style, {colour} background",
    "{a} in {style} style on {a_colour} background",
    "{style} style {n}, {colour} background",
    "{colour} background, {a}, {style} style",
    "{n}, {style}, {colour}",
    "{a_style} picture of {a} on {colour}",
    "draw {a} in the {style} style, with {a_colour} background",
    "{A_style} style illustration of {a} in front of a plain {colour} background.",
    "{n} {style} {colour}",
    "{Picture} of {a} against {a_colour} backdrop.",
    "{a} on {a_colour} background, {style} style",
    "{style} {noun} of {a}, plain {colour} background",
    "The picture shows {a} in {style} style, with {a_colour} background.",
    "Here you see {a} in {style} style. The background is {colour}.",
    "{A} against a solid {colour} background, drawn as {picture}.",
    "an image of {a}, {colour} backdrop, {style} style, simple and clean",
    "{A} in front of a plain {colour} wall: {picture}.",
    "{style}-style {n} with {a_colour} background",
    "Create {picture} showing {a} on a solid {colour} background.",
    "{a}, {style}, {colour} background, high quality, detailed",
    "I want {a} in {style} style with {colour} behind it",
    "{n} | style: {style} | background: {colour}",
    "The background is {colour}; in front of it is {a}, rendered in {style} style.",
    "{A}, isolated on {colour}, {style} art",
    "Please draw {a}. Use {style} style and {a_colour} background.",
]
LONG_FRAMES = [
    "The image depicts {a} in a clean, simple {style} style. The composition is balanced, and the background is a "
    "smooth, uniform {colour} without any other details.",
    "A charming {style} {noun} that shows {a}, with soft, even light, in front of a plain {colour} background that "
    "fills the whole frame.",
    "On a solid {colour} background, we see {a}. Everything is drawn in {style} style, with clear shapes, and "
    "nothing else can be seen.",
    "This {style} style picture shows {a}. The shapes are clear and easy to recognise. Behind everything there is "
    "only one even {colour} surface.",
    "{A}, beautifully drawn as {picture}, high quality, sharp, well composed, professional, with a clean {colour} "
    "background",
]
# As people and language models write: what is wanted among words that are not, some of them about sizes and surfaces.
WORDY_FRAMES = [
    "On a little square card, all in {colour}, somebody has drawn {a}. The style of the drawing is {style}, and there "
    "is nothing else on the card.",
    "A large canvas, {colour} from edge to edge, and on it {a} as {picture}.",
    "This tiny sticker has {a_colour} ground, and on it there is {a} in {style} style.",
    "A big sheet of {colour} paper carries {a}; whoever made it likes {style} pictures.",
    "For a children's room I need {a}: {style} style, nothing around it, and the wall itself {colour}.",
    "Think of {a}. Give it to me as {picture}, with plain {colour} all around.",
    "{A}, rendered in {style} style, hangs on a wall that is entirely {colour}.",
    "Here is a simple scene: {a}, with nothing but {colour} at the back. It has the {style} style of an app's symbol.",
    "A minimal composition in {style} style: {a} against an empty surface of {colour}, evenly lit.",
    "Take {a_colour} background without any pattern, put {a} on it, and draw the whole in {style} style.",
    "A professional designer's {style} {noun}: it presents {a} on a flat field of {colour}, crisp, with much space.",
    "What would {a} be in {style} style? Draw that, on {a_colour} background.",
    "{Picture}. It has {a} in it, and its ground is one even {colour}. No text, no frame, no shadow.",
    "There is {a}. There is also a background, which is {colour}. The manner is {style}.",
]
OPEN_FRAMES = [
    *("{a}", "{n}", "a picture of {a}", "The picture shows {a}.", "draw {a}"),
    *("{a}, {style} style", "{a} in {style} style", "{style} style {n}", "{picture} of {a}"),
    *("{a}, {colour} background", "{a} on {a_colour} background", "{A} in front of a plain {colour} background."),
]
HELD_OUT_FRAMES = [
    "please show me {a} as {a_style} icon; make the background {colour}",
    "Behind {a} everything is {colour}, and the whole thing looks {style}.",
    "We see {a} with {a_style} look, while the colour around is {colour}.",
    "Imagine a small square poster, painted all over in {colour}. In its middle is {a}, and the artist has chosen "
    "{a_style} way of drawing.",
]

# How the first of two is said to lie to the second; the last of each is held out.
RELATION_WORDINGS = {
    "left of": [
        "{a} left of {b}",
        "{a} to the left of {b}",
        "{a} on the left of {b}",
        "{a} on the left and {b} on the right",
        "{a} with {b} to its right",
        "{a} at the left side of {b}",
    ],
    "right of": [
        "{a} right of {b}",
        "{a} to the right of {b}",
        "{a} on the right of {b}",
        "{a} on the right and {b} on the left",
        "{a} with {b} to its left",
        "{a} at the right side of {b}",
    ],
    "above": [
        "{a} above {b}",
        "{a} over {b}",
        "{a} on top of {b}",
        "{a} at the top and {b} at the bottom",
        "{a} with {b} below it",
        "{a} placed higher than {b}",
    ],
    "below": [
        "{a} below {b}",
        "{a} under {b}",
        "{a} beneath {b}",
        "{a} at the bottom and {b} at the top",
        "{a} with {b} above it",
        "{a} placed lower than {b}",
    ],
}
COUNT_WORDINGS = {
    1: ["one {one}", "a single {one}", "1 {one}", "only one {one}"],
    2: ["two {many}", "2 {many}", "a pair of {many}", "two {many} side by side", "a twosome of {many}"],
    3: ["three {many}", "3 {many}", "a group of three {many}", "three {many} together", "a trio of {many}"],
}  # of two and three, the last is held out
FILLERS = [
    *(
        "lovely",
        "cute",
        "nice",
        "simple",
        "beautiful",
        "friendly",
        "charming",
        "pretty",
        "delightful",
        "neat",
        "classic",
    ),
    *("cheerful", "splendid", "elegant", "fine", "wonderful", "adorable", "vivid", "stylish", "iconic", "detailed"),
    "typical",
]
HELD_OUT_FILLERS = ["gorgeous", "quirky", "marvellous", "amusing"]
NOUNS = {
    "cartoon": ["illustration", "drawing", "picture"],
    "flat": ["icon", "illustration", "design"],
    "3d": ["render", "picture", "icon"],
    "ink": ["drawing", "icon", "illustration"],
}

FILLER_SHARE = 0.2  # of the subjects get a filler adjective
LONG_SHARE = 0.06  # of the full prompts use a long frame


def noun_phrase(subject: str, words: tuple[str, ...] = ()) -> tuple[str, str]:
    """(with its article, without) of one subject with adjectives: 'an elegant small fox', 'elegant small fox'."""
    whole = with_article(subject)
    bare = " ".join((*words, subject))
    if whole == subject:
        return bare, bare
    return (f"the {bare}" if whole.startswith("the ") else f"{article(bare.split()[0])} {bare}"), bare


def seen(scene: Scene, rng: np.random.Generator, held_out: bool = False) -> tuple[str, str]:
    """(with articles, without) of what the scene shows, in a random wording; held_out takes the unknown ones."""
    fillers = HELD_OUT_FILLERS if held_out else FILLERS

    def adjectives(size: str = "plain") -> tuple[str, ...]:
        filler = (str(rng.choice(fillers)),) if rng.random() < FILLER_SHARE else ()
        return (*filler, *((str(rng.choice(SIZE_WORDS[size])),) if size != "plain" else ()))

    if scene.kind == "pair":
        wordings = RELATION_WORDINGS[scene.relation]
        wording = wordings[-1] if held_out else str(rng.choice(wordings[:-1]))
        first, second = noun_phrase(scene.subject, adjectives()), noun_phrase(scene.other, adjectives())
        whole, bare = (wording.format(a=first[i], b=second[i]) for i in range(2))
        return whole, bare
    if scene.kind == "count":
        wordings = COUNT_WORDINGS[scene.count]
        if scene.count > 1:
            wordings = wordings[-1:] if held_out else wordings[:-1]
        words = adjectives()
        text = str(rng.choice(wordings)).format(
            one=" ".join((*words, scene.subject)), many=" ".join((*words, plural(scene.subject)))
        )
        return text, text
    return noun_phrase(scene.subject, adjectives(scene.size))


def fill(frame: str, scene: Scene, what: tuple[str, str], rng: np.random.Generator) -> str:
    """The prompt: a frame around `what` (see `seen`)."""
    style = "3D" if scene.style == "3d" and rng.random() < 0.4 else scene.style
    colour = "gray" if scene.colour == "grey" and rng.random() < 0.3 else scene.colour
    noun = str(rng.choice(NOUNS.get(scene.style, NOUNS["flat"])))
    a_style = f"{article(style)} {style}"
    picture = f"{a_style} {noun}"
    return frame.format(
        a=what[0],
        A=what[0][0].upper() + what[0][1:],
        n=what[1],
        style=style,
        a_style=a_style,
        A_style=a_style.capitalize() if style != "3D" else "A 3D",
        noun=noun,
        picture=picture,
        Picture=picture[0].upper() + picture[1:],
        colour=colour,
        a_colour=f"{article(colour)} {colour}",
    )


def prompt(scene: Scene, rng: np.random.Generator, frames: str = "full") -> str:
    """One prompt for a scene. frames: full (a few of them long), wordy, open, or held_out (unknown frame, wording,
    filler).
    """
    if frames == "full":
        chosen = LONG_FRAMES if rng.random() < LONG_SHARE else FRAMES
    else:
        chosen = {"wordy": WORDY_FRAMES, "open": OPEN_FRAMES, "held_out": HELD_OUT_FRAMES}[frames]
    return fill(str(rng.choice(chosen)), scene, seen(scene, rng, frames == "held_out"), rng)
