"""What a chemist would object to in a slab: distances, charge, sheets, and how far apart and how thick they are.

`validity` holds the two tests of CDVAE, which published measures are made of; a slab that has come apart passes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pymatgen.core import Element

from vdw_jax.metrics.layers import LayerStack, find_layers
from vdw_jax.metrics.validity import (
    MAX_ATOMIC_NUMBER,
    MIN_DISTANCE_ANGSTROM,
    MIN_VOLUME_ANGSTROM3,
    composition_is_valid,
    pair_distances,
)
from vdw_jax.types import SLAB

if TYPE_CHECKING:
    from vdw_jax.structures.dataset import CrystalDataset
    from vdw_jax.types import Periodicity

SHORTEST_BOND_FACTOR = 0.7
"""Distance over sum of covalent radii, at least. Triple bonds, the shortest there are, have 0.77 (N2) and 0.80 (CO)."""

MARGIN_ANGSTROM = 0.2
"""Added to both ends of a range. The potential that the data are relaxed with is 0.18 Angstrom short in interlayer
distances against DFT: a structure nearer to the data than that cannot be told from one of them."""

MOST_STRUCTURES = 2000
"""`layer_ranges` reads no more, evenly over the data set; finding layers takes milliseconds each."""


def layer_ranges(dataset: CrystalDataset, most: int = MOST_STRUCTURES) -> dict[str, Any]:
    """Smallest and largest of what is measured on the slabs of a data set.

    Keys: `num_layers`, `interlayer_distance_angstrom` (of each two neighbouring layers), `layer_thickness_angstrom`
    (highest atom over the lowest of a layer), `lattice_constant_angstrom` (root of the area of a x b over root of
    sin 120 degrees). The layers are those of slabs that have the commonest number of pieces, all of them sheets;
    loose pieces, which a few relaxations leave, would widen every range. A range without a value is left out: that
    of interlayer distances for monolayers, all of them for an empty data set or bulk.

    Args:
      dataset: slabs.
      most: structures that are read, at most, evenly spaced over the data set.
    """
    if dataset.periodicity != SLAB or len(dataset) == 0:
        return {}
    step = max(1, -(-len(dataset) // most))
    stacks: list[tuple[LayerStack, float]] = []
    for index in range(0, len(dataset), step):
        size = int(dataset.num_atoms[index])
        cell = dataset.cell[index].astype(float)
        try:
            stack = find_layers(dataset.atomic_numbers[index, :size], dataset.positions[index, :size], cell)
        except ValueError:  # a cell too skewed to search for bonds
            continue
        if all(layer.is_sheet for layer in stack.layers):
            stacks.append((stack, lattice_constant_angstrom(cell)))
    counts = [stack.num_layers for stack, _ in stacks]
    if not counts:
        return {}
    commonest = int(np.bincount(counts).argmax())
    usual = [(stack, constant) for stack, constant in stacks if stack.num_layers == commonest]
    measured = {
        "interlayer_distance_angstrom": [gap for stack, _ in usual for gap in stack.gaps_angstrom],
        "layer_thickness_angstrom": [
            layer.top_angstrom - layer.bottom_angstrom for stack, _ in usual for layer in stack.layers
        ],
        "lattice_constant_angstrom": [constant for _, constant in usual],
    }
    ranges: dict[str, Any] = {name: [min(values), max(values)] for name, values in measured.items() if values}
    return {"num_layers": [commonest, commonest]} | ranges


def lattice_constant_angstrom(cell: NDArray) -> float:
    """Of a slab: root of the area of a x b over root of sin 120 degrees, a itself for a hexagonal cell.

    Args:
      cell: [3, 3] rows a, b, c, Angstrom.
    """
    area = float(np.linalg.norm(np.cross(cell[0], cell[1])))
    return float(np.sqrt(area / np.sin(np.radians(120))))


def crystal_problems(
    atomic_numbers: NDArray, positions: NDArray, cell: NDArray, periodicity: Periodicity
) -> tuple[str, ...]:
    """What is wrong with distances, volume and charge of any crystal; () for nothing. Never raises.

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom.
      cell: [3, 3] rows a, b, c, Angstrom; of a slab, c with its vacuum counts to the volume.
      periodicity: which rows are periods.
    """
    numbers = np.asarray(atomic_numbers, dtype=int)
    positions, cell = np.asarray(positions, dtype=float).reshape(-1, 3), np.asarray(cell, dtype=float)
    if len(numbers) == 0:
        return ("no atoms",)
    if numbers.min() < 1 or numbers.max() > MAX_ATOMIC_NUMBER:
        return ("an atom is of no known element",)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        return ("a coordinate or the cell is not finite",)
    if abs(np.linalg.det(cell)) <= MIN_VOLUME_ANGSTROM3:
        return ("the cell has no volume",)
    problems = list(_close_contact(numbers, positions, cell, periodicity))
    if not composition_is_valid(numbers):
        problems.append("no choice of oxidation states is neutral")
    return tuple(problems)


def layer_problems(
    atomic_numbers: NDArray,
    positions: NDArray,
    cell: NDArray,
    *,
    num_layers: int | None = 2,
    ranges: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """What a chemist would object to in a slab, a text each; () for nothing. Never raises.

    Objections: atoms closer than 0.7 sums of their covalent radii; a composition that no oxidation states make
    neutral; pieces that are not bonded through the crystal along a and b; another number of layers; without `ranges`,
    two layers that bond or are too far apart (`LayerStack.is_bilayer`); with `ranges`, an interlayer distance or a
    thickness that is more than 0.2 Angstrom outside.

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom, normal along z.
      cell: [3, 3] rows a, b, c, Angstrom; c is read for the volume alone.
      num_layers: how many there have to be; None for any number.
      ranges: as `layer_ranges` makes them; its number of layers is not read.
    """
    problems = list(crystal_problems(atomic_numbers, positions, cell, SLAB))
    try:
        stack = find_layers(atomic_numbers, positions, cell)
    except (ValueError, IndexError, OverflowError) as error:
        return tuple(problems) or (f"layers cannot be found: {error}",)
    if not stack.layers:
        return tuple(problems)
    pieces = stack.num_layers
    loose = sum(not layer.is_sheet for layer in stack.layers)
    if loose:
        problems.append(f"{loose} of {pieces} bonded pieces {_is_are(loose)} not a sheet")
    if num_layers is not None and pieces != num_layers:
        problems.append(f"{pieces} bonded {'piece' if pieces == 1 else 'pieces'}, not {num_layers}")
    if loose or (num_layers is not None and pieces != num_layers):
        return tuple(problems)  # distances between loose pieces are no interlayer distances
    if ranges is None or "interlayer_distance_angstrom" not in ranges:
        if pieces == 2 and not stack.is_bilayer:
            problems.append(f"interlayer distance {stack.gaps_angstrom[0]:.2f} A is not that of a vdW bilayer")
    else:
        low, high = ranges["interlayer_distance_angstrom"]
        problems += _outside("interlayer distance", stack.gaps_angstrom, low, high)
    if ranges is not None and "layer_thickness_angstrom" in ranges:
        low, high = ranges["layer_thickness_angstrom"]
        thickness = tuple(layer.top_angstrom - layer.bottom_angstrom for layer in stack.layers)
        problems += _outside("layer thickness", thickness, low, high)
    return tuple(problems)


def _is_are(count: int) -> str:
    return "is" if count == 1 else "are"


def _outside(name: str, values: tuple[float, ...], low: float, high: float) -> list[str]:
    """A text for each value that lies outside by more than the margin."""
    return [
        f"{name} {value:.2f} A is outside {low:.2f} to {high:.2f} A of the data"
        for value in values
        if not low - MARGIN_ANGSTROM <= value <= high + MARGIN_ANGSTROM
    ]


def _close_contact(numbers: NDArray, positions: NDArray, cell: NDArray, periodicity: Periodicity) -> list[str]:
    """The two atoms that are closest by their radii, if they are too close."""
    try:
        distances = pair_distances(positions, cell, periodicity)
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        return [str(error)]
    radii = covalent_radii[numbers]
    limits = np.maximum(SHORTEST_BOND_FACTOR * (radii[:, None] + radii), MIN_DISTANCE_ANGSTROM)
    nearness = distances / limits
    first, second = divmod(int(np.argmin(nearness)), len(numbers))
    if nearness[first, second] > 1:
        return []
    names = f"{Element.from_Z(int(numbers[first])).symbol} and {Element.from_Z(int(numbers[second])).symbol}"
    return [f"{names} are {distances[first, second]:.2f} A apart"]
