"""Can the asked words be read in the picture? By RapidOCR, whose networks come inside its package: nothing to fetch.

Elements of a prompt with the tag `text` hold the exact words. Only whether they are there is scored: not where, not
how they look, and not what else is written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ConfigError, one_line
from llm_dit.metrics.base import Metric, Sample, Score
from llm_dit.metrics.weights import describe, files_hash

if TYPE_CHECKING:
    from PIL import Image

TAG = "text"


class Ocr(Metric):
    """1 - edit distance of the asked words and the best matching ones that are read, over the longer's length.

    Mean over the prompt's texts, 0 to 1; ocr_exact is 1.0 when all of them are read letter for letter, else 0.0.
    Case and spaces do not count: the reader often loses spaces. None for a prompt that asks for no text.
    """

    name = "ocr"

    @cached_property
    def package(self) -> Path:
        """Where RapidOCR is installed. Raises ConfigError, which says how to install it."""
        try:
            import rapidocr_onnxruntime
        except ImportError as error:
            needs = " on Python below 3.13, for which its engine is made" if sys.version_info >= (3, 13) else ""
            raise ConfigError(
                f"metrics.ocr: needs RapidOCR, which is not installed ({one_line(error, 100)}). "
                f"`uv sync --extra ocr` installs it{needs}."
            ) from error
        return Path(rapidocr_onnxruntime.__file__).parent

    @cached_property
    def identity(self) -> str:
        weights = files_hash(*sorted(self.package.glob("models/*.onnx")))
        return describe(self.name, self.version, rapidocr=version("rapidocr-onnxruntime"), sha256=weights)

    @cached_property
    def reader(self) -> Any:
        """RapidOCR on the CPU, with its own networks."""
        assert self.package
        from rapidocr_onnxruntime import RapidOCR

        return RapidOCR()

    def read(self, image: Image.Image) -> list[str]:
        """The lines that are read in a picture, from top to bottom."""
        import numpy as np

        # The package reads colours in OpenCV's order.
        lines, _ = self.reader(np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1]))
        return [text for _, text, _ in lines or []]

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample: {ocr, ocr_exact}. Pictures whose prompt asks for no text are not read."""
        scores = []
        for sample in samples:
            asked = [element.value for element in sample.elements if element.tag == TAG]
            if not asked:
                scores.append(Score({self.name: None, f"{self.name}_exact": None}))
                continue
            lines = self.read(sample.image)
            found = [best_match(text, lines) for text in asked]
            scores.append(
                Score({self.name: sum(found) / len(found), f"{self.name}_exact": float(all(v == 1 for v in found))})
            )
        return scores


def best_match(asked: str, lines: Sequence[str]) -> float:
    """How much of the asked words is read, 0 to 1: of all runs of words that stand together, the most similar.

    Runs go on over the ends of lines. Similarity is 1 - edit distance / the longer's length, of folded texts.
    """
    wanted = fold(asked)
    if not wanted:
        return 1.0
    words = [folded for line in lines for word in line.split() if (folded := fold(word))]
    best = 0.0
    for start in range(len(words)):
        run = ""
        for word in words[start:]:
            run += word
            best = max(best, 1 - edit_distance(wanted, run) / max(len(wanted), len(run)))
            if len(run) >= 2 * len(wanted):  # anything longer is at most half as long a match
                break
    return best


def fold(text: str) -> str:
    """Lower case without white space, in one form where Unicode has several."""
    import unicodedata

    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's: the fewest letters to insert, delete or replace."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        above, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]
