"""A data block of a CIF: its values by name, whatever the case and the dots of the name."""

from __future__ import annotations

import math
import re

import gemmi

from vdw_jax.structures.entries import StructureError

FRACTIONS = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_NUMBER = re.compile(
    r"([-+]?(?:\d+\.?(?P<digits>\d*)|\.(?P<bare>\d+))(?:[eE][-+]?\d+)?)(?:\(\d+\))?"
)


def _plain(name: str) -> str:
    """Names of data do not depend on case; today's dictionaries write a dot for the first line."""
    return name.lower().replace(".", "_")


def has_sites(block: gemmi.cif.Block) -> bool:
    """Whether there is a structure in it."""
    names: list[str] = []
    for item in block:
        if item.loop is not None:
            names += item.loop.tags
        elif item.pair is not None:
            names.append(item.pair[0])
    return FRACTIONS[0] in map(_plain, names)


class Block:
    """Values of a data block by name, None for `.` and `?`."""

    def __init__(self, block: gemmi.cif.Block):
        self._columns: dict[str, list[str | None]] = {}
        self._loop_of: dict[str, int] = {}
        for place, item in enumerate(block):
            if item.loop is not None:
                tags, values = item.loop.tags, item.loop.values
                for column, name in enumerate(tags):
                    self._add(name, values[column :: len(tags)], place)
            elif item.pair is not None:
                self._add(item.pair[0], [item.pair[1]], -1)

    def _add(self, name: str, raw: list[str], loop: int) -> None:
        name = _plain(name)
        if name in self._columns:
            raise StructureError(f"the data name {name} occurs twice")
        self._columns[name] = [_value(text) for text in raw]
        self._loop_of[name] = loop

    def names(self) -> list[str]:
        """All data names, in small letters and without dots."""
        return list(self._columns)

    def one(self, *names: str) -> str | None:
        """The value under the first of these names that has one.

        Raises:
            StructureError: a loop gives several.
        """
        for name in names:
            found = list(dict.fromkeys(value for value in self._columns.get(name, ()) if value))
            if len(found) > 1:
                raise StructureError(f"{name} has several values: {', '.join(found[:3])}")
            if found:
                return found[0]
        return None

    def column(self, *names: str) -> list[str | None]:
        """All values under the first of these names that is there."""
        return next((self._columns[name] for name in names if name in self._columns), [])

    def of_sites(self, *names: str) -> list[str | None]:
        """A column of the loop of sites; Nones where it is not there."""
        sites = FRACTIONS[0]
        for name in names:
            if name in self._columns:
                if self._loop_of[name] != self._loop_of[sites]:
                    raise StructureError(f"{name} stands in another loop than {sites}")
                return self._columns[name]
        return [None] * len(self._columns[sites])


def _value(raw: str) -> str | None:
    text = gemmi.cif.as_string(raw).strip()
    return None if text in ("", ".", "?") else text


def number_in(text: str | None, what: str) -> float:
    match = _NUMBER.fullmatch(text) if text else None
    if match is None or not math.isfinite(float(match[1])):
        raise StructureError(f"{what} is {text!r}, no number" if text else f"{what} is not given")
    return float(match[1])


def digits_of(text: str | None) -> int:
    """Digits after the point."""
    match = _NUMBER.fullmatch(text or "")
    return len(match["digits"] or match["bare"] or "") if match else 0
