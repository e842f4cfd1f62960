"""Fingerprints of structure and composition, as CDVAE measures coverage with them (Xie et al., ICLR 2022, section 5.2).

Structure: the "ops" fingerprint of CrystalNN (Zimmermann and Jain, RSC Adv. 10, 6063 (2020)), the mean over the sites.
Composition: the statistics of Magpie (Ward et al., npj Comput. Mater. 2, 16028 (2016)), standardised as CDVAE does.

Both are those of matminer (`CrystalNNFingerprint.from_preset("ops")`, `ElementProperty.from_preset("magpie")`) with
pymatgen's CrystalNN; only the Voronoi cells are found another way. matminer wants pandas below 3, and needs 0.9 s for a
slab of 8 atoms where this needs a tenth: pymatgen makes the whole diagram of all atoms within 28 Angstrom to reach
across a vacuum, here a hull gives the one cell that is asked for.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.local_env import CN_OPT_PARAMS, CovalentRadius, LocalStructOrderParams
from pymatgen.core import Element
from scipy.spatial import ConvexHull, QhullError

VERSION = 1
"""Of the definitions in this file; raise it with any change of a value, so that stored fingerprints are made again."""

MOTIFS: dict[int, tuple[str, ...]] = {
    1: ("sgl_bd",),
    2: ("L-shaped", "water-like", "bent 120 degrees", "bent 150 degrees", "linear"),
    3: ("trigonal planar", "trigonal non-coplanar", "T-shaped"),
    4: ("square co-planar", "tetrahedral", "rectangular see-saw-like", "see-saw-like", "trigonal pyramidal"),
    5: ("pentagonal planar", "square pyramidal", "trigonal bipyramidal"),
    6: ("hexagonal planar", "octahedral", "pentagonal pyramidal"),
    7: ("hexagonal pyramidal", "pentagonal bipyramidal"),
    8: ("body-centered cubic", "hexagonal bipyramidal"),
    9: ("q2", "q4", "q6"),
    10: ("q2", "q4", "q6"),
    11: ("q2", "q4", "q6"),
    12: ("cuboctahedral", "q2", "q4", "q6"),
}
"""Order parameters by coordination number, in the order of the fingerprint; from 13 to 24 there is the weight alone."""

MAX_COORDINATION = 24
STRUCTURE_SIZE = MAX_COORDINATION + sum(map(len, MOTIFS.values()))
COMPOSITION_SIZE = 132

_SEARCH_CUTOFF_ANGSTROM = 7.0
_DISTANCE_CUTOFFS_ANGSTROM = (0.5, 1.0)
_X_DIFFERENCE_WEIGHT, _LARGEST_X_DIFFERENCE = 3.0, 3.3


class FingerprintError(ValueError):
    """The crystal has no fingerprint: a site without a Voronoi cell, or an element without data."""


def structure_fingerprint(atomic_numbers: NDArray, positions: NDArray, cell: NDArray) -> NDArray:
    """Mean over the sites of the "ops" fingerprint; [61].

    Args:
      atomic_numbers: [n] int.
      positions: [n, 3] Cartesian, Angstrom.
      cell: [3, 3] rows a, b, c, Angstrom; all three are periods, so a slab's holds its vacuum, and how much matters.

    Raises:
      FingerprintError: a value is not finite, the cell is flat, atoms coincide, or an element is unknown.
    """
    numbers, positions = np.asarray(atomic_numbers, int), np.asarray(positions, float).reshape(-1, 3)
    cell = np.asarray(cell, float)
    if len(numbers) == 0 or not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise FingerprintError("no atoms, or values that are not finite")
    if abs(np.linalg.det(cell)) < 1e-3:
        raise FingerprintError("the cell has no volume")
    return np.mean([_site_fingerprint(numbers, positions, cell, site) for site in range(len(numbers))], axis=0)


def coordination_weights(
    atomic_numbers: NDArray, positions: NDArray, cell: NDArray, site: int
) -> dict[int, tuple[float, NDArray]]:
    """CrystalNN's likelihood of each coordination number, and the neighbours that make it up.

    Args: as in `structure_fingerprint`; `site` is the place of the atom.

    Returns:
      by coordination number its weight and the vectors to the neighbours [number, 3], Angstrom.
    """
    vectors, kinds, angles, areas = _voronoi_cell(atomic_numbers, positions, cell, site)
    own, others = _element(int(atomic_numbers[site])), [_element(z) for z in kinds.tolist()]
    weights = angles / angles.max() * angles / areas
    for place, (electronegativity, _) in enumerate(others):
        difference = abs(electronegativity - own[0])
        if not math.isnan(difference):
            weights[place] *= 1 + _X_DIFFERENCE_WEIGHT * math.sqrt(difference / _LARGEST_X_DIFFERENCE)
    weights /= weights.max()
    beyond = np.linalg.norm(vectors, axis=1) - np.array([own[1] + radius for _, radius in others])
    low, high = _DISTANCE_CUTOFFS_ANGSTROM
    weights *= 0.5 * (np.cos(np.clip((beyond - low) / (high - low), 0.0, 1.0) * np.pi) + 1.0)
    weights = np.round(weights, 3)
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] > 0]
    if len(order) == 0:
        return {0: (1.0, np.zeros((0, 3)))}
    levels = np.unique(weights[order])[::-1]
    bounds = [_half_disc(x) for x in (*levels, 0.0)]
    found = {}
    for place, level in enumerate(levels):
        near = order[weights[order] >= level]
        found[len(near)] = (bounds[place] - bounds[place + 1]) / (0.25 * math.pi), vectors[near]
    return found


def _half_disc(x: float) -> float:
    """Area of the unit semicircle from 0 to x."""
    return 0.25 * math.pi if x >= 1 else 0.5 * (x * math.sqrt(1 - x * x) + math.asin(x))


def _site_fingerprint(numbers: NDArray, positions: NDArray, cell: NDArray, site: int) -> NDArray:
    weights = coordination_weights(numbers, positions, cell, site)
    values: list[float] = []
    for coordination in range(1, MAX_COORDINATION + 1):
        motifs = MOTIFS.get(coordination, ())
        weight, vectors = weights.get(coordination, (0.0, None))
        values.append(weight)
        if weight == 0 or vectors is None or not motifs:
            values += [0.0] * len(motifs)
            continue
        sites: Any = [SimpleNamespace(coords=vector) for vector in (np.zeros(3), *vectors)]
        near = list(range(1, coordination + 1))
        for order_parameter in _order_parameters(coordination):
            values.append(weight * (order_parameter.get_order_parameters(sites, 0, near)[0] or 0.0))
    return np.array(values)


@functools.cache
def _order_parameters(coordination: int) -> list[LocalStructOrderParams]:
    """One by one, as in matminer: several in one object give pymatgen other values."""
    known: Any = CN_OPT_PARAMS.get(coordination, {})
    chosen = [known.get(motif, [motif]) for motif in MOTIFS[coordination]]
    return [LocalStructOrderParams([kind], parameters=[*rest] or None) for kind, *rest in chosen]


@functools.cache
def _element(atomic_number: int) -> tuple[float, float]:
    """Pauling electronegativity (NaN where unknown) and covalent radius in Angstrom."""
    try:
        element = Element.from_Z(atomic_number)
    except ValueError as error:
        raise FingerprintError(f"atomic number {atomic_number} is unknown") from error
    radius = CovalentRadius.radius.get(element.symbol, element.atomic_radius)
    if radius is None:
        raise FingerprintError(f"{element.symbol} has no covalent radius")
    return float(element.X), float(radius)


def _voronoi_cell(
    numbers: NDArray, positions: NDArray, cell: NDArray, site: int
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Faces of one site's Voronoi cell: vectors to the atoms behind them [f, 3], their atomic numbers, solid angles
    [f] and areas [f].

    As in pymatgen, the atoms within 7 Angstrom are tried first, then twice as many until the cell closes.
    """
    corners = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    largest = float(np.linalg.norm(corners @ cell, axis=1).max()) + 0.011
    cutoff = _SEARCH_CUTOFF_ANGSTROM
    while True:
        vectors, kinds = _within(numbers, positions, cell, site, cutoff)
        faces = _faces(vectors)
        if faces is not None:
            chosen, angles, areas = faces
            return vectors[chosen], kinds[chosen], angles, areas
        if cutoff >= largest:
            raise FingerprintError(f"site {site} has no closed Voronoi cell")
        cutoff = min(2 * cutoff, largest)


