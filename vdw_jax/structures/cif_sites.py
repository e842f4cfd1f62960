"""The loop of atom sites of a CIF: which element stands where, and that each site is one whole atom."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vdw_jax.structures.cif_block import FRACTIONS, Block, digits_of, number_in
from vdw_jax.structures.elements import ATOMIC_NUMBERS
from vdw_jax.structures.entries import ISOTOPES, StructureError

MOST_ATOMS = 20_000
"""Far above what is learned from; keeps a list of sites and operators from filling the memory."""

_MULTIPLICITIES = ("_atom_site_site_symmetry_multiplicity", "_atom_site_symmetry_multiplicity")
_TYPE = re.compile(r"([A-Z][a-z]?)(?:\d*\.?\d*[+-]|[+-]\d+\.?\d*|0)?")
_LABEL = re.compile(r"([A-Z][a-z]?)(?:\d+[A-Za-z']{0,2}\d?|\d*[_(*'].*|\d*[+-]\d*)?")
_WATER = re.compile(r"H\d[A-Z]")  # H2O is water, not a hydrogen


_MANY_DIGITS = 9


@dataclass(frozen=True, eq=False)
class Sites:
    """What the loop of sites says."""

    labels: list[str]
    numbers: np.ndarray  # [n] int
    fractions: np.ndarray  # [n, 3]
    digits: list[int]  # most digits after the point of x, y, z, where they are rounded
    multiplicities: list[float | None]


def sites_of(block: Block) -> Sites:
    """The loop of sites.

    Raises:
        StructureError: a site without element or place, partly occupied, disordered, or more than one atom; names it.
    """
    types = block.of_sites("_atom_site_type_symbol")
    labels = block.of_sites("_atom_site_label", "_atom_site_label_atom_id")
    if len(types) > MOST_ATOMS:
        raise StructureError(f"{len(types)} atom sites; at most {MOST_ATOMS} are read")
    for place, label in enumerate(labels):
        if label is None and types[place] is None:
            raise StructureError(f"site {place + 1} has neither a type nor a label")
    names = [label or f"{place + 1} ({types[place]})" for place, label in enumerate(labels)]
    has_formula = block.one("_chemical_formula_sum") is not None
    numbers = [
        _element(name, kind, label, has_formula)
        for name, kind, label in zip(names, types, labels, strict=True)
    ]
    written = [block.of_sites(name) for name in FRACTIONS]
    fractions = [
        [
            number_in(text, f"{name} of site {label}")
            for text, label in zip(column, names, strict=True)
        ]
        for name, column in zip(FRACTIONS, written, strict=True)
    ]
    _check_whole_atoms(block, names)
    multiplicities = [
        None if text is None else number_in(text, f"the multiplicity of site {label}")
        for text, label in zip(block.of_sites(*_MULTIPLICITIES), names, strict=True)
    ]
    digits = [_digits(column) for column in written]
    return Sites(names, np.array(numbers, int), np.array(fractions).T, digits, multiplicities)


def _digits(column: list[str | None]) -> int:
    """Most digits after the point of what is rounded: 0, 1/4 and 1/8 are exact, however few digits they have."""
    rounded = [text for text in column if (number_in(text, "a coordinate") * 24) % 1]
    return max(map(digits_of, rounded), default=_MANY_DIGITS)


def _element(name: str, kind: str | None, label: str | None, has_formula: bool) -> int:
    """Atomic number by the type of a site, or by its label where there is no type.

    Raises:
        StructureError: none of H..Fm. A symbol is not cut short until an element is left: OH is not O.
    """
    known = ATOMIC_NUMBERS | ISOTOPES
    by_label = _LABEL.fullmatch(label or "")
    labelled = by_label[1] if by_label and not _WATER.match(label or "") else None
    if kind is None:
        if labelled is None or labelled not in known:
            raise StructureError(
                f"site {name}: the label names no element of H..Fm, and there is no type symbol"
            )
        return known[labelled]
    match = _TYPE.fullmatch(kind)
    symbol = match[1] if match else kind
    if symbol not in known:
        raise StructureError(f"site {name}: unknown element {kind!r}: none of H..Fm")
    # Cd1 may be the fourth carbon; Ga1 is no indium. A formula decides by itself.
    by_the_label = known.get(labelled or "", known[symbol])
    is_other = by_the_label != known[symbol] and not (labelled or "").startswith(symbol)
    if is_other and not has_formula:
        raise StructureError(f"site {name} is of type {kind}, but its label says {labelled}")
    return known[symbol]


def _check_whole_atoms(block: Block, names: list[str]) -> None:
    """Raises StructureError unless every site is one atom that is always there."""
    occupancies = block.of_sites("_atom_site_occupancy")
    groups = block.of_sites("_atom_site_disorder_group")
    attached = block.of_sites("_atom_site_attached_hydrogens")
    flags = block.of_sites("_atom_site_calc_flag")
    for place, name in enumerate(names):
        occupancy = number_in(occupancies[place] or "1", f"the occupancy of site {name}")
        if abs(occupancy - 1) > 1e-3:
            raise StructureError(f"site {name} is partly occupied ({occupancies[place]})")
        if groups[place] not in (None, "0"):
            raise StructureError(f"site {name} belongs to disorder group {groups[place]}")
        hydrogens = number_in(attached[place] or "0", f"the attached hydrogens of site {name}")
        if hydrogens:
            raise StructureError(
                f"site {name} carries {hydrogens:g} H without a place of their own"
            )
        if (flags[place] or "").lower() == "dum":
            raise StructureError(f"site {name} is a dummy, no atom")
