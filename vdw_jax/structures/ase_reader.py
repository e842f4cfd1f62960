"""What ASE reads: extended XYZ, frame by frame, and ASE databases (`.db`, `.json`), as C2DB and BiDB export them.

Keys of `info` and key-value pairs that are single numbers or texts come along, and so does an energy.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.db import connect
from ase.io.extxyz import read_xyz

from vdw_jax.structures.entries import Entry, Reading, first_line, id_among, plain_values
from vdw_jax.structures.errors import DataError, Problem

_COMMENT = re.compile(r"lattice\s*=|properties\s*=", re.IGNORECASE)
_MANY_COLUMNS = re.compile(r":[A-Za-z]:([^:\s\"]{4,})")
"""ASE loops over the columns that `Properties` promises, however many they are."""

_DATABASE_ADVICE = "Write the row again with ASE, or delete it"


def read_extxyz(path: Path, content: bytes) -> Reading:
    """Frames of an extended XYZ file.

    Raises:
        DataError: no frame in it.
    """
    lines = content.decode("utf-8-sig", errors="replace").splitlines()
    starts = [place - 1 for place, line in enumerate(lines) if place and _COMMENT.search(line)]
    if not starts or any(line.strip() for line in lines[: starts[0]]):
        at = f"line 1 is {lines[0][:40]!r}" if lines else "the file is empty"
        raise DataError(f"{path}: not extended XYZ: {at}, not a number of atoms over a line with Lattice=\"...\"")
    return Reading(len(starts), _parse_frames(path, lines, starts))


def _parse_frames(path: Path, lines: list[str], starts: list[int]) -> Iterator[Entry | Problem]:
    for row, (first, end) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True), start=1):

        def wrong(field: str, reason: str, advice: str, row: int = row, first: int = first) -> Problem:
            return Problem(str(path), row, field, f"{reason} (line {first + 1})", advice)

        frame = lines[first:end]
        while frame and not frame[-1].strip():
            frame.pop()
        said, found = frame[0].strip(), len(frame) - 2
        if said != str(found):
            reason = f"{found} lines of atoms under {said[:40]!r}"
            yield wrong("number of atoms", reason, "Write the number of atoms, and a line for each")
        elif "\ufffd" in "".join(frame):
            yield wrong("text", "not UTF-8", "Save the file as UTF-8")
        elif many := _MANY_COLUMNS.search(frame[1]):
            yield wrong("Properties", f"{many[1][:40]!r} columns", "Write it again with ASE")
        else:
            try:
                atoms = next(read_xyz(io.StringIO("\n".join(frame) + "\n"), 0))
            except Exception as error:  # ASE raises many kinds
                yield wrong("frame", f"not extended XYZ ({first_line(error)})", "Write it again with ASE")
                continue
            values = dict(atoms.info) | (atoms.calc.results if atoms.calc else {})
            yield _entry(path, row, atoms, values, "Lattice")


def read_ase_database(path: Path) -> Reading:
    """Rows of an ASE database, SQLite or JSON.

    Raises:
        DataError: not a database.
    """
    kind = "json" if path.suffix == ".json" else "db"
    try:
        database = connect(path, type=kind, use_lock_file=False)
        ids = [row.id for row in database.select(include_data=False)]
    except Exception as error:  # of SQLite, json and ASE
        raise DataError(f"{path}: not an ASE database: {first_line(error)}") from error
    return Reading(len(ids), _parse_database(path, database, ids))


def _parse_database(path: Path, database: Any, ids: list[int]) -> Iterator[Entry | Problem]:
    for number in ids:
        try:
            row = database.get(id=number)
            atoms, values = row.toatoms(), dict(row.key_value_pairs)
            if "energy" in row:
                values.setdefault("energy", row.energy)
        except Exception as error:  # of SQLite and ASE
            yield Problem(str(path), number, "row", f"not readable ({first_line(error)})", _DATABASE_ADVICE)
            continue
        yield _entry(path, number, atoms, values, "cell")


def _entry(path: Path, row: int, atoms: Atoms, values: dict[str, Any], cell_field: str) -> Entry | Problem:
    if not np.any(atoms.cell.array):
        return Problem(str(path), row, cell_field, "no cell", "Write the lattice vectors, or leave molecules out")
    a, b, c = (bool(period) for period in atoms.pbc)
    name, id_field = id_among(values, f"{path.stem}-{row}")
    return Entry(
        str(path), row, name, atoms.numbers, atoms.positions.astype(float), atoms.cell.array, plain_values(values),
        (a, b, c), id_field=id_field,
    )  # fmt: skip
