"""Structures of a file as somebody else reads them: pymatgen, ASE, or the plain numbers of the file.

Never the library that our reader of the format relies on: CIF goes to pymatgen and ASE (ours is gemmi), POSCAR to the
same two (ours is our own), extended XYZ and JSON are taken apart here (ours are ASE and pymatgen).
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ase.io
import numpy as np
from ase.data import atomic_numbers
from pymatgen.io.cif import CifParser
from pymatgen.io.vasp import Poscar

NUMBER_OF = {symbol: number for symbol, number in atomic_numbers.items() if number} | {
    "D": 1,
    "T": 1,
}


@dataclass(frozen=True, eq=False)
class Other:
    """One structure by one reader."""

    reader: str
    numbers: np.ndarray  # [n]
    positions: np.ndarray  # [n, 3], Cartesian, Angstrom
    cell: np.ndarray  # [3, 3], Angstrom


def same(
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    other: Other,
    tolerance: float = 0.05,
) -> str:
    """ "" if two crystals are one, up to rotation and lattice periods; else what differs first.

    Args:
        tolerance: of a place and of a lattice vector, Angstrom.
    """
    if sorted(numbers.tolist()) != sorted(other.numbers.tolist()):
        return "formula"
    if np.abs(cell @ cell.T - other.cell @ other.cell.T).max() > tolerance * max(
        np.linalg.norm(cell, axis=1).max(), 1
    ):
        return "cell"
    mine, theirs = positions @ np.linalg.inv(cell), other.positions @ np.linalg.inv(other.cell)
    apart = mine[:, None] - theirs[None]
    apart -= np.round(apart)
    near = (np.linalg.norm(apart @ cell, axis=-1) < tolerance) & (
        numbers[:, None] == other.numbers[None]
    )
    return "" if near.any(0).all() and near.any(1).all() else "places"


def read(kind: str, content: bytes) -> dict[int, list[Other | str]]:
    """What others read, by the number of the structure in the file, from 1; a text is why one reader refuses.

    Args:
        kind: "cif", "csv", "extxyz", "json" or "poscar".
        content: of the file.
    """
    text = content.decode("utf-8-sig", errors="replace")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"cif": _cif_file, "csv": _csv, "extxyz": _extxyz, "json": _json, "poscar": _poscar}[
            kind
        ](text)


def _tried(name: str, make) -> Other | str:
    try:
        return Other(name, *make())
    except Exception as error:  # whatever another program says to a damaged file
        return f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"


def _of_pymatgen(structure):
    numbers = [NUMBER_OF[site.specie.symbol] for site in structure]
    return np.array(numbers), structure.cart_coords, structure.lattice.matrix


def _of_ase(atoms):
    return atoms.numbers, atoms.positions, atoms.cell.array


def told_plainly(kind: str, content: bytes) -> Iterator[tuple[str, dict[int, list[Other | str]]]]:
    """What others read where the file says the same in words that they know: each a reason, and what they read then."""
    if kind not in ("cif", "csv"):
        return
    text = content.decode("utf-8-sig", errors="replace")
    plain = re.sub(
        r"(?<![^\s])_[A-Za-z]\S*", lambda match: match[0].lower().replace(".", "_"), text
    )
    plain = (
        plain.replace("h-m", "H-M")
        .replace("int_tables", "Int_Tables")
        .replace("units_z", "units_Z")
    )
    given = re.sub(r"(?m)[ \t][.?]([ \t]*)$", r" 1\1", plain)
    one = re.sub(r"data_\S*\s+_journal_year 1998\s*", "", given)
    many = _cif_file if kind == "cif" else _csv
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield "names in capitals or with dots", many(plain)
        yield "an occupancy that is not given is 1", many(given)
        yield "a block without a structure stands beside", many(one)
        coarse = (
            {0: [_cif_coarse(given)]}
            if kind == "cif"
            else _csv(given, lambda cif: [_cif_coarse(cif)])
        )
        yield "images of a special position written with few digits are one atom", coarse


def _cif_coarse(text: str) -> Other | str:
    """pymatgen, told to take for one place what is within 2 % of the cell."""

    def make():
        (structure,) = CifParser(io.StringIO(text), site_tolerance=0.02).parse_structures(
            primitive=False
        )
        return _of_pymatgen(structure)

    return _tried("pymatgen", make)


def _cif(text: str) -> list[Other | str]:
    def by_pymatgen():
        (structure,) = CifParser(io.StringIO(text)).parse_structures(primitive=False)
        return _of_pymatgen(structure)

    def by_ase():
        return _of_ase(ase.io.read(io.StringIO(text), format="cif"))

    return [_tried("pymatgen", by_pymatgen), _tried("ASE", by_ase)]


def _cif_file(text: str) -> dict[int, list[Other | str]]:
    return {0: _cif(text)}


def _csv(text: str, cif: Callable[[str], list[Other | str]] = _cif) -> dict[int, list[Other | str]]:
    rows = csv.DictReader(io.StringIO(text))
    return {place: cif(row.get("cif") or "") for place, row in enumerate(rows, start=1)}


def _poscar(text: str) -> dict[int, list[Other | str]]:
    by_pymatgen = _tried("pymatgen", lambda: _of_pymatgen(Poscar.from_str(text).structure))
    by_ase = _tried("ASE", lambda: _of_ase(ase.io.read(io.StringIO(text), format="vasp")))
    return {0: [by_pymatgen, by_ase]}


def _extxyz(text: str) -> dict[int, list[Other | str]]:
    lines = text.splitlines()
    starts = [
        row - 1
        for row, line in enumerate(lines)
        if row and re.search(r"lattice\s*=|properties\s*=", line, re.I)
    ]
    found: dict[int, list[Other | str]] = {}
    for row, (start, end) in enumerate(
        zip(starts, [*starts[1:], len(lines)], strict=True), start=1
    ):
        found[row] = [_tried("plain numbers", lambda s=start, e=end: _frame(lines[s:e]))]
    return found


def _frame(lines: list[str]):
    words = dict(word.split("=", 1) for word in shlex.split(lines[1]) if "=" in word)
    words = {name.lower(): value for name, value in words.items()}
    cell = np.array(words["lattice"].split(), float).reshape(3, 3)
    columns, place = {}, 0
    told = words["properties"].split(":")
    for name, _, width in zip(told[::3], told[1::3], told[2::3], strict=True):
        columns[name] = slice(place, place + int(width))
        place += int(width)
    rows = [line.split() for line in lines[2 : 2 + int(lines[0])]]
    species = columns.get("species") or columns["symbols"]
    numbers = [NUMBER_OF[row[species][0]] for row in rows]
    return np.array(numbers), np.array([row[columns["pos"]] for row in rows], float), cell


def _json(text: str) -> dict[int, list[Other | str]]:
    document = json.loads(text)
    if isinstance(document, dict) and ("sites" in document or "structure" in document):
        document = [document]
    items = list(document.values()) if isinstance(document, dict) else document
    return {
        row: [_tried("plain numbers", lambda i=item: _item(i))]
        for row, item in enumerate(items, start=1)
    }


def _item(item: dict):
    structure = item if "sites" in item else item.get("structure") or item["crystal"]
    cell = np.array(structure["lattice"]["matrix"], float)
    numbers = []
    for site in structure["sites"]:
        (species,) = site["species"]
        if species["occu"] != 1:
            raise ValueError("partly occupied")
        numbers.append(NUMBER_OF[species["element"]])
    fractions = np.array([site["abc"] for site in structure["sites"]], float)
    return np.array(numbers), fractions @ cell, cell
