"""The core: a Config to pictures.

    format_prompt -> encode -> denoise -> decode -> record

Each arrow is a function in the folder of its name; this file calls them in order. Nothing is written to disk
here (records/picture.py does), nothing is composed (compose/ does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from math import inf
from typing import TYPE_CHECKING

from llm_dit.base.clock import Clock
from llm_dit.base.errors import RenderError
from llm_dit.conditioning.encode import Encoded, encode_prompt, settle_prompt
from llm_dit.config import Config, seeds_of
from llm_dit.families.z_image.fit import check_channels, check_features
from llm_dit.images.pixels import as_image, as_pixels
from llm_dit.images.read import read_told
from llm_dit.models.cache import PARTS, Models, PartCache
from llm_dit.records.describe import describe
from llm_dit.records.foreseen import foreseen, picture_size
from llm_dit.records.picture import Picture
from llm_dit.records.run import Run
from llm_dit.weights.place import at_work, choose_placement

if TYPE_CHECKING:
    import numpy as np
    import torch

    from llm_dit.diffusion.noise import Streams


def render(
    config: Config,
    *,
    parts: PartCache = PARTS,
    on_step: Callable[[int, int], None] | None = None,
    on_picture: Callable[[Picture], None] | None = None,
) -> list[Picture]:
    """Draw a config's pictures, one for each seed, in the order of its seeds.

    on_step(done, all) after each denoising step, counted over all batches. on_picture as each is finished.
    Raises LabError for anything a user can mend: model, prompt, size, memory, results that are not finite.
    """
    seeds = seeds_of(config)
    with translated_memory_errors():
        run = prepare(config, parts)
        size, steps = config.hardware.batch_size, run.steps
        batches = [seeds[i : i + size] for i in range(0, len(seeds), size)]
        pictures: list[Picture] = []
        for number, batch in enumerate(batches):

            def step(i: int, _x: torch.Tensor, before: int = number * steps) -> None:
                if on_step:
                    on_step(before + i + 1, len(batches) * steps)

            latents, nfe = denoise(run, batch, first_latents(run, batch), step)
            if run.second:
                before = len(run.sigmas) - 1
                larger = second_latents(run, batch, latents)
                latents, more = denoise(run.second, batch, larger, lambda i, x, b=before, s=step: s(b + i, x))
                nfe += more
            shared = run.clock.take(len(batch))
            for seed, z in zip(batch, latents, strict=True):
                pixels = decode(run, z)
                picture = Picture(as_image(pixels), describe(run, seed, nfe, pixels, shared | run.clock.take()), z)
                pictures.append(picture)
                if on_picture:
                    on_picture(picture)
    return pictures


def prepare(config: Config, parts: PartCache = PARTS) -> Run:
    """Everything before the first step: prompt, embeddings, size, noise levels."""
    from llm_dit.diffusion.highres import base_size_of, second_levels
    from llm_dit.diffusion.sigmas import noise_levels, start_at_strength

    config = settle_prompt(config)
    hw, clock = config.hardware, Clock()
    set_threads(hw.threads)
    models = Models(config, choose_placement(hw.device, hw.dtype, hw.offload), parts, clock)
    models.check_schedule(config.sampler)
    start, remarks = read_told(config.init_image) if config.init_image else (None, [])
    size = picture_size(config, start)
    encoded = condition(config, models, clock)
    check_fit(models, encoded["positive"])
    first = base_size_of(config.highres, size, config.model.trained_size) if config.highres.mode != "none" else size
    sigmas, shift = noise_levels(config.sampler, lambda: models.shift, first)
    if start is not None:
        sigmas = start_at_strength(sigmas, config.strength)
    told = (*foreseen(config, size), *(f"init_image={config.init_image}: {remark}." for remark in remarks))
    run = Run(config, models, clock, first, start, sigmas, shift, **encoded, foreseen=told)
    if first != size:
        sigmas, shift = second_levels(config.highres, config.sampler, lambda: models.shift, size)
        run = replace(run, second=replace(run, size=size, sigmas=sigmas, shift=shift, is_second=True))
    return with_texts(run)


def condition(config: Config, models: Models, clock: Clock) -> dict[str, Encoded | None]:
    """The prompt's embeddings, and those of each other text that something may use, by their names in Run."""
    from llm_dit.diffusion.guidance import nag_is_given

    guided = config.guidance.guidance_scale > 0 or nag_is_given(config.nag)
    asked = {
        "positive": config.prompt.text or "",
        "negative": config.prompt.negative if guided else None,
        "mixed": config.mix.text if config.mix.mode != "none" else None,
        "blank": "" if config.diversity.blank_sigma < 1 else None,
    }
    with clock("encode"):
        return {name: None if text is None else encode_prompt(config, text, models) for name, text in asked.items()}


