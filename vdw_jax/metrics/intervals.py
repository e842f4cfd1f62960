"""Confidence intervals by the bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
_BLOCK = 2_000_000


def mean_interval(values: Sequence[float] | NDArray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a mean over independent values, such as a share over verdicts.

    Args:
      values: [n] numbers or truth values; those that are NaN are left out.
      seed: of the resampling.

    Returns:
      low and high; NaN without values.
    """
    kept = np.asarray(values, dtype=float)
    kept = kept[~np.isnan(kept)]
    if len(kept) == 0:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(kept))
    means = np.concatenate([
        kept[random.integers(0, len(kept), (min(rows, RESAMPLES - start), len(kept)))].mean(1)
        for start in range(0, RESAMPLES, rows)
    ])  # fmt: skip
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def distance_interval(
    statistic: Callable[[NDArray], float], values: Sequence[float] | NDArray, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a distance from a sample to something fixed: 1.96 bootstrap standard errors, from 0 up.

    Resampling makes a distance larger, never smaller, so its percentiles would not hold the distance itself.

    Args:
      statistic: from a sample [n] to its distance.
      values: [n], the sample.
      seed: of the resampling.

    Returns:
      low and high; NaN without values.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) == 0:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    found = [statistic(sample[random.integers(0, len(sample), len(sample))]) for _ in range(RESAMPLES)]
    half = 1.959964 * float(np.std(found, ddof=1))
    value = statistic(sample)
    return max(0.0, value - half), value + half
