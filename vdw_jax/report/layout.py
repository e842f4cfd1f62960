"""Names of the files of a samples folder, and which of the files in it somebody else put there."""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
from collections.abc import Collection
from pathlib import Path

import pyarrow.lib
import pyarrow.parquet

CIF_DIRECTORY = "cif"
EXTXYZ_NAME = "samples.extxyz"
TABLE_NAME = "samples.csv"
PARQUET_NAME = "samples.parquet"
PAGE_NAME = "report.html"
REQUEST_NAME = "request.json"

HANDOVER_DIRECTORY = "handover"
RELAXED_PREFIX = "relaxed-"
DATABASE_NAME = "samples.db"
FLOW_NAME = "flow.json"
FLOW_TITLE = "vdw_jax candidates"
VASP_INPUTS = ("INCAR", "KPOINTS", "POSCAR", "POTCAR.spec")
VASP_README = "README.txt"
GPAW_SCRIPT_NAME = "relax_gpaw.py"
WRITTEN_BY = {"written_by": "vdw_jax"}
"""In the metadata of a database."""

_FILES = (EXTXYZ_NAME, TABLE_NAME, PARQUET_NAME, PAGE_NAME, REQUEST_NAME)


def is_samples(folder: Path) -> bool:
    """Whether a folder holds samples."""
    return (folder / TABLE_NAME).is_file() and (folder / EXTXYZ_NAME).is_file()


def foreign_in_samples(folder: Path, also_own: Collection[str] = ()) -> list[str]:
    """What in a samples folder the program did not write, as paths in it.

    Own are the files of the names above, the CIF files of the ids in the table, relaxed samples and what was handed
    over, each again without foreign files. Links are foreign.

    Args:
      folder: holds samples.
      also_own: names of further files that the program wrote.
    """
    found: list[str] = []
    for item in sorted(folder.iterdir()):
        name = item.name
        if item.is_symlink():
            found.append(name)
        elif item.is_dir() and name == CIF_DIRECTORY:
            ids = _ids_in_table(folder / TABLE_NAME)
            found += [
                f"{name}/{cif.name}" for cif in sorted(item.iterdir()) if not _is_own_cif(cif, ids)
            ]
        elif item.is_dir() and name == HANDOVER_DIRECTORY:
            found += [
                f"{name}/{path}"
                for entry in sorted(item.iterdir())
                for path in foreign_in_format(entry)
            ]
        elif item.is_dir() and name.startswith(RELAXED_PREFIX) and is_samples(item):
            found += [f"{name}/{path}" for path in foreign_in_samples(item)]
        elif not item.is_file() or name not in (*_FILES, *also_own):
            found.append(name)
    return found


def foreign_in_format(path: Path) -> list[str]:
    """What handover did not write, of one of the files or folders that it makes; as paths beside it."""
    if path.is_symlink():
        return [path.name]
    if path.is_dir():
        is_own = {"poscar": _is_own_poscar, "vasp": _is_own_vasp, "gpaw": _is_own_gpaw}.get(
            path.name
        )
        if is_own is None:
            return [path.name]
        return [f"{path.name}/{item.name}" for item in sorted(path.iterdir()) if not is_own(item)]
    is_own = {
        DATABASE_NAME: _is_own_database,
        PARQUET_NAME: _is_own_parquet,
        FLOW_NAME: _is_own_flow,
    }.get(path.name)
    return [] if is_own is not None and is_own(path) else [path.name]


def listed(paths: list[str], most: int = 3) -> str:
    """Some of the paths for a message of one line, and how many more there are."""
    shown = ", ".join(repr(path)[1:-1] for path in paths[:most])
    return shown + (f" and {len(paths) - most} more" if len(paths) > most else "")


def _ids_in_table(path: Path) -> set[str]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {row["id"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError):
        return set()  # then nothing is known to be the program's own


def _is_own_cif(path: Path, ids: set[str]) -> bool:
    return _is_file(path) and path.suffix == ".cif" and path.stem in ids


def _is_own_poscar(path: Path) -> bool:
    return _is_file(path) and path.suffix == ".vasp" and _line(path, 0).split(" ")[0] == path.stem


def _is_own_vasp(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return _is_file(path) and path.name == VASP_README
    return all(_is_file(item) and item.name in VASP_INPUTS for item in path.iterdir())


def _is_own_gpaw(path: Path) -> bool:
    """The script and the structures; what GPAW and the relaxation say is the user's."""
    if path.name == GPAW_SCRIPT_NAME:
        return _is_file(path)
    return _is_file(path) and path.suffix == ".xyz" and f"id={path.stem}" in _line(path, 1).split()


def _is_own_database(path: Path) -> bool:
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            rows = database.execute(
                "SELECT value FROM information WHERE name='metadata'"
            ).fetchall()
        return any(WRITTEN_BY.items() <= json.loads(text).items() for (text,) in rows)
    except (sqlite3.Error, ValueError, AttributeError):
        return False


def _is_own_parquet(path: Path) -> bool:
    try:
        return pyarrow.parquet.read_schema(path).names[:2] == ["id", "formula"]
    except (OSError, pyarrow.lib.ArrowException):
        return False


def _is_own_flow(path: Path) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("name") == FLOW_TITLE
    except (OSError, ValueError, AttributeError):
        return False


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _line(path: Path, number: int) -> str:
    """A line of a text file without its end; "" where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            for place, line in enumerate(file):
                if place == number:
                    return line.rstrip("\n")
    except (OSError, UnicodeDecodeError):
        pass
    return ""
