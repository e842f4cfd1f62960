"""One structure as a file has it, before anything is decided about it: what every reader of a format yields."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vdw_jax.structures.elements import ATOMIC_NUMBERS
from vdw_jax.structures.errors import Problem
from vdw_jax.types import BULK, Periodicity

ID_KEYS = ("material_id", "uid", "jid", "id", "name", "entry_id", "task_id")
"""Where a structure's name is looked for, in this order."""

MOST_STRUCTURES = 500_000
"""Of one file; each takes about 2 KB of memory while it is read."""

ISOTOPES = {"D": 1, "T": 1}
"""Deuterium and tritium are hydrogen."""

ELEMENTS = ATOMIC_NUMBERS | ISOTOPES
"""Atomic number of each symbol."""


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
    not_taken: tuple[str, ...] = ()  # names of what stands beside it and is no single number or text

    def problem(self, field: str, reason: str, advice: str) -> Problem:
        """What is wrong with this structure."""
        return Problem(self.file, self.row, field, reason, advice, self.id)


@dataclass(frozen=True)
class Reading:
    """The structures of a file or a folder, read one by one."""

    total: int | None  # None where it shows only on the way
    entries: Iterator[Entry | Problem]
    notes: tuple[str, ...] = ()  # what was found in the file or folder and is not read


def plain_values(values: Mapping[str, Any]) -> tuple[dict[str, float | str], tuple[str, ...]]:
    """Those that are single numbers or texts, a property or a note of the structure; and the names of the others."""
    kept: dict[str, float | str] = {}
    others: list[str] = []
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
        elif value is not None:
            others.append(str(name))
    return kept, tuple(others)


def merged(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """All values by name; where two sources have another value of one name, the later one is called "data.name"."""
    together: dict[str, Any] = {}
    for source in sources:
        for name, value in source.items():
            if name in together and not _same(together[name], value):
                together.setdefault(f"data.{name}", value)
            else:
                together.setdefault(name, value)
    return together


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second if isinstance(first, str | int | float) else False


def numbers_of(symbols: Sequence[Any]) -> np.ndarray:
    """Atomic numbers [n] of symbols as they are written; D and T are H.

    Raises:
        StructureError: one is no symbol of H to Fm; names the atom.
    """
    found = np.zeros(len(symbols), int)
    for place, name in enumerate(symbols):
        number = ELEMENTS.get(name) if isinstance(name, str) else None
        if number is None:
            raise StructureError(f"atom {place + 1}: {str(name)[:40]!r} is no element from H to Fm")
        found[place] = number
    return found


def id_among(values: Mapping[str, Any], otherwise: str) -> tuple[str, str]:
    """The structure's name by the first of `ID_KEYS` that says something, and that key."""
    for key in ID_KEYS:
        value = values.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip(), key
    return otherwise, ID_KEYS[0]


def first_line(error: BaseException) -> str:
    """What a library says in its error, in one line of bearable length."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
