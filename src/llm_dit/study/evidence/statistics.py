"""The statistics of paired comparisons: intervals, tests, corrections. Arrays in, arrays out; no files, no config.

The unit of inference is the prompt: every sample here is one number a prompt, already averaged over its seeds.
Samples are columns: (n,) for one comparison or (n, k) for k of them over the same n prompts, done at once. Resampling
is seeded by the sample's size, so that the same numbers give the same report. What each number means to a reader is
in docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

ALPHA = 0.05  # of the family of comparisons on the primary metric, and of every interval
FALSE_DISCOVERY_RATE = 0.10  # of the exploratory comparisons
POWER = 0.80
MIN_PROMPTS = 20  # below, no p-value is given
FEW = 8  # prompts below which intervals are Student's: resamples of so few values cannot show how they are spread
MDE_FACTOR = 2.8  # z(1 - ALPHA / 2) + z(POWER) = 1.960 + 0.842
EXACT = 14  # up to so many prompts, all 2^n sign flips are made
RESAMPLES = 10_000
FLIPS = 10_000  # fewest random sign flips, however few resamples an interval is made of
HEADROOM = 20  # how far below the strictest step of a correction the smallest p that flips can give has to be
_ROWS = 2_000  # resamples turned from bytes to numbers at a time
_CELLS = 4_000_000  # largest array of resampled means held at a time


def mean_interval(values: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """95 % interval of the mean over prompts: (2,) for (n,), (2, k) for (n, k); NaN under 2 prompts.

    Under FEW prompts Student's t: the bootstrap's interval covers the mean of 2, 3, 5 normal values in 50, 75, 91 % of
    studies only. From there on the BCa bootstrap, which follows a skew (Efron and Tibshirani 1993, chapter 14), with
    the normal quantile widened to sqrt(n / (n - 1)) t(n - 1), without which the interval of few prompts is too short
    (Hesterberg 2015, "expanded percentile"). Where the bias is not finite or the acceleration turns the quantiles
    round, the expanded percentile interval itself.
    """
    columns = _columns(values)
    n, k = columns.shape
    if n < 2:
        return np.full((2, *np.shape(values)[1:]), np.nan)
    if n < FEW:
        columns, scale = _scaled(columns)
        half = _student(n - 1) * _standard_errors(columns)
        return ((columns.mean(axis=0) + np.stack([-half, half])) * scale).reshape(2, *np.shape(values)[1:])
    step = max(1, _CELLS // resamples)
    found = [_bca(columns[:, i : i + step], resamples) for i in range(0, k, step)]
    return np.concatenate(found, axis=1).reshape(2, *np.shape(values)[1:])


def unpaired_interval(a: np.ndarray, b: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % interval of mean(a) - mean(b) as if the prompts of a (n,) and b (m,) were strangers; NaN under 2 prompts.

    Expanded percentile bootstrap, each side resampled by itself; Welch's t where a side has under FEW prompts. Beside
    the paired interval it shows what pairing won.
    """
    n = min(len(a), len(b))
    if n < 2:
        return float("nan"), float("nan")
    whole, scale = _scaled(np.concatenate([a, b])[:, None])
    mine, theirs = whole[: len(a)], whole[len(a) :]
    if n < FEW:
        errors = np.array([_standard_errors(side)[0] ** 2 for side in (mine, theirs)])
        freedom = errors.sum() ** 2 / (errors**2 / [len(a) - 1, len(b) - 1]).sum() if errors.any() else 1.0
        half = _student(freedom) * np.sqrt(errors.sum())
        middle = mine.mean() - theirs.mean()
        return float((middle - half) * scale[0]), float((middle + half) * scale[0])
    boots = _boot_means(mine, resamples, 0) - _boot_means(theirs, resamples, 1)
    boots.sort(axis=0)
    tails = np.array([[-1.0], [1.0]]) * _widened(n)
    low, high = (_at_quantiles(boots, _normal_cdf(tails))[:, 0] + mine.mean() - theirs.mean()) * scale
    return float(low), float(high)


def enough_flips(tests: int, asked: int = FLIPS) -> int:
    """Random sign flips for a family of so many tests: p is at least 1 / (1 + flips), which a correction must not hide.

    asked: as many at least.
    """
    return max(asked, FLIPS, math.ceil(HEADROOM * tests / ALPHA))


