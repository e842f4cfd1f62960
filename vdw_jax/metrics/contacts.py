"""Which atoms of a slab are near each other, across the borders of its cell along a and b.

Distances are read on the scale of the two elements: 0 at the sum of the covalent radii (Cordero et al.,
Dalton Trans. 2832 (2008)), 1 at the sum of the van der Waals radii (Alvarez, Dalton Trans. 42, 8617 (2013)).
On it bonds of all elements lie near 0 and contacts across a van der Waals gap near 1, which no fixed length
and no fixed multiple of one radius does: the vdW radius of H is 3.9 times its covalent one, that of Te 1.4.
1 minus this reduced distance is the penetration index of Echeverria and Alvarez (Chem. Sci. 14, 11647 (2023)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from ase.data.vdw_alvarez import vdw_radii
from numpy.typing import NDArray
from scipy.spatial import cKDTree

FAR = 1.3
"""Longest contact that is searched for, over the sum of the van der Waals radii."""

_MISSING_ANGSTROM = 1.0
"""Van der Waals radius less covalent radius of the elements that Alvarez does not list (Po, At, Rn, ...)."""
_VDW = covalent_radii + _MISSING_ANGSTROM
_LISTED = np.flatnonzero(np.isfinite(vdw_radii))
_VDW[_LISTED] = vdw_radii[_LISTED]
_MAX_IMAGES = 40
_SMALLEST_AREA = 1e-3


@dataclass(frozen=True)
class Contacts:
    """Pairs of atoms, each once, that are nearer than `FAR` times the sum of their van der Waals radii."""

    first: NDArray
    """[m] int, place of an atom."""
    second: NDArray
    """[m] int, place of the other."""
    images: NDArray
    """[m, 2] int, cells along a and b from the first atom to the second, both as given."""
    distances: NDArray
    """[m] Angstrom."""
    covalent: NDArray
    """[m] Angstrom, sum of the covalent radii."""
    van_der_waals: NDArray
    """[m] Angstrom, sum of the van der Waals radii."""

    @property
    def reduced(self) -> NDArray:
        """[m], 0 at the sum of the covalent radii and 1 at that of the van der Waals radii."""
        return (self.distances - self.covalent) / (self.van_der_waals - self.covalent)

    def select(self, chosen: NDArray) -> Contacts:
        """Those at `chosen` (places or a mask), in that order."""
        return Contacts(
            self.first[chosen],
            self.second[chosen],
            self.images[chosen],
            self.distances[chosen],
            self.covalent[chosen],
            self.van_der_waals[chosen],
        )


def find_contacts(atomic_numbers: NDArray, positions: NDArray, cell: NDArray) -> Contacts:
    """Pairs of atoms of a slab that are near each other.

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom, normal along z.
      cell: [3, 3] rows a, b, c, Angstrom; c is not read.

    Raises:
      ValueError: a value is not finite, or a and b are too short or too skewed to search.
    """
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError("positions and cell must be finite")
    covalent, van_der_waals = covalent_radii[atomic_numbers], _VDW[atomic_numbers]
    if len(atomic_numbers) == 0:
        nothing = np.zeros(0)
        places = np.zeros(0, dtype=int)
        return Contacts(places, places, np.zeros((0, 2), dtype=int), nothing, nothing, nothing)
    reach = 2 * FAR * float(van_der_waals.max())
    home, wrapped, fractions, plane = _wrapped(positions, cell)
    images, margins = _images(plane, reach)

    # The atoms of the neighbouring cells, as far as they can be in reach of the cell itself.
    shifted = (fractions[None] + images[:, None]).reshape(-1, 2)
    near = ((shifted > -margins) & (shifted < 1 + margins)).all(-1)
    owner = np.tile(np.arange(len(atomic_numbers)), len(images))[near]
    image = np.repeat(images, len(atomic_numbers), axis=0)[near]
    around = wrapped[owner]
    around[:, :2] += image @ plane
    found = cKDTree(wrapped).sparse_distance_matrix(cKDTree(around), reach, output_type="ndarray")

    first, second, distances = found["i"], owner[found["j"]], found["v"]
    step = image[found["j"]]
    # Of the two directions of a pair one is kept, and no atom is its own neighbour.
    ahead = (step[:, 0] > 0) | ((step[:, 0] == 0) & (step[:, 1] > 0))
    once = (first < second) | ((first == second) & ahead)
    van_der_waals = van_der_waals[first] + van_der_waals[second]
    kept = np.flatnonzero(once & (distances < FAR * van_der_waals))
    first, second = first[kept], second[kept]
    return Contacts(
        first,
        second,
        step[kept] + home[first] - home[second],
        distances[kept],
        covalent[first] + covalent[second],
        van_der_waals[kept],
    )


def _wrapped(positions: NDArray, cell: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Cells [n, 2] the atoms lie in, positions [n, 3] and fractions [n, 2] in the first, and a and b [2, 2]."""
    plane = cell[:2, :2]
    area = abs(float(np.linalg.det(plane)))
    if area < _SMALLEST_AREA:
        raise ValueError(f"a and b span only {area:.2g} square Angstrom")
    fractions = positions[:, :2] @ np.linalg.inv(plane)
    home = np.floor(fractions).astype(int)
    fractions = fractions - home
    wrapped = positions.copy()
    wrapped[:, :2] = fractions @ plane
    return home, wrapped, fractions, plane


def _images(plane: NDArray, reach: float) -> tuple[NDArray, NDArray]:
    """Cells [k, 2] that hold atoms within `reach` of the first, and `reach` in units of the cell's widths [2]."""
    area = abs(float(np.linalg.det(plane)))
    widths = area / np.linalg.norm(plane[::-1], axis=1)  # between the lattice lines, along a and along b
    margins = reach / widths
    most = np.ceil(margins).astype(int)
    if most.max() > _MAX_IMAGES:
        raise ValueError(f"contacts span {most.max()} cells: a or b is too short or too skewed")
    along_a, along_b = (np.arange(-count, count + 1) for count in most)
    images = np.stack(np.meshgrid(along_a, along_b, indexing="ij"), axis=-1)
    return images.reshape(-1, 2), margins
