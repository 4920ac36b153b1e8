"""What the record says of mix and diversity: which text acted where, and what was given and could not act."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llm_dit.config import Config, get
from llm_dit.diffusion.prompts_at import BLANK, FIRST, MIXED, SECOND, parts_at, texts_at

if TYPE_CHECKING:
    from llm_dit.records.run import Run

IDLE = " has no effect: "


def describe_mix(run: Run, positions: dict[str, Any] | None) -> dict[str, Any] | None:
    """The second prompt and what was made of the two; None without one.

    tokens: of each text that acted; sigmas: at which noise levels. positions: of the text's axis, for all texts.
    """
    mix = run.config.mix
    if run.mixed is None:
        return None
    tokens = {name: len(words.embeds) for name, words in run.texts.items()}
    return {
        "mode": mix.mode,
        "amount": None if mix.mode == "switch" else mix.amount,
        "sigma": mix.sigma if mix.mode == "switch" else None,
        **run.mixed.record(positions),
        "tokens": tokens,
        "sigmas": {name: sigmas_of(run, name) for name in tokens},
    }


def describe_diversity(run: Run, positions: dict[str, Any] | None) -> dict[str, Any] | None:
    """What was done for the difference between seeds, each part None while it was off; None when all were."""
    d, parts = run.config.diversity, {s: parts_at(s, run.config.mix, run.config.diversity) for s in run.levels[:-1]}
    found = {
        "embeds": {
            "strength": d.embed_strength, "share": d.embed_share, "unit": d.embed_unit,
            "sigmas": [s for s, at in parts.items() if any(part.noised for part in at)],
        } if d.embed_strength > 0 else None,
        "variation": {"seed": d.variation_seed, "strength": d.variation_strength} if d.variation_strength > 0 else None,
        "blank": {**run.blank.record(positions), "sigmas": sigmas_of(run, BLANK)} if run.blank else None,
    }  # fmt: skip
    return found if any(found.values()) else None


def sigmas_of(run: Run, text: str) -> list[float]:
    """The noise levels of all stages at which a text acted."""
    mix, diversity = run.config.mix, run.config.diversity
    return [s for s in dict.fromkeys(run.levels[:-1]) if text in texts_at([s, 0.0], mix, diversity)]


def text_warnings(run: Run) -> list[str]:
    """What encoding said. A setting that cannot act on one of two prompts, but on the other, is not told as idle."""
    acts = {FIRST: run.positive, SECOND: run.mixed}
    mains = [e for name, e in acts.items() if {name, MIXED} & set(run.texts)]
    idle = [{line.split(IDLE)[0]: line for line in e.warnings if IDLE in line} for e in mains]
    shared = [line for setting, line in (idle[0] if idle else {}).items() if all(setting in lines for lines in idle)]
    said = [line for e in (*mains, run.negative, run.blank) if e for line in e.warnings if IDLE not in line]
    return list(dict.fromkeys(said + shared))


def idle_prompts(config: Config, sigmas: list[float]) -> list[str]:
    """Settings of both groups that were given and cannot act at a run's noise levels, one line each."""
    mix, d, text = config.mix, config.diversity, config.prompt.text or ""
    acting = texts_at(sigmas, mix, d)
    levels = f"(they are {', '.join(f'{s:.3g}' for s in sigmas[:-1])})."
    emptied = f" and at most diversity.blank_sigma={d.blank_sigma:g}" if d.blank_sigma < 1 else ""
    lines = []
    if mix.mode == "none":
        lines += _given(config, ("mix.text", "mix.amount", "mix.sigma"), "mix.mode is none.")
    else:
        lines += _given(config, ["mix.amount" if mix.mode == "switch" else "mix.sigma"], f"mix.mode is {mix.mode}.")
        if mix.text == text:
            lines.append(f"mix.text{IDLE}it is the prompt itself.")
    if acting == {BLANK}:
        lines.append(f"prompt.text{IDLE}diversity.blank_sigma={d.blank_sigma:g} empties the prompt at every step.")
    elif mix.mode == "switch":
        if FIRST not in acting:
            lines.append(f"prompt.text{IDLE}no step's sigma is above mix.sigma={mix.sigma:g}{emptied} {levels}")
        if SECOND not in acting:
            lines.append(f"mix.text{IDLE}no step's sigma is at most mix.sigma={mix.sigma:g}{emptied} {levels}")
    elif mix.mode != "none" and mix.amount in (0, 1):
        lines.append(f"{'prompt.text' if mix.amount else 'mix.text'}{IDLE}mix.amount is {mix.amount:g}.")
    return lines + _idle_diversity(config, sigmas, acting, levels, emptied)


def _idle_diversity(config: Config, sigmas: list[float], acting: set[str], levels: str, emptied: str) -> list[str]:
    mix, d = config.mix, config.diversity
    of_embeds = [f"diversity.embed_{name}" for name in ("share", "unit", "sigma_high", "sigma_low")]
    lines = []
    if d.embed_strength == 0:
        lines += _given(config, of_embeds, "diversity.embed_strength is 0.")
    elif d.embed_share == 0:
        lines.append(f"diversity.embed_strength{IDLE}diversity.embed_share is 0.")
    elif not any(part.noised for sigma in sigmas[:-1] for part in parts_at(sigma, mix, d)):
        window = f"no step's sigma is above {d.embed_sigma_low:g} and at most {d.embed_sigma_high:g}{emptied}"
        lines.append(f"diversity.embed_strength{IDLE}{window} {levels}")
    elif d.embed_share == 1:
        lines += _given(config, ["diversity.embed_unit"], "diversity.embed_share is 1.")
    if d.variation_strength == 0:
        lines += _given(config, ["diversity.variation_seed"], "diversity.variation_strength is 0.")
    if d.blank_sigma < 1 and BLANK not in acting:
        lines.append(f"diversity.blank_sigma={d.blank_sigma:g}{IDLE}no step's sigma is above it {levels}")
    return lines


def idle_on_picture(run: Run, seed: int) -> list[str]:
    """What cannot act on these words, or on the picture of this seed, one line each."""
    d, lines = run.config.diversity, []
    if d.variation_strength > 0 and d.variation_seed == seed:
        lines.append(f"diversity.variation_seed={seed}{IDLE}it is the picture's own seed.")
    words = [text.users[1] > text.users[0] for name, text in run.texts.items() if name != BLANK]
    if d.embed_strength > 0 and words and not any(words):
        lines.append(f"diversity.embed_strength{IDLE}the prompt has no words.")
    if run.negative and set(run.texts) == {FIRST} and run.negative.text == run.positive.text:
        lines.append(f"the negative prompt{IDLE}it is the prompt itself, and its forwards are paid for nothing.")
    if BLANK in run.texts and words and not any(words):
        lines.append(f"diversity.blank_sigma={d.blank_sigma:g}{IDLE}the prompt is empty.")
    return lines


def _given(config: Config, keys: Iterable[str], why: str) -> list[str]:
    """A line for each of the keys that is not at its default."""
    plain = Config()
    return [f"{key}{IDLE}{why}" for key in keys if get(config, key) != get(plain, key)]
