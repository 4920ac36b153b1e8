"""The golden pictures: a name and the overrides of each, on tiny and nano.

Three kinds: both sides of every parameter's perturbation, every option of every group, and many options together.
The overrides name files of perturbations.make_workplace(), so they are composed in its folder.
"""

from __future__ import annotations

import random

from llm_dit.compose import conf_dir
from perturbations import PIXELS, both_sides

# Options of one machine, of sweeps and of trainings, which draw nothing by themselves; models that are not at hand.
NOT_DRAWN = ("local", "prompts", "tracker", "metrics", "experiment", "data", "train", "hardware")
ABSENT = ("z_image", "z_image_turbo")
# What makes an option act: a second prompt, weighted words, a picture above the trained size.
ACTING = {"mix": ["mix.text=two_pears"], "dype": ["width=128"], "highres": ["width=128"], "tiling": ["width=128"]}
OPTION = ["model=tiny", "hardware=cpu", "prompt.text=a_(red:1.4)_apple", "sampler.steps=2"]
TOGETHER = (
    "prompt", "encoder_layer", "long_prompt", "emphasis", "mix", "diversity", "guidance", "slg", "nag", "sampler",
    "dype", "highres", "tiling",
)  # fmt: skip
COMBINATIONS = 40

NANO = {
    "plain": [],
    "turbo": ["model=nano_turbo"],
    "two seeds in a batch": ["num_images=3", "hardware.batch_size=2"],
    "ink": ["lora=shipped:ink", "prompt.text='a skull, ink style, yellow background'"],
    "img2img": ["init_image=start.png", "strength=0.7", "width=128", "height=128"],
    "256 in two stages": ["width=256", "height=256", "highres=two_stage"],
    "192 by dy_yarn": ["width=192", "height=192", "dype=dy_yarn"],
    "a wide picture": ["width=192", "height=96"],
    "long": ["prompt.text='" + 60 * "a red apple and a blue key, " + "flat style'", "long_prompt=merge"],
    "segments": ["prompt.text='" + 60 * "a red apple and a blue key, " + "flat style'", "long_prompt=segments"],
    "negative": ["prompt.negative='blue background'", "guidance=apg"],
    "mean of depth": ["encoder_layer=mean_of_depth"],
    "aligned": ["encoder_layer=aligned", "encoder_layer.index=-4"],
    "mix": ["mix=slerp", "mix.text='a banana, 3d style, blue background'"],
    "seed variance": ["diversity=seed_variance", "seed=5"],
    "words": ["emphasis=attention", "prompt.text='a (red:1.6) apple, 3d style, blue background'"],
    "bfloat16": ["hardware.dtype=bfloat16"],
}  # fmt: skip


def option_names() -> list[str]:
    """'group=option' of every shipped option that draws a picture on this machine."""
    found = (path for path in conf_dir().glob("*/*.yaml") if path.parent.name not in NOT_DRAWN)
    return sorted(f"{path.parent.name}={path.stem}" for path in found if path.stem not in ABSENT)


def option_case(option: str) -> list[str]:
    """Overrides of a small picture on which a group's option acts."""
    group = option.split("=")[0]
    return [*OPTION, *([] if option.endswith("=none") else ACTING.get(group, [])), option]


def combinations() -> dict[str, list[str]]:
    """One option of each group, chosen at random by a fixed seed. Some contradict each other and are refused."""
    options = option_names()
    by_group = {group: [o for o in options if o.startswith(f"{group}=")] for group in TOGETHER}
    chosen = random.Random(0)
    found = {}
    for number in range(COMBINATIONS):
        # A group is at its default half of the time, so that most combinations can be drawn.
        picked = [chosen.choice(by_group[group]) for group in TOGETHER if chosen.random() < 0.5]
        extra = [o for p in picked if not p.endswith("=none") for o in ACTING.get(p.split("=")[0], [])]
        found[f"together {number}"] = [*OPTION, *dict.fromkeys(extra), *picked, f"seed={number}", "sampler.steps=3"]
    return found


def all_cases() -> dict[str, list[str]]:
    """Every golden picture's overrides by its name."""
    cases = {}
    for key in PIXELS:
        cases[f"before {key}"], cases[f"after {key}"] = both_sides(key)
    cases |= {f"option {option}": option_case(option) for option in option_names()}
    return cases | combinations() | nano_cases()


def nano_cases() -> dict[str, list[str]]:
    """Pictures of the shipped models, of four steps each."""
    plain = ["hardware=cpu", "sampler.steps=4", "prompt.text='a red apple, 3d style, blue background'"]
    found = {}
    for name, overrides in NANO.items():
        own = {o.split("=")[0] for o in overrides}
        found[f"nano {name}"] = [*(o for o in plain if o.split("=")[0] not in own), *overrides]
    return found
