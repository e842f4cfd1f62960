"""Files that hold one structure each, CIF and POSCAR: one of them, or a folder with a table of properties."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vdw_jax.structures.cif import CIF_ADVICE, LONGEST_CIF, parse_cif
from vdw_jax.structures.entries import Entry, Reading, StructureError, first_line
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.poscar import POSCAR_ADVICE, parse_poscar

PROPERTIES_FILE = "properties.csv"
"""Beside the files of a folder: `material_id` (name of the file, without .cif) and a column for each property."""

_POSCAR = re.compile(r"(POSCAR|CONTCAR)([-_.\d].*)?|.*\.(vasp|poscar)", re.IGNORECASE)
_SUFFIX = re.compile(r"\.(cif|vasp|poscar)$", re.IGNORECASE)
_OTHER_FORMATS = (".csv", ".xyz", ".extxyz", ".json", ".db", ".npz")


def structure_kind(path: Path) -> str | None:
    """ "cif" or "poscar" by the name of a file, packed or not; None for anything else."""
    name = _unpacked_name(path)
    if name.lower().endswith(".cif"):
        return "cif"
    if name.lower().endswith(_OTHER_FORMATS):
        return None
    return "poscar" if _POSCAR.fullmatch(name) else None


def _unpacked_name(path: Path) -> str:
    return path.name[:-3] if path.name.lower().endswith(".gz") else path.name


def structure_files(folder: Path) -> list[Path]:
    """The CIF and POSCAR files of a folder, by name."""
    return sorted(file for file in folder.iterdir() if structure_kind(file) and file.is_file())


def read_structure_files(path: Path, unpacked: Callable[[Path], bytes]) -> Reading:
    """One file, or every one of a folder; properties come from `properties.csv` in it.

    Args:
        path: a file of which `structure_kind` knows the kind, or a folder.
        unpacked: gives the content of a file; raises DataError or OSError where it cannot.

    Raises:
        DataError: no such file in the folder, or its table of properties is no such table.
    """
    if not path.is_file() and not path.is_dir():
        raise DataError(f"{path}: neither a file nor a folder")
    files = [path] if path.is_file() else structure_files(path)
    if not files:
        raise DataError(f"{path}: no .cif or POSCAR file in this folder")
    table = path / PROPERTIES_FILE
    properties = _read_properties(table) if table.is_file() else {}
    return Reading(len(files), _read_files(files, properties, table, unpacked))


def _id_of(file: Path) -> str:
    """m1 for m1.cif; POSCAR.relaxed keeps all of its name."""
    return _SUFFIX.sub("", _unpacked_name(file)) or file.name


def _read_files(
    files: list[Path],
    properties: dict[str, dict[str, str]],
    table: Path,
    unpacked: Callable[[Path], bytes],
) -> Iterator[Entry | Problem]:
    for file in files:
        kind = structure_kind(file) or "cif"
        try:
            numbers, positions, cell = _parse(kind, _text(unpacked(file)))
        except (StructureError, DataError, OSError) as error:
            reason = first_line(error).removeprefix(f"{file}: ")
            yield Problem(
                str(file), 0, kind, reason, CIF_ADVICE if kind == "cif" else POSCAR_ADVICE
            )
            continue
        values = properties.get(_id_of(file), {})
        yield Entry(str(file), 0, _id_of(file), numbers, positions, cell, values, column=None)
    known = {_id_of(file) for file in files}
    for row, name in enumerate(properties, start=1):
        if name not in known:
            advice = "Add the file, or remove the row"
            yield Problem(str(table), row, "material_id", f"no file of the name {name}", advice)


def _parse(kind: str, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if kind == "poscar":
        return parse_poscar(text)
    numbers, fractions, cell = parse_cif(text)
    return numbers, fractions @ cell, cell


def _text(content: bytes) -> str:
    """UTF-8, or else Latin-1: what is not ASCII stands in comments and names, and changes no structure."""
    if len(content) > LONGEST_CIF:
        raise StructureError(f"longer than {LONGEST_CIF:,} bytes")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise StructureError("its text is UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_properties(table: Path) -> dict[str, dict[str, str]]:
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a CSV file: {error}") from error
    by_name: dict[str, dict[str, str]] = {}
    for place, row in enumerate(rows, start=1):
        name = _SUFFIX.sub("", (row.pop("material_id", None) or "").strip())
        if not name or name in by_name:
            reason = f"{name!r} occurs before" if name else "empty, or no such column"
            raise DataError(f"{table}: row {place}: material_id: {reason}")
        if None in row or None in row.values():
            raise DataError(f"{table}: row {place}: not as many cells as columns")
        by_name[name] = row
    return by_name
