"""The layers of a slab: which atoms hold together as sheets, and how far the sheets lie apart.

A slab has its normal along z and is periodic along a and b only; nothing here reads c. A layer is told by its
bonds, not by its elements or its height, because sheets interlock and every element may face the gap. What
counts is not one bond length but a step: within a layer some network of contacts spans a and b, and all contacts
to the next layer are longer than those it needs. Contacts are read on the scale of `contacts.Contacts.reduced`,
0 for a covalent bond and 1 for a van der Waals contact:

- contacts above `LOOSE` hold nothing together; what they leave connected is a piece: a sheet, chain, molecule or
  atom;
- a piece that is a sheet is split into more sheets where the shortest contact between those is above `FIRM`, and
  longer by `STEP` than any contact that the sheets need to be sheets. A division that makes more than two layers of
  the slab needs contacts above `FIRM_OF_SEVERAL`: thick layers have long bonds on both sides of their middle.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from vdw_jax.metrics.contacts import Contacts, find_contacts
from vdw_jax.metrics.pieces import Pieces, Vector

Edge = tuple[int, int, Vector, float]
"""Two atoms, the cell of the second, and their reduced distance."""

LOOSE = 0.5
"""Reduced distance above which no contact holds a layer together: half way from a bond to a vdW contact."""

FIRM = 0.27
"""Reduced distance up to which any contact is a bond. Bonds within layers have -0.2 to 0.3, few up to 0.45; the
layers of Bi and other heavy elements are 0.3 apart."""

FIRM_OF_SEVERAL = 0.36
"""The same for a division into more than two layers. In single quintuple layers (III-VI) and septuple layers
(MnBi2Te4) bonds of 0.3 to 0.34 occur."""

STEP = 0.07
"""Least difference, in reduced distance, of the contacts between layers from those within."""

FARTHEST = 1.4
"""Shortest contact of two layers that still face each other, at most, over the sum of the vdW radii."""

BOND_FACTOR = 1.22
"""Length of the bonds that are drawn, over the sum of the covalent radii, at most."""

SAME_HEIGHT_ANGSTROM = 0.3
"""Atoms closer than this along z count as one plane."""


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
    mean_height_angstrom: float = float("nan")
    """Mean z of the atoms."""

    @property
    def thickness_angstrom(self) -> float:
        """From the lowest atom to the highest along z; 0 for a layer of one plane."""
        return self.top_angstrom - self.bottom_angstrom


@dataclass(frozen=True)
class LayerStack:
    """The layers of a slab from bottom to top, and how far each lies from the next."""

    layers: tuple[Layer, ...]
    interlayer_distances_angstrom: tuple[float, ...]
    """Top atom of a layer to bottom atom of the next, along z: the usual interlayer distance of layers with
    flat faces. Negative where the layers interlock; the two distances below are positive then too."""
    center_distances_angstrom: tuple[float, ...] = ()
    """Mean height of a layer to mean height of the next, along z."""
    contact_distances_angstrom: tuple[float, ...] = ()
    """Shortest distance of an atom from an atom of the next layer; inf where none is in reach."""
    contact_ratios: tuple[float, ...] = ()
    """Least distance of two atoms of neighbouring layers over the sum of their vdW radii; inf as above."""

    @property
    def gaps_angstrom(self) -> tuple[float, ...]:
        """Other name of `interlayer_distances_angstrom`."""
        return self.interlayer_distances_angstrom

    @property
    def interlayer_distance_angstrom(self) -> float | None:
        """The smallest of `interlayer_distances_angstrom`; None for a single layer."""
        return min(self.interlayer_distances_angstrom, default=None)

    @property
    def num_layers(self) -> int:
        """Number of bonded pieces, sheets or not."""
        return len(self.layers)

    @property
    def is_bilayer(self) -> bool:
        """Exactly two layers, both sheets, near enough to bind each other.

        Near enough is a matter of the facing atoms: the shortest contact is at most `FARTHEST` times the sum of
        the vdW radii. There is no lower limit, for layers that are too near are bonded, and found as one.
        """
        if len(self.layers) != 2 or not all(layer.is_sheet for layer in self.layers):
            return False
        return self.contact_ratios[0] <= FARTHEST


def find_layers(atomic_numbers: NDArray, positions: NDArray, cell: NDArray) -> LayerStack:
    """Splits a slab into its layers, any number of them.

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom, normal along z; the slab must not be cut by the cell's c face.
      cell: [3, 3] rows a, b, c, Angstrom; c is not read.

    Raises:
      ValueError: a value is not finite, or a and b are too short or too skewed to search for contacts.
    """
    numbers = np.asarray(atomic_numbers, dtype=int)
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    contacts = find_contacts(numbers, positions, np.asarray(cell, dtype=float))
    layers = [
        _layer(members, is_sheet, positions)
        for members, is_sheet in _sheets_and_rest(len(numbers), contacts)
    ]
    layers.sort(key=lambda layer: layer.mean_height_angstrom)
    distances, centers = [], []
    for lower, upper in itertools.pairwise(layers):
        distances.append(upper.bottom_angstrom - lower.top_angstrom)
        centers.append(upper.mean_height_angstrom - lower.mean_height_angstrom)
    lengths, ratios = _across(layers, contacts, len(numbers))
    return LayerStack(tuple(layers), tuple(distances), tuple(centers), lengths, ratios)


def _layer(members: list[int], is_sheet: bool, positions: NDArray) -> Layer:
    heights = positions[members, 2]
    order = np.argsort(heights, kind="stable")
    indices = tuple(members[place] for place in order)
    bottom, top = float(heights[order[0]]), float(heights[order[-1]])
    return Layer(indices, bottom, top, is_sheet, float(heights.mean()))


def _sheets_and_rest(size: int, contacts: Contacts) -> list[tuple[list[int], bool]]:
    """The atoms of each layer, and whether it is a sheet."""
    reduced = contacts.reduced
    holding = np.flatnonzero(reduced < LOOSE)
    holding = holding[np.argsort(reduced[holding], kind="stable")]
    edges = list(
        zip(
            contacts.first[holding].tolist(),
            contacts.second[holding].tolist(),
            map(tuple, contacts.images[holding].tolist()),
            reduced[holding].tolist(),
            strict=True,
        )
    )
    pieces = Pieces(size)
    for first, second, image, _ in edges:
        pieces.join(first, second, image)

    found: list[tuple[list[int], bool]] = []
    for root, members in pieces.members().items():
        if not pieces.is_sheet(root):
            found.append((members, False))
            continue
        own = edges
        if pieces.count > 1:
            inside = set(members)
            own = [edge for edge in edges if edge[0] in inside]
        found += [(part, True) for part in _parts(members, own, pieces.count - 1)]
    return found


def _parts(members: list[int], edges: list[Edge], others: int) -> list[list[int]]:
    """The sheets that a sheet consists of, most often itself alone.

    Contacts are added from the shortest to the longest. Whenever nothing but sheets is there, the next contact
    that joins two of them tells how far apart they are. The finest such division that is clear enough is taken.
    `others` counts the pieces of the slab beside this one.
    """
    places = {atom: place for place, atom in enumerate(members)}
    pieces = Pieces(len(members))
    formed: float | None = None  # the contact that made all pieces sheets, while they are
    parts: list[list[int]] = []
    for first, second, image, reduced in edges:
        firm = FIRM if others + pieces.count == 2 else FIRM_OF_SEVERAL
        if formed is not None and pieces.count > 1 and reduced > firm and reduced >= formed + STEP:
            root, other = pieces.root(places[first])[0], pieces.root(places[second])[0]
            if root != other:
                parts = [[members[place] for place in part] for part in pieces.members().values()]
                break
        if not pieces.join(places[first], places[second], image):
            continue
        formed = reduced if pieces.sheets == pieces.count else None
        if pieces.count == 1 and formed is not None:
            break
    return parts or [members]


def _across(
    layers: list[Layer], contacts: Contacts, size: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Shortest contact of each layer with the next, in Angstrom and over the sum of the vdW radii."""
    layer_of = np.zeros(size, dtype=int)
    for place, layer in enumerate(layers):
        layer_of[list(layer.indices)] = place
    lower = np.minimum(layer_of[contacts.first], layer_of[contacts.second])
    apart = np.abs(layer_of[contacts.first] - layer_of[contacts.second])
    lengths = np.full(max(len(layers) - 1, 0), np.inf)
    ratios = lengths.copy()
    chosen = np.flatnonzero(apart == 1)
    np.minimum.at(lengths, lower[chosen], contacts.distances[chosen])
    np.minimum.at(ratios, lower[chosen], contacts.distances[chosen] / contacts.van_der_waals[chosen])
    return tuple(lengths.tolist()), tuple(ratios.tolist())


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
