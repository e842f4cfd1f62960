"""Hands candidates over to other programs: `python -m vdw_jax.report.handover samples/GaInSSe2-seed0 --best=10`.

    handover/
      poscar/<id>.vasp                                   VASP, VESTA
      vasp/<id>/{INCAR,KPOINTS,POSCAR,POTCAR.spec}       relaxations as the paper does them, see vasp/README.txt
      gpaw/{relax_gpaw.py,<id>.xyz}                      relaxations that run as they are
      flow.json                                          the relaxations by VASP as a jobflow Flow (atomate2)
      samples.db                                         ASE database, `ase db samples.db`; the id is `name`
      samples.parquet                                    the rows of the table
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
from ase.db import connect
from ase.io import read as ase_read
from ase.io import write as ase_write

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.vasp import relax_flow, write_poscar, write_vasp
from vdw_jax.report.writer import EXTXYZ_NAME, PARQUET_NAME, write_parquet

DATABASE_NAME = "samples.db"
FLOW_NAME = "flow.json"
GPAW_SCRIPT = Path(__file__).parent / "static" / "relax_gpaw.py"

Rows = Sequence[Mapping[str, Any]]


class HandoverError(ValueError):
    """What is asked for cannot be handed over; the message is one line that a person can act on."""


def read_samples(directory: str | Path) -> tuple[list[Crystal], list[dict[str, Any]]]:
    """Crystals and rows of the table as `writer.write_samples` wrote them, in its order.

    Raises:
      HandoverError: no samples there, or table and crystals do not have the same ids.
    """
    folder = Path(directory)
    for name in (EXTXYZ_NAME, PARQUET_NAME):
        if not (folder / name).is_file():
            raise HandoverError(f"{folder / name} is missing; name a folder that sample.py wrote")
    rows = pyarrow.parquet.read_table(folder / PARQUET_NAME).to_pylist()
    images = ase_read(folder / EXTXYZ_NAME, ":") if rows else []
    crystals = [
        Crystal(atoms.info["id"], atoms.numbers, atoms.positions, atoms.cell.array, tuple(atoms.pbc.tolist()))
        for atoms in images
    ]
    if [crystal.id for crystal in crystals] != [row["id"] for row in rows]:
        raise HandoverError(f"{folder}: {EXTXYZ_NAME} and {PARQUET_NAME} do not hold the same ids")
    return crystals, rows


def choose(rows: Rows, ids: Sequence[str] | None = None, best: int | None = None) -> list[int]:
    """Places of the rows that are wanted: those named, or the best by rank, or all.

    Raises:
      HandoverError: an id that is not there, or fewer than one wanted.
    """
    places = {row["id"]: place for place, row in enumerate(rows)}
    if ids is not None:
        if unknown := [name for name in ids if name not in places]:
            raise HandoverError(f"no candidate {', '.join(unknown)}; there are {len(rows)}, such as {list(places)[:3]}")
        return [places[name] for name in dict.fromkeys(ids)]
    if best is None:
        return list(places.values())
    if best < 1:
        raise HandoverError(f"--best is at least 1, not {best}")
    return sorted(places.values(), key=lambda place: rows[place].get("rank") or place)[:best]


def hand_over(
    directory: str | Path,
    formats: Sequence[str],
    ids: Sequence[str] | None = None,
    best: int | None = None,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Writes candidates in the given formats; each is there whole or not at all.

    Args:
      directory: what sample.py wrote.
      formats: keys of `FORMATS`.
      ids: which candidates; all by default.
      best: that many of the best instead.
      out: where to; `handover` in the directory by default.
      overwrite: replaces what an earlier call wrote for the same formats.

    Returns:
      What is new.

    Raises:
      HandoverError: an unknown format or id, something to overwrite, or a package that is missing.
    """
    formats = list(dict.fromkeys(formats))
    if unknown := [name for name in formats if name not in FORMATS]:
        raise HandoverError(f"no format {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    crystals, rows = read_samples(directory)
    places = choose(rows, ids, best)
    target = Path(out) if out is not None else Path(directory) / "handover"
    for name in formats:
        path = target / FORMATS[name][0]
        if path.exists() and not overwrite:
            raise HandoverError(f"{path} is there already; choose another --out, or --overwrite")
    target.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=target))
    try:
        for name in formats:
            entry, write = FORMATS[name]
            write(building / entry, [crystals[place] for place in places], [rows[place] for place in places])
        written = []
        for name in formats:
            path = target / FORMATS[name][0]
            if path.is_dir():
                shutil.rmtree(path)
            (building / FORMATS[name][0]).replace(path)
            written.append(path)
        return written
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_poscars(directory: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    directory.mkdir()
    for crystal in crystals:
        write_poscar(directory / f"{crystal.id}.vasp", crystal)


def _write_vasp(directory: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    directory.mkdir()
    try:
        write_vasp(directory, crystals)
    except ValueError as error:
        raise HandoverError(str(error)) from None


def _write_gpaw(directory: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    directory.mkdir()
    shutil.copyfile(GPAW_SCRIPT, directory / GPAW_SCRIPT.name)
    for crystal in crystals:
        atoms = crystal.to_ase()
        atoms.info = {"id": crystal.id}
        ase_write(directory / f"{crystal.id}.xyz", atoms, format="extxyz")


def _write_database(path: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    """All of a row as keys to select by; `id` and `formula`, which are ASE's own words, under other names.

    ASE takes no text that reads as a number (the formula InF does), and no lists; those stand in the row's `data`.
    """
    with connect(path, append=False) as database:
        for crystal, row in zip(crystals, rows, strict=True):
            values = {"name": crystal.id, "reduced_formula": crystal.formula}
            values |= {key: value for key, value in row.items() if value is not None and key not in ("id", "formula")}
            keys = {key: value for key, value in values.items() if _is_key(value)}
            rest = {key: value for key, value in values.items() if key not in keys}
            database.write(crystal.to_ase(), key_value_pairs=keys, data=rest)


def _is_key(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int | float)
    try:
        float(value)
    except ValueError:
        return True
    return False


def _write_flow(path: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    try:
        from monty.json import MontyEncoder

        flow = relax_flow(crystals)
    except ImportError as error:
        raise HandoverError(f"flow needs atomate2 (pip install atomate2): {error}") from None
    path.write_text(json.dumps(flow, cls=MontyEncoder), encoding="utf-8")


FORMATS: dict[str, tuple[str, Callable[[Path, Sequence[Crystal], Rows], None]]] = {
    "poscar": ("poscar", _write_poscars),
    "vasp": ("vasp", _write_vasp),
    "gpaw": ("gpaw", _write_gpaw),
    "db": (DATABASE_NAME, _write_database),
    "parquet": (PARQUET_NAME, lambda path, crystals, rows: write_parquet(path, crystals, rows)),
    "flow": (FLOW_NAME, _write_flow),
}
"""What each format is called in the output, and how it is written."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m vdw_jax.report.handover",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("directory", help="what sample.py wrote")
    usual = [name for name in FORMATS if name != "flow"]
    parser.add_argument("--formats", default=",".join(usual), help=f"of {', '.join(FORMATS)}; default: %(default)s")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ids", metavar="ID,ID", help="these candidates; default: all")
    which.add_argument("--best", metavar="N", type=int, help="the N best by rank")
    parser.add_argument("--out", metavar="DIR", help="default: handover, in the directory")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there of the same formats")
    given = parser.parse_args()
    ids = None if given.ids is None else [name for name in given.ids.split(",") if name]
    try:
        written = hand_over(
            given.directory, given.formats.split(","), ids, given.best, given.out, overwrite=given.overwrite
        )
    except HandoverError as error:
        print(f"handover: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for path in written:
        print(path)


if __name__ == "__main__":
    main()
