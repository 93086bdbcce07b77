"""Intervals over images: how much a score would move if other images of the same kind had been drawn.

Every score of one evaluation is resampled with the same draws, so a difference of two scores is paired: what both
methods get right or wrong together cancels out. The share of a few images has Wilson's interval instead. The intervals
do not say how much another training seed would move.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from famcli.results.schema import Number
from famcli_models.boxes import FloatArray
from famcli_models.errors import ConfigError, ShapeError

RESAMPLES, SEED, LEVEL = 1000, 0, 0.95

_BLOCK = 4096  # images turned into floats at once: 32 MB of weights and, at 1,000 columns, 32 MB of values


class Bootstrap:
    """Resamples of ``n`` images with replacement, drawn once from ``seed``; memory is ``resamples × n`` bytes."""

    def __init__(self, n: int, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        if n < 1 or resamples < 1:
            raise ConfigError(f"a bootstrap of {n} images in {resamples} resamples says nothing; both are 1 or more")
        self.n, self.resamples, self.seed = n, resamples, seed
        draw = np.random.default_rng(seed)
        # A count follows Poisson's law of mean 1, so that 255 is never reached: a byte is enough.
        self._counts = np.empty((resamples, n), np.uint8)
        for row in self._counts:
            row[:] = np.bincount(draw.integers(0, n, n), minlength=n)

    def means(self, values: npt.ArrayLike) -> FloatArray:
        """Means ``(resamples, m)`` over the images of each resample, of ``(n, m)`` numbers, bytes or booleans.

        Where a threshold is an oracle's, its choice is part of what is resampled: take the maximum over the columns
        of the result, one column a threshold.
        """
        array = np.asarray(values)
        if array.ndim != 2 or len(array) != self.n:
            raise ShapeError(f"values have shape {array.shape}; expected ({self.n}, m), one row for each image")
        sums: FloatArray = np.zeros((self.resamples, array.shape[1]))
        for start in range(0, self.n, _BLOCK):
            block = slice(start, start + _BLOCK)
            sums += self._counts[:, block].astype(np.float64) @ array[block].astype(np.float64)
        sums /= self.n
        return sums

    def number(self, value: float, resampled: FloatArray) -> Number:
        """A share, and its values ``(R,)`` in the resamples, as percent with an interval."""
        low, high = self.interval(resampled)
        return Number(100 * float(value), 100 * low, 100 * high)

    def interval(self, resampled: npt.ArrayLike, level: float = LEVEL) -> tuple[float, float]:
        """Percentile interval, with a share of ``level`` inside, of a resampled quantity ``(R,)``."""
        if not 0 < level < 1:
            raise ConfigError(f"the level of an interval is {level:g}; it must lie between 0 and 1, and 0.95 is usual")
        low, high = np.quantile(np.asarray(resampled, dtype=np.float64), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def wilson(right: npt.NDArray[np.bool_], level: float = LEVEL) -> Number:
    """The share of ``right`` images ``(n,)``, n > 0, in percent, with Wilson's interval: of few images a wide one.

    A bootstrap of images that are all right, or all wrong, would have none.
    """
    n, share, z = len(right), float(right.mean()), NormalDist().inv_cdf((1 + level) / 2)
    middle, half = share + z**2 / (2 * n), z * sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = (min(max(end / (1 + z**2 / n), 0), 1) for end in (middle - half, middle + half))
    return Number(100 * share, 100 * low, 100 * high)
