"""The core: a Config to pictures.

    format_prompt -> encode -> denoise -> decode -> record

Each arrow is a function in the folder of its name; this file calls them in order. Nothing is written to disk
here (picture.py does), nothing is composed (compose.py does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_dit.clock import Clock
from llm_dit.compose import seeds_of
from llm_dit.conditioning import Encoded, encode_prompt, settle_prompt
from llm_dit.config import Config, to_dict
from llm_dit.errors import ConfigError, ModelError, RenderError
from llm_dit.models.cache import PARTS, Models, PartCache
from llm_dit.models.place import at_work, choose_placement
from llm_dit.picture import RECORD_VERSION, Picture, file_sha256, pixels_sha256, read_picture

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

Progress = Callable[[int, int], None]


def render(
    config: Config,
    *,
    parts: PartCache = PARTS,
    on_step: Progress | None = None,
    on_picture: Callable[[Picture], None] | None = None,
) -> list[Picture]:
    """Draw a config's pictures, one for each seed, in the order of its seeds.

    on_step(done, all) after each denoising step, over all batches. on_picture as each picture is finished.
    Raises LabError for anything a user can mend: model, prompt, size, memory, results that are not finite.
    """
    clock = Clock()
    seeds = seeds_of(config)
    config = settle_prompt(config)
    set_threads(config.hardware.threads)
    hw = config.hardware
    models = Models(config, choose_placement(hw.device, hw.dtype, hw.offload), parts, clock)
    start = read_picture(config.init_image) if config.init_image else None
    width, height = picture_size(config, start)

    positive, negative = condition(config, models, clock)
    sigmas = schedule(config, models)
    pictures: list[Picture] = []
    size = hw.batch_size
    batches = [seeds[i : i + size] for i in range(0, len(seeds), size)]
    steps = len(sigmas) - 1
    for number, batch in enumerate(batches):
        step = (lambda i, x, done=number * steps: on_step(done + i + 1, len(batches) * steps)) if on_step else None
        with translated_memory_errors():
            latents, nfe = denoise(config, models, positive, negative, sigmas, batch, (height, width), start, clock, step)
            for seed, z in zip(batch, latents, strict=True):
                pixels = decode_pixels(config, models, z, clock)
                record = describe(config, models, seed, positive, negative, sigmas, nfe, pixels, clock.share(len(batch)))
                picture = Picture(as_image(pixels), record, z)
                pictures.append(picture)
                if on_picture:
                    on_picture(picture)
        clock.forget("denoise", "decode")
    return pictures


def condition(config: Config, models: Models, clock: Clock) -> tuple[Encoded, Encoded | None]:
    """The positive prompt's embeddings, and the negative one's while guidance is on."""
    with clock("encode"):
        positive = encode_prompt(config, config.prompt.text or "", models)
        guided = config.guidance.guidance_scale > 0
        negative = encode_prompt(config, config.prompt.negative, models) if guided else None
    width = models.transformer.cap_embedder[0].weight.shape[0]
    if positive.embeds.shape[1] != width:
        raise ModelError(
            f"the text encoder gives {positive.embeds.shape[1]} features a token, the transformer takes {width}: "
            "model.text_encoder does not belong to this model."
        )
    return positive, negative


def schedule(config: Config, models: Models) -> list[float]:
    """The noise levels of the run, from where it starts down to 0."""
    from llm_dit.denoise.sigmas import flow_sigmas, start_at_strength

    shift = config.sampler.shift if config.sampler.shift is not None else models.shift
    sigmas = flow_sigmas(config.sampler.steps, shift)
    return start_at_strength(sigmas, config.strength) if config.init_image else sigmas


def denoise(
    config: Config,
    models: Models,
    positive: Encoded,
    negative: Encoded | None,
    sigmas: list[float],
    seeds: list[int],
    size: tuple[int, int],
    start: Image.Image | None,
    clock: Clock,
    on_step: Callable[[int, torch.Tensor], None] | None = None,
) -> tuple[torch.Tensor, int]:
    """Latents float32 [seeds, 16, h, w] on the CPU, and the forwards that one picture cost."""
    import torch

    from llm_dit.denoise.samplers import SAMPLERS
    from llm_dit.denoise.velocity import ZImageVelocity

    x = first_latents(config, models, seeds, size, sigmas[0], start, clock)
    transformer = models.transformer
    with clock("denoise"), at_work(transformer, models.placement), torch.inference_mode():
        device = models.placement.device
        g = config.guidance
        velocity = ZImageVelocity(
            transformer,
            positive.embeds.to(device),
            negative.embeds.to(device) if negative else None,
            g.guidance_scale,
            g.cfg_normalization,
            g.cfg_truncation,
        )
        x = SAMPLERS[config.sampler.name](velocity, x.to(device), sigmas, on_step).cpu()
    if not torch.isfinite(x).all():
        raise RenderError(
            f"the latents are not finite (seeds {seeds}): the run broke down in {models.placement.dtype} at "
            f"guidance_scale={g.guidance_scale:g}. Try hardware.dtype=float32 or less guidance."
        )
    return x, velocity.nfe


def first_latents(
    config: Config,
    models: Models,
    seeds: list[int],
    size: tuple[int, int],
    sigma: float,
    start: Image.Image | None,
    clock: Clock,
) -> torch.Tensor:
    """Noise, or for img2img the encoded start picture noised to sigma; float32 on the CPU, each from its own seed."""
    from llm_dit.denoise.noise import draw_noise, mix_noise, seeded_generator
    from llm_dit.models.vae import VAE_FACTOR, encode

    generators = [seeded_generator(seed) for seed in seeds]
    shape = (models.transformer.in_channels, size[0] // VAE_FACTOR, size[1] // VAE_FACTOR)
    if start is None:
        return draw_noise(generators, shape)
    import torch

    pixels = as_pixels(start, size)
    with clock("encode"), at_work(models.vae, models.placement) as vae:
        clean = torch.stack([encode(vae, pixels, g, config.tiling) for g in generators])
    return mix_noise(clean, draw_noise(generators, shape), sigma)


def decode_pixels(config: Config, models: Models, latents: torch.Tensor, clock: Clock) -> np.ndarray:
    """Pixels uint8 [H, W, 3]; a picture of one colour is an error, because it is what a broken run looks like."""
    from llm_dit.models.vae import decode

    with clock("decode"), at_work(models.vae, models.placement) as vae:
        pixels = decode(vae, latents, config.tiling)
    if pixels.min() == pixels.max() or (pixels == pixels[:1, :1]).all():
        raise RenderError(
            f"the decoded picture is one single colour {tuple(int(c) for c in pixels[0, 0])}, which no prompt asks for: "
            f"the VAE broke down in {models.placement.dtype}, or the latents are empty. Try hardware.dtype=float32."
        )
    return pixels


def picture_size(config: Config, start: Image.Image | None) -> tuple[int, int]:
    """(width, height) in pixels: as asked, else the start picture's rounded to 16, else the model's own."""
    own = (config.default_size, config.default_size)
    if start is not None:
        own = tuple(max(16, round(side / 16) * 16) for side in start.size)
    width, height = config.width or own[0], config.height or own[1]
    if max(width, height) > 8192:
        raise ConfigError(f"init_image is {width} x {height}; set width and height to at most 8192.")
    return width, height


def describe(
    config: Config,
    models: Models,
    seed: int,
    positive: Encoded,
    negative: Encoded | None,
    sigmas: list[float],
    nfe: int,
    pixels: np.ndarray,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The record of one picture: enough to draw it again, and to know what it cost."""
    from llm_dit.versions import versions

    g = config.guidance
    warnings = [e.warning for e in (positive, negative) if e and e.warning] + idle_settings(config, sigmas)
    return {
        "record_version": RECORD_VERSION,
        "config": to_dict(config),
        "seed": seed,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        **positive.record(),
        "negative": negative.record() if negative else None,
        "sigmas": sigmas,
        "nfe": nfe,
        # The same strength in both conventions: s in pos + s (pos - neg), w = s + 1 in neg + w (pos - neg).
        "guidance": {"guidance_scale": g.guidance_scale, "cfg_weight": g.guidance_scale + 1.0},
        "shift": config.sampler.shift if config.sampler.shift is not None else models.shift,
        "model_fingerprint": {
            "transformer": models.transformer.weights_fingerprint,
            "vae": models.vae.weights_fingerprint,
            "text_encoder": positive.encoder_fingerprint,
        },
        "init_image_sha256": file_sha256(config.init_image) if config.init_image else None,
        "device": models.placement.device,
        "dtype": models.placement.dtype,
        "seconds": seconds,
        "warnings": warnings,
        "versions": versions(),
        "pixels_sha256": pixels_sha256(pixels),
    }


