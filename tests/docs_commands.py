"""The commands that README and docs show, and each as a small run of itself that a test can afford.

nano runs a command as it stands, but for what costs time: one step, one prompt, one training step. A command of a real
model runs on the tiny model's folder in that model's place.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

# What is not run here: the words that name it, and why.
NOT_RUN = {
    "hydra/launcher=slurm": "needs Slurm; tests/study/test_launchers.py runs slurm_local and processes",
    "hydra/launcher=ray": "needs Ray; tests/study/test_launchers.py",
    "hydra/launcher=processes": "tests/study/test_launchers.py draws by it",
    "metrics=clip": "needs real weights; tests/metrics scores by tiny ones of the same classes",
    "metrics=siglip": "needs real weights; tests/metrics",
    "metrics=pick_score": "needs real weights; tests/metrics",
    "metrics=vqa": "needs real weights; tests/metrics",
    ".gguf": "needs a GGUF file; tests/models loads one",
    "transformer_file=outputs/train": "needs a training of the real model; tests/train draws by what a training leaves",
    "sweep=z_image": "tests/study/test_studies.py plans every study of a real model",
}
REAL_MODELS = ("z_image", "z_image_turbo")


@dataclass(frozen=True)
class Command:
    """One command of a page: its words behind `run.py`."""

    page: str
    line: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)

    @property
    def why_not(self) -> str | None:
        """Why it is not run, or None."""
        return next((why for words, why in NOT_RUN.items() if words in self.line), None)


def commands() -> list[Command]:
    """Every command of every page, each once, in order."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for block in re.findall(r"```(?:bash|sh|console)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.match(r"\s*(?:uv run experiments/run\.py|llm-dit) (.*)", line)
                if match:
                    found.setdefault(match[1], Command(page.name, match[1]))
    return list(found.values())


def small(command: Command, root: Path) -> list[str]:
    """The command's arguments with its costly settings lowered. root: of make_workplace(), in place of / in paths."""
    words = [re.sub(r"/(models|scratch)/", rf"{root}/\1/", word) for word in command.words]
    if "--help" in words:
        return words
    given = {word.split("=")[0]: word.split("=", 1)[1] for word in words if "=" in word}
    lowered = lowered_settings(words, given, root)
    end = words.index("--") if "--" in words else len(words)
    words, verbatim = words[:end], words[end:]
    kept = [w for w in words if w.split("=")[0] not in lowered or is_axis(w)]
    axes = {w.split("=")[0] for w in kept}
    return [*kept, *(f"{key}={value}" for key, value in lowered.items() if key not in axes), *verbatim]


def lowered_settings(words: list[str], given: dict[str, str], root: Path) -> dict[str, str]:
    """The settings that a test gives in place of the command's."""
    real = {"model.path": str(root / "models" / "Z-Image-Turbo")}
    is_sweep = "-m" in words or "sweep" in given or ("prompts" in given and "task" not in given)
    real_model = given.get("model") in REAL_MODELS
    if is_sweep and real_model:
        return real | {"dry_run": "true"}
    if given.get("sweep", "hidden_layer") != "hidden_layer":
        return {"dry_run": "true", "prompts.count": "1"}  # tests/study/test_studies.py draws them
    if given.get("task") == "train":
        lowered = {"hardware": "cpu", "tracker": "none", "train.steps": "1", "train.batch_size": "2"}
        if "prompts" in given:
            lowered |= {"train.validate_every": "1", "prompts.count": "1", "sampler.steps": "1"}
        if "experiment" in given:
            lowered |= {"train.compile": "false", "train.precision": "no", "train.validate_every": "0"}
        return lowered | (real | {"data.size": "128"} if real_model else {})
    if given.get("task", "render") != "render":
        return {"report.resamples": "200"} if given["task"] in ("report", "score") else {}
    lowered = {"hardware": "cpu", "sampler.steps": "1"}
    if given.get("encoder_layer") == "aligned":
        lowered |= {"encoder_layer.fit_prompts": "starter"}  # 12 prompts to encode in place of 60
    if is_sweep:
        lowered |= {"tracker": "none", "report.resamples": "200"}
    if is_sweep and ("sweep" in given or "prompts" in given):
        lowered |= {"prompts.count": "1"} | ({} if {"seed", "num_images"} & given.keys() else {"seeds": "[0]"})
    if given.get("hydra/sweeper") == "optuna":
        lowered |= {"hydra.sweeper.n_trials": "2"}
    return lowered | (real | {"width": "64", "height": "64"} if real_model else {})


def is_axis(word: str) -> bool:
    """Whether a word gives several values, which a test must not reduce to one."""
    value = word.partition("=")[2]
    return not value.startswith("[") and ("," in value or "(" in value)


def make_workplace(root: Path) -> None:
    """What the pages tell the reader to have: texts, pictures to train on, nano's training data, a real model."""
    import torch

    from llm_dit.encoders.tiny import save_tiny_folder
    from llm_dit.weights.folder import component_folder
    from llm_dit.weights.lora_file import save_lora

    (root / "prompt.txt").write_text("a red apple, 3d style, blue background")
    (root / "story.txt").write_text("a red fox walks past a blue key. " * 60)
    pictures = shutil.copytree(ROOT / "docs" / "examples" / "training", root / "docs" / "examples" / "training")
    write_copies(pictures, root)
    shutil.copytree(component_folder("shipped:nano", "transformer"), root / "assets" / "nano" / "start" / "transformer")
    model = root / "models" / "Z-Image-Turbo"
    save_tiny_folder(model)
    other = shutil.copytree(model / "text_encoder", root / "models" / "other-Qwen3-4B")
    shutil.copytree(model / "tokenizer", other, dirs_exist_ok=True)
    update = (torch.zeros(4, 64), torch.zeros(64, 4), 4.0)
    save_lora(root / "models" / "etching.safetensors", {"layers.0.attention.to_v": update})


def write_copies(pictures: Path, root: Path) -> None:
    """The example pictures as the other layouts that the pages name: a folder with captions beside, and shards."""
    rows = [json.loads(line) for line in (pictures / "captions.jsonl").read_text().splitlines()]
    folder = root / "pictures"
    folder.mkdir()
    for row in rows:
        shutil.copy(pictures / row["image"], folder)
        (folder / row["image"]).with_suffix(".txt").write_text(row["prompt"])
    for shard in ("shards/part-0.tar", "assets/nano/v1/train-000.tar", "assets/nano/v1/unseen_ink-000.tar"):
        (root / shard).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(root / shard, "w") as tar:
            for path in sorted(folder.iterdir()):
                tar.add(path, path.name)
