"""Samples on disk: CIF files, one extended XYZ file and a table, all or nothing.

directory/
  cif/<id>.cif       one crystal each, slabs with their vacuum, P1
  samples.extxyz     all crystals for ASE, same ids in the same order, `pbc="T T F"` for slabs
  samples.csv        the table: one row a crystal, same order; see `structures.csv_text` for texts like formulas
  samples.parquet    the same table with the types of its columns
"""

from __future__ import annotations

import csv
import ctypes
import json
import os
import shutil
import sys
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
from vdw_jax.report.layout import (
    CIF_DIRECTORY,
    EXTXYZ_NAME,
    PARQUET_NAME,
    TABLE_NAME,
    foreign_in_samples,
    is_samples,
    listed,
)
from vdw_jax.report.table import all_columns
from vdw_jax.structures.csv_text import harmless
from vdw_jax.structures.ids import check_ids

SIGNIFICANT_FIGURES = 14


def write_samples(
    directory: str | Path,
    crystals: Sequence[Crystal],
    rows: Sequence[Mapping[str, Any]],
    *,
    overwrite: bool = False,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Writes samples to a new directory, which appears complete or not at all.

    Everything is written into a hidden sibling first and moved into place.

    Args:
      directory: where to; made with its parents. An empty directory may be there already.
      crystals: the samples; ids are file names and must be unique.
      rows: for each crystal its row of the table, as `describe.sample_rows` makes them: `id` (may be left
        out, must agree otherwise) and any columns of plain values. Columns that start with `asked_` or
        `predicted_`, and `formula`, also go into the info of the extended XYZ file.
      overwrite: replaces the whole of an earlier output, and only that, see `refuse_existing`.
      extra: further text files by name, such as the settings of the run.

    Returns:
      the directory.

    Raises:
      FileExistsError: as `refuse_existing`.
      ValueError: no fitting row for each crystal, ids that `ids.check_ids` refuses, or crystals that are not
        finite.
      OSError: the disk is full, or may not be written to; nothing is left of it.
    """
    target = Path(directory).resolve()
    _check(crystals, rows)
    _check_extra(extra or {})
    refuse_existing(directory, overwrite=overwrite, also_own=tuple(extra or ()))
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(
        tempfile.mkdtemp(prefix=f".{target.name[:50]}.", suffix=".partial", dir=target.parent)
    )
    try:
        building.chmod(0o777 & ~_umask())
        _write_all(building, crystals, rows)
        for name, text in (extra or {}).items():
            (building / name).write_text(text, encoding="utf-8")
        refuse_existing(
            directory, overwrite=overwrite, also_own=tuple(extra or ())
        )  # someone may have written
        move_into_place(building, target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return target


def refuse_existing(
    directory: str | Path, *, overwrite: bool = False, also_own: Sequence[str] = ()
) -> None:
    """The check that `write_samples` makes, for those who want to know before they sample.

    An earlier output is replaced whole, so it must hold nothing else: a note or a folder that somebody put there,
    results of VASP or GPAW in what was handed over, or links are named, and nothing is deleted.

    Args:
      directory: where the samples are to go.
      overwrite: whether an earlier output may be replaced.
      also_own: names of further files that count as the program's own.

    Raises:
      FileExistsError: the directory has content and `overwrite` is off, the content is no earlier output or holds
        more than that, or the directory is a link to an earlier output.
      PermissionError: nothing may be written there.
    """
    target = Path(directory).resolve()
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        _refuse_unwritable(target)
        return
    if not target.is_dir():
        raise FileExistsError(f"{directory} is a file, not a directory")
    if not overwrite:
        raise FileExistsError(f"{directory} has content; choose another directory, or --overwrite")
    if not is_samples(target):
        raise FileExistsError(
            f"{directory} holds no earlier samples, so it will not be overwritten"
        )
    if Path(directory).is_symlink():
        raise FileExistsError(
            f"{directory} is a link, which --overwrite does not follow; name {target} itself"
        )
    if foreign := foreign_in_samples(target, also_own):
        raise FileExistsError(
            f"{directory} also holds what the program did not write, and --overwrite would delete it: "
            f"{listed(foreign)}; move it away, or choose another directory"
        )
    _refuse_unwritable(target)


def _refuse_unwritable(target: Path) -> None:
    parent = next(path for path in target.parents if path.exists())
    if not parent.is_dir():
        raise FileExistsError(f"{parent} is a file, not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{parent}: no permission to write there")


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
    check_ids(crystal.id for crystal in crystals)
    for crystal, row in zip(crystals, rows, strict=True):
        if row.get("id", crystal.id) != crystal.id:
            raise ValueError(f"crystal {crystal.id!r} comes with the row of {row['id']!r}")
    broken = [crystal.id for crystal in crystals if not crystal.is_finite]
    if broken:
        raise ValueError(f"not finite, {len(broken)} in all: {', '.join(broken[:10])}")
    flat = [crystal.id for crystal in crystals if abs(np.linalg.det(crystal.cell)) < 1e-6]
    if flat:
        raise ValueError(f"cells without volume, {len(flat)} in all: {', '.join(flat[:10])}")


def _check_extra(extra: Mapping[str, str]) -> None:
    for name in extra:
        if Path(name).name != name or name in (
            CIF_DIRECTORY,
            EXTXYZ_NAME,
            TABLE_NAME,
            PARQUET_NAME,
            ".",
            "..",
        ):
            raise ValueError(f"{name!r} cannot be the name of a further file")


def _write_all(
    directory: Path, crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]
) -> None:
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
    _write_csv(directory / TABLE_NAME, _columns(rows), _complete(crystals, rows))
    write_parquet(directory / PARQUET_NAME, crystals, rows)


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([harmless(column) for column in columns])
        for row in rows:
            table.writerow([harmless(row.get(column, "")) for column in columns])


def write_parquet(
    path: Path, crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]
) -> None:
    """The table with the types of its columns; what is missing is null.

    A column of mixed kinds, such as numbers and texts, is written as text.

    Args:
      path: the file.
      crystals, rows: as for `write_samples`.
    """
    complete = _complete(crystals, rows)
    columns = {key: _column([row.get(key) for row in complete]) for key in _columns(rows)}
    pyarrow.parquet.write_table(pa.table(columns), path)


def _column(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (
        pa.ArrowException,
        OverflowError,
    ):  # mixed kinds, and whole numbers of more than 64 bits
        return pa.array([None if value is None else str(value) for value in values])


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return ["id", "formula", *(key for key in all_columns(rows) if key not in ("id", "formula"))]


def _complete(
    crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
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
            atoms.info[_for_extxyz(key.replace("=", "_"))] = _for_extxyz(_plain(value))
    return atoms


def _for_extxyz(value: Any) -> Any:
    """Texts as ASE reads them back: on one line, and escaped where it does not do so itself."""
    if not isinstance(value, str):
        return value
    text = " ".join(value.split())
    if text.endswith("="):  # ASE would take the next word for its value
        text = f"_JSON {json.dumps(text)}"
    return text.replace("\\", "\\\\")


def _plain(value: Any) -> Any:
    """numpy scalars as Python's, so that a table holds `0.1` and never `np.float64(0.1)`."""
    return value.item() if isinstance(value, np.generic) else value


def move_into_place(building: Path, target: Path) -> None:
    """Puts a file or folder where it belongs, in place of an old one.

    At any moment `target` is the old or the new whole, where the system can exchange two folders. Elsewhere the old
    folder has another name for a moment; it is brought back if the new one cannot take its place.
    """
    if not target.is_dir() or not any(target.iterdir()):
        os.replace(building, target)
        return
    if _exchange(building, target):
        shutil.rmtree(building, ignore_errors=True)  # the old one
        return
    former = Path(
        tempfile.mkdtemp(prefix=f".{target.name[:50]}.", suffix=".former", dir=target.parent)
    )
    os.replace(target, former)
    try:
        os.replace(building, target)
    except BaseException:
        os.replace(former, target)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names in one step, by Linux's `renameat2`; whether the system could."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return (
        rename is not None
        and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0
    )


def _umask() -> int:
    """The umask of this process, which the system only tells by setting it."""
    current = os.umask(0o077)
    os.umask(current)
    return current
