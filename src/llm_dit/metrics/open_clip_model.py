"""CLIP-like models of open_clip: by architecture and tag, from a folder, or from one file of weights.

Finding, loading and the two towers; what a score is made of them is open_clip_scores.py. Checkpoints of transformers'
CLIPModel are converted. Every weight must land.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ConfigError, LabError, ModelError, nearest, one_line
from llm_dit.metrics.weights import (
    download,
    enough_memory,
    files_hash,
    fill,
    find_file,
    find_folder,
    not_here,
    quiet,
    read_tensors,
)
from llm_dit.weights.folder import read_json

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

WEIGHTS_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
CONFIG_NAMES = ("open_clip_config.json", "config.json")
TOKENIZER_PATTERNS = ("*.json", "*.txt", "*.model")
WEIGHTS_ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class Place:
    """Where a model comes from. Hashable, so that metrics share what they load.

    key: the setting, for messages alone. name: of the architecture, as open_clip's factory takes it. changes: JSON of
    what replaces parts of that architecture. preprocess: JSON of what replaces its mean, std and resizing.
    config: the file that names the architecture, where there is one.
    """

    key: str = field(compare=False)
    name: str
    weights: Path
    config: Path | None = None
    changes: str = "{}"
    preprocess: str = "{}"

    @property
    def digest(self) -> str:
        """16 hex digits of the files that are read."""
        return files_hash(self.weights, *([self.config] if self.config else []))

    def told(self, model: str, weights: str) -> dict[str, str]:
        """What an identity says of settings that named this place: not the tag that a folder passes over."""
        passed_over = self.config is not None and not weights.endswith(WEIGHTS_ENDINGS)
        return {"model": model} | ({} if passed_over else {"weights": weights}) | {"sha256": self.digest}


def import_open_clip(key: str) -> Any:
    """The module open_clip. Raises ConfigError when it, or the torchvision it needs, is not installed.

    A torchvision made for CUDA beside a torch that is not fails to import, for two operators it describes but cannot
    load. Declared by name they are enough for open_clip, which never calls them.
    """
    try:
        with quiet():
            try:
                import torchvision  # noqa: F401
            except RuntimeError as error:
                if "torchvision::nms" not in str(error):
                    raise
                _declare_operators()
            import open_clip
    except ImportError as error:
        raise ConfigError(
            f"{key}: needs open_clip and torchvision, which are not installed ({one_line(error, 100)}). "
            "`uv sync --extra metrics` installs them."
        ) from error
    return open_clip


def _declare_operators() -> None:
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)  # declarations last as long as it does


_KEPT: list[Any] = []


def find_named(key: str, model: str, weights: str, weights_name: str = "weights", model_name: str = "model") -> Place:
    """The place of a model that settings KEY.model and KEY.weights name.

    weights_name, model_name: what the settings are called, where they have other names.
    model: one of open_clip's names, with weights a tag of it or a file; or a folder, local-dir:FOLDER or
    hf-hub:OWNER/NAME with open_clip_config.json (or transformers' config.json) and weights, where a tag in weights is
    passed over and a file replaces the folder's. Raises ConfigError for unknown names, ModelError for missing weights.
    """
    open_clip = import_open_clip(key)
    if model.replace("/", "-") in open_clip.list_models():  # ViT-L/14 is ViT-L-14, as in open_clip
        model = model.replace("/", "-")
    elif "/" in model or "\\" in model or model.startswith(("local-dir:", "hf-hub:")):
        folder = find_folder(f"{key}.{model_name}", model, TOKENIZER_PATTERNS, WEIGHTS_NAMES)
        file = find_file(f"{key}.{model_name}", str(folder), WEIGHTS_NAMES)
        if weights.endswith(WEIGHTS_ENDINGS):
            file = find_file(f"{key}.{weights_name}", weights, WEIGHTS_NAMES)
        place = _described(key, folder, file)
        if place is None:
            raise ModelError(f"{key}.{model_name}={model}: the folder holds no open_clip_config.json.")
        return place
    if model not in open_clip.list_models():
        raise ConfigError(
            f"{key}.model={model[:100]}: not one of open_clip's {len(open_clip.list_models())} architectures. "
            f"{nearest(model, open_clip.list_models()) if _close(model, open_clip.list_models()) else ''}".rstrip()
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    tag = open_clip.get_pretrained_cfg(model, weights)
    if not tag:
        if not weights.endswith(WEIGHTS_ENDINGS):
            raise ConfigError(
                f"{key}.{weights_name}={weights[:200]}: neither a file of weights nor one of {model}'s tags. "
                f"Its tags: {', '.join(tags) or 'none'}."
            )
        return Place(key, model, find_file(f"{key}.{weights_name}", weights, WEIGHTS_NAMES))
    file = _tagged(f"{key}.{weights_name}", weights, tag)
    # open_clip only warns when a tag was trained with the other GELU, and scores wrongly.
    changes = {"quick_gelu": True} if tag.get("quick_gelu") else {}
    preprocess = {name: tag[name] for name in ("mean", "std", "interpolation", "resize_mode") if name in tag}
    return Place(key, model, file, changes=json.dumps(changes), preprocess=json.dumps(preprocess))


def _tagged(key: str, weights: str, tag: dict[str, Any]) -> Path:
    """The file of one of open_clip's tags, downloaded if need be. Raises ModelError."""
    if tag.get("hf_hub"):
        repo, _, name = tag["hf_hub"].rpartition("/")
        names = (f"{Path(name).stem}.safetensors", name) if name else WEIGHTS_NAMES[:2]
        return download(key, weights, repo, names)
    try:
        with quiet():
            return Path(import_open_clip(key).download_pretrained(tag))
    except Exception as error:  # of urllib and the file system
        raise not_here(key, weights, error) from error


def _close(name: str, valid: Sequence[str]) -> bool:
    return nearest(name, valid).startswith("Did")


def find_tuned(key: str, weights: str, architecture: str, names: Sequence[str]) -> Place:
    """The place of a tuned CLIP that the one setting KEY.weights names: a file, folder or hub id.

    The open_clip_config.json, or config.json of transformers' CLIPModel, beside the weights says what they are;
    without either they are of the architecture named. names: the files looked for, in that order.
    """
    import_open_clip(key)
    file = find_file(f"{key}.weights", weights, names, CONFIG_NAMES)
    return _described(key, file.parent, file) or Place(key, architecture, file)


def _described(key: str, folder: Path, file: Path) -> Place | None:
    """The place of a file whose architecture a config in the folder gives; None without a config."""
    own, theirs = (folder / name for name in CONFIG_NAMES)
    if own.is_file():
        if "model_cfg" not in read_json(own):
            raise ModelError(f"{own}: has no model_cfg; it is not open_clip's.")
        return Place(key, f"local-dir:{folder}", file, own)
    if theirs.is_file() and read_json(theirs).get("model_type") == "clip":
        return Place(key, "ViT-H-14", file, theirs, json.dumps(_from_transformers_config(theirs)))
    return None


def _from_transformers_config(path: Path) -> dict[str, Any]:
    """open_clip's architecture for the config.json of a transformers CLIPModel."""
    from transformers import CLIPConfig

    try:
        config = CLIPConfig.from_dict(read_json(path))
        vision, text = config.vision_config, config.text_config
        acts = {vision.hidden_act, text.hidden_act}
        if len(acts) > 1 or not acts <= {"gelu", "quick_gelu"}:
            raise ModelError(f"{path}: activations {sorted(acts)}; open_clip knows gelu and quick_gelu, one for both.")
        return {
            "embed_dim": config.projection_dim,
            "quick_gelu": acts == {"quick_gelu"},
            "vision_cfg": {
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "layers": vision.num_hidden_layers,
                "width": vision.hidden_size,
                "head_width": vision.hidden_size // vision.num_attention_heads,
                "mlp_ratio": vision.intermediate_size / vision.hidden_size,
                "norm_kwargs": {"eps": vision.layer_norm_eps},
            },
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": text.vocab_size,
                "layers": text.num_hidden_layers,
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "mlp_ratio": text.intermediate_size / text.hidden_size,
                "norm_kwargs": {"eps": text.layer_norm_eps},
            },
        }
    except LabError:
        raise
    except Exception as error:  # transformers checks configs with a dozen types of errors
        raise ModelError(f"{path}: not the config of a CLIP model ({one_line(error)}).") from error