def with_texts(run: Run) -> Run:
    """The run with the texts that act at its noise levels: the prompt, a second one, a mixture, the empty one."""
    from llm_dit.diffusion.prompts_at import BLANK, FIRST, MIXED, SECOND, texts_at
    from llm_dit.text.mix import Words, mix_words

    mix, acting = run.config.mix, texts_at(run.levels, run.config.mix, run.config.diversity)
    encoded = {FIRST: run.positive, SECOND: run.mixed, BLANK: run.blank}
    words = {name: Words(e.embeds, e.users, e.weights) for name, e in encoded.items() if e}
    if MIXED in acting:
        words[MIXED] = mix_words(words[FIRST], words[SECOND], mix.mode, mix.amount)
    texts = {name: words[name] for name in sorted(acting)}
    return replace(run, texts=texts, second=replace(run.second, texts=texts) if run.second else None)


def check_fit(models: Models, positive: Encoded) -> None:
    """Load the rest and check that encoder, transformer and VAE belong together, before any step is paid."""
    layers = positive.layers
    check_features(positive.embeds.shape[1], models.transformer, layers["combine"], len(layers["layers"]))
    check_channels(models.transformer, models.vae.config.latent_channels)
    _ = models.loras  # so that one that does not fit is told here


def denoise(
    run: Run, seeds: list[int], x: torch.Tensor, on_step: Callable[[int, torch.Tensor], None] | None = None
) -> tuple[torch.Tensor, int]:
    """Latents float32 [seeds, 16, h, w] on the CPU from x at the first sigma, and the forwards of one picture."""
    import torch

    from llm_dit.diffusion.guidance import zero_init_above
    from llm_dit.diffusion.noise import renoiser
    from llm_dit.diffusion.prompts_at import PromptsAt
    from llm_dit.diffusion.samplers import SAMPLERS, STOCHASTIC
    from llm_dit.families.z_image.emphasis import Emphasis
    from llm_dit.families.z_image.rotary import following
    from llm_dit.families.z_image.text_axis import stretched_text
    from llm_dit.families.z_image.velocity import ZImageVelocity
    from llm_dit.weights.lora import adapted

    config, placement = run.config, run.models.placement
    transformer = run.models.transformer
    text = stretched_text(config.long_prompt, run.longest_text, transformer.rope_embedder)
    turning = transformer.rope_embedder.turning(text)
    with (
        run.clock("denoise"),
        at_work(transformer, placement),
        torch.inference_mode(),
        turning,
        adapted(transformer, run.models.runtime_loras),
    ):
        velocity = ZImageVelocity(
            transformer,
            PromptsAt(run.texts, seeds, config.mix, config.diversity, placement.device),
            run.negative.embeds.to(placement.device) if run.negative else None,
            config.guidance,
            config.slg,
            config.nag,
            inf if run.is_second else zero_init_above(config.guidance, run.sigmas),
            Emphasis(None, run.negative.weights if run.negative else None, config.emphasis.queries),
        )
        follow = following(velocity, transformer, config.dype, run.size, config.model.trained_size)
        name = config.sampler.name
        drawn = {}
        if name in STOCHASTIC:
            drawn = {"noise": renoiser(seeds, x.shape[1:], placement.device, run.is_second, config.diversity)}
        x = SAMPLERS[name](follow, x.to(placement.device), run.sigmas, on_step, **drawn).cpu()
    if not torch.isfinite(x).all():
        raise RenderError(
            f"the latents are not finite (seeds {seeds}): the run broke down in {placement.dtype} at "
            f"guidance_scale={config.guidance.guidance_scale:g}. Try hardware.dtype=float32 or less guidance."
        )
    return x, velocity.nfe


