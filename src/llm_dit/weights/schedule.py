"""A model's own schedule, from its scheduler_config.json: followed, or refused by the name of the field.

The fields are those of diffusers' FlowMatchEulerDiscreteScheduler, which ignores all others, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ModelError
from llm_dit.config import ModelConfig, SamplerConfig
from llm_dit.weights.folder import RANDOM, NoComponentError, component_folder, read_json

SCHEDULER = "FlowMatchEulerDiscreteScheduler"
TIMESTEPS = 1000  # of a run from noise to picture; ZImagePipeline computes the model's time from as many
SPACINGS = {f"use_{name}_sigmas": name for name in ("karras", "exponential", "beta")}
# Fields of a shift that follows the resolution, the settings that hold them here, and their values where left out.
BY_RESOLUTION = {
    "base_shift": ("base_shift", 0.5),
    "max_shift": ("max_shift", 1.15),
    "base_image_seq_len": ("base_image_tokens", 256),
    "max_image_seq_len": ("max_image_tokens", 4096),
}


@dataclass(frozen=True)
class Schedule:
    """What noise levels and steps depend on, with diffusers' values for fields that are left out.

    source: the file, for messages. resolution: values of sampler settings, of a shift that follows the resolution, else
    None. linear: that shift is mu itself in place of exp(mu). terminal: what the last level above 0 is stretched to.
    """

    source: str
    shift: float = 1.0
    resolution: dict[str, float] | None = None
    linear: bool = False
    terminal: float | None = None
    spacing: str = "uniform"
    stochastic: bool = False

    def static_shift(self) -> float:
        """The shift of every size. Raises ModelError where it depends on the size."""
        if self.resolution is None:
            return self.shift
        by_size = "" if self.linear else f"sampler.shift_mode=resolution{self._points()}, or "
        raise ModelError(f"{self.source}: use_dynamic_shifting is true; set {by_size}sampler.shift.")

    def training_shift(self) -> float:
        """The shift of the levels that training draws, for pictures of many sizes. Raises ModelError as above."""
        if self.resolution is None:
            return self.shift
        raise ModelError(f"{self.source}: use_dynamic_shifting is true; set train.shift.")

    def refuse_ignored(self, sampler: SamplerConfig) -> None:
        """Raise ModelError, by the field's name, where a run with these settings would not do what the file says.

        A setting that differs from its default is the user's word and holds against the file; so do explicit levels.
        """
        plain = SamplerConfig()
        if self.stochastic and sampler.name == plain.name:
            raise self._ignored("stochastic_sampling is true", "set sampler.name=lcm, which takes the same steps")
        if sampler.sigmas:
            return
        if self.terminal:
            raise self._ignored(f"shift_terminal is {self.terminal:g}", "give the levels in sampler.sigmas")
        if self.spacing != "uniform" and sampler.spacing == "uniform":
            advice = f"set sampler.spacing={self.spacing}, or give the levels in sampler.sigmas"
            raise self._ignored(f"use_{self.spacing}_sigmas is true", advice)
        if self.resolution is not None and sampler.shift_mode == "resolution":
            if self.linear:
                raise self._ignored("time_shift_type is linear", "set sampler.shift with sampler.shift_mode=static")
            if not self._is_plain(self.resolution) and self._is_plain(vars(sampler)):
                raise self._ignored("its shift goes through points of its own", f"set{self._points()}")

    def _points(self) -> str:
        """The settings that a shift that follows the resolution goes through; none where they are the defaults."""
        own = self.resolution or {}
        return "" if self._is_plain(own) else "".join(f" sampler.{name}={value:g}" for name, value in own.items())

    @staticmethod
    def _is_plain(points: dict[str, Any]) -> bool:
        return all(points[name] == default for name, default in BY_RESOLUTION.values())

    def _ignored(self, what: str, advice: str) -> ModelError:
        return ModelError(f"{self.source}: {what}, which this run would ignore; {advice}.")


def read_schedule(file: Path) -> Schedule:
    """The schedule in a scheduler_config.json. Raises ModelError, by the field's name, for what cannot be followed."""
    values = read_json(file)
    name = values.get("_class_name", SCHEDULER)
    if name != SCHEDULER:
        raise ModelError(f"{file}: _class_name is {name!r}; the schedule must be of a {SCHEDULER}.")
    spacings = [spacing for field, spacing in SPACINGS.items() if _flag(values, field, file)]
    if len(spacings) > 1:
        raise ModelError(f"{file}: use_{spacings[0]}_sigmas and use_{spacings[1]}_sigmas are both true; one can be.")
    if _flag(values, "invert_sigmas", file):
        raise ModelError(f"{file}: invert_sigmas is true; a model whose levels rise from 0 cannot be drawn with here.")
    steps = _number(values, "num_train_timesteps", TIMESTEPS, file)
    if steps != TIMESTEPS:
        raise ModelError(f"{file}: num_train_timesteps is {steps:g}; the model's time must be of {TIMESTEPS}.")
    kind = values.get("time_shift_type", "exponential")
    if kind not in ("exponential", "linear"):
        raise ModelError(f"{file}: time_shift_type is {kind!r}; it must be exponential or linear.")
    shift = _number(values, "shift", 1.0, file)
    if not shift > 0:
        raise ModelError(f"{file}: shift is {shift:g}; it must be a number above 0.")
    terminal = _number(values, "shift_terminal", 0.0, file)
    points = {here: _number(values, field, default, file) for field, (here, default) in BY_RESOLUTION.items()}
    return Schedule(
        str(file),
        float(shift),
        points if _flag(values, "use_dynamic_shifting", file) else None,
        kind == "linear",
        terminal or None,
        spacings[0] if spacings else "uniform",
        _flag(values, "stochastic_sampling", file),
    )


def _flag(values: dict[str, Any], field: str, file: Path) -> bool:
    value = values.get(field, False)
    if not isinstance(value, bool):
        raise ModelError(f"{file}: {field} is {value!r}; it must be true or false.")
    return value


def _number(values: dict[str, Any], field: str, default: float, file: Path) -> float:
    """A field's number; null is its default. Raises ModelError."""
    value = values.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ModelError(f"{file}: {field} is {value!r}; it must be a number.")
    return value


def load_schedule(model: ModelConfig) -> Schedule:
    """The model's own schedule. Raises ModelError for one that is missing or cannot be followed."""
    if model.path == RANDOM:
        return Schedule(RANDOM, shift=3.0)
    return read_schedule(component_folder(model.path, "scheduler", model.revision) / "scheduler_config.json")


def find_schedule(model: ModelConfig) -> Schedule | None:
    """The model's own schedule, None where it has none: enough for a run whose settings say everything."""
    try:
        return load_schedule(model)
    except NoComponentError:
        return None


def load_shift(model: ModelConfig) -> float:
    """The shift that the model's own schedule uses. Raises ModelError for a schedule that depends on resolution."""
    return load_schedule(model).static_shift()
