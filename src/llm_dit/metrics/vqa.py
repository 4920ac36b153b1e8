"""Is each thing the prompt asks for in the picture? Questions to Qwen3-VL, one for each element of the prompt.

After VQAScore (Lin and others 2024, arXiv:2404.01291) and Soft-TIFA (GenEval 2, arXiv:2512.16853): a question that
"yes" answers when the element is there, and the model's probability of "yes" as its first word. A prompt without
elements is one question as a whole. Numbers of different models, and of papers with other models, do not compare.

    P(yes) = Y / (Y + N), with Y and N the model's probability of the first answer token being one of
    Yes, yes, YES or No, no, NO, each with or without a space before it, as far as they are single tokens.

So a model that would answer something else altogether is read by how it leans. The model is asked without sampling,
without a system prompt, and must be one that answers at once (Instruct, not Thinking).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ModelError, one_line
from llm_dit.base.paths import visible
from llm_dit.metrics.base import Metric, Sample, Score
from llm_dit.metrics.weights import batches, describe, enough_memory, files_hash, find_folder, quiet
from llm_dit.prompts.sets import NOT_VISIBLE, Element
from llm_dit.weights.folder import read_json
from llm_dit.weights.tensors import check_weights, folder_shapes

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

KEY = "metrics.vqa.model"
FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")
# The chat around a picture and a question, in Qwen3-VL's own form.
BEFORE, AFTER = "<|im_start|>user\n<|vision_start|>", "<|im_end|>\n<|im_start|>assistant\n"
PICTURE_END = "<|vision_end|>"
YES, NO = ("Yes", "yes", "YES"), ("No", "no", "NO")
_BARE_WORDS = 2  # a style or colour of so few words, without an article, is a name: nano's sets hold these
_TINY = 1e-12  # what a probability of 0 counts as in the geometric mean


def question(element: Element) -> str:
    """What is asked about an element.

    text: the words, letter for letter. A bare style or colour, as nano's sets have them, is a style and the colour of
    the background. All others, and styles and colours that say more, end 'Does the picture show ...?'.
    """
    tag, value = element.tag, element.value.strip().rstrip(".")
    words = value.split()
    bare = len(words) <= _BARE_WORDS and words[:1] not in (["a"], ["an"], ["the"])
    if tag == "text":
        asked = f'Does the picture show the written words "{value}"?'
    elif tag == "style" and bare:
        asked = f"Is the picture in {value} style?"
    elif tag in ("colour", "color") and bare:
        asked = f"Does the picture show {'an' if value[0] in 'aeiou' else 'a'} {value} background?"
    else:
        asked = f"Does the picture show {value}?"
    return f"{asked} Answer yes or no."


def questions(sample: Sample) -> list[tuple[str, str]]:
    """(tag, question) of each element that can be seen; of a prompt without any, one question with the tag ''."""
    seen = [element for element in sample.elements if element.tag not in NOT_VISIBLE]
    if not seen:
        return [("", f'Does the picture show "{sample.prompt.strip()}"? Answer yes or no.')]
    return [(element.tag, question(element)) for element in seen]


class Vqa(Metric):
    """The mean over a prompt's elements of P(yes), 0 to 1; also vqa_min, vqa_geometric, and vqa_TAG of each tag.

    vqa_geometric is near 0 when one element is missing, where vqa only falls by its share.
    """

    name = "vqa"

    @cached_property
    def folder(self) -> Path:
        """The model's files. Raises ModelError when they are not there, or are not a Qwen3-VL."""
        folder = find_folder(KEY, self.settings.model, FILES)
        kind = read_json(folder / "config.json").get("model_type")
        if kind != "qwen3_vl":
            raise ModelError(f"{KEY}={self.settings.model}: holds a {kind} model, where qwen3_vl is needed.")
        return folder

    @cached_property
    def identity(self) -> str:
        weights = visible(self.folder, "*.safetensors")
        others = [self.folder / name for name in ("config.json", "preprocessor_config.json", "tokenizer.json")]
        files = [*weights, *(path for path in others if path.is_file())]
        return describe(self.name, self.version, model=self.settings.model, dtype=self.dtype, sha256=files_hash(*files))

    @property
    def dtype(self) -> str:
        """bfloat16 on a card, float32 elsewhere."""
        return "bfloat16" if self.device.startswith("cuda") else "float32"

    @cached_property
    def model(self) -> Any:
        """The model on the device. Every weight must be there."""
        import torch
        from transformers import Qwen3VLForConditionalGeneration

        folder_shapes(self.folder, "model", integers=True)
        try:
            with quiet():
                model, info = Qwen3VLForConditionalGeneration.from_pretrained(
                    str(self.folder), dtype=getattr(torch, self.dtype), output_loading_info=True,
                    local_files_only=True, use_safetensors=True, ignore_mismatched_sizes=True,
                )  # fmt: skip
        except Exception as error:  # transformers' own have many types
            raise ModelError(f"{self.folder}: cannot be loaded as Qwen3-VL ({one_line(error)}).") from error
        wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: shape for name, shape in wanted.items() if name not in info["missing_keys"]}
        found |= dict.fromkeys(info["unexpected_keys"], ()) | {
            name: shape for name, shape, _ in info["mismatched_keys"]
        }
        check_weights(self.folder, type(model).__name__, found, wanted)
        return model.to(self.device).eval().requires_grad_(False)

    @cached_property
    def processors(self) -> tuple[Any, Any]:
        """Image processor and tokenizer. Not the joint processor: its video part needs torchvision.

        Pictures are resized by PIL, so that scores do not depend on whether torchvision is installed.
        """
        from transformers import AutoImageProcessor, AutoTokenizer

        where, local = str(self.folder), {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet():
                return (
                    AutoImageProcessor.from_pretrained(where, backend="pil", **local),
                    AutoTokenizer.from_pretrained(where, **local),
                )
        except Exception as error:  # transformers' own have many types
            raise ModelError(
                f"{self.folder}: has no image processor and tokenizer that load ({one_line(error)})."
            ) from error

    @cached_property
    def answers(self) -> tuple[list[int], list[int]]:
        """Token numbers that begin a yes, and a no."""
        tokenizer = self.processors[1]

        def single(words: Sequence[str]) -> list[int]:
            found = [
                tokenizer(f"{space}{word}", add_special_tokens=False).input_ids for word in words for space in ("", " ")
            ]
            return sorted({ids[0] for ids in found if len(ids) == 1 and ids[0] != tokenizer.unk_token_id})

        yes, no = single(YES), single(NO)
        if not yes or not no or set(yes) & set(no):
            raise ModelError(f"{self.folder}: its tokenizer has no token of its own for yes and for no.")
        return yes, no

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample: vqa, each tag's mean, vqa_min, vqa_geometric; tokens where it read the prompt."""
        asked = [questions(sample) for sample in samples]
        pairs = [(sample.image, text) for sample, each in zip(samples, asked, strict=True) for _, text in each]
        found = [value for batch in batches(pairs, self.batch_size) for value in self.probabilities(batch)]
        scores, start = [], 0
        for sample, each in zip(samples, asked, strict=True):
            values = self._values([tag for tag, _ in each], found[start : start + len(each)])
            start += len(each)
            whole = each[0][0] == ""
            tokens = len(self.processors[1](sample.prompt, add_special_tokens=False).input_ids) if whole else None
            scores.append(Score(values, tokens))
        return scores

    def _values(self, tags: Sequence[str], found: Sequence[float]) -> dict[str, float | None]:
        """The columns of one picture. A tag that is called min or geometric has no column."""
        values: dict[str, float | None] = {self.name: sum(found) / len(found)}
        for tag in dict.fromkeys(tag for tag in tags if tag):
            own = [value for other, value in zip(tags, found, strict=True) if other == tag]
            values[f"{self.name}_{tag}"] = sum(own) / len(own)
        values[f"{self.name}_min"] = min(found)
        values[f"{self.name}_geometric"] = math.exp(sum(math.log(max(value, _TINY)) for value in found) / len(found))
        return values

    def probabilities(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[float]:
        """P(yes) of each picture and question, in one batch. A picture of several questions is encoded once."""
        import torch

        yes, no = self.answers
        with torch.inference_mode(), enough_memory(len(pairs), self.device):
            inputs = {name: tensor.to(self.device) for name, tensor in self.inputs(pairs).items()}
            pixels, which = inputs.pop("pixel_values"), inputs.pop("picture").tolist()
            seen = self.model.get_image_features(pixels, inputs["image_grid_thw"], return_dict=True)
            seen.pooler_output = tuple(seen.pooler_output[i] for i in which)
            seen.deepstack_features = [tuple(layer[i] for i in which) for layer in seen.deepstack_features]
            inputs["image_grid_thw"] = inputs["image_grid_thw"][which]
            logits = self.model(**inputs, mm_encoder_outputs={"image": seen}, logits_to_keep=1).logits[:, -1].float()
            return (logits[:, yes].logsumexp(-1) - logits[:, no].logsumexp(-1)).sigmoid().tolist()

    def inputs(self, pairs: Sequence[tuple[Image.Image, str]]) -> dict[str, Tensor]:
        """The chats as token numbers, padded on the left; patches of each different picture; which is a chat's own."""
        import torch

        processor, tokenizer = self.processors
        different = {id(image): image for image, _ in pairs}
        number = {key: i for i, key in enumerate(different)}
        pictures = processor(images=[image.convert("RGB") for image in different.values()], return_tensors="pt")
        counts = (pictures["image_grid_thw"].prod(-1) // processor.merge_size**2).tolist()
        mark = self.model.config.image_token_id

        def ids(text: str, **more: Any) -> list[int]:
            return tokenizer(text, add_special_tokens=False, **more).input_ids

        which = [number[id(image)] for image, _ in pairs]
        # A question's own words never become marks of the chat: split_special_tokens.
        rows = [
            [*ids(BEFORE), *[mark] * counts[i], *ids(PICTURE_END), *ids(text, split_special_tokens=True), *ids(AFTER)]
            for (_, text), i in zip(pairs, which, strict=True)
        ]
        width = max(map(len, rows))
        pad = tokenizer.pad_token_id or 0
        tokens = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return {
            "input_ids": tokens,
            "attention_mask": mask,
            "mm_token_type_ids": (tokens == mark).int() * mask,
            "picture": torch.tensor(which),
            "pixel_values": pictures["pixel_values"],
            "image_grid_thw": pictures["image_grid_thw"],
        }
