"""Slabs in their primitive cells, whole and with one and the same vacuum, so that equal slabs look alike.

A slab may be given as a supercell, cut by its c face, or with any vacuum. Two slabs are compared only after
all that is undone here; origin, orientation and the choice of a and b are left to whoever compares.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vdw_jax.metrics.stacking import reduced_plane
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.slabs import made_whole
from vdw_jax.structures.stacking import VACUUM_ANGSTROM
from vdw_jax.types import SLAB

TOLERANCE_ANGSTROM = 0.2
"""Farthest an atom may be from where a translation puts it. The tight match leaves about 0.35 Angstrom."""

_HEIGHT_TOLERANCE_ANGSTROM = 0.01
_BLOCK = 2048


def primitive_slabs(data: CrystalDataset, tolerance_angstrom: float = TOLERANCE_ANGSTROM) -> CrystalDataset:
    """The slabs of a data set in primitive cells; rows that are so already, and bulk crystals, stay as they are.

    Args:
      data: any crystals.
      tolerance_angstrom: farthest an atom may be from where a translation of the primitive cell puts it.
    """
    if data.periodicity != SLAB or len(data) == 0:
        return data
    positions, cell = _standing(data)
    numbers = data.atomic_numbers.copy()
    for row in np.flatnonzero(_may_repeat(numbers, positions, tolerance_angstrom)):
        size = int(data.num_atoms[row])
        found = primitive_cell(
            numbers[row, :size].astype(int),
            positions[row, :size].astype(float),
            cell[row].astype(float),
            tolerance_angstrom,
        )
        count = len(found[0])
        if count == size:
            continue
        numbers[row], positions[row] = 0, 0.0
        numbers[row, :count], positions[row, :count], cell[row] = found
    return replace(data, atomic_numbers=numbers, positions=positions, cell=cell)


def _standing(data: CrystalDataset) -> tuple[NDArray, NDArray]:
    """Positions [M, N, 3] and cells [M, 3, 3], none cut by its c face and all with the same vacuum."""
    positions, cell = data.positions.copy(), data.cell.copy()
    wrong = np.abs(cell[:, 2, 2] - data.slab_height - VACUUM_ANGSTROM) > _HEIGHT_TOLERANCE_ANGSTROM
    for row in np.flatnonzero(wrong):
        size = int(data.num_atoms[row])
        own, box = positions[row, :size].astype(float), cell[row].astype(float)
        if not (np.isfinite(own).all() and np.isfinite(box).all() and abs(np.linalg.det(box)) > 1e-3):
            continue
        own = made_whole(own @ np.linalg.inv(box)) @ box
        own[:, 2] -= own[:, 2].mean()
        positions[row, :size] = own
        cell[row, 2] = 0.0, 0.0, np.ptp(own[:, 2]) + VACUUM_ANGSTROM
    return positions, cell


def _may_repeat(numbers: NDArray, positions: NDArray, tolerance: float) -> NDArray:
    """Which slabs hold each atom at least twice, by element and height; [M] bool."""
    found = np.zeros(len(numbers), dtype=bool)
    for start in range(0, len(numbers), _BLOCK):
        rows = slice(start, start + _BLOCK)
        element, z = numbers[rows], positions[rows, :, 2]
        alike = element[:, :, None] == element[:, None]
        alike &= np.abs(z[:, :, None] - z[:, None]) < tolerance
        real = element > 0
        found[rows] = ((alike.sum(-1) > 1) | ~real).all(-1) & real.any(-1)
    return found


def primitive_cell(
    numbers: NDArray, positions: NDArray, cell: NDArray, tolerance_angstrom: float = TOLERANCE_ANGSTROM
) -> tuple[NDArray, NDArray, NDArray]:
    """A slab in the smallest cell along a and b that repeats it, its atoms averaged over the copies.

    Args:
      numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom, normal along z.
      cell: [3, 3] rows a, b, c, Angstrom; c is kept.
      tolerance_angstrom: farthest an atom may be from where a translation puts it.

    Returns:
      The same three; as they are where no smaller cell repeats the slab, or a value is not finite.
    """
    whole = numbers, positions, cell
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        return whole
    plane = reduced_plane(cell[:2, :2])
    if plane is None:
        return whole
    shifts, images = _translations(numbers, positions, plane, tolerance_angstrom)
    basis = _basis(shifts, plane)
    copies = len(shifts)
    if copies == 1 or basis is None:
        return whole

    # Every atom is moved onto the first of its copies, and there the copies are averaged.
    kept = np.flatnonzero(images.min(0) == np.arange(len(numbers)))
    if len(kept) * copies != len(numbers):
        return whole
    moved = positions[images[:, kept]]  # [copies, kept, 3]
    offset = moved[..., :2] - positions[kept, :2] - shifts[:, None]
    moved[..., :2] = positions[kept, :2] + _nearest(offset, plane)
    small = cell.copy()
    small[:2, :2] = basis
    return numbers[kept], moved.mean(0), small


def _translations(
    numbers: NDArray, positions: NDArray, plane: NDArray, tolerance: float
) -> tuple[NDArray, NDArray]:
    """In-plane translations [k, 2] that repeat the slab, none of them first, and where each atom goes [k, n]."""
    elements, counts = np.unique(numbers, return_counts=True)
    rarest = np.flatnonzero(numbers == elements[counts.argmin()])
    alike = numbers[:, None] == numbers
    shifts, images = [np.zeros(2)], [np.arange(len(numbers))]
    for other in rarest[1:]:
        shift = positions[other] - positions[rarest[0]]
        if abs(shift[2]) > tolerance:
            continue
        offset = positions[None] - positions[:, None] - np.array([shift[0], shift[1], 0.0])
        flat = _nearest(offset[..., :2], plane)
        squared = (flat**2).sum(-1) + offset[..., 2] ** 2
        squared[~alike] = np.inf
        image = squared.argmin(1)
        places = np.arange(len(numbers))
        if squared[places, image].max() > tolerance**2 or len(np.unique(image)) < len(numbers):
            continue
        # The shift of one atom carries its noise; the mean over all atoms carries less.
        shifts.append(shift[:2] + flat[places, image].mean(0))
        images.append(image)
    return np.array(shifts), np.array(images)


def _basis(shifts: NDArray, plane: NDArray) -> NDArray | None:
    """Rows [2, 2] of the lattice that a, b and the translations span; None where they span no such lattice.

    k translations that form a group divide the cell's area by k: the shortest vector and the shortest that makes
    that area with it are a basis. Where some translations of a group are within the tolerance and some are not,
    there is no such pair.
    """
    around = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ plane
    vectors = (shifts[:, None] + around).reshape(-1, 2)
    vectors = vectors[np.linalg.norm(vectors, axis=-1) > TOLERANCE_ANGSTROM]
    vectors = vectors[np.argsort(np.linalg.norm(vectors, axis=-1), kind="stable")]
    area = abs(np.linalg.det(plane)) / len(shifts)
    first = vectors[0]
    areas = np.abs(first[0] * vectors[:, 1] - first[1] * vectors[:, 0])
    fitting = np.flatnonzero(np.abs(areas / area - 1) < 0.1)
    return None if len(fitting) == 0 else np.array([first, vectors[fitting[0]]])


def _nearest(offsets: NDArray, plane: NDArray) -> NDArray:
    """Offsets [..., 2] less the lattice vector nearest to each; for a reduced lattice, and offsets near a vector."""
    fractions = offsets @ np.linalg.inv(plane)
    return (fractions - np.round(fractions)) @ plane
