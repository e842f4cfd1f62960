"""Mean and spread of labels, as networks are shown them: (value - mean) / spread."""

from __future__ import annotations

import numpy as np

_LEAST_SPREAD = 1e-6
_ROUNDING = 1e-12


def mean_and_spread(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of what is finite among the values, in double precision.

    All-electron energies are -1e5 eV and differ by meV, which float32 does not resolve. Equal values get a spread of
    1e-6, or of 1e-12 of their mean where that is more: what they differ by is the rounding of the mean.

    Args:
        values: any shape and real type; at least one is finite.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    mean, spread = float(known.mean()), float(known.std())
    rounding = _ROUNDING * abs(mean)
    return mean, spread if spread > rounding else max(_LEAST_SPREAD, rounding)