# What transformers' CLIPModel calls the parts of a tower, and what open_clip does.
_TOWER = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "pre_layrnorm.": "ln_pre.",
    "post_layernorm.": "ln_post.",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".self_attn.": ".attn.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}


def from_transformers(tensors: dict[str, Any]) -> dict[str, Any]:
    """A transformers CLIPModel's tensors under open_clip's names; others come through unchanged.

    Query, key and value become one matrix, and the two projections are transposed. Position ids are left out.
    """
    import torch

    if not any(name.startswith("vision_model.") for name in tensors):
        return tensors
    converted: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if name.endswith(".position_ids"):
            continue
        if name in ("visual_projection.weight", "text_projection.weight"):
            new = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}[name]
            converted[new] = tensor.T
            continue
        new = name
        for theirs, ours in _TOWER.items():
            new = new.replace(theirs, ours)
        new = new.replace("vision_model.", "visual.").replace("text_model.", "")
        if ".attn.k_proj." in new or ".attn.v_proj." in new:
            if name.replace(".k_proj.", ".q_proj.").replace(".v_proj.", ".q_proj.") not in tensors:
                converted[name] = tensor  # reported as unexpected
            continue
        if ".attn.q_proj." in new:
            three = [tensors.get(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
            if any(part is None for part in three):
                converted[name] = tensor
                continue
            tensor, new = torch.cat(three), new.replace("q_proj.", "in_proj_")
        converted[new] = tensor
    return converted


class OpenClipModel:
    """A loaded model with its preprocessing and tokenizer. max_tokens: of a prompt, start and end marks included."""

    def __init__(self, model: Any, transform: Any, tokenizer: Any, device: str):
        self.model = model
        self.transform = transform
        self.tokenizer = tokenizer
        self.device = device
        self.max_tokens: int = tokenizer.context_length

    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit vectors of pictures, float32 [n, d]."""
        import torch

        with torch.inference_mode(), enough_memory(len(images), self.device):
            pixels = torch.stack([self.transform(image.convert("RGB")) for image in images]).to(self.device)
            return self.model.encode_image(pixels, normalize=True).float()

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of texts, cut at max_tokens, float32 [n, d]."""
        import torch

        with torch.inference_mode(), enough_memory(len(texts), self.device):
            return self.model.encode_text(self.tokenizer(list(texts)).to(self.device), normalize=True).float()

    def count_tokens(self, text: str) -> int:
        """Tokens of a text before it is cut, start and end marks included."""
        if hasattr(self.tokenizer, "encode"):
            return len(self.tokenizer.encode(text)) + 2
        return len(self.tokenizer.tokenizer(self.tokenizer.clean_fn(text)).input_ids)


@cache
def load_open_clip(place: Place, device: str) -> OpenClipModel:
    """The model of a place on a torch device, in float32. Raises ModelError when weights or tokenizer do not fit."""
    open_clip = import_open_clip(place.key)
    tensors = from_transformers(read_tensors(place.weights))
    try:
        with quiet():
            model = open_clip.create_model(
                place.name, load_weights=False, pretrained_text=False,
                force_preprocess_cfg=json.loads(place.preprocess), **json.loads(place.changes),
            )  # fmt: skip
            tensors = _fit_names(model, tensors)
    except LabError:
        raise
    except Exception as error:  # a config that does not fit fails in as many ways as there are modules
        raise ModelError(f"{place.key}: {place.name} cannot be built ({one_line(error)}).") from error
    fill(model, tensors, place.weights)
    text = (open_clip.get_model_config(place.name) | json.loads(place.changes))["text_cfg"]
    more: dict[str, Any] = {"context_length": text.get("context_length")}
    if text.get("hf_tokenizer_name"):
        more["trust_remote_code"] = False  # whatever the config of a folder says
    try:
        with quiet():
            tokenizer = open_clip.get_tokenizer(place.name, **more)
    except Exception as error:  # transformers' own, and the hub's
        raise ModelError(
            f"{place.key}.model={place.name}: its tokenizer is not on this machine and could not be downloaded "
            f"({one_line(error, 160)}). A folder with tokenizer, weights and open_clip_config.json has it: "
            f"{place.key}.model=local-dir:/path/to/it."
        ) from error
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return OpenClipModel(model.to(device), transform, tokenizer, device)


def _fit_names(model: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Tensors under the names of this model: older files keep the text tower at the top and scalars as vectors."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = convert_state_dict(model, dict(tensors))
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        wanted = getattr(model, name, None)
        if name in tensors and wanted is not None and tensors[name].numel() == wanted.numel():
            tensors[name] = tensors[name].reshape(wanted.shape)
    tensors.pop("text.transformer.embeddings.position_ids", None)
    return tensors