def idle_settings(config: Config, sigmas: list[float]) -> list[str]:
    """Settings that were given and cannot act, one line each."""
    from llm_dit.denoise.guidance import cfg_is_on

    g = config.guidance
    idle = []
    if g.guidance_scale == 0:
        given = [("prompt.negative", bool(config.prompt.negative)), ("guidance.cfg_normalization", g.cfg_normalization > 0)]
        given.append(("guidance.cfg_truncation", g.cfg_truncation < 1))
        idle += [f"{key} has no effect: guidance.guidance_scale is 0." for key, is_given in given if is_given]
    elif not any(cfg_is_on(s, g.guidance_scale, g.cfg_truncation) for s in sigmas[:-1]):
        idle.append(f"guidance has no effect: cfg_truncation={g.cfg_truncation:g} switches it off at every step.")
    return idle


def as_image(pixels: np.ndarray) -> Image.Image:
    """Pixels uint8 [H, W, 3] as a PIL image."""
    from PIL import Image

    return Image.fromarray(pixels)


def as_pixels(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """A PIL image resized to size (height, width), as float32 [3, H, W] in -1..1."""
    import numpy as np
    import torch
    from PIL import Image

    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255.0).permute(2, 0, 1) * 2.0 - 1.0


def set_threads(threads: int | None) -> None:
    """torch's CPU threads for the process, when asked for."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


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
