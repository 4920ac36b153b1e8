"""Where a model's files are: shipped in this package, in a folder in diffusers' layout, or on the hub.

Only finding and downloading; load.py turns the files into modules.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from llm_dit.errors import ModelError, nearest

SHIPPED = Path(__file__).resolve().parent
HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")


def component_folder(path: str, component: str, revision: str | None = None) -> Path:
    """The folder of one component (transformer, vae, text_encoder, tokenizer, scheduler) of a model.

    path: shipped:NAME, a folder in diffusers' layout, or a hub id, of which only that component is downloaded.
    Raises ModelError when it is not there.
    """
    if path.startswith("shipped:"):
        root = SHIPPED / path.removeprefix("shipped:")
        if not (root / "transformer").is_dir():
            shipped = [p.parent.name for p in SHIPPED.glob("*/transformer")]
            raise ModelError(f"model.path={path}: no such shipped model. {nearest(root.name, shipped)}")
    else:
        root = Path(path).expanduser()
        if not root.is_dir():
            if root.exists():
                raise ModelError(
                    f"model.path={path}: a file, not a model folder. A single transformer file goes into model.transformer_file."
                )
            if not HUB_ID.match(path):
                raise ModelError(f"model.path={path}: there is no such folder, and it is not a hub id (owner/name).")
            root = _download(path, component, revision)
    folder = root / component
    if not folder.is_dir():
        there = sorted(p.name for p in root.iterdir() if p.is_dir())
        raise ModelError(
            f"{root}: no '{component}' folder in it (found: {', '.join(there) or 'nothing'}); "
            "a model folder holds transformer, vae, text_encoder, tokenizer and scheduler, as diffusers saves it."
        )
    return folder


def _download(repo: str, component: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=[f"{component}/*", "model_index.json"]))
    except (OSError, LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model.path={repo}: no folder of that name here, and it could not be fetched from the hub ({reason[:160]}). "
            "Give the folder of a downloaded model: model.path=/path/to/model."
        ) from error


def read_json(path: Path) -> dict:
    """A JSON file of a model folder. Raises ModelError when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}).") from error
