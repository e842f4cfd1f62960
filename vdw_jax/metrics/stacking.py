"""Whether two slabs are stacked alike.

Two slabs have the same stacking if an isometry carries one onto the other: lattice translations, the
rotations and mirrors of the in-plane lattice, and turning the whole stack over. All of them keep the
energy, so what is left is the registry: which atoms lie over which. For 1x1 cells of hexagonal layers
whose atoms sit on the three high-symmetry sites, the sites themselves give a label.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element
from scipy.optimize import linear_sum_assignment

from vdw_jax.metrics.layers import height_groups

DEFAULT_TOLERANCE_ANGSTROM = 0.5
"""Half of what separates two of the six stackings: 1.1 Angstrom an atom, the shift shared by both layers."""

MAX_LENGTH_RATIO = 1.15
MAX_ANGLE_DIFFERENCE_DEGREES = 10.0

Slab = tuple[NDArray, NDArray, NDArray]
"""Atomic numbers [n] int, positions [n, 3] and cell [3, 3] rows in Angstrom; c is not read."""

Slots = list[tuple[tuple[int, int, int], list[int]]]
"""Plane, element and number of atoms that may stand for one another, with their places."""


def same_registry(a: Slab, b: Slab, tol: float = DEFAULT_TOLERANCE_ANGSTROM) -> bool:
    """Whether two slabs have the same species along z and the same stacking.

    Tried are both directions of b, every choice of its lattice vectors that resembles a's (within 15 %
    in length after scaling to equal area, 10 degrees in angle; 12 for hexagonal lattices), and every
    translation that lays an atom of b on its counterpart in a, refined by the mean of what is left.
    Heights matter only through their order.

    Args:
      a: atomic numbers [n], positions [n, 3], cell [3, 3]; Angstrom, normal along z.
      b: as a; lattice constants may differ, fractional differences are measured on a's lattice.
      tol: largest in-plane displacement of an atom, Angstrom.

    Returns:
      False also where a cell is degenerate or a value is not finite.
    """
    displacement = registry_displacement(a, b)
    return displacement is not None and displacement <= tol


def registry_displacement(a: Slab, b: Slab) -> float | None:
    """Largest in-plane displacement of an atom between two slabs laid on each other as well as can be.

    Args:
      a: as in `same_registry`.
      b: as in `same_registry`.

    Returns:
      Angstrom, on a's lattice; None where the species along z differ, the cells do not resemble each
      other, or a value is not finite.
    """
    found = [lengths.max(-1).min() for lengths in _overlays(a, b)]
    return float(min(found)) if found else None


def registry_rms(a: Slab, b: Slab) -> float | None:
    """Root mean square of the in-plane displacements between two slabs laid on each other as well as can be.

    With the heights' part it bounds from below what a match of the two structures can have.

    Args: as in `same_registry`.

    Returns:
      as in `registry_displacement`.
    """
    found = [np.sqrt((lengths**2).mean(-1)).min() for lengths in _overlays(a, b)]
    return float(min(found)) if found else None


def _overlays(a: Slab, b: Slab) -> Iterator[NDArray]:
    """In-plane displacements [translations, n], Angstrom, for each way of laying b on a that keeps the species."""
    prepared_a, prepared_b = _in_plane(a), _in_plane(b)
    if prepared_a is None or prepared_b is None or len(prepared_a[1]) != len(prepared_b[1]):
        return
    plane_a, fractional_a = prepared_a
    plane_b, fractional_b = prepared_b
    groups_a = height_groups(a[0], a[1])
    slots_a = _slots(np.asarray(a[0]), groups_a)
    groups_b = height_groups(b[0], b[1])
    changes = _similar_bases(plane_a, plane_b)
    if len(changes) == 0:
        return
    turned = fractional_b @ np.linalg.inv(changes)
    for groups in (groups_b, groups_b[::-1]):
        slots_b = _slots(np.asarray(b[0]), groups)
        if [key for key, _ in slots_a] == [key for key, _ in slots_b]:
            yield from _translations(plane_a, fractional_a, turned, slots_a, slots_b)


def _in_plane(slab: Slab) -> tuple[NDArray, NDArray] | None:
    """Reduced in-plane lattice [2, 2], its angle 90 degrees or more, and fractional positions [n, 2]."""
    positions, cell = np.asarray(slab[1], dtype=float), np.asarray(slab[2], dtype=float)
    if len(positions) == 0 or not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        return None
    plane = reduced_plane(cell[:2, :2])
    if plane is None:
        return None
    return plane, positions[:, :2] @ np.linalg.inv(plane)


def reduced_plane(plane: NDArray) -> NDArray | None:
    """The two shortest vectors [2, 2] of a lattice in the plane, 90 degrees or more apart; None if it spans no area."""
    short, long = plane
    area = abs(short[0] * long[1] - short[1] * long[0])
    if area < 1e-3:
        return None
    for _ in range(100):  # Lagrange and Gauss: ends long before
        if short @ short > long @ long:
            short, long = long, short
        steps = np.round((short @ long) / (short @ short))
        if steps == 0:
            break
        long = long - steps * short
    if short @ long > 0:
        long = long - short
    return np.array([short, long])


_UNIMODULAR = np.array([
    entries for entries in itertools.product((-1, 0, 1), repeat=4)
    if abs(entries[0] * entries[3] - entries[1] * entries[2]) == 1
], dtype=float).reshape(-1, 2, 2)  # fmt: skip


def _similar_bases(plane_a: NDArray, plane_b: NDArray) -> NDArray:
    """Integer matrices [m, 2, 2] whose product with b's lattice resembles a's, rotated or mirrored."""
    lengths_a, angle_a = _shape(plane_a)
    lengths_b, angles_b = _shape(_UNIMODULAR @ plane_b)
    stretch = np.abs(np.log(lengths_b / lengths_a)).max(-1)
    alike = (stretch <= np.log(MAX_LENGTH_RATIO)) & (np.abs(angles_b - angle_a) <= MAX_ANGLE_DIFFERENCE_DEGREES)
    return _UNIMODULAR[alike]


def _shape(plane: NDArray) -> tuple[NDArray, NDArray]:
    """Lengths [..., 2] of the lattice vectors at unit area, and the angle [...] between them in degrees."""
    lengths = np.linalg.norm(plane, axis=-1)
    cosine = (plane[..., 0, :] * plane[..., 1, :]).sum(-1) / lengths.prod(-1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return lengths / np.sqrt(np.abs(np.linalg.det(plane)))[..., None], angle


def _slots(numbers: NDArray, groups: list[list[int]]) -> Slots:
    """Atoms that may stand for one another, by plane and element; the key ends with how many they are."""
    slots: dict[tuple[int, int], list[int]] = {}
    for plane, group in enumerate(groups):
        for atom in group:
            slots.setdefault((plane, int(numbers[atom])), []).append(atom)
    return [((*key, len(atoms)), atoms) for key, atoms in slots.items()]


def _translations(
    plane: NDArray, first: NDArray, second: NDArray, slots_a: Slots, slots_b: Slots
) -> Iterator[NDArray]:
    """Displacements [bases * translations, n], Angstrom, as laid on one atom and as refined.

    Fractional positions: of a [n, 2], of b in each basis [bases, n, 2].
    """
    order_a = [atom for _, atoms in slots_a for atom in atoms]
    order_b = [atom for _, atoms in slots_b for atom in atoms]
    onto = [atoms[0] for _, atoms in slots_a for _ in atoms]
    starts = first[onto] - second[:, order_b]  # [bases, translations, 2]
    if len(slots_a) == len(order_a):  # nothing to choose
        moved = np.broadcast_to(second[:, None, order_b], (*starts.shape[:2], len(order_b), 2))
    else:
        moved = np.array([
            [own[_paired(plane, first, own + start, slots_a, slots_b)] for start in shifts]
            for own, shifts in zip(second, starts, strict=True)
        ])  # fmt: skip
    for _ in range(2):  # as laid on one atom, then moved by the mean of what is left
        residual = _nearest(plane, first[order_a] - moved - starts[:, :, None])
        yield np.linalg.norm(residual @ plane, axis=-1).reshape(-1, len(order_a))
        starts = starts + residual.mean(2)


def _paired(plane: NDArray, first: NDArray, second: NDArray, slots_a: Slots, slots_b: Slots) -> list[int]:
    """Atoms of b in the order of a's; those of one slot are paired for the least squared displacement."""
    order: list[int] = []
    for (_, atoms_a), (_, atoms_b) in zip(slots_a, slots_b, strict=True):
        if len(atoms_a) == 1:
            order += atoms_b
            continue
        offsets = _nearest(plane, first[atoms_a][:, None] - second[atoms_b][None])
        _, columns = linear_sum_assignment(((offsets @ plane) ** 2).sum(-1))
        order += [atoms_b[column] for column in columns]
    return order


