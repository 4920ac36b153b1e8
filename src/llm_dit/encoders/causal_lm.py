"""Text to hidden states: what the rest of the project expects of a text encoder, and the transformers one.

Formatting and cutting happen before (chat.py, length.py); the choice of layer comes from the caller.
Loading weights is encoders/load.py's.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ConfigError, ModelError, PromptError

if TYPE_CHECKING:
    import torch


class TransformersTextEncoder:
    """A decoder-only transformers model with its tokenizer.

    A prompt goes alone and without padding: with causal attention padding changes nothing but the cost
    (512 padded positions against about 30 real ones), and the last bits.
    """

    def __init__(self, model: Any, tokenizer: Any, fingerprint: str = ""):
        self.model = model
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.num_layers: int = model.config.num_hidden_layers
        self.hidden_size: int = model.config.hidden_size

    def tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), [tuple(span) for span in encoded["offset_mapping"]]

    def apply_chat_template(self, messages: list[dict]) -> str:
        if not self.tokenizer.chat_template:
            raise PromptError("this tokenizer has no chat template of its own; use model.chat_format=chatml or qwen3.")
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def encode(
        self, token_ids: Sequence[int], hidden_layers: Sequence[int], pre_norm: bool = False
    ) -> list[torch.Tensor]:
        """Hidden states [tokens, hidden_size] in the model's dtype, in the order asked.

        Indices follow transformers: 0 is the embeddings, num_layers (or -1) the last layer after the final
        norm; pre_norm gives that one as it is before the norm. Only the asked states are kept, and layers above the
        highest asked one are not computed. Raises ConfigError for a layer the model does not have.
        """
        return self.encode_many([token_ids], hidden_layers, pre_norm)[0]

    def encode_many(
        self, texts: Sequence[Sequence[int]], hidden_layers: Sequence[int], pre_norm: bool = False
    ) -> list[list[torch.Tensor]]:
        """Several texts in one forward, padded at their ends: equal to encode up to rounding, much faster if short."""
        import torch

        wanted = [self._index(layer) for layer in hidden_layers]
        largest, rows = max(map(max, texts)), self.model.get_input_embeddings().num_embeddings
        if largest >= rows:  # on CUDA this would end the process
            raise ModelError(f"token {largest} is not among the encoder's {rows}: the tokenizer is another model's.")
        device = next(self.model.parameters()).device
        longest = max(map(len, texts))
        padded = [[*text, *[0] * (longest - len(text))] for text in texts]
        ids = torch.tensor(padded, dtype=torch.long, device=device)
        lengths = torch.tensor([len(text) for text in texts], device=device)
        mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
        with torch.inference_mode():
            states = self._states(ids, mask, wanted, pre_norm)
        return [[states[layer][i, : len(text)] for layer in wanted] for i, text in enumerate(texts)]

    def _states(
        self, ids: torch.Tensor, mask: torch.Tensor, wanted: list[int], pre_norm: bool
    ) -> Mapping[int, torch.Tensor]:
        """The wanted hidden states [texts, tokens, hidden_size] by index."""
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        if not _is_a_stack(self.model):
            if pre_norm:
                raise ConfigError(
                    f"encoder_layer.pre_norm: the final norm of {type(self.model).__name__} is not known."
                )
            found = self.model(**inputs, output_hidden_states=sorted(set(wanted))).hidden_states
            return {layer: found[layer] for layer in wanted}
        states: dict[int, torch.Tensor] = {}
        top = max(wanted)
        states[top] = _lower_part(self.model, top, set(wanted), states)(**inputs).last_hidden_state
        if top == self.num_layers and not pre_norm:
            states[top] = self.model.norm(states[top])
        return states

    def _index(self, layer: int) -> int:
        count = self.num_layers + 1
        if not -count <= layer < count:
            raise ConfigError(f"encoder_layer.index={layer}: this encoder has hidden states {-count} to {count - 1}.")
        return layer % count


def _is_a_stack(model: Any) -> bool:
    """Whether the model is embeddings, `layers` and a final `norm`, as Qwen3, Llama, Mistral and Gemma are."""
    from torch.nn import Module, ModuleList

    return isinstance(getattr(model, "layers", None), ModuleList) and isinstance(getattr(model, "norm", None), Module)


def _lower_part(model: Any, top: int, wanted: set[int], states: dict[int, torch.Tensor]) -> Any:
    """The model's first layers without its final norm; hidden states below the top one are put into states.

    A shallow copy for one forward: weights are shared, while hooks and the list of layers are its own, so that
    several threads may use the model at once.
    """
    from torch.nn import Identity, ModuleList

    def own_hooks(module: Any) -> Any:
        module = copy.copy(module)
        module._forward_hooks = OrderedDict(module._forward_hooks)
        module._forward_pre_hooks = OrderedDict(module._forward_pre_hooks)
        return module

    def keep(index: int) -> Any:
        return lambda _module, _args, output: states.update({index: output[0] if isinstance(output, tuple) else output})

    part = copy.copy(model)
    part._modules = dict(model._modules)
    part.layers, part.norm = ModuleList(own_hooks(layer) for layer in model.layers[:top]), Identity()
    for index, layer in enumerate(part.layers, 1):
        if index in wanted and index < top:
            layer.register_forward_hook(keep(index))
    if 0 in wanted and top > 0:
        part.layers[0].register_forward_pre_hook(lambda _module, args: states.update({0: args[0]}))
    return part