def sign_flip_p(values: np.ndarray, flips: int = FLIPS) -> np.ndarray:
    """Two-sided p of "the differences are symmetric about 0", by flipping their signs: () for (n,), (k,) for (n, k).

    The statistic is |mean|. All 2^n flips up to n = EXACT, where p is exact; else `flips` random ones and
    p = (1 + hits) / (1 + flips), which is never 0 and never too small (Phipson and Smyth 2010). NaN without values.
    """
    columns = _columns(values)
    n, k = columns.shape
    if n == 0:
        return np.full(np.shape(values)[1:], np.nan)
    # Sums that are equal on paper differ in their last digits; a flip as large as the data must count.
    columns = _scaled(columns)[0]
    seen = np.abs(columns.sum(axis=0)) - 1e-5 * np.abs(columns).sum(axis=0)
    hits = np.zeros(k)
    step = max(1, _CELLS // _ROWS)
    total = 0
    for signs in _signs(n, flips):
        total += len(signs)
        for i in range(0, k, step):
            part = slice(i, i + step)
            flipped = signs @ columns[:, part].astype(np.float32)
            hits[part] += np.count_nonzero(np.abs(flipped) >= seen[part].astype(np.float32), axis=0)
    p = hits / total if n <= EXACT else (1 + hits) / (1 + total)
    return p.reshape(np.shape(values)[1:])


def wilcoxon_p(values: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed ranks for (n,), zeros left out; 1 when all are 0, NaN without values."""
    from scipy.stats import wilcoxon

    if len(values) == 0:
        return float("nan")
    return float(wilcoxon(values).pvalue) if np.any(values) else 1.0


def holm(ps: Sequence[float]) -> np.ndarray:
    """p-values with Holm's correction over the family they make; NaN stays NaN and does not count."""
    return _adjusted(ps, "holm")


def benjamini_hochberg(ps: Sequence[float]) -> np.ndarray:
    """p-values adjusted to a false discovery rate (Benjamini and Hochberg 1995); NaN stays NaN and does not count."""
    return _adjusted(ps, "fdr_bh")


def win_counts(values: np.ndarray, epsilon: float, sign: int = 1) -> tuple[int, int, int]:
    """(wins, ties, losses) of differences (n,): a tie is |d| <= epsilon. sign: -1 where lower is better."""
    wins = int(np.count_nonzero(sign * values > epsilon))
    losses = int(np.count_nonzero(sign * values < -epsilon))
    return wins, len(values) - wins - losses, losses


def win_rate(wins: int, ties: int, losses: int) -> tuple[float, tuple[float, float]]:
    """(wins + ties / 2) / n and its 95 % interval (Wilson 1927); NaN for none."""
    from scipy.special import ndtri

    n = wins + ties + losses
    if n == 0:
        return float("nan"), (float("nan"), float("nan"))
    z = float(ndtri(1 - ALPHA / 2))
    rate = (wins + ties / 2) / n
    middle = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return rate, (max(0.0, middle - half), min(1.0, middle + half))


def detectable(sd: float, n: int, comparisons: int = 1) -> float:
    """The mean difference that n prompts with this sd of differences show in 80 % of studies. NaN when sd is 0.

    2.8 sd / sqrt(n) for one test at 5 %; with more comparisons the factor is that of Holm's strictest step.
    """
    if n < 2 or not sd > 0:
        return float("nan")
    return float(_mde_factor(comparisons) * sd / np.sqrt(n))


def prompts_needed(sd: float, delta: float, comparisons: int = 1) -> int | None:
    """The fewest prompts of which a mean difference delta is detectable, at least MIN_PROMPTS.

    None when that cannot be known: without a difference, or an sd of differences from fewer than 2 prompts.
    """
    if not math.isfinite(sd) or not math.isfinite(delta) or delta == 0:
        return None
    return max(MIN_PROMPTS, math.ceil((_mde_factor(comparisons) * sd / delta) ** 2 - 1e-9))


def _mde_factor(comparisons: int) -> float:
    """What the standard error is multiplied with for the smallest detectable effect."""
    from scipy.special import ndtri

    return MDE_FACTOR if comparisons <= 1 else float(ndtri(1 - ALPHA / 2 / comparisons) + ndtri(POWER))


def spread(values: np.ndarray) -> float:
    """Standard deviation with n - 1; NaN under 2 values, and exactly 0 when all values are equal."""
    if len(values) < 2:
        return float("nan")
    return float(np.std(values, ddof=1)) if np.ptp(values) > 1e-12 * np.abs(values).max() else 0.0


def _bca(columns: np.ndarray, resamples: int) -> np.ndarray:
    """mean_interval of a block of columns that fits into memory."""
    from scipy.special import ndtri

    n = len(columns)
    columns, scale = _scaled(columns)
    mean = columns.mean(axis=0)
    centred = columns - mean
    boots = _boot_means(columns, resamples)
    tie = 1e-5 * np.abs(centred).mean(axis=0).astype(np.float32)
    below = np.count_nonzero(boots < -tie, axis=0) + 0.5 * np.count_nonzero(np.abs(boots) <= tie, axis=0)
    boots.sort(axis=0)
    squares = (centred**2).sum(axis=0)
    tails = np.array([[-1.0], [1.0]]) * _widened(n)
    with np.errstate(all="ignore"):
        bias = ndtri(below / resamples)
        acceleration = (centred**3).sum(axis=0) / (6 * squares**1.5)
        bent = 1 - acceleration * (bias + tails)
        moved = bias + (bias + tails) / bent
    sound = np.isfinite(moved).all(axis=0) & (bent > 0).all(axis=0) & (moved[0] < moved[1])
    ends = mean + _at_quantiles(boots, _normal_cdf(np.where(sound, moved, tails)))
    ends = np.where(np.abs(ends) < 1e-6 * np.abs(columns).mean(axis=0), 0.0, ends)  # 0 but for float32's rounding
    return np.where(squares > 0, ends, mean) * scale


def _boot_means(columns: np.ndarray, resamples: int, stream: int = 0) -> np.ndarray:
    """Means of resampled prompts minus the mean, (resamples, k), float32: of centred values that is precise enough."""
    centred = (columns - columns.mean(axis=0)).astype(np.float32)
    counts = _counts(len(columns), resamples, stream)
    parts = [counts[i : i + _ROWS].astype(np.float32) @ centred for i in range(0, resamples, _ROWS)]
    return np.concatenate(parts) / np.float32(len(columns))


@lru_cache(maxsize=16)
def _counts(n: int, resamples: int, stream: int) -> np.ndarray:
    """How often each of n prompts is in each resample, (resamples, n), as bytes: more than 255 does not happen."""
    generator = np.random.default_rng([n, resamples, stream])
    counts = np.empty((resamples, n), dtype=np.uint8)
    for start in range(0, resamples, _ROWS):
        rows = min(_ROWS, resamples - start)
        drawn = generator.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
    return counts


def _signs(n: int, flips: int) -> Iterator[np.ndarray]:
    """All sign flips of up to EXACT prompts, else random ones, in blocks of rows of -1 and 1: (rows, n), float32."""
    exact = n <= EXACT
    total = 2**n if exact else flips
    generator = np.random.default_rng([n, flips, 2])
    for start in range(0, total, _ROWS):
        rows = min(_ROWS, total - start)
        if exact:
            ones = np.arange(start, start + rows)[:, None] >> np.arange(n) & 1
        else:
            ones = generator.integers(2, size=(rows, n), dtype=np.int8)
        yield 2 * ones.astype(np.float32) - 1


def _at_quantiles(ordered: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Each column's values at its own quantiles (2, k), between neighbours by proportion. ordered: (resamples, k)."""
    place = np.clip(quantiles, 0, 1) * (len(ordered) - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(ordered) - 1)
    each = np.arange(ordered.shape[1])
    return ordered[low, each] * (1 - (place - low)) + ordered[high, each] * (place - low)


def _widened(n: int) -> float:
    """The normal quantile of a 95 % interval, widened for a mean of n values."""
    return float(np.sqrt(n / (n - 1))) * _student(n - 1)


def _student(freedom: float) -> float:
    """The quantile of Student's t for a 95 % interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - ALPHA / 2))


def _standard_errors(columns: np.ndarray) -> np.ndarray:
    """Of the mean of each column, (k,): 0 where all values are equal but for rounding."""
    return np.array([spread(column) for column in columns.T]) / np.sqrt(len(columns))


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(z)


def _columns(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values[:, None] if values.ndim == 1 else values


def _scaled(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of at most 1 in size, which float32 holds whatever a metric's unit, and what to multiply by: (k,)."""
    largest = np.abs(columns).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0)
    return columns / scale, scale


def _adjusted(ps: Sequence[float], method: str) -> np.ndarray:
    from statsmodels.stats.multitest import multipletests

    ps = np.asarray(ps, dtype=float)
    known = np.isfinite(ps)
    adjusted = np.full(ps.shape, np.nan)
    if known.any():
        adjusted[known] = multipletests(ps[known], method=method)[1]
    return adjusted
