"""Is a structure possible at all: distances, volume, and charges.

The two tests are those of CDVAE (Xie et al., ICLR 2022, section 5.2), which the paper repeats:
every interatomic distance above 0.5 Angstrom and a volume above 0.1 cubic Angstrom; and a choice of
oxidation states that is neutral while every cation is less electronegative than every anion
(SMACT, Davies et al., Chem 1, 617 (2016)).
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray
from pymatgen.core import Element

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from vdw_jax.types import Periodicity

MIN_DISTANCE_ANGSTROM = 0.5
MIN_VOLUME_ANGSTROM3 = 0.1
MAX_ATOMIC_NUMBER = 118


@dataclass(frozen=True)
class Validity:
    """Outcome of both tests for one crystal."""

    structure: bool
    """All distances above 0.5 Angstrom and volume above 0.1 cubic Angstrom."""
    composition: bool
    """Charge neutral with the Pauling test, or one element, or metals only."""

    @property
    def valid(self) -> bool:
        """Both tests passed."""
        return self.structure and self.composition


def pair_distances(positions: NDArray, cell: NDArray, periodicity: Periodicity) -> NDArray:
    """Shortest distance between each two atoms, on the diagonal between an atom and its nearest image.

    Args:
      positions: [n, 3] Cartesian, Angstrom.
      cell: [3, 3] rows a, b, c, Angstrom.
      periodicity: which rows are periods; the others are ignored.

    Returns:
      [n, n] Angstrom; infinite on the diagonal without periods.

    Raises:
      ValueError: positions or cell are not finite, or the periods are linearly dependent.
    """
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    cell = np.asarray(cell, dtype=float)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError("positions and cell must be finite")
    periodic = np.asarray(periodicity, dtype=bool)
    offsets = positions[None, :, :] - positions[:, None, :]
    images = np.zeros((1, 3))
    if periodic.any():
        periods = cell[periodic]
        lengths = np.linalg.norm(periods, axis=1)
        if np.linalg.matrix_rank(periods / np.maximum(lengths, 1e-12)[:, None], tol=1e-6) < len(periods):
            raise ValueError("the periods of the cell are linearly dependent")
        full = np.where(periodic[:, None], cell, 0.0)
        periods = minkowski_reduce(full, pbc=periodic)[0][periodic]
        # In a Minkowski-reduced cell the images next to the home cell hold the nearest one.
        fractional = offsets @ np.linalg.pinv(periods)
        offsets = offsets - np.round(fractional) @ periods
        steps = np.array(list(itertools.product((-1, 0, 1), repeat=len(periods))))
        images = steps @ periods
    squared = ((offsets[:, :, None, :] + images) ** 2).sum(-1)
    home = int(np.flatnonzero((images == 0).all(-1))[0])
    atoms = np.arange(len(positions))
    squared[atoms, atoms, home] = np.inf
    return np.sqrt(squared.min(axis=-1))


def min_distance(positions: NDArray, cell: NDArray, periodicity: Periodicity) -> float:
    """Shortest distance between two atoms, images of the same atom included; Angstrom.

    Infinite for one atom without periods. Arguments and errors as of `pair_distances`.
    """
    return float(pair_distances(positions, cell, periodicity).min(initial=np.inf))


def structure_is_valid(positions: NDArray, cell: NDArray, periodicity: Periodicity) -> bool:
    """CDVAE's structural validity: distances above 0.5 Angstrom, volume above 0.1 cubic Angstrom.

    Not finite or degenerate input is invalid, never an error. A crystal without atoms is invalid.

    Args:
      positions: [n, 3] Cartesian, Angstrom.
      cell: [3, 3] rows, Angstrom; of a slab, c with its vacuum counts to the volume.
      periodicity: which rows are periods.
    """
    positions, cell = np.asarray(positions, dtype=float), np.asarray(cell, dtype=float)
    if len(positions) == 0 or not np.isfinite(cell).all():
        return False
    if abs(np.linalg.det(cell)) <= MIN_VOLUME_ANGSTROM3:
        return False
    try:
        return min_distance(positions, cell, periodicity) > MIN_DISTANCE_ANGSTROM
    except (ValueError, RuntimeError, np.linalg.LinAlgError):
        return False


def composition_is_valid(atomic_numbers: NDArray) -> bool:
    """SMACT validity as CDVAE uses it: neutral and Pauling-ordered, or one element, or metals only.

    The oxidation states are SMACT's set of 2014 (`oxidation_states_set="smact14"` in SMACT 4), the
    one that CDVAE and the paper read; newer sets give other numbers. Same verdict as
    `smact.screening.smact_validity`, in a time that does not grow exponentially with the number
    of elements: for each way of splitting the elements by electronegativity, the reachable total
    charges are summed up element by element. Cached by reduced formula.

    Args:
      atomic_numbers: [n] int.
    """
    counts = Counter(int(number) for number in np.asarray(atomic_numbers).ravel())
    if not counts or not all(0 < number <= MAX_ATOMIC_NUMBER for number in counts):
        return False
    divisor = int(np.gcd.reduce(list(counts.values())))
    return _formula_is_valid(tuple(sorted((number, count // divisor) for number, count in counts.items())))


@functools.lru_cache(maxsize=100_000)
def _formula_is_valid(formula: tuple[tuple[int, int], ...]) -> bool:
    """Verdict on sorted pairs of atomic number and count."""
    if len(formula) == 1:
        return True
    data = [_element_data(number) for number, _ in formula]
    if all(metal for metal, _, _ in data):
        return True
    scale = [electronegativity for _, electronegativity, _ in data if electronegativity is not None]
    if len(scale) < len(formula):
        return False
    for threshold in sorted(set(scale)):
        charges = {0}
        for (_, count), electronegativity, (_, _, states) in zip(formula, scale, data, strict=True):
            cation = electronegativity < threshold
            allowed = [state for state in states if state == 0 or (state > 0) == cation]
            charges = {charge + count * state for charge in charges for state in allowed}
        if 0 in charges:
            return True
    return False


@functools.cache
def _element_data(atomic_number: int) -> tuple[bool, float | None, tuple[int, ...]]:
    """Metal or not, Pauling electronegativity, oxidation states of SMACT 2014."""
    import smact  # reads its tables on import, so only when asked

    symbol = Element.from_Z(atomic_number).symbol
    try:
        element = smact.Element(symbol)
    except KeyError:  # heavier than SMACT's tables
        return symbol in smact.metals, None, ()
    return symbol in smact.metals, element.pauling_eneg, tuple(element.oxidation_states_smact14 or ())


def check_validity(
    atomic_numbers: NDArray, positions: NDArray, cell: NDArray, periodicity: Periodicity
) -> Validity:
    """Both tests at once; shapes and units as in the single functions. Never raises on bad numbers."""
    return Validity(
        structure=structure_is_valid(positions, cell, periodicity),
        composition=composition_is_valid(atomic_numbers),
    )


def check_structure(structure: Structure) -> Validity:
    """Both tests on a pymatgen Structure, periodic as its lattice says (`lattice.pbc`)."""
    a, b, c = structure.lattice.pbc
    return check_validity(
        np.array(structure.atomic_numbers),
        structure.cart_coords,
        structure.lattice.matrix,
        (bool(a), bool(b), bool(c)),
    )
