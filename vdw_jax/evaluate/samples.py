"""Structures to be scored, from the arrays of the generating half or from the files of any other generator."""

from __future__ import annotations

import csv
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from numpy.typing import NDArray

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.samples import to_crystals
from vdw_jax.structures import slabs
from vdw_jax.structures.arrays import crystals_in, read_arrays
from vdw_jax.structures.cif import parse_cif
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.entries import StructureError
from vdw_jax.types import SLAB, Periodicity


class SamplesError(ValueError):
    """Structures cannot be read or paired; the message names the file and what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Generated structures; slabs have `stacking.VACUUM_ANGSTROM` above them, whatever their files say."""

    crystals: list[Crystal]
    record: dict[str, Any]
    truths: list[Crystal] | None = None  # what each crystal is a reconstruction of
    asked: list[dict[str, Any]] = field(default_factory=list)  # for each: kind, formula, energy_ev
    predicted: NDArray | None = None  # [n], eV, what the generator's own property head says


def load_samples(path: Path) -> Samples:
    """What `generating` wrote.

    Raises:
        SamplesError: no such file, or not one of those.
    """
    try:
        record, arrays = read_arrays(path)
        a, b, c = record["periodicity"]
        periodicity: Periodicity = (a, b, c)
        crystals = _crystals(arrays, "found", periodicity)
        truths = None
        if "ids" in arrays:
            names = [str(name) for name in arrays["ids"]]
            truths = [replace(t, id=n) for t, n in zip(_crystals(arrays, "truth", periodicity), names, strict=True)]
            crystals = [replace(crystal, id=name) for crystal, name in zip(crystals, names, strict=True)]
        asked: list[dict[str, Any]] = []
        if "asked_kind" in arrays:
            columns = zip(arrays["asked_kind"], arrays["asked_formula"], arrays["asked_energy_ev"], strict=True)
            asked = [
                {"kind": str(kind), "formula": str(formula) or None,
                 "energy_ev": None if np.isnan(energy) else float(energy)}
                for kind, formula, energy in columns
            ]  # fmt: skip
        predicted = arrays["predicted"][:, 0].astype(float) if arrays["predicted"].shape[1] else None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SamplesError(f"{path}: not what the generating half writes: {error}") from error
    return Samples(crystals, record, truths, asked, predicted)


def _crystals(arrays: dict[str, NDArray], prefix: str, periodicity: Periodicity) -> list[Crystal]:
    return to_crystals(crystals_in(arrays, prefix), periodicity)


def read_structures(path: Path, periodicity: Periodicity) -> tuple[list[Crystal], list[dict[str, Any]]]:
    """Structures of another generator: a directory of CIF files, or one extended XYZ file.

    Ids are the names of the CIF files without `.cif`, or `id` in the info of a frame, or else its number. A directory
    may hold its CIFs in `cif/`, as `sample.py` writes them. A CIF that cannot be read, and a frame with values that
    are not finite, stays in as a crystal without atoms: it counts as invalid everywhere.

    Args:
        path: directory or file.
        periodicity: SLAB takes c as the stacking axis and moves it along the normal, see `as_slab`.

    Returns:
        The crystals and, for each, what its frame says was asked (`asked_formula`, `asked_..._ev`).

    Raises:
        SamplesError: nothing there, or a file that holds no structures.
    """
    if path.is_dir():
        names = sorted(path.glob("*.cif")) or sorted((path / "cif").glob("*.cif"))
        if not names:
            raise SamplesError(f"{path}: no .cif files")
        return [_from_cif(name, periodicity) for name in names], [{} for _ in names]
    try:
        frames = ase.io.read(path, ":", format="extxyz")
    except Exception as error:  # noqa: BLE001  ASE raises many kinds on bad files
        raise SamplesError(f"{path}: not an extended XYZ file: {error}") from error
    crystals, asked = [], []
    for number, atoms in enumerate(frames):
        name = str(atoms.info.get("id", f"s{number:04d}"))
        periods = tuple(bool(period) for period in atoms.pbc)
        crystals.append(
            _standard(name, atoms.numbers, atoms.positions, np.array(atoms.cell), periodicity, across=periods[2])
        )
        asked.append({key: value for key, value in atoms.info.items() if key.startswith("asked_")})
    return crystals, asked


def _from_cif(path: Path, periodicity: Periodicity) -> Crystal:
    try:
        numbers, fractions, cell = parse_cif(path.read_text(encoding="utf-8"))
    except (StructureError, OSError, UnicodeDecodeError) as error:
        print(f"note: {path}: {error}; it counts as invalid", file=sys.stderr)
        return nothing(path.stem, periodicity)
    return _standard(path.stem, numbers, fractions @ cell, cell, periodicity, across=True)


