"""Structures as plain JSON: lattice, species and coordinates, and nothing else of what a file may
hold.

pymatgen's own reader makes objects of whatever class a dictionary names, which runs code that the
file chooses. Here only numbers and symbols are taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vdw_jax.structures.cif import cell_from_parameters
from vdw_jax.structures.entries import StructureError, numbers_of
from vdw_jax.types import Periodicity

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, Periodicity]
"""Atomic numbers [n], positions [n, 3] and cell [3, 3] in Angstrom, and which lattice vectors are
periods.
"""

_DECORATED = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*[+-])?")
"""A symbol, and perhaps its oxidation state: "Fe3+" is iron."""

_FULL = 1e-6
"""Occupancies this close to 1 are 1."""


@dataclass(frozen=True)
class Kind:
    """One way to write a structure."""

    keys: frozenset[str]  # which say that it is of this kind
    read: Callable[[dict[str, Any]], Arrays]
    beside: Callable[[dict[str, Any]], dict[str, Any]]  # values that stand within it


def kind_of(item: Any) -> Kind | None:
    """The kind of a structure; None for what is none."""
    if not isinstance(item, dict):
        return None
    return next((kind for kind in KINDS if kind.keys <= item.keys()), None)


def values_within(item: dict[str, Any]) -> dict[str, Any]:
    """What stands within a structure beside its atoms."""
    kind = kind_of(item)
    return dict(kind.beside(item)) if kind else {}


def _pymatgen(item: dict[str, Any]) -> Arrays:
    lattice = item["lattice"]
    if not isinstance(lattice, dict):
        raise StructureError("the lattice is no dictionary")
    if "matrix" in lattice:
        cell = _numbers(lattice["matrix"], (3, 3), "lattice")
    else:
        lengths, angles = (
            [_number(lattice.get(name), name) for name in names]
            for names in (("a", "b", "c"), ("alpha", "beta", "gamma"))
        )
        cell = cell_from_parameters(lengths, angles)
    sites = item["sites"]
    if not isinstance(sites, list) or not all(isinstance(site, dict) for site in sites):
        raise StructureError("the sites are no list of dictionaries")
    symbols = [_species(place, site.get("species")) for place, site in enumerate(sites, start=1)]
    fractional = all("abc" in site for site in sites)
    key = "abc" if fractional else "xyz"
    coordinates = _numbers(
        [site.get(key) for site in sites], (len(sites), 3), f"the coordinates {key}"
    )
    positions = coordinates @ cell if fractional else coordinates
    return numbers_of(symbols), positions, cell, _periods(lattice.get("pbc", [True] * 3))


def _species(place: int, species: Any) -> str:
    if (
        not isinstance(species, list)
        or not all(isinstance(one, dict) for one in species)
        or not species
    ):
        raise StructureError(f"atom {place} has no list of species")
    occupancies = [_number(one.get("occu", 1), "occupancy") for one in species]
    if len(species) > 1 or abs(occupancies[0] - 1) > _FULL:
        raise StructureError(f"atom {place} is partly occupied")
    return _bare(species[0].get("element"))


def _bare(symbol: Any) -> str:
    """A symbol without its oxidation state; what is none of both stays as it is."""
    found = _DECORATED.fullmatch(symbol) if isinstance(symbol, str) else None
    return found[1] if found else symbol


def _jarvis(item: dict[str, Any]) -> Arrays:
    cell = _numbers(item["lattice_mat"], (3, 3), "lattice_mat")
    elements = item["elements"]
    if not isinstance(elements, list):
        raise StructureError("the elements are no list")
    coordinates = _numbers(item["coords"], (len(elements), 3), "coords")
    cartesian = item.get("cartesian", False)
    if not isinstance(cartesian, bool):
        raise StructureError("cartesian is neither true nor false")
    positions = coordinates if cartesian else coordinates @ cell
    return numbers_of([_bare(name) for name in elements]), positions, cell, (True, True, True)


def _optimade(item: dict[str, Any]) -> Arrays:
    features = item.get("structure_features")
    strange = {"disorder", "implicit_atoms", "unknown_positions", "assemblies"}
    found = (
        strange & {name for name in features if isinstance(name, str)}
        if isinstance(features, list)
        else set()
    )
    if found:
        raise StructureError(f"its features are {', '.join(sorted(found))}")
    periods = _periods(item.get("dimension_types") or [True] * 3)
    vectors = item["lattice_vectors"]
    if not isinstance(vectors, list) or len(vectors) != 3:
        raise StructureError("lattice_vectors are not three")
    known = []
    for vector, period in zip(vectors, periods, strict=True):
        unknown = vector is None or (isinstance(vector, list) and None in vector)
        known.append([0.0] * 3 if unknown and not period else vector)
    cell = _numbers(known, (3, 3), "lattice_vectors")
    names = item["species_at_sites"]
    if not isinstance(names, list):
        raise StructureError("species_at_sites is no list")
    symbols = _optimade_species(item.get("species"))
    for place, name in enumerate(names, start=1):
        if isinstance(name, str) and symbols.get(name, name) is None:
            raise StructureError(f"atom {place} is partly occupied")
    positions = _numbers(
        item["cartesian_site_positions"], (len(names), 3), "cartesian_site_positions"
    )
    elements = [symbols.get(name, name) if isinstance(name, str) else name for name in names]
    return numbers_of(elements), positions, cell, periods


def _optimade_species(species: Any) -> dict[str, str | None]:
    """The element of each kind of site; None where it is more than one, or not always there."""
    found: dict[str, str | None] = {}
    for one in species if isinstance(species, list) else []:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise StructureError("species without a name")
        elements, shares = one.get("chemical_symbols"), one.get("concentration", [1.0])
        symbol = elements[0] if isinstance(elements, list) and len(elements) == 1 else None
        whole = (
            isinstance(shares, list)
            and len(shares) == 1
            and abs(_number(shares[0], "concentration") - 1) < _FULL
        )
        attached = bool(one.get("attached"))
        found[one["name"]] = symbol if isinstance(symbol, str) and whole and not attached else None
    return found


def _ase(item: dict[str, Any]) -> Arrays:
    numbers = item["numbers"]
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise StructureError("atomic numbers are no list of whole numbers")
    positions = _numbers(item["positions"], (len(numbers), 3), "positions")
    cell = _numbers(item["cell"], (3, 3), "cell")
    return np.array(numbers, int), positions, cell, _periods(item.get("pbc", [False] * 3))


def _periods(given: Any) -> Periodicity:
    if (
        not isinstance(given, list)
        or len(given) != 3
        or not all(value in (True, False) for value in given)
    ):
        raise StructureError("the periods are not three of true and false")
    a, b, c = (bool(value) for value in given)
    return (a, b, c)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StructureError(f"{name} is no number")
    return float(value)


def _numbers(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """An array of this shape; texts are no numbers, though numpy reads them as such."""
    try:
        found = np.array(values)
    except ValueError as error:
        raise StructureError(f"{name}: rows of different lengths") from error
    if shape[0] == 0 and found.size == 0:
        return np.zeros(shape)
    if found.shape != shape or found.dtype.kind not in "iuf":
        raise StructureError(f"{name}: not {' x '.join(map(str, shape))} numbers")
    return found.astype(float)


def _properties(item: dict[str, Any]) -> dict[str, Any]:
    properties = item.get("properties")
    return properties if isinstance(properties, dict) else {}


def _attributes(item: dict[str, Any]) -> dict[str, Any]:
    atoms = (
        "lattice_vectors",
        "cartesian_site_positions",
        "species_at_sites",
        "species",
        "dimension_types",
        "structure_features",
        "elements",
        "elements_ratios",
    )
    return {key: value for key, value in item.items() if key not in atoms}


def _nothing(item: dict[str, Any]) -> dict[str, Any]:
    del item
    return {}


KINDS = (
    Kind(frozenset({"lattice", "sites"}), _pymatgen, _properties),
    Kind(frozenset({"lattice_mat", "coords", "elements"}), _jarvis, _nothing),
    Kind(
        frozenset({"lattice_vectors", "cartesian_site_positions", "species_at_sites"}),
        _optimade,
        _attributes,
    ),
    Kind(frozenset({"numbers", "positions", "cell"}), _ase, _nothing),
)
"""Every way that is read; the first whose keys are there."""
