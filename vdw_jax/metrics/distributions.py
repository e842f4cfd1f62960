"""Distances between the distributions of a property in generated and in real crystals.

The paper compares density and number of elements by Wasserstein distance, on 1,000 valid samples
(after CDVAE, Xie et al., ICLR 2022, section 5.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element
from scipy.stats import wasserstein_distance as scipy_wasserstein

GRAM_PER_CM3 = 1.66053906892
"""One atomic mass unit in one cubic Angstrom, in g/cm^3 (CODATA 2022)."""


def density_g_cm3(atomic_numbers: NDArray, cell: NDArray, height_angstrom: float | None = None) -> float:
    """Mass density.

    Without `height_angstrom` the volume is the cell's, **vacuum included**: that is what the published
    code computes, and for a slab it says as much about the vacuum as about the material. Two sets of
    slabs may be compared that way only if their cells hold the same vacuum. With `height_angstrom` the
    volume is the area of a x b times that height (`slab_height` gives one), which needs no vacuum.

    Args:
      atomic_numbers: [n] int.
      cell: [3, 3] rows a, b, c, Angstrom.
      height_angstrom: thickness to count instead of c.

    Raises:
      ValueError: the volume is zero or not finite, or an atomic number is unknown.
    """
    cell = np.asarray(cell, dtype=float)
    elements = [Element.from_Z(int(number)) for number in np.asarray(atomic_numbers).ravel()]
    mass = sum(float(element.atomic_mass) for element in elements)
    if height_angstrom is None:
        volume = abs(float(np.linalg.det(cell)))
    else:
        volume = float(np.linalg.norm(np.cross(cell[0], cell[1]))) * height_angstrom
    if not (np.isfinite(volume) and volume > 0):
        raise ValueError(f"volume must be positive and finite, not {volume} cubic Angstrom")
    return GRAM_PER_CM3 * mass / volume


def slab_height(positions: NDArray) -> float:
    """From the lowest to the highest atomic plane of a slab, Angstrom.

    Args:
      positions: [n, 3] Cartesian, Angstrom, the normal along z.
    """
    return float(np.ptp(np.asarray(positions, dtype=float)[:, 2]))


def num_elements(atomic_numbers: NDArray) -> int:
    """How many different elements a crystal has; `atomic_numbers` is [n] int."""
    return len(np.unique(np.asarray(atomic_numbers)))


def wasserstein_distance(generated: Sequence[float] | NDArray, real: Sequence[float] | NDArray) -> float:
    """First Wasserstein distance between two samples, in the unit of the samples.

    Args:
      generated: [n] values.
      real: [m] values; m need not equal n.

    Raises:
      ValueError: a sample is empty or holds a value that is not finite.
    """
    first, second = np.asarray(generated, dtype=float), np.asarray(real, dtype=float)
    for name, values in (("generated", first), ("real", second)):
        if values.size == 0 or not np.isfinite(values).all():
            raise ValueError(f"{name} must hold finite values, at least one")
    return float(scipy_wasserstein(first, second))