def nothing(name: str, periodicity: Periodicity) -> Crystal:
    """Stands for a structure that cannot be read."""
    return Crystal(name, np.zeros(0, int), np.zeros((0, 3)), np.full((3, 3), np.nan), periodicity)


def _standard(
    name: str, numbers: NDArray, positions: NDArray, cell: NDArray, periodicity: Periodicity, *, across: bool
) -> Crystal:
    finite = len(numbers) > 0 and np.isfinite(positions).all() and np.isfinite(cell).all()
    if not finite or abs(np.linalg.det(cell)) < 1e-3:
        return nothing(name, periodicity)
    if periodicity == SLAB:
        positions, cell = as_slab(positions, cell, across=across)
    return Crystal(name, numbers, positions, cell, periodicity)


def as_slab(positions: NDArray, cell: NDArray, *, across: bool = True) -> tuple[NDArray, NDArray]:
    """A slab in the convention of this package, see `slabs.as_slab`.

    The widest gap between atomic planes along c is taken for the vacuum, and what lies beyond it is moved below.

    Args:
        positions: [n, 3] Cartesian, Angstrom.
        cell: [3, 3] rows a, b, c, Angstrom; c along or leaning from the normal.
        across: c is a period, so that atoms may lie in different images; otherwise heights are taken as they are.

    Returns:
        positions [n, 3] and cell [3, 3].
    """
    if across:
        positions = slabs.made_whole(positions @ np.linalg.inv(cell)) @ cell
    return slabs.as_slab(positions, cell)


def pair_up(crystals: Sequence[Crystal], truths: Sequence[Crystal]) -> tuple[list[Crystal], str]:
    """For each true structure its reconstruction: the one of the same id or, where no id is shared, of the same place.

    Returns:
        As many crystals as truths, `nothing` where one is missing, and how they were paired: "id" or "order".

    Raises:
        SamplesError: an id occurs twice, some but not all structures have the id of a truth, or the numbers differ.
    """
    by_id = {crystal.id: crystal for crystal in crystals}
    if len(by_id) != len(crystals):
        twice = next(c.id for n, c in enumerate(crystals) if c.id in {other.id for other in crystals[:n]})
        raise SamplesError(f"id {twice!r} occurs twice among the structures")
    known = {truth.id for truth in truths}
    strange = [name for name in by_id if name not in known]
    if not strange:
        return [by_id.get(truth.id) or nothing(truth.id, truth.periodicity) for truth in truths], "id"
    if len(strange) < len(crystals):
        raise SamplesError(f"{len(strange)} structures have no true one of the same id: {', '.join(strange[:5])}")
    if len(crystals) != len(truths):
        raise SamplesError(f"no ids in common, and {len(crystals)} structures against {len(truths)} true ones")
    return [replace(crystal, id=truth.id) for crystal, truth in zip(crystals, truths, strict=True)], "order"


def read_asked(path: Path) -> dict[str, dict[str, str]]:
    """By id, what was asked: a CSV file with columns `id` and `asked_formula`, `asked_energy_ev` or both.

    Raises:
        SamplesError: the file cannot be read or has no column `id`.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SamplesError(f"{path}: not a CSV file: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not row.get("id"):
            raise SamplesError(f"{path}: row {number}: id: empty or no such column")
    return {row["id"]: row for row in rows}


def asked_of(crystals: Sequence[Crystal], columns: Sequence[dict[str, Any]], origin: str) -> list[dict[str, Any]]:
    """Columns `asked_formula` and `asked_..._ev` as what `Samples.asked` holds.

    Raises:
        SamplesError: nothing was asked of any structure, or an energy is no number.
    """
    asked: list[dict[str, Any]] = []
    for crystal, row in zip(crystals, columns, strict=True):
        formula = str(row.get("asked_formula") or "") or None
        energies = [row[key] for key in row if key.startswith("asked_") and key.endswith("_ev") and row[key] != ""]
        try:
            energy = float(energies[0]) if energies else None
        except ValueError as error:
            raise SamplesError(f"{origin}: {crystal.id}: asked energy: {energies[0]!r} is no number") from error
        kinds = {(True, True): "energy and formula", (True, False): "formula held", (False, True): "energy"}
        kind = kinds.get((formula is not None, energy is not None), "nothing")
        asked.append({"kind": kind, "formula": formula, "energy_ev": energy})
    if all(row["kind"] == "nothing" for row in asked):
        raise SamplesError(f"{origin}: no asked_formula and no asked_energy_ev of any structure")
    return asked


def from_dataset(data: CrystalDataset) -> list[Crystal]:
    """The crystals of a data set, slabs with `stacking.VACUUM_ANGSTROM` above them."""
    crystals = to_crystals(data.batch(), data.periodicity)
    return [replace(c, id=str(name)) for c, name in zip(crystals, data.ids, strict=True)]
