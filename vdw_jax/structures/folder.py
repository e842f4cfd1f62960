"""Files that hold one structure each, alone or in a folder with a table of their properties."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vdw_jax.structures.cif import CIF_ADVICE, parse_cif
from vdw_jax.structures.contents import bare_name, read_text
from vdw_jax.structures.entries import Entry, Reading, StructureError, first_line
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.poscar import POSCAR_ADVICE, parse_poscar
from vdw_jax.structures.property_table import PropertyTable, find_properties

_POSCAR = re.compile(r"(poscar|contcar)([-_.\d].*)?|.*\.(vasp|poscar)")
_OTHER_FORMATS = (".csv", ".xyz", ".extxyz", ".json", ".db", ".npz")
"""Not even a file called POSCAR.extxyz is a POSCAR."""

_SUFFIX = re.compile(r"\.(cif|vasp|poscar)$", re.IGNORECASE)

INNER_FOLDER = "cif"
"""Where `sample.py` writes its CIFs: a folder without structures of its own may hold them there."""


@dataclass(frozen=True)
class SingleFormat:
    """A kind of file with one structure in it."""

    name: str  # as messages call it
    is_named: Callable[[str], bool]  # by the file's name in small letters, without .gz
    parse: Callable[[str], tuple[np.ndarray, np.ndarray, np.ndarray]]
    """From the text: atomic numbers [n], Cartesian positions [n, 3], cell [3, 3] in rows, Angstrom."""
    field: str  # of its problems
    advice: str


def _cif(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    numbers, fractions, cell = parse_cif(text)
    return numbers, fractions @ cell, cell


SINGLE = (
    SingleFormat(".cif", lambda name: name.endswith(".cif"), _cif, "cif", CIF_ADVICE),
    SingleFormat(
        "POSCAR",
        lambda name: _POSCAR.fullmatch(name) is not None,
        parse_poscar,
        "poscar",
        POSCAR_ADVICE,
    ),
)


def read_single(path: Path) -> Reading:
    """One file."""
    return Reading(1, _read_files([path], PropertyTable()))


def read_folder(path: Path) -> Reading:
    """Every structure file of a folder, by name, with the values of the table of properties beside them.

    Raises:
        DataError: no structure in the folder, or its table of properties is no such table.
    """
    files = structure_files(path)
    if not files:
        known = " or ".join(kind.name for kind in SINGLE)
        raise DataError(f"{path}: no {known} file in this folder")
    table = find_properties(files[0].parent, [structure_name(file) for file in files])
    return Reading(len(files), _read_files(files, table), table.notes)


def structure_files(folder: Path) -> list[Path]:
    """The structure files of a folder by name, or else those of its inner folder `cif`."""
    for place in (folder, folder / INNER_FOLDER):
        try:
            files = sorted(
                file for file in place.iterdir() if kind_of_file(file) and file.is_file()
            )
        except (NotADirectoryError, FileNotFoundError):
            continue
        except OSError as error:
            raise DataError(f"{place}: cannot be read: {error.strerror}") from error
        if files:
            return files
    return []


def kind_of_file(file: Path) -> SingleFormat | None:
    """The kind of a structure file by its name; None for other files."""
    name = bare_name(file)
    if name.endswith(_OTHER_FORMATS):
        return None
    return next((kind for kind in SINGLE if kind.is_named(name) and not name.startswith(".")), None)


def structure_name(file: Path) -> str:
    """The name of a file without `.gz` and without its suffix; POSCAR.relaxed keeps all of its name."""
    bare = file.name[: len(bare_name(file))]
    return _SUFFIX.sub("", bare) or bare


def _read_files(files: list[Path], table: PropertyTable) -> Iterator[Entry | Problem]:
    names = [structure_name(file) for file in files]
    for file, name in zip(files, names, strict=True):
        kind = kind_of_file(file)
        assert kind is not None
        try:
            numbers, positions, cell = kind.parse(_text(file))
        except (StructureError, DataError) as error:
            reason = first_line(error).removeprefix(f"{file}: ")
            yield Problem(str(file), 0, kind.field, reason, kind.advice, name)
            continue
        yield Entry(
            str(file),
            0,
            name,
            numbers,
            positions,
            cell,
            table.values_of(name),
            id_field="file name",
        )
    yield from table.unused(names)


def _text(file: Path) -> str:
    text = read_text(file)
    if "\0" in text:
        raise StructureError("bytes that are no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")
