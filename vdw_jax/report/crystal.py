"""One crystal outside the device: what the reports read and write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure

from vdw_jax.types import SLAB, Periodicity


@dataclass(frozen=True, eq=False)
class Crystal:
    """A crystal with a name; a slab has its normal along z and c = (0, 0, height + vacuum).

    Raises:
      ValueError: the shapes do not belong together. Values are not judged here.
    """

    id: str
    atomic_numbers: NDArray[np.int64]  # [n]
    positions: NDArray[np.float64]  # [n, 3] Cartesian, Angstrom
    cell: NDArray[np.float64]  # [3, 3] rows a, b, c, Angstrom
    periodicity: Periodicity = SLAB

    def __post_init__(self) -> None:
        object.__setattr__(self, "atomic_numbers", np.array(self.atomic_numbers, dtype=np.int64))
        object.__setattr__(self, "positions", np.array(self.positions, dtype=np.float64))
        object.__setattr__(self, "cell", np.array(self.cell, dtype=np.float64))
        object.__setattr__(self, "periodicity", tuple(bool(period) for period in self.periodicity))
        count = len(self.atomic_numbers) if self.atomic_numbers.ndim == 1 else -1
        if count < 0 or self.positions.shape != (count, 3) or self.cell.shape != (3, 3):
            raise ValueError(
                f"crystal {self.id!r}: atomic numbers {self.atomic_numbers.shape}, positions "
                f"{self.positions.shape} and cell {self.cell.shape} are not [n], [n, 3] and [3, 3]"
            )
        if len(self.periodicity) != 3:
            raise ValueError(f"crystal {self.id!r}: periodicity needs three entries")

    @property
    def is_slab(self) -> bool:
        """Periodic along a and b only."""
        return self.periodicity == SLAB

    @property
    def is_finite(self) -> bool:
        """No position or cell entry is NaN or infinite."""
        return bool(np.isfinite(self.positions).all() and np.isfinite(self.cell).all())

    @property
    def formula(self) -> str:
        """Reduced formula, elements by group and then by atomic number: `GaInSSe2`, `NaCl`.

        `-` where an atomic number is unknown. pymatgen orders by electronegativity (`InGaSe2S`), so
        formulas are to be compared as compositions, not as texts.
        """
        numbers, counts = np.unique(self.atomic_numbers, return_counts=True)
        try:
            elements = [Element.from_Z(int(number)) for number in numbers]
        except (ValueError, KeyError):
            return "-"
        divisor = np.gcd.reduce(counts) if len(counts) else 1
        parts = zip(elements, (counts // divisor).tolist(), strict=True)
        ordered = sorted(parts, key=lambda part: (part[0].group, part[0].Z))
        return "".join(f"{element.symbol}{count if count > 1 else ''}" for element, count in ordered) or "-"

    def centred_positions(self) -> NDArray[np.float64]:
        """Positions [n, 3], Angstrom; a slab is moved along z so that its middle is at half of c."""
        if not self.is_slab or len(self.positions) == 0:
            return self.positions
        heights = self.positions[:, 2]
        shift = self.cell[2, 2] / 2 - (heights.min() + heights.max()) / 2
        return self.positions + np.array([0.0, 0.0, shift])

    def to_pymatgen(self) -> Structure:
        """As a Structure periodic in all three directions, as CIF and StructureMatcher have it.

        Slabs are centred in their vacuum (`centred_positions`).

        Raises:
          ValueError: an atomic number is unknown.
        """
        return Structure(
            Lattice(self.cell),
            [Element.from_Z(int(number)) for number in self.atomic_numbers],
            self.centred_positions(),
            coords_are_cartesian=True,
        )

    def to_ase(self) -> Atoms:
        """As ASE Atoms with this periodicity; slabs are centred in their vacuum."""
        return Atoms(
            numbers=self.atomic_numbers,
            positions=self.centred_positions(),
            cell=self.cell,
            pbc=self.periodicity,
        )
