"""Parameters of the pictures and captions that training reads."""

from __future__ import annotations

from dataclasses import dataclass

from llm_dit.config.rule import Group, param


@dataclass
class DataConfig(Group):
    """Pictures and captions to train on; data=PATH sets data.path. docs/training_data.md"""

    path: str | None = param(
        None,
        "A .jsonl, .json, .csv or .tsv file of rows, a folder of pictures with captions beside them, or .tar shards "
        "(one, or several as 'shards/*.tar').",
        image=False,
        place=True,
    )
    images: str | None = param(
        None,
        "Folder that the rows' picture names are relative to and must lie in; null takes the folder of data.path.",
        image=False,
        place=True,
    )
    caption_lines: bool = param(
        True,
        "Each line of a .txt or .caption file is a phrasing of its own, which visits take in turn; false takes the "
        "file as one caption.",
        image=False,
    )
    size: int | None = param(
        None,
        "Pictures have at most size x size pixels after they are cut to their bucket; null takes model.trained_size.",
        image=False, ge=16, le=8192, multiple_of=16,
    )  # fmt: skip
    buckets: bool = param(
        True, "Cut each picture to the nearest of several shapes; false cuts all to squares.", image=False
    )
    bad_rows: str = param(
        "skip",
        "Rows that cannot be used: skip lists them and goes on, fatal lists them and stops.",
        image=False, choices=("skip", "fatal"),
    )  # fmt: skip
    flip: bool = param(
        False, "Mirror every second visit at random; not for captions that say left or right.", image=False
    )
    repeat: int = param(1, "Visits of each row in an epoch.", image=False, ge=1, le=10_000)
    posterior: str = param(
        "mode",
        "Latents are the middle of what the VAE says of a picture, or one sample of it that the picture's content "
        "seeds.",
        image=False, choices=("mode", "sample"),
    )  # fmt: skip
    cache: str | None = param(
        "outputs/cache", "Folder that keeps latents and embeddings for the next run; null keeps them in memory.",
        image=False, place=True,
    )  # fmt: skip
    cache_dtype: str = param(
        "float16",
        "Numbers in the cache; bfloat16 for embeddings that float16 cannot hold, float32 for no rounding.",
        image=False, choices=("float16", "bfloat16", "float32"),
    )  # fmt: skip
