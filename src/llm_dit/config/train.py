"""Parameters of training. None of them changes a picture that is drawn: what comes of them is a model file."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_dit.config.rule import FLOAT16_REASON, MAX_SEED, Group, check_name, param


@dataclass
class TrainLoraConfig(Group):
    """The adapter of train.method=lora."""

    rank: int = param(16, "Rank of each adapter.", image=False, ge=1, le=1024)
    alpha: float | None = param(
        None, "Adapters act at strength alpha / rank; null takes the rank, so at 1.", image=False, gt=0, le=4096
    )
    dropout: float = param(0.0, "Share of an adapter's inputs that are left out at random.", image=False, ge=0, le=0.9)
    targets: str = param(
        r"layers\.\d+\.attention\.(to_q|to_k|to_v|to_out\.0)",
        "Regular expression over the whole names of the linear layers that get an adapter.",
        image=False,
    )


@dataclass
class TrainDistillConfig(Group):
    """train.method=distill: the student takes sampler.steps steps without guidance, the teacher guidance_scale's."""

    substeps: int = param(2, "Steps of the guided teacher for one of the student.", image=False, ge=1, le=64)


@dataclass
class TrainVaeConfig(Group):
    """The loss of train.method=vae."""

    kl_weight: float = param(
        2e-4, "Weight of the posterior's distance from a unit normal, a latent.", image=False, ge=0, le=10
    )
    edge_weight: float = param(
        1.0, "Weight of the difference between neighbouring pixels' differences.", image=False, ge=0, le=100
    )
    shrink_share: float = param(
        0.0,
        "Share of batches whose latents are halved in size before they are decoded, to a picture of half the size.",
        image=False, ge=0, le=1,
    )  # fmt: skip
    rescale: bool = param(
        False,
        "Measure the latents' mean and spread at the end and save them as shift_factor and scaling_factor: for a VAE "
        "that no transformer belongs to yet.",
        image=False,
    )


