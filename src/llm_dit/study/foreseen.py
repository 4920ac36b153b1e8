"""What can be told of a sweep's pictures before they are drawn, each kind of thing in one line."""

from __future__ import annotations

from dataclasses import replace

from llm_dit.conditioning.encode import settle_prompt
from llm_dit.config import Config
from llm_dit.records.foreseen import asked_size, prompt_warnings, reader_of, size_warnings
from llm_dit.study.cell import prompts_of
from llm_dit.study.plan import Plan


def foreseen_in(plan: Plan) -> list[str]:
    """The first line about sizes and the first about prompts, each with how many more there are."""
    sizes: dict[str, None] = {}
    prompts: dict[tuple[str, ...], list[str]] = {}
    for cell in plan.cells:
        if cell.config:
            sizes |= dict.fromkeys(size_warnings(cell.config, asked_size(cell.config)))
            _add_prompts(cell.config, prompts)
    told = dict.fromkeys(line for lines in prompts.values() for line in lines)
    return [*_first(list(sizes), "sizes"), *_first(list(told), "prompts")]


def _add_prompts(config: Config, known: dict[tuple[str, ...], list[str]]) -> None:
    """Read the cell's prompts that were not read for an earlier cell with the same model."""
    reader, model, mix = reader_of(config), config.model, config.mix
    for prompt in prompts_of(config):
        key = (model.path, str(model.vocabulary), str(config.lora), prompt.prompt, mix.mode, str(mix.text))
        if key not in known:
            own = replace(config, prompt=replace(config.prompt, text=prompt.prompt), prompt_file=None)
            known[key] = prompt_warnings(settle_prompt(own), reader)


def _first(lines: list[str], what: str) -> list[str]:
    more = f" So it is with {len(lines) - 1} more of the sweep's {what}; each picture's record says which."
    return [lines[0] + (more if lines[1:] else "")] if lines else []
