"""One structure as a file has it, before anything is decided about it: what every reader of a format yields."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vdw_jax.structures.elements import ATOMIC_NUMBERS
from vdw_jax.structures.errors import Problem
from vdw_jax.types import BULK, Periodicity

if TYPE_CHECKING:
    from pymatgen.core import Structure

ID_KEYS = ("material_id", "uid", "id", "name", "entry_id")
"""Where a structure's name is looked for, in this order."""

ISOTOPES = {"D": 1, "T": 1}


class StructureError(ValueError):
    """One structure cannot be read; the message gives the reason."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One structure of a file; nothing in it is checked but that it has the types below."""

    file: str
    row: int  # as in `Problem`
    id: str
    atomic_numbers: np.ndarray  # [n] int, 0 for what is no element
    positions: np.ndarray  # [n, 3] float64, Cartesian, Angstrom
    cell: np.ndarray  # [3, 3] float64, rows a, b, c, Angstrom
    values: Mapping[str, Any] = field(default_factory=dict)  # numbers and texts by name
    periodicity: Periodicity = BULK  # as the file says
    column: str | None = None  # the field of the file that holds the structure, where it is only one
    id_field: str = "material_id"  # the field of the file that names it

    def problem(self, field: str, reason: str, advice: str) -> Problem:
        """What is wrong with this structure."""
        return Problem(self.file, self.row, field, reason, advice)


@dataclass(frozen=True)
class Reading:
    """The structures of a file or a folder, read one by one."""

    total: int
    entries: Iterator[Entry | Problem]


def plain_values(values: Mapping[str, Any]) -> dict[str, float | str]:
    """Those that are single numbers or texts: a property or a note of the structure."""
    kept: dict[str, float | str] = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        if isinstance(value, str):
            kept[str(name)] = value
        elif isinstance(value, bool | np.bool_ | numbers.Real):
            try:
                kept[str(name)] = float(value)
            except OverflowError:  # a whole number of hundreds of digits
                kept[str(name)] = float("inf")
    return kept


def id_among(values: Mapping[str, Any], otherwise: str) -> tuple[str, str]:
    """The structure's name by the first of `ID_KEYS` that says something, and that key."""
    for key in ID_KEYS:
        value = values.get(key)
        if isinstance(value, str | int) and str(value).strip():
            return str(value).strip(), key
    return otherwise, ID_KEYS[0]


def first_line(error: BaseException) -> str:
    """What a library says in its error, in one line of bearable length."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def arrays_of(structure: Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers [n], fractional coordinates [n, 3] and cell [3, 3] (rows, Angstrom) of a pymatgen structure.

    Raises:
        StructureError: partly occupied, or an element past Fm.
    """
    if not structure.is_ordered:
        raise StructureError("a site is partly occupied")
    symbols = [site.specie.symbol for site in structure]
    known = ATOMIC_NUMBERS | ISOTOPES
    unknown = [name for name in symbols if name not in known]
    if unknown:
        raise StructureError(f"unknown element {unknown[0]!r}: none of H..Fm")
    return np.array([known[name] for name in symbols], int), structure.frac_coords, structure.lattice.matrix
