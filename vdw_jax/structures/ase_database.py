"""Databases of ASE, as C2DB and BiDB export them: SQLite (`.db`) and JSON.

Properties are the key-value pairs, the calculated numbers (energy, magnetic moment) and single
numbers and texts under `data`. Both kinds are read here and not by ASE: its reader makes arrays of
any size a file asks for.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.structures.contents import GZIP, read_content, require_file
from vdw_jax.structures.entries import (
    Entry,
    Reading,
    StructureError,
    first_line,
    id_among,
    merged,
    plain_values,
)
from vdw_jax.structures.errors import DataError, Problem

CALCULATED = ("energy", "free_energy", "magmom")
"""Single numbers that a calculator leaves in a row; forces, stress and the like are no properties
of a structure.
"""

LONGEST_FIELD = 64 * 2**20
"""Bytes of one row; band structures and densities of states take some MB."""

MOST_STEPS = 50_000_000
"""Instructions of SQLite for one row; a table that is computed without end stops here."""

_ARRAYS: dict[str, np.dtype] = {
    "numbers": np.dtype("<i4"),
    "positions": np.dtype("<f8"),
    "cell": np.dtype("<f8"),
}
_ADVICE = "Write the row again with ASE, or delete it"


def read_sqlite(path: Path) -> Reading:
    """Rows of a database in SQLite.

    Raises:
        DataError: not a database of ASE.
    """
    require_file(path)
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
    if not packed:
        return _opened(path, path)
    unpacked = tempfile.NamedTemporaryFile(suffix=".db")  # noqa: SIM115  lives as long as its reading
    unpacked.write(read_content(path))
    unpacked.flush()
    return _opened(path, Path(unpacked.name), unpacked)


def _opened(path: Path, stored: Path, kept: Any = None) -> Reading:
    """Args: the path to name, where the database is, and what has to live as long."""
    try:
        with closing(_connect(stored)) as database:
            kinds = database.execute(
                "SELECT type FROM sqlite_master WHERE name = 'systems'"
            ).fetchall()
            if kinds != [("table",)]:
                raise DataError(f"{path}: not an ASE database: it has no table 'systems'")
            columns = [str(row[1]) for row in database.execute("PRAGMA table_info(systems)")]
            missing = {"id", "numbers", "positions"} - set(columns)
            if missing:
                raise DataError(f"{path}: not an ASE database: no column {sorted(missing)[0]!r}")
            (total,) = database.execute("SELECT count(*) FROM systems").fetchone()
    except sqlite3.Error as error:
        raise DataError(f"{path}: not an ASE database: {first_line(error)}") from error
    wanted = ("id", *_ARRAYS, "pbc", *CALCULATED, "key_value_pairs", "data")
    return Reading(
        total, _sqlite_rows(path, stored, [name for name in wanted if name in columns], kept)
    )


def _connect(stored: Path) -> sqlite3.Connection:
    """Reads only, and within bounds."""
    database = sqlite3.connect(f"{stored.absolute().as_uri()}?mode=ro", uri=True)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_FIELD)
    steps = iter(range(MOST_STEPS // 10_000))
    database.set_progress_handler(lambda: next(steps, None) is None, 10_000)
    database.text_factory = lambda text: text.decode("utf-8", errors="replace")
    return database


def _sqlite_rows(
    path: Path, stored: Path, columns: list[str], kept: Any
) -> Iterator[Entry | Problem]:
    """Args: `kept` has to exist while this runs: without it the unpacked file is gone."""
    listed = ", ".join(columns)
    last = -1
    while True:  # one query a row: a row that cannot be read costs itself alone
        row = number = None
        wrong = "its id is no whole number"
        try:
            with closing(_connect(stored)) as database:
                found = database.execute(
                    "SELECT min(id) FROM systems WHERE id > ?", (last,)
                ).fetchone()
                number = found[0]
                if number is None:
                    return
                row = database.execute(
                    f"SELECT {listed} FROM systems WHERE id = ?", (number,)
                ).fetchone()
        except sqlite3.Error as error:
            wrong = first_line(error)
        if not isinstance(number, int):
            yield Problem(
                str(path), last + 1, "row", f"no more rows are readable ({wrong})", _ADVICE
            )
            return  # the list of rows itself is damaged
        if row is None:
            yield Problem(str(path), number, "row", f"not readable ({wrong})", _ADVICE)
        else:
            yield _sqlite_entry(path, dict(zip(columns, row, strict=True)))
        last = number


def _sqlite_entry(path: Path, row: dict[str, Any]) -> Entry | Problem:
    try:
        fields: dict[str, Any] = {name: row.get(name) for name in CALCULATED}
        for name, kind in _ARRAYS.items():
            fields[name] = _from_blob(name, row.get(name), kind)
        fields["pbc"] = [bool(int(row.get("pbc") or 0) & 1 << axis) for axis in range(3)]
        for name in ("key_value_pairs", "data"):
            fields[name] = _decoded(row.get(name), name)
        return _entry(path, int(row["id"]), fields)
    except (StructureError, ValueError, TypeError, RecursionError) as error:
        return Problem(
            str(path), int(row["id"]), "row", f"not readable ({first_line(error)})", _ADVICE
        )


def _from_blob(name: str, blob: Any, kind: np.dtype) -> np.ndarray:
    if blob is None and name == "cell":
        return np.zeros(9)
    if not isinstance(blob, bytes) or len(blob) % kind.itemsize:
        raise StructureError(f"{name} is no array")
    return np.frombuffer(blob, kind)


def _decoded(stored: Any, name: str) -> dict[str, Any]:
    """A dictionary in JSON, or in ASE's own form: the place of the JSON in 8 bytes, arrays, and the
    JSON.
    """
    if isinstance(stored, bytes) and len(stored) > 8:
        place = int.from_bytes(stored[:8], "little")
        stored = stored[place:].decode("utf-8")
    found = json.loads(stored) if stored else {}
    if not isinstance(found, dict | None):
        raise StructureError(f"{name} is no dictionary")
    return found or {}


def is_ase_database(document: Any) -> bool:
    """Whether a JSON document is one of ASE's databases."""
    return isinstance(document, dict) and {"ids", "nextid"} <= document.keys()