_NEAR_IMAGES = np.array(list(itertools.product((-1, 0, 1), repeat=2)))


def _nearest(plane: NDArray, offsets: NDArray) -> NDArray:
    """Fractional offsets [..., 2] to the nearest image; exact for a reduced lattice."""
    candidates = (offsets - np.round(offsets))[..., None, :] + _NEAR_IMAGES
    chosen = ((candidates @ plane) ** 2).sum(-1).argmin(-1)
    return np.take_along_axis(candidates, chosen[..., None, None], axis=-2)[..., 0, :]


def stacking_signature(slab: Slab, tol: float = DEFAULT_TOLERANCE_ANGSTROM) -> str | None:
    """A label that slabs with the same species and stacking share: `SGaGaSSeInInSe ABBABCCB`.

    First the species along z, then for each atom the site it sits on: the first site that occurs is A,
    the next B, the next C, so that translations and the lattice's symmetries leave the label alone. Of
    the two directions the one whose label sorts first is taken.

    Args:
      slab: atomic numbers [n], positions [n, 3], cell [3, 3]; Angstrom, normal along z.
      tol: largest in-plane distance of an atom from its site, Angstrom.

    Returns:
      None where the in-plane lattice is not hexagonal (15 %, 10 degrees) or an atom sits off the sites.
    """
    prepared = _in_plane(slab)
    if prepared is None:
        return None
    plane, fractional = prepared
    lengths, angle = _shape(plane)
    if lengths[1] / lengths[0] > MAX_LENGTH_RATIO or abs(angle - 120.0) > MAX_ANGLE_DIFFERENCE_DEGREES:
        return None
    sites = np.array([[0, 0], [1, 2], [2, 1]]) / 3
    best, labels = np.inf, np.zeros(len(fractional), dtype=int)
    for reference in fractional:
        shift = -reference
        for _ in range(2):
            offsets = _nearest(plane, sites - (fractional + shift)[:, None])
            distances = np.linalg.norm(offsets @ plane, axis=-1)
            found = distances.argmin(-1)
            worst = float(distances.min(-1).max())
            if worst < best:
                best, labels = worst, found
            shift = shift + offsets[np.arange(len(found)), found].mean(0)
    if best > tol:
        return None
    numbers = np.asarray(slab[0])
    groups = height_groups(numbers, slab[1])
    return min(_label(numbers, labels, order) for order in (groups, groups[::-1]))


