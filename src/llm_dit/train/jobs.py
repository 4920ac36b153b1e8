"""What each train.method makes of a config: the model, its loss, its validation, and what is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from llm_dit.base.errors import ConfigError
from llm_dit.config import Config, GuidanceConfig
from llm_dit.diffusion.sigmas import noise_levels
from llm_dit.families.z_image.fit import check_channels, check_features
from llm_dit.families.z_image.load import set_attention
from llm_dit.models.cache import PartCache
from llm_dit.train import outputs
from llm_dit.train.distill import Distillation, Teacher
from llm_dit.train.forward import TrainingForward
from llm_dit.train.loop import Task, Training
from llm_dit.train.start import load_start, start_transformer, start_vae
from llm_dit.train.transformer import FlowTraining
from llm_dit.train.vae import VaeForward, VaeTraining, measure_latents, show
from llm_dit.train.validate import Validation
from llm_dit.weights.place import Placement
from llm_dit.weights.schedule import Schedule, find_schedule, load_schedule


@dataclass(frozen=True)
class Where:
    """Where a training runs: its device, whether under bfloat16, and which process of how many."""

    device: torch.device
    autocast: bool
    rank: int = 0
    world: int = 1
    prepare: Callable[[torch.nn.Module], torch.nn.Module] = lambda module: module

    @property
    def rest(self) -> tuple[torch.device, bool, int, int]:
        """The last arguments of every Task."""
        return self.device, self.autocast, self.rank, self.world


@dataclass(frozen=True)
class Job:
    """A method at work on a model. shift: of the drawn noise levels, if there are any.

    validation(training): what is done at a validation. save(folder, about): writes the weights as they are then.
    """

    model: Any
    task: Task
    validation: Callable[[Training], Callable[[int], dict[str, float]]]
    save: Callable[[Path, dict[str, Any]], Path]
    shift: float | None = None


def make_job(config: Config, dataset: Any, parts: PartCache, where: Where) -> Job:
    """The job of config.train.method. Raises LabError."""
    if config.train.method != "vae" and (schedule := find_own_schedule(config, parts)):
        schedule.refuse_ignored(config.sampler)  # as the pictures of a validation would be
    return {"full": flow_job, "lora": flow_job, "distill": distill_job, "vae": vae_job}[config.train.method](
        config, dataset, parts, where
    )


def flow_job(config: Config, dataset: Any, parts: PartCache, where: Where) -> Job:
    """Flow matching of the transformer or of an adapter."""
    settings = config.train
    model = start_transformer(config, str(where.device), "bfloat16" if where.autocast else "float32")
    shift = own_schedule(config, parts).training_shift() if settings.shift is None else settings.shift
    check_data(config, model, dataset, where)
    forward = where.prepare(TrainingForward(model, settings.compile).train())
    task = FlowTraining(forward, dataset, settings, shift, *where.rest)

    def save(folder: Path, about: dict[str, Any]) -> Path:
        if settings.method == "lora":
            return outputs.save_adapter(model, folder / "lora.safetensors", settings, about)
        return save_model(model, "transformer", folder, config, about)

    return Job(model, task, drawing(config, model, parts), save, shift)


def distill_job(config: Config, dataset: Any, parts: PartCache, where: Where) -> Job:
    """A student of the config's sampler.steps and shift, from a teacher under the config's guidance."""
    settings, guidance = config.train, config.guidance
    refuse_other_guidance(config)
    device = str(where.device)
    frozen = Placement(device, "bfloat16" if where.autocast else "float32")
    known = load_start(config.model, settings, frozen)
    set_attention(known, config.hardware.attention_backend)
    teacher = Teacher(known, guidance.guidance_scale, dataset.empty_embeds, where.device, settings.compile)
    size = (config.default_size, config.default_size)
    grid, shift = noise_levels(config.sampler, lambda: own_schedule(config, parts).static_shift(), size)
    model = start_transformer(config, device, "float32")
    check_data(config, model, dataset, where)
    forward = where.prepare(TrainingForward(model, settings.compile).train())
    task = Distillation(
        forward, dataset, replace(settings, caption_dropout=0.0), shift, *where.rest,
        teacher=teacher, grid=grid, substeps=settings.distill.substeps,
    )  # fmt: skip
    alone = replace(config, guidance=replace(guidance, guidance_scale=0.0))
    return Job(
        model,
        task,
        drawing(alone, model, parts),
        lambda folder, about: save_model(model, "transformer", folder, config, about),
        shift,
    )


def refuse_other_guidance(config: Config) -> None:
    """Raises ConfigError for guidance that the teacher of a distillation would not have."""
    plain = replace(GuidanceConfig(), guidance_scale=config.guidance.guidance_scale)
    given = [f"guidance.{f.name}" for f in fields(plain) if getattr(config.guidance, f.name) != getattr(plain, f.name)]
    given += ["slg.scale"] * (config.slg.scale > 0) + ["nag.scale"] * (config.nag.scale > 1)
    given += ["prompt.negative"] * bool(config.prompt.negative)
    if given:
        raise ConfigError(
            "train.method=distill teaches plain guidance away from the empty prompt, by guidance.guidance_scale alone: "
            f"leave out {', '.join(given)}."
        )


def vae_job(config: Config, dataset: Any, parts: PartCache, where: Where) -> Job:
    """Reconstruction by the VAE."""
    settings = config.train
    vae = start_vae(config, str(where.device))
    task = VaeTraining(where.prepare(VaeForward(vae).train()), dataset, settings, *where.rest)

    class Showing:
        on_picture = staticmethod(lambda path, caption: None)

        def __init__(self, training: Training):
            self.training = training

        def __call__(self, step: int) -> dict[str, float]:
            with self.training.averaged():
                return show(vae, task, self.training, step, self.on_picture)

    def save(folder: Path, about: dict[str, Any]) -> Path:
        if settings.vae.rescale:
            shift, scale = measure_latents(vae, task)
            vae.register_to_config(shift_factor=shift, scaling_factor=scale)
        return save_model(vae, "vae", folder, config, about)

    return Job(vae, task, Showing, save)


def check_data(config: Config, model: Any, dataset: Any, where: Where) -> None:
    """Raises ModelError when what the data were encoded to does not fit the transformer."""
    s, layer = config.train, config.encoder_layer
    check_features(dataset.empty_embeds.shape[1], model, layer.combine, len(layer.layers))
    check_channels(model, dataset.batch(0, 0, s.batch_size, s.seed, where.rank, where.world).latents.shape[1])


def drawing(config: Config, model: Any, parts: PartCache) -> Callable[[Training], Validation]:
    """The validation of a transformer: pictures of the config's prompts."""
    return lambda training: Validation(config, model, training.folder, training.averaged, parts)


def find_own_schedule(config: Config, parts: PartCache) -> Schedule | None:
    """The model's own schedule, if it has one."""
    return parts.get("schedule", (config.model.path, config.model.revision), lambda: find_schedule(config.model))


def own_schedule(config: Config, parts: PartCache) -> Schedule:
    """The model's own schedule. Raises ModelError where it has none."""
    return find_own_schedule(config, parts) or load_schedule(config.model)


def save_model(model: Any, component: str, folder: Path, config: Config, about: dict[str, Any]) -> Path:
    """The trained component, and beside it the model's other parts where they are at hand."""
    saved = outputs.save_component(model, folder / component, about, config.train.save_dtype)
    return folder if outputs.add_other_parts(folder, config.model, component) else saved
