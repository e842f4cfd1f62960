"""Samples on disk: CIF files, one extended XYZ file and a table, all or nothing.

    directory/
      cif/<id>.cif       one crystal each, slabs with their vacuum, P1
      samples.extxyz     all crystals for ASE, same ids in the same order, `pbc="T T F"` for slabs
      samples.csv        the table: one row a crystal, same order
      samples.parquet    the same table with the types of its columns
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from ase import Atoms
from ase.io import write as ase_write
from pymatgen.io.cif import CifWriter

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.table import all_columns

CIF_DIRECTORY = "cif"
EXTXYZ_NAME = "samples.extxyz"
TABLE_NAME = "samples.csv"
PARQUET_NAME = "samples.parquet"
SIGNIFICANT_FIGURES = 14

_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_READ_AS_OTHER = {"t", "f", "true", "false", "nan", "inf", "infinity"}


def write_samples(
    directory: str | Path,
    crystals: Sequence[Crystal],
    rows: Sequence[Mapping[str, Any]],
    *,
    overwrite: bool = False,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Writes samples to a new directory, which appears complete or not at all.

    Everything is written into a hidden sibling first and moved into place by one rename.

    Args:
      directory: where to; made with its parents. An empty directory may be there already.
      crystals: the samples; ids are file names and must be unique.
      rows: for each crystal its row of the table, as `describe.sample_rows` makes them: `id` (may be left
        out, must agree otherwise) and any columns of plain values. Columns that start with `asked_` or
        `predicted_`, and `formula`, also go into the info of the extended XYZ file.
      overwrite: replaces the whole of an earlier output. Only a directory that holds a `samples.csv`
        and a `samples.extxyz` is ever replaced.
      extra: further text files by name, such as the settings of the run.

    Returns:
      the directory.

    Raises:
      FileExistsError: the directory has content and `overwrite` is off, or the content is no earlier output.
      ValueError: no fitting row for each crystal, ids not unique or not usable (they start with a letter
        and hold letters, digits, `_`, `.`, `-`), or crystals that are not finite.
    """
    target = Path(directory).resolve()
    _check(crystals, rows)
    _check_extra(extra or {})
    refuse_existing(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        building.chmod(0o777 & ~_umask())
        _write_all(building, crystals, rows)
        for name, text in (extra or {}).items():
            (building / name).write_text(text, encoding="utf-8")
        _move_into_place(building, target, overwrite=overwrite)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return target


def refuse_existing(directory: str | Path, *, overwrite: bool = False) -> None:
    """The check that `write_samples` makes, for those who want to know before they sample.

    Args:
      directory: where the samples are to go.
      overwrite: whether an earlier output may be replaced.

    Raises:
      FileExistsError: as in `write_samples`.
    """
    target = Path(directory).resolve()
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise FileExistsError(f"{directory} is a file, not a directory")
    if not overwrite:
        raise FileExistsError(f"{directory} has content; choose another directory, or --overwrite")
    if not ((target / TABLE_NAME).is_file() and (target / EXTXYZ_NAME).is_file()):
        raise FileExistsError(f"{directory} holds no earlier samples, so it will not be overwritten")


def write_text_atomically(path: str | Path, text: str) -> None:
    """Writes one text file that is never seen half-written; a file of that name is replaced.

    Args:
      path: the file; its directory must exist.
      text: written as UTF-8.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _check(crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]) -> None:
    if len(crystals) != len(rows):
        raise ValueError(f"{len(crystals)} crystals but {len(rows)} rows")
    seen: set[str] = set()
    for crystal, row in zip(crystals, rows, strict=True):
        name = crystal.id
        # ASE would read a name like "001" or "T" back as a number or a truth value.
        if not _ID.fullmatch(name) or name.lower() in _READ_AS_OTHER:
            raise ValueError(f"{name!r} cannot be an id: it must start with a letter and be a file name")
        if name.lower() in seen:
            raise ValueError(f"id {name!r} occurs twice (upper and lower case are not told apart)")
        seen.add(name.lower())
        if row.get("id", name) != name:
            raise ValueError(f"crystal {name!r} comes with the row of {row['id']!r}")
    broken = [crystal.id for crystal in crystals if not crystal.is_finite]
    if broken:
        raise ValueError(f"not finite, {len(broken)} in all: {', '.join(broken[:10])}")
    flat = [crystal.id for crystal in crystals if abs(np.linalg.det(crystal.cell)) < 1e-6]
    if flat:
        raise ValueError(f"cells without volume, {len(flat)} in all: {', '.join(flat[:10])}")


def _check_extra(extra: Mapping[str, str]) -> None:
    for name in extra:
        if Path(name).name != name or name in (CIF_DIRECTORY, EXTXYZ_NAME, TABLE_NAME, PARQUET_NAME, ".", ".."):
            raise ValueError(f"{name!r} cannot be the name of a further file")


def _write_all(directory: Path, crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]) -> None:
    (directory / CIF_DIRECTORY).mkdir()
    images = []
    for crystal, row in zip(crystals, rows, strict=True):
        writer = CifWriter(crystal.to_pymatgen(), significant_figures=SIGNIFICANT_FIGURES)
        writer.write_file(directory / CIF_DIRECTORY / f"{crystal.id}.cif")
        images.append(_with_info(crystal, row))
    extxyz = directory / EXTXYZ_NAME
    if images:
        ase_write(extxyz, images, format="extxyz")
    else:
        extxyz.touch()
    with open(directory / TABLE_NAME, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _columns(rows), restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(_complete(crystals, rows))
    write_parquet(directory / PARQUET_NAME, crystals, rows)


def write_parquet(path: Path, crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]) -> None:
    """The table with the types of its columns; what is missing is null.

    Args:
      path: the file.
      crystals, rows: as for `write_samples`.
    """
    complete = _complete(crystals, rows)
    columns = {key: pa.array([row.get(key) for row in complete]) for key in _columns(rows)}
    pyarrow.parquet.write_table(pa.table(columns), path)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return ["id", "formula", *(key for key in all_columns(rows) if key not in ("id", "formula"))]


def _complete(crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their id and formula, and plain values."""
    complete = []
    for crystal, row in zip(crystals, rows, strict=True):
        values = {"formula": crystal.formula, **row, "id": crystal.id}
        complete.append({key: _plain(value) for key, value in values.items()})
    return complete


def _with_info(crystal: Crystal, row: Mapping[str, Any]) -> Atoms:
    atoms = crystal.to_ase()
    atoms.info = {"id": crystal.id, "formula": str(row.get("formula", crystal.formula))}
    for key, value in row.items():
        if key.startswith(("asked_", "predicted_", "untrained")) and value is not None:
            atoms.info[key] = _plain(value)
    return atoms


def _plain(value: Any) -> Any:
    """numpy scalars as Python's, so that a table holds `0.1` and never `np.float64(0.1)`."""
    return value.item() if isinstance(value, np.generic) else value


def _move_into_place(building: Path, target: Path, *, overwrite: bool) -> None:
    refuse_existing(target, overwrite=overwrite)  # again: someone may have written meanwhile
    if not target.exists() or not any(target.iterdir()):
        os.replace(building, target)
        return
    former = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".former", dir=target.parent))
    os.replace(target, former)
    try:
        os.replace(building, target)
    except BaseException:
        os.replace(former, target)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _umask() -> int:
    """The umask of this process, which the system only tells by setting it."""
    current = os.umask(0o077)
    os.umask(current)
    return current