def first_latents(run: Run, seeds: list[int]) -> torch.Tensor:
    """Noise from each seed, float32 on the CPU; for img2img the encoded start picture, noised to the first sigma."""
    from llm_dit.diffusion.noise import Streams, mix_noise, seeded_generator
    from llm_dit.families.autoencoder_kl.codec import VAE_FACTOR

    streams = Streams(seeded_generator, seeds, run.config.diversity)
    shape = (run.models.transformer.in_channels, run.size[0] // VAE_FACTOR, run.size[1] // VAE_FACTOR)
    if run.start is None:
        return streams.draw(shape)
    clean = encoded_pictures(run, [as_pixels(run.start, run.size)] * len(seeds), streams)
    return mix_noise(clean, streams.draw(shape), run.sigmas[0])


def second_latents(run: Run, seeds: list[int], latents: torch.Tensor) -> torch.Tensor:
    """The first stage's latents enlarged to the second's size, and noised to its first sigma."""
    from llm_dit.diffusion.highres import enlarge_latents, second_stream
    from llm_dit.diffusion.noise import Streams, mix_noise
    from llm_dit.families.autoencoder_kl.codec import VAE_FACTOR

    size, streams = run.second.size, Streams(second_stream, seeds, run.config.diversity)
    if run.config.highres.upscale == "latent":
        clean = enlarge_latents(latents, (size[0] // VAE_FACTOR, size[1] // VAE_FACTOR))
    else:
        clean = encoded_pictures(run, [as_pixels(as_image(decode(run, z)), size) for z in latents], streams)
    return mix_noise(clean, streams.draw(clean.shape[1:]), run.second.sigmas[0])


def encoded_pictures(run: Run, pixels: list[torch.Tensor], streams: Streams) -> torch.Tensor:
    """Latents float32 [pictures, 16, h, w] on the CPU of pixels [3, H, W] each, sampled from the pictures' streams."""
    import torch

    from llm_dit.families.autoencoder_kl.codec import encode

    with run.clock("encode"), at_work(run.models.vae, run.models.placement) as vae:
        drawn = zip(pixels, streams.generators, strict=True)
        clean = torch.stack([encode(vae, p, g, run.config.tiling) for p, g in drawn])
    streams.pass_over(clean.shape[1:])
    return clean


def decode(run: Run, latents: torch.Tensor) -> np.ndarray:
    """Pixels uint8 [H, W, 3]; a picture of one colour is an error, because it is what a broken run looks like."""
    from llm_dit.families.autoencoder_kl.codec import decode as vae_decode

    with run.clock("decode"), at_work(run.models.vae, run.models.placement) as vae:
        pixels = vae_decode(vae, latents, run.config.tiling)
    if (pixels == pixels[:1, :1]).all():
        colour = tuple(int(c) for c in pixels[0, 0])
        raise RenderError(
            f"the decoded picture is one single colour {colour}, which is what a broken run looks like: the VAE "
            f"broke down in {run.models.placement.dtype}, or the latents are empty. Try hardware.dtype=float32."
        )
    return pixels


@cache
def own_threads() -> int:
    """How many threads torch chose by itself."""
    import torch

    return torch.get_num_threads()


def set_threads(threads: int | None) -> None:
    """torch's CPU threads for the process; None puts back what torch chose, after a run that asked for some."""
    import torch

    own = own_threads()  # before the first change
    wanted = own if threads is None else threads
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)


@contextmanager
def translated_memory_errors() -> Iterator[None]:
    """Running out of accelerator memory as an error that says what helps."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RenderError(
            "the accelerator's memory is full. Try hardware=low_vram, a smaller width and height, "
            "hardware.batch_size=1, or tiling=tiled."
        ) from error
