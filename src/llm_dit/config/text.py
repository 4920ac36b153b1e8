"""Parameters of the way from a prompt to embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from llm_dit.base.errors import ConfigError
from llm_dit.config.rule import Group, check_text_length, param

NORMED_AWAY = (
    "the transformer begins with an RMSNorm of each token, which cancels any factor; attention and from_empty act"
)


@dataclass
class PromptConfig(Group):
    """What is said to the text encoder, as the parts of a chat."""

    text: str | None = param(None, "The prompt: the user's message. A bare argument on the command line sets it.")
    negative: str = param("", "What to steer away from; it acts only while guidance or nag is on.")
    system: str = param("", "System message put before the prompt; empty leaves the system turn out.")
    thinking: str = param("", "Text of the think block that opens the assistant's turn (Qwen3 format only).")
    assistant: str = param("", "Beginning of the assistant's answer, after the think block; the turn stays open.")
    force_think_block: bool = param(False, "Write a think block even when prompt.thinking is empty.")
    strip_quotes: bool = param(False, 'Delete every " from all parts: quoted words tend to be drawn as text.')
    clean_whitespace: bool = param(False, "Strip the parts, fold runs of blanks, keep at most one empty line.")
    template: str | None = param(
        None, "Name of a template in templates/ (or a path to one) that fills the parts left empty here.", place=True
    )

    def check(self) -> None:
        check_text_length(self.text)


@dataclass
class EncoderLayerConfig(Group):
    """Which hidden states of the text encoder condition the picture."""

    index: int = param(
        -2, "Index into hidden_states: 0 the embeddings, -1 the last layer after the final norm, -2 the one before."
    )
    layers: list[int] = param([], "Several hidden states to combine, as [-2,-8,-16]; empty takes index alone.")
    layer_range: list[int] = param(
        [], "The same as a range: [first, last] or [first, last, step], both ends included; [-24,-2,2]."
    )
    weights: list[float] = param(
        [], "One for each layer, in their order; divided by their sum. Empty is equal weights.", ge=-1000, le=1000
    )
    pre_norm: bool = param(False, "Take the last layer (-1) as it is before the encoder's final norm.")
    norm: str = param(
        "none",
        "Of each layer before it is combined: rms and layernorm within a token, per_channel over fit_prompts.",
        choices=("none", "rms", "layernorm", "per_channel"),
    )
    combine: str = param(
        "mean",
        "Several layers to one. concat puts them side by side, for a transformer (or align=ridge) of that width.",
        choices=("mean", "weighted", "norm_mean", "slerp", "concat"),
    )
    align: str = param(
        "none",
        "Map the result to the layer the model was trained on: match moments, ridge regression, or a rotation.",
        choices=("none", "moments", "ridge", "procrustes"),
    )
    ridge: float = param(0.01, "Penalty of align=ridge, as a share of the mean variance of a feature.", ge=0, le=1000)
    fit_prompts: str = param(
        "standard", "Set of prompts (name or .yaml) that align and per_channel are fitted on.", place=True
    )
    trained_index: int | None = param(None, "The layer the model was trained on; set by the model option.")
    tokens: str = param(
        "all", "Which tokens condition the picture: all, or the user's without the chat template.",
        choices=("all", "user"),
    )  # fmt: skip

    def check(self) -> None:
        """What can be said about a choice of layers before the encoder is known."""
        if self.layers and self.layer_range:
            raise ConfigError("encoder_layer.layers and encoder_layer.layer_range are both given; leave one out.")
        if self.layer_range and len(self.layer_range) not in (2, 3):
            raise ConfigError(
                f"encoder_layer.layer_range={self.layer_range}: must be [first,last] or [first,last,step]."
            )
        if self.layer_range[2:] and self.layer_range[2] < 1:
            raise ConfigError(f"encoder_layer.layer_range={self.layer_range}: the step must be at least 1.")
        if self.weights and self.layers and len(self.weights) != len(self.layers):
            raise ConfigError(f"encoder_layer.weights: {len(self.weights)} weights for {len(self.layers)} layers.")
        if self.weights and abs(sum(self.weights)) < 1e-6:
            raise ConfigError(f"encoder_layer.weights={self.weights}: they add up to 0.")
        if self.combine == "slerp" and self.weights and min(self.weights) < 0:
            raise ConfigError(f"encoder_layer.weights={self.weights}: slerp takes no negative weights.")
        if self.align != "none" and self.trained_index is None:
            raise ConfigError(
                f"encoder_layer.align={self.align} needs encoder_layer.trained_index, the layer the model was trained "
                "on."
            )


@dataclass
class LongPromptConfig(Group):
    """What happens to a prompt with more tokens than max_tokens (template included)."""

    mode: str = param(
        "truncate",
        "truncate cuts the user's words and warns; refuse is an error; interpolate, pool, attention_pool and merge "
        "press the user's tokens into max_tokens; segments encodes pieces of max_tokens apart, extend the text as a "
        "whole, and both give the transformer all tokens.",
        choices=("truncate", "refuse", "interpolate", "pool", "attention_pool", "merge", "segments", "extend"),
    )
    max_tokens: int = param(512, "Most text tokens, template included; Z-Image was trained with 512.", ge=16, le=32768)
    encoder_max_tokens: int = param(
        8192, "Most tokens that the LLM reads, template included; what is over is cut.", ge=16, le=32768
    )
    positions: str = param(
        "plain",
        "With segments and extend, positions of the text beyond max_tokens: as they come, or slowed by position "
        "interpolation (pi) or NTK scaling until they lie within.",
        choices=("plain", "pi", "ntk"),
    )


@dataclass
class EmphasisConfig(Group):
    """Weights of words, written '(words:1.3)' in any of the prompts. docs/conditioning.md"""

    mode: str = param(
        "none",
        "none reads parentheses as text; attention adds log(weight) to the attention towards the words; from_empty "
        "moves their embeddings away from an empty prompt's, or towards it.",
        choices=("none", "attention", "from_empty"),
        refused={"scale": NORMED_AWAY},
    )
    weight: float = param(1.1, "Weight of '(words)' without a number; a sweep can vary it.", ge=0, le=10)
    queries: str = param(
        "picture",
        "attention: whose attention is weighed, that of the picture's tokens alone, or of all, the text's too.",
        choices=("picture", "all"),
    )


@dataclass
class MixConfig(Group):
    """A second prompt beside the first: between the two, or one after the other. docs/conditioning.md"""

    mode: str = param(
        "none",
        "slerp and lerp mix the embeddings of both, token by token; velocity the predictions, at one more forward; "
        "switch goes over to the second at mix.sigma.",
        choices=("none", "slerp", "lerp", "velocity", "switch"),
    )
    text: str | None = param(None, "The second prompt, in the same chat as the first.")
    amount: float = param(
        0.5, "slerp, lerp, velocity: share of the second prompt; 0 is the first alone, 1 the second alone.", ge=0, le=1
    )
    sigma: float = param(0.8, "switch: the first prompt acts at sigma above this, the second up to it.", ge=0, le=1)

    def check(self) -> None:
        if self.mode != "none" and self.text is None:
            raise ConfigError(f"mix.mode={self.mode} needs a second prompt: give it as mix.text, or take mix=none.")
        check_text_length(self.text, "mix.text: ")
