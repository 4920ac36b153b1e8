"""docs/studies.md, written from the studies in sweeps/:

uv run python -m llm_dit.cli.studies_doc > docs/studies.md
"""

from __future__ import annotations

from functools import cache

from llm_dit.compose import compose
from llm_dit.config import Config, seeds_of
from llm_dit.study.cell import prompts_of
from llm_dit.study.definition import Study, load_study, sweeps_dir
from llm_dit.study.expand import expand

HEAD = """# The studies that ship

Written from the files in `sweeps/` by `uv run python -m llm_dit.cli.studies_doc`. `sweep=NAME` runs one,
`sweep=NAME dry_run=true` lists its cells and tells the time and memory they take; [sweeps.md](sweeps.md) says how a
study is written and what may be given beside it.

Nearly every study of the real models has a small one of nano beside it, of the same name without the model's
(`dype_192` for `z_image_turbo_dype_1536`). It shows in minutes what the pages of the large one will look like, and its
answer is nano's, not Z-Image's.

```bash
uv run experiments/run.py sweep=think_block
uv run experiments/run.py sweep=z_image_turbo_think_block model.path=/models/Z-Image-Turbo dry_run=true
```

What is given beside a study replaces its axes or pins them, so that one file holds several experiments (`model.path=`
is left out here):

```bash
uv run experiments/run.py sweep=z_image_turbo_shift_steps sampler.steps=9
uv run experiments/run.py sweep=z_image_turbo_shift_steps sampler.shift=1,1.5,2,2.5,3,3.5,4,5 sampler.steps=4,6,9,12,16
uv run experiments/run.py sweep=z_image_turbo_hidden_layer encoder_layer.index=-1,-2,-3,-4,-5,-6
uv run experiments/run.py sweep=z_image_turbo_hidden_layer encoder_layer.index=-2,-13,-15,-17,-19,-21,-23,-25
uv run experiments/run.py sweep=z_image_turbo_layer_weights encoder_layer.combine=norm_mean
uv run experiments/run.py sweep=z_image_turbo_layer_cfg encoder_layer.index=-2,-14,-18 guidance.guidance_scale=0,1.5,2.5
uv run experiments/run.py sweep=z_image_turbo_dype_schedule width=3072 height=3072 dype.method=dy_yarn,dy_ntk
uv run experiments/run.py sweep=z_image_turbo_think_block "prompts.categories=[animals]" "seeds=[1,2,3]"
```

nano has no small study for `z_image_turbo_early_layer_bias` and `z_image_turbo_prompt_complexity`: it knows no charged
words and no complicated prompts. `hidden_layer` sweeps the same axis there, and its report parts known phrasings from
new ones. Nor for `z_image_turbo_text_encoder`: no other language model of its encoder's width is at hand.
"""
MODELS = {"nano": "nano", "z_image_turbo": "Z-Image-Turbo", "z_image": "Z-Image"}


def studies_markdown() -> str:
    """The whole page: one table a model, a line for each study."""
    rows: dict[str, list[str]] = {name: [] for name in MODELS}
    for path in sorted(sweeps_dir().glob("*.yaml")):
        study = load_study(path.stem)
        config = shared_config(tuple(study.settings))
        cells, pictures = count(study)
        rows[config.model.name].append(f"| `{study.name}` | {study.question} | {cells} | {pictures:,} |")
    sections = [HEAD]
    for model, lines in rows.items():
        sections += [f"## {MODELS[model]}\n", "| study | question | cells | pictures |", "| --- | --- | --- | --- |"]
        sections += [*lines, ""]
    return "\n".join(sections).rstrip() + "\n"


@cache
def shared_config(settings: tuple[str, ...]) -> Config:
    """What the cells of a study share, composed once. Not to be changed."""
    return compose(settings)


def count(study: Study) -> tuple[int, int]:
    """Cells and pictures of a study. Cells that turn out to draw the same are counted each."""
    cells = expand(study, {}, {})
    config = shared_config(tuple(study.settings))
    own = [c["seeds"].count(",") + 1 if "seeds" in c else len(seeds_of(config)) for c in cells]
    return len(cells), sum(own) * len(prompts_of(config))


if __name__ == "__main__":
    print(studies_markdown(), end="")