def _within(
    numbers: NDArray, positions: NDArray, cell: NDArray, site: int, cutoff: float
) -> tuple[NDArray, NDArray]:
    inverse = np.linalg.inv(cell)
    fractional = (positions - positions[site]) @ inverse
    fractional -= np.floor(fractional + 0.5)
    reach = np.ceil(cutoff * np.linalg.norm(inverse, axis=0) + 0.5).astype(int)
    if np.prod(2.0 * reach + 1) * len(numbers) > 1e6:
        raise FingerprintError("the cell is too flat to search for neighbours")
    images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
    vectors = ((fractional[None] + images[:, None]) @ cell).reshape(-1, 3)
    squared = (vectors**2).sum(1)
    squared[len(images) // 2 * len(numbers) + site] = np.inf  # the atom itself, in the image that is none
    near = np.flatnonzero(squared <= cutoff**2)
    if len(near) and squared[near].min() < 1e-6:
        raise FingerprintError("two atoms coincide")
    near = near[np.argsort(squared[near], kind="stable")]
    return vectors[near], numbers[near % len(numbers)]


def _faces(vectors: NDArray) -> tuple[NDArray, NDArray, NDArray] | None:
    """Faces of the cell around the origin, or None where it is open.

    The planes halfway to the neighbours, x . d = d . d / 2, are the points 2 d / d . d in the dual; facets of their
    hull are the vertices of the cell.
    """
    if len(vectors) < 4:
        return None
    try:
        hull = ConvexHull(2.0 * vectors / (vectors**2).sum(1, keepdims=True))
    except QhullError:
        return None
    offsets = hull.equations[:, 3]
    if (offsets > -1e-9).any():
        return None
    vertices = hull.equations[:, :3] / -offsets[:, None]
    owner = hull.simplices.ravel()
    corners = np.repeat(vertices, 3, axis=0)
    by_owner = np.argsort(owner, kind="stable")
    chosen, starts = np.unique(owner[by_owner], return_index=True)
    faces = [_polygon(vectors[j], corners[rows]) for j, rows in
             zip(chosen, np.split(by_owner, starts[1:]), strict=True)]  # fmt: skip
    angles, areas = np.array(faces).T
    real = (angles > 1e-9) & (areas > 1e-12)
    return chosen[real], angles[real], areas[real]


def _polygon(normal: NDArray, corners: NDArray) -> tuple[float, float]:
    """Solid angle from the origin and area of a convex polygon across `normal`; corners [k, 3] in any order."""
    length = math.sqrt(normal @ normal)
    axis = normal / length
    first = np.array([-axis[1], axis[0], 0.0]) if abs(axis[2]) < 0.9 else np.array([0.0, -axis[2], axis[1]])
    first /= math.sqrt(first @ first)
    second = np.array([
        axis[1] * first[2] - axis[2] * first[1],
        axis[2] * first[0] - axis[0] * first[2],
        axis[0] * first[1] - axis[1] * first[0],
    ])  # fmt: skip
    flat = corners @ np.stack([first, second], 1)
    centre = flat.mean(0)
    flat = flat[np.argsort(np.arctan2(flat[:, 1] - centre[1], flat[:, 0] - centre[0]))]
    start, one, other = flat[0], flat[1:-1], flat[2:]
    doubled = (one[:, 0] - start[0]) * (other[:, 1] - start[1]) - (one[:, 1] - start[1]) * (other[:, 0] - start[0])
    height = 0.5 * length
    norms = np.sqrt((flat**2).sum(1) + height**2)
    a, b, c = norms[0], norms[1:-1], norms[2:]
    square = height**2
    ab, ac = one @ start + square, other @ start + square
    bc = (one * other).sum(1) + square
    angle = 2.0 * np.arctan2(height * np.abs(doubled), a * b * c + ab * c + ac * b + bc * a)
    return float(angle.sum()), float(0.5 * np.abs(doubled).sum())


def composition_fingerprint(atomic_numbers: NDArray) -> NDArray:
    """Magpie's statistics of a composition less CDVAE's means over its standard deviations; [132].

    A feature that an element has no value of is 0, as in CDVAE. Cached by reduced formula.

    Args:
      atomic_numbers: [n] int.

    Raises:
      FingerprintError: no atoms, or an element heavier than Magpie's.
    """
    counts = Counter(int(number) for number in np.asarray(atomic_numbers).ravel())
    if not counts:
        raise FingerprintError("no atoms")
    divisor = math.gcd(*counts.values())
    return _composition_fingerprint(tuple(sorted((number, count // divisor) for number, count in counts.items())))


@functools.lru_cache(maxsize=100_000)
def _composition_fingerprint(counts: tuple[tuple[int, int], ...]) -> NDArray:
    table, (mean, std) = _magpie(), _scaler()
    numbers, amounts = np.array(counts).T
    if numbers.min() < 1 or numbers.max() > len(table):
        raise FingerprintError(f"atomic numbers {numbers.tolist()} are not all in Magpie's table")
    values, shares = table[numbers - 1], amounts / amounts.sum()
    average = shares @ values
    low, high = values.min(0), values.max(0)
    spread = shares @ np.abs(values - average)
    most = values[np.isclose(amounts, amounts.max())].min(0)
    raw = np.stack([low, high, high - low, average, spread, most], axis=1).ravel()
    scaled = (raw - mean) / std
    return np.where(np.isnan(scaled), 0.0, scaled)


def _data(name: str, columns: list[int]) -> NDArray:
    with (files("vdw_jax.metrics") / "data" / name).open(encoding="utf-8") as file:
        return np.genfromtxt(file, delimiter=",", skip_header=2, usecols=columns)


@functools.cache
def _magpie() -> NDArray:
    """22 properties by atomic number less 1; [112, 22], NaN where unknown."""
    return _data("magpie.csv", list(range(1, 23)))


@functools.cache
def _scaler() -> tuple[NDArray, NDArray]:
    """Mean [132] and standard deviation [132] of each feature."""
    mean, std = _data("cdvae_scaler.csv", [2, 3]).T
    return mean, std
