"""Labels to what networks see, and back: both in double precision, on the host.

Energies of all-electron codes are -1e5 eV and differ by meV, which float32 does not resolve; standardised, they fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Scale(Protocol):
    """Mean and spread of a label over the training part, in its unit."""

    @property
    def mean(self) -> float: ...  # noqa: D102

    @property
    def std(self) -> float: ...  # noqa: D102


def standardise(values: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """(value - mean) / std for [..., S] values in their units, NaN where absent; [..., S] float32."""
    mean, std = _mean_and_std(scales)
    return ((np.asarray(values, np.float64) - mean) / std).astype(np.float32)


def in_units(values: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """Inverse of `standardise`; [..., S] float64."""
    mean, std = _mean_and_std(scales)
    return np.asarray(values, np.float64) * std + mean


def _mean_and_std(scales: Sequence[Scale]) -> tuple[np.ndarray, np.ndarray]:
    mean, std = ([getattr(scale, part) for scale in scales] for part in ("mean", "std"))
    return np.array(mean, np.float64), np.array(std, np.float64)