@dataclass
class TrainConfig(Group):
    """What task=train does: which weights, on how many steps, by which optimiser and loss. docs/training.md"""

    method: str = param(
        "full",
        "full trains the transformer's weights; lora an adapter beside them; distill a student that needs few steps "
        "and no guidance; vae the VAE.",
        image=False,
        choices=("full", "lora", "distill", "vae"),
    )
    name: str | None = param(
        None, "Folder in train.dir; null makes one from the data and the settings, so a command finds its own.",
        image=False, place=True,
    )  # fmt: skip
    dir: str = param("outputs/train", "Folder of all trainings.", image=False, place=True)
    start: str = param(
        "pretrained",
        "pretrained goes on from the weights that are there; random keeps the architecture alone.",
        image=False,
        choices=("pretrained", "random"),
    )
    init: str | None = param(
        None,
        "Folder in diffusers' layout with the transformer (or VAE) to start from, in place of the model's own; it may "
        "have another size or depth.",
        image=False,
        place=True,
    )
    trainable: str = param(
        ".*", "Regular expression over the whole names of the weights that are trained, but for lora.", image=False
    )
    lora: TrainLoraConfig = field(default_factory=TrainLoraConfig)
    distill: TrainDistillConfig = field(default_factory=TrainDistillConfig)
    vae: TrainVaeConfig = field(default_factory=TrainVaeConfig)
    steps: int = param(1000, "Steps of the optimiser.", image=False, ge=1, le=100_000_000)
    batch_size: int = param(1, "Pictures of one forward on one device.", image=False, ge=1, le=65_536)
    accumulation: int = param(1, "Forwards whose gradients are added up for a step.", image=False, ge=1, le=4096)
    seed: int = param(42, "Seed of everything drawn in training.", image=False, ge=0, le=MAX_SEED)
    optimizer: str = param(
        "adamw",
        "adamw; adamw8bit (needs bitsandbytes) keeps its state in 8 bits; muon takes matrices by their "
        "orthogonalised momentum and the rest by AdamW.",
        image=False,
        choices=("adamw", "adamw8bit", "muon"),
    )
    learning_rate: float = param(1e-5, "Highest learning rate.", image=False, gt=0, le=10)
    other_learning_rate: float | None = param(
        None, "Under muon, the rate of what AdamW takes; null takes learning_rate.", image=False, gt=0, le=10
    )
    beta1: float = param(0.9, "Adam's mean of gradients: share kept at each step.", image=False, ge=0, le=0.9999)
    beta2: float = param(0.999, "Adam's mean of squares: share kept at each step.", image=False, ge=0, le=0.999999)
    epsilon: float = param(1e-8, "Added to Adam's denominator.", image=False, gt=0, le=1)
    momentum: float = param(0.95, "Muon's mean of gradients: share kept at each step.", image=False, ge=0, le=0.9999)
    weight_decay: float = param(0.01, "Share of a weight, times the rate, that a step takes off.", image=False, ge=0)
    max_grad_norm: float = param(
        1.0, "Gradients are scaled down to this norm; 0 leaves them as they are.", image=False, ge=0
    )
    scheduler: str = param(
        "constant",
        "How the rate goes: constant, constant_with_warmup, linear or cosine to zero after the warm-up, or trapezoid: "
        "warm-up, flat, linear to zero over the last train.cooldown.",
        image=False,
        choices=("constant", "constant_with_warmup", "linear", "cosine", "trapezoid"),
    )
    warmup_steps: int = param(0, "Steps over which the rate rises from zero.", image=False, ge=0)
    cooldown: float = param(0.5, "Share of the steps over which trapezoid falls to zero.", image=False, gt=0, le=1)
    ema_decay: float = param(
        0.0,
        "Exponential average of the weights: share kept at each step, less at the start. It is what validation draws "
        "with and what is saved. 0 keeps none.",
        image=False, ge=0, le=0.999999,
    )  # fmt: skip
    precision: str = param(
        "auto",
        "Arithmetic of the forward: bf16 under float32 weights, or float32 throughout (no); auto takes bf16 on CUDA.",
        image=False,
        choices=("auto", "no", "bf16"),
        refused={"fp16": FLOAT16_REASON, "float16": FLOAT16_REASON},
    )
    gradient_checkpointing: bool = param(
        False, "Compute each block twice and keep its activations once: less memory, a third more time.", image=False
    )
    compile: bool = param(False, "torch.compile: minutes at the start, faster steps.", image=False)
    sigma_sampling: str = param(
        "logit_normal",
        "How noise levels are drawn before train.shift: uniform, logit_normal, or mode (SD3's heavy-tailed one).",
        image=False,
        choices=("uniform", "logit_normal", "mode"),
    )
    logit_mean: float = param(0.0, "Mean of the logit; above 0 leans to noise.", image=False, ge=-10, le=10)
    logit_std: float = param(1.0, "Spread of the logit.", image=False, gt=0, le=10)
    mode_scale: float = param(1.29, "s of mode: above 0 favours the middle.", image=False, ge=-1, le=1.75)
    uniform_share: float = param(
        0.0, "Share of noise levels drawn uniformly in place of train.sigma_sampling.", image=False, ge=0, le=1
    )
    shift: float | None = param(
        None,
        "Shift of the drawn noise levels, towards noise above 1; null takes the model's own.",
        image=False, gt=0, le=100,
    )  # fmt: skip
    loss_weighting: str = param(
        "none",
        "Weight of a noise level in the loss: none, gaussian (the middle), sigma_sqrt (1 / sigma^2), or cosmap.",
        image=False,
        choices=("none", "gaussian", "sigma_sqrt", "cosmap"),
    )
    caption_dropout: float = param(
        0.1, "Share of pictures trained with the empty prompt, which guidance needs.", image=False, ge=0, le=1
    )
    log_every: int = param(10, "Steps between lines of log.jsonl.", image=False, ge=1)
    checkpoint_every: int = param(500, "Steps between checkpoints.", image=False, ge=1)
    keep: int = param(2, "Checkpoints that are kept, the newest.", image=False, ge=1, le=1000)
    save_dtype: str = param(
        "float32", "Numbers of the weights that are saved at the end.", image=False, choices=("float32", "bfloat16")
    )
    validate_every: int = param(
        0, "Steps between validations: pictures of the config's prompts and seeds, and their scores. 0 makes none.",
        image=False, ge=0,
    )  # fmt: skip

    def check(self) -> None:
        check_name("train.name", self.name)
