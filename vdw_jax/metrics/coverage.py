"""How much of a set of crystals another set covers: COV-R and COV-P (Xie et al., ICLR 2022, appendix G).

A reference crystal is covered (recall) if some generated crystal lies within the structure threshold and some generated
crystal, not always the same, within the composition threshold; a generated crystal (precision) the other way round.
That is how the published code of CDVAE has it. Generated crystals without a fingerprint count as not covered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

STRUCTURE_THRESHOLD = 0.4
COMPOSITION_THRESHOLD = 10.0
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Coverage:
    """Which crystals are covered."""

    recalled: NDArray[np.bool_]  # [m], of the reference
    precise: NDArray[np.bool_]  # [n], of the generated ones

    @property
    def recall(self) -> float:
        """COV-R, between 0 and 1."""
        return float(self.recalled.mean())

    @property
    def precision(self) -> float:
        """COV-P, between 0 and 1."""
        return float(self.precise.mean())


def coverage(
    generated: tuple[NDArray, NDArray],
    reference: tuple[NDArray, NDArray],
    structure_threshold: float = STRUCTURE_THRESHOLD,
    composition_threshold: float = COMPOSITION_THRESHOLD,
) -> Coverage:
    """Coverage from fingerprints (`fingerprints.structure_fingerprint`, `composition_fingerprint`).

    Args:
      generated: structure [n, 61] and composition [n, 132]; a row of NaN in either has no fingerprint.
      reference: as generated, [m, 61] and [m, 132]; rows of NaN are left out.
      structure_threshold: largest Euclidean distance, inclusive.
      composition_threshold: as above.

    Raises:
      ValueError: no generated crystal at all, or no reference crystal with a fingerprint.
    """
    if len(generated[0]) == 0:
        raise ValueError("coverage needs at least one generated crystal")
    known, wanted = _complete(generated), _complete(reference)
    if not wanted.any():
        raise ValueError("no reference crystal has a fingerprint")
    precise, recalled = np.zeros(len(known), bool), np.ones(int(wanted.sum()), bool)
    if not known.any():
        return Coverage(np.zeros_like(recalled), precise)
    near = np.ones(int(known.sum()), bool)
    limits = (structure_threshold, composition_threshold)
    for made, true, limit in zip(generated, reference, limits, strict=True):
        to_reference, to_generated = _nearest(made[known], true[wanted])
        near &= to_reference <= limit
        recalled &= to_generated <= limit
    precise[known] = near
    return Coverage(recalled, precise)


def _complete(fingerprints: tuple[NDArray, NDArray]) -> NDArray[np.bool_]:
    return np.isfinite(fingerprints[0]).all(1) & np.isfinite(fingerprints[1]).all(1)


def _nearest(first: NDArray, second: NDArray) -> tuple[NDArray, NDArray]:
    """Distance of each row to the nearest row of the other: [n] and [m]; in blocks, to spare memory."""
    there, back = np.empty(len(first)), np.full(len(second), np.inf)
    for start in range(0, len(first), _BLOCK):
        distances = cdist(first[start : start + _BLOCK], second)
        there[start : start + _BLOCK] = distances.min(1)
        back = np.minimum(back, distances.min(0))
    return there, back