def _label(numbers: NDArray, sites: NDArray, groups: list[list[int]]) -> str:
    order = [atom for group in groups for atom in group]
    letters = dict(zip(dict.fromkeys(sites[order].tolist()), "ABC", strict=False))
    species = "".join(Element.from_Z(int(numbers[atom])).symbol for atom in order)
    return species + " " + "".join(letters[int(sites[atom])] for atom in order)


def displacement_rms(a: Slab, b: Slab) -> float | None:
    """Root mean square displacement of the atoms between two slabs of the same atoms, as well as they can be laid.

    Atoms of one element are paired in the order of their heights. In the plane fractional coordinates are compared, on
    a's lattice and to the nearest image, across it heights: what differs in the lattice constant is no displacement.
    Tried are both directions of b, every choice of its lattice vectors that resembles a's, and every translation that
    lays an atom on its counterpart, refined by the mean of what is left, as in `same_registry`.

    Args: as in `same_registry`.

    Returns:
      Angstrom; None where the atoms differ, the cells do not resemble each other, or a value is not finite.
    """
    prepared_a, prepared_b = _in_plane(a), _in_plane(b)
    if prepared_a is None or prepared_b is None or not np.array_equal(np.sort(a[0]), np.sort(b[0])):
        return None
    plane, first = prepared_a
    changes = _similar_bases(plane, prepared_b[0])
    if len(changes) == 0:
        return None
    turned = prepared_b[1] @ np.linalg.inv(changes)
    heights, others = np.asarray(a[1], float)[:, 2], np.asarray(b[1], float)[:, 2]
    order = np.lexsort((heights, a[0]))
    squares = []
    for sign in (1.0, -1.0):
        order_b = np.lexsort((sign * others, b[0]))
        across = heights[order] - sign * others[order_b]
        slots: Slots = [((place, 0, 1), [int(atom)]) for place, atom in enumerate(order)]
        slots_b: Slots = [((place, 0, 1), [int(atom)]) for place, atom in enumerate(order_b)]
        sideways = [(lengths**2).mean(-1).min() for lengths in _translations(plane, first, turned, slots, slots_b)]
        squares.append(min(sideways) + np.var(across))
    return float(np.sqrt(min(squares)))
