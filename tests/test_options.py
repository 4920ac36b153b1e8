"""Every shipped option of every group draws a picture, or says in one line what this machine lacks for it."""

from __future__ import annotations

import pytest
from golden_cases import option_case, option_names

from llm_dit.base.errors import ConfigError, ModelError
from llm_dit.compose import compose, conf_dir
from llm_dit.render.draw import render
from llm_dit.study.cell import prompts_of

NEEDS = {
    "model=z_image": (ModelError, "could not be fetched"),
    "model=z_image_turbo": (ModelError, "could not be fetched"),
    "hardware=cuda": (ConfigError, "this machine has none"),
    "hardware=low_vram": (ConfigError, "this machine has none"),
}
# Of one machine, or of sweeps and trainings, tested there.
NOT_DRAWN_WITH = ("local", "prompts", "tracker", "metrics", "experiment")
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}" for path in conf_dir().glob("*/*.yaml") if path.parent.name not in NOT_DRAWN_WITH
)


@pytest.mark.parametrize("option", OPTIONS)
def test_it_draws_or_says_why_not(option, check_golden):
    import torch

    config = compose(option_case(option))
    if option in NEEDS and not (option.startswith("hardware") and torch.cuda.is_available()):
        error, message = NEEDS[option]
        with pytest.raises(error, match=message):
            render(config)
        return
    pictures = render(config)
    assert pictures[0].image.size == (config.width or config.default_size, config.height or config.default_size)
    if option in option_names():
        check_golden(f"option {option}", pictures)


@pytest.mark.parametrize("option", sorted(p.stem for p in conf_dir().glob("prompts/*.yaml")))
def test_every_set_of_prompts_loads(option):
    prompts = prompts_of(compose([f"prompts={option}", *(["a cat"] if option == "none" else [])]))
    assert all(p.prompt for p in prompts)
    assert len(prompts) == (1 if option == "none" else len({p.id for p in prompts}))
