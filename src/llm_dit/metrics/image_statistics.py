"""What can be measured on a picture's pixels alone, at its own size: sharpness, entropy, and whether it is empty.

They say nothing of the prompt. Grey is ITU-R 601 luma, 0.299 R + 0.587 G + 0.114 B.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llm_dit.metrics.base import Metric, Sample, Score
from llm_dit.metrics.weights import describe

if TYPE_CHECKING:
    from PIL import Image

# A pixel is of the picture's one colour when no channel is further from the median colour than this, of 255.
NEAR = 8
# A picture is of one colour when more than this share of its pixels is.
UNIFORM_SHARE = 0.995


class _Statistic(Metric):
    """A number of the pixels; no weights, no device, no batches."""

    @cached_property
    def identity(self) -> str:
        return describe(self.name, self.version)

    @abstractmethod
    def measure(self, pixels: Any) -> float:
        """The number of uint8 pixels [height, width, 3]."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample: {name: value}."""
        return [Score({self.name: self.measure(to_array(sample.image))}) for sample in samples]


class Sharpness(_Statistic):
    """Variance of the Laplacian (kernel 0 1 0, 1 -4 1, 0 1 0; interior pixels) of the grey picture, grey from 0 to 1.

    0 for a plain picture, 16 for chequers of single pixels, the most there is. Noise and hard edges raise it as detail
    does, and it falls when the same picture is drawn larger: compare pictures of one size alone.
    """

    name = "sharpness"

    def measure(self, pixels: Any) -> float:
        grey = to_grey(pixels) / 255
        if min(grey.shape) < 3:
            return 0.0
        inner = grey[1:-1, 1:-1]
        return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner).var())


class Entropy(_Statistic):
    """Shannon entropy of the grey values in 256 bins, in bits: 0 for a plain picture, 8 when all are equally common."""

    name = "entropy"

    def measure(self, pixels: Any) -> float:
        import numpy as np

        counts = np.bincount(np.rint(to_grey(pixels)).astype(int).ravel(), minlength=256)
        shares = counts[counts > 0] / counts.sum()
        return float(0.0 - (shares * np.log2(shares)).sum())


class Uniform(_Statistic):
    """1.0 for a picture that is nearly one colour, as a broken run draws, else 0.0.

    That is: more than 99.5 % of the pixels are within 8 of 255, in each channel, of the channels' medians.
    """

    name = "uniform"

    def measure(self, pixels: Any) -> float:
        import numpy as np

        values = pixels.reshape(-1, 3).astype(float)
        near = (np.abs(values - np.median(values, axis=0)) <= NEAR).all(axis=1)
        return float(near.mean() > UNIFORM_SHARE)


def to_array(image: Image.Image) -> Any:
    """A picture's pixels, uint8 [height, width, 3]."""
    import numpy as np

    return np.asarray(image.convert("RGB"))


def to_grey(pixels: Any) -> Any:
    """Luma of uint8 pixels [height, width, 3]: float64 [height, width], 0 to 255."""
    import numpy as np

    return pixels @ np.array([0.299, 0.587, 0.114])