def read_json_database(path: Path, document: dict[str, Any]) -> Reading:
    """Rows of a database in JSON.

    Raises:
        DataError: its list of rows is none.
    """
    ids = _plain(document["ids"])
    if not isinstance(ids, list):
        raise DataError(f"{path}: not an ASE database: 'ids' is no list")
    return Reading(len(ids), _json_rows(path, document, ids))


def _json_rows(path: Path, document: dict[str, Any], ids: list[Any]) -> Iterator[Entry | Problem]:
    for place, name in enumerate(ids, start=1):
        number = name if isinstance(name, int) and not isinstance(name, bool) else place
        row = document.get(str(name))
        if not isinstance(row, dict) or not {"numbers", "positions"} <= row.keys():
            yield Problem(str(path), number, "row", "no such row, or no structure in it", _ADVICE)
            continue
        try:
            fields = {
                key: _plain(row.get(key))
                for key in ("numbers", "positions", "cell", "pbc", *CALCULATED)
            }
            for key in ("key_value_pairs", "data"):
                fields[key] = row.get(key) or {}
                if not isinstance(fields[key], dict):
                    raise StructureError(f"{key} is no dictionary")
            yield _entry(path, number, fields)
        except (StructureError, ValueError, TypeError, OverflowError, RecursionError) as error:
            yield Problem(str(path), number, "row", f"not readable ({first_line(error)})", _ADVICE)


def _plain(value: Any) -> Any:
    """ASE's arrays and cells as lists; a shape is not believed, the numbers are."""
    if isinstance(value, dict) and "array" in value:  # a cell
        value = value["array"]
    if isinstance(value, dict) and "__ndarray__" in value:
        stored = value["__ndarray__"]
        if not isinstance(stored, list) or len(stored) != 3 or not isinstance(stored[2], list):
            raise StructureError("an array without its shape, type and numbers")
        return stored[2]
    return value


def _entry(path: Path, row: int, fields: Mapping[str, Any]) -> Entry | Problem:
    """A row as a structure.

    Raises:
        StructureError, ValueError, TypeError, OverflowError: an array is of another size or kind.
    """
    numbers = np.asarray(fields["numbers"])
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise StructureError("atomic numbers are no whole numbers")
    positions = np.asarray(fields["positions"], float)
    if positions.size != 3 * len(numbers):
        raise StructureError(f"{positions.size} coordinates of {len(numbers)} atoms")
    cell = np.asarray(fields["cell"] if fields["cell"] is not None else np.zeros(9), float)
    if cell.shape == (3,):
        cell = np.diag(cell)
    if cell.size != 9:
        raise StructureError(f"a cell of {cell.size} numbers")
    periods = np.asarray(fields["pbc"] if fields["pbc"] is not None else [False] * 3)
    if periods.size != 3 or periods.dtype.kind not in "biu":
        raise StructureError("pbc are not three periods")
    a, b, c = (bool(period) for period in periods.ravel())
    if not np.any(cell):
        return Problem(
            str(path), row, "cell", "no cell", "Write the lattice vectors, or leave molecules out"
        )
    calculated = {name: fields[name] for name in CALCULATED if fields.get(name) is not None}
    values = merged(fields["key_value_pairs"], calculated, fields["data"])
    name, id_field = id_among(values, f"{path.name.split('.')[0]}-{row}")
    values.pop(id_field, None)
    plain, others = plain_values(values)
    return Entry(
        str(path),
        row,
        name,
        numbers.astype(int),
        positions.reshape(-1, 3),
        cell.reshape(3, 3),
        plain,
        (a, b, c),
        id_field=id_field,
        not_taken=others,
    )
