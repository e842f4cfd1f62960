"""The layers of a slab: which atoms are bonded into sheets, and how far the sheets lie apart.

A slab has its normal along z and is periodic along a and b only; nothing here reads c. Two atoms are
bonded where their distance is below `BOND_FACTOR` times the sum of their covalent radii (Cordero et al.,
Dalton Trans. 2832 (2008), as ASE tabulates them); two chalcogens never are, for in III-VI layers they
face each other across the gap (Te over Te, 2.5 Angstrom apart, would pass for a bond by its radii).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pymatgen.core import Element

BOND_FACTOR = 1.22
"""Bond length over sum of covalent radii, at most. Bonds of III-VI layers have 0.98 to 1.12."""

MIN_GAP_ANGSTROM = 2.5
MAX_GAP_ANGSTROM = 4.5
SAME_HEIGHT_ANGSTROM = 0.3
"""Atoms closer than this along z count as one plane."""

_CHALCOGENS = (8, 16, 34, 52)
_MAX_IMAGES = 20


@dataclass(frozen=True)
class Layer:
    """Atoms that bonds hold together."""

    indices: tuple[int, ...]
    """Places in the crystal, from the lowest atom to the highest."""
    bottom_angstrom: float
    """z of the lowest atom."""
    top_angstrom: float
    """z of the highest atom."""
    is_sheet: bool
    """Bonds run through the crystal along a and b; False for molecules, chains and lone atoms."""


@dataclass(frozen=True)
class LayerStack:
    """The layers of a slab from bottom to top, and the gaps between them."""

    layers: tuple[Layer, ...]
    gaps_angstrom: tuple[float, ...]
    """Top atom of a layer to bottom atom of the next, along z; negative where they interpenetrate."""

    @property
    def num_layers(self) -> int:
        """Number of bonded pieces, sheets or not."""
        return len(self.layers)

    @property
    def is_bilayer(self) -> bool:
        """Exactly two layers, both sheets, with a gap of 2.5 to 4.5 Angstrom."""
        if len(self.layers) != 2 or not all(layer.is_sheet for layer in self.layers):
            return False
        return MIN_GAP_ANGSTROM <= self.gaps_angstrom[0] <= MAX_GAP_ANGSTROM


def find_layers(
    atomic_numbers: NDArray, positions: NDArray, cell: NDArray, bond_factor: float = BOND_FACTOR
) -> LayerStack:
    """Splits a slab into its bonded layers.

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom, normal along z; the slab must not be cut by the cell's c face.
      cell: [3, 3] rows a, b, c, Angstrom; c is not read.
      bond_factor: longest bond over the sum of covalent radii.

    Raises:
      ValueError: a value is not finite, or a and b are too short or too skewed to search for bonds.
    """
    numbers = np.asarray(atomic_numbers, dtype=int)
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    first, second, images = _bonds(numbers, positions, np.asarray(cell, dtype=float), bond_factor)
    neighbours: list[list[tuple[int, NDArray]]] = [[] for _ in numbers]
    for i, j, image in zip(first, second, images, strict=True):
        neighbours[i].append((int(j), image))

    layers = []
    seen: dict[int, NDArray] = {}  # atom -> image of it that is bonded to the first atom of its layer
    for start in range(len(numbers)):
        if start in seen:
            continue
        seen[start] = np.zeros(2, dtype=int)
        members, loops = [start], [np.zeros(2, dtype=int)]
        for atom in members:  # grows while it is read
            for other, image in neighbours[atom]:
                reached = seen[atom] + image
                if other in seen:
                    loops.append(reached - seen[other])
                else:
                    seen[other] = reached
                    members.append(other)
        members.sort(key=lambda atom: float(positions[atom, 2]))
        heights = positions[members, 2]
        is_sheet = int(np.linalg.matrix_rank(np.array(loops))) == 2
        layers.append(Layer(tuple(members), float(heights[0]), float(heights[-1]), is_sheet))
    layers.sort(key=lambda layer: layer.bottom_angstrom + layer.top_angstrom)
    gaps = tuple(
        upper.bottom_angstrom - lower.top_angstrom for lower, upper in itertools.pairwise(layers)
    )
    return LayerStack(tuple(layers), gaps)


def _bonds(
    numbers: NDArray, positions: NDArray, cell: NDArray, bond_factor: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Ordered pairs [m], [m] and the in-plane image of the second atom, [m, 2]; both directions."""
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError("positions and cell must be finite")
    if len(numbers) == 0:
        empty = np.zeros(0, dtype=int)
        return empty, empty, np.zeros((0, 2), dtype=int)
    radii = covalent_radii[numbers]
    cutoff = bond_factor * (radii[:, None] + radii)
    chalcogen = np.isin(numbers, _CHALCOGENS)
    cutoff[chalcogen[:, None] & chalcogen] = 0.0

    plane = cell[:2, :2]
    area = abs(float(np.linalg.det(plane)))
    if area < 1e-3:
        raise ValueError(f"a and b span only {area:.2g} square Angstrom")
    widths = area / np.linalg.norm(plane[::-1], axis=1)  # between the lattice lines, along a and along b
    reach = np.ceil(cutoff.max() / widths).astype(int) + 1
    if reach.max() > _MAX_IMAGES:
        raise ValueError(f"bonds would span {reach.max()} cells: a or b is too short or too skewed")
    home = np.floor(positions[:, :2] @ np.linalg.inv(plane))
    wrapped = positions.copy()
    wrapped[:, :2] -= home @ plane

    images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
    shifts = np.zeros((len(images), 3))
    shifts[:, :2] = images @ plane
    offsets = wrapped[None, :, None, :] - wrapped[:, None, None, :] + shifts
    squared = (offsets**2).sum(-1)
    itself = np.eye(len(numbers), dtype=bool)[:, :, None] & (images == 0).all(-1)
    first, second, image = np.nonzero((squared < cutoff[:, :, None] ** 2) & ~itself)
    return first, second, images[image]


def height_groups(atomic_numbers: NDArray, positions: NDArray) -> list[list[int]]:
    """Atoms of a slab plane by plane, from the lowest plane to the highest.

    Neighbours along z closer than 0.3 Angstrom share a plane; within a plane atoms are sorted by
    atomic number.

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom, normal along z.

    Returns:
      places in the crystal, a list for each plane.
    """
    heights = np.asarray(positions, dtype=float)[:, 2]
    groups: list[list[int]] = []
    previous = -np.inf
    for atom in np.argsort(heights, kind="stable"):
        if heights[atom] - previous > SAME_HEIGHT_ANGSTROM:
            groups.append([])
        groups[-1].append(int(atom))
        previous = heights[atom]
    numbers = np.asarray(atomic_numbers)
    return [sorted(group, key=lambda atom: (int(numbers[atom]), atom)) for group in groups]


def species_sequence(atomic_numbers: NDArray, positions: NDArray) -> tuple[int, ...]:
    """Atomic numbers along z, the same for a slab and for its flip.

    Of the two directions the one whose sequence sorts first is returned.

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom, normal along z.
    """
    numbers = np.asarray(atomic_numbers)
    groups = height_groups(numbers, positions)
    upward = tuple(int(numbers[atom]) for group in groups for atom in group)
    downward = tuple(int(numbers[atom]) for group in groups[::-1] for atom in group)
    return min(upward, downward)


def same_sequence(
    numbers_a: NDArray, positions_a: NDArray, numbers_b: NDArray, positions_b: NDArray
) -> bool:
    """Whether two slabs have the same species along z, up to flipping; arguments as in `species_sequence`."""
    return species_sequence(numbers_a, positions_a) == species_sequence(numbers_b, positions_b)


def layer_names(atomic_numbers: NDArray, positions: NDArray, stack: LayerStack) -> str:
    """The layers from bottom to top, each by its species from bottom to top: `SGaInSe / SeInGaS`.

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom, normal along z.
      stack: what `find_layers` returned for them.
    """
    numbers, positions = np.asarray(atomic_numbers), np.asarray(positions, dtype=float)
    names = []
    for layer in stack.layers:
        members = list(layer.indices)
        groups = height_groups(numbers[members], positions[members])
        order = [members[place] for group in groups for place in group]
        names.append("".join(Element.from_Z(int(numbers[atom])).symbol for atom in order))
    return " / ".join(names)
