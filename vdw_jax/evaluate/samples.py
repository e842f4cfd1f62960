"""Structures to be scored, from the arrays of the generating half or from the files of any other generator."""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.samples import to_crystals
from vdw_jax.structures.arrays import crystals_in, read_arrays
from vdw_jax.structures.contents import read_text
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.entries import Entry
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.load import read_crystals
from vdw_jax.structures.property_table import CGCNN_FILE, PROPERTIES_FILE
from vdw_jax.structures.table import TableError, read_table
from vdw_jax.structures.values import is_absent
from vdw_jax.types import Periodicity


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
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SamplesError(f"{path}: not what the generating half writes: {error}") from error
    return Samples(crystals, record, truths, asked, predicted)


def _crystals(arrays: dict[str, NDArray], prefix: str, periodicity: Periodicity) -> list[Crystal]:
    return to_crystals(crystals_in(arrays, prefix), periodicity)


@dataclass(frozen=True, eq=False)
class Read:
    """Structures of a file or folder, in its order."""

    crystals: list[Crystal]  # without atoms where something is wrong: such a structure counts as invalid everywhere
    asked: list[dict[str, Any]]  # for each, what its file says was asked: `asked_formula`, `asked_..._ev`
    periodicity: Periodicity


def read_structures(path: Path, periodicity: str | Periodicity, *, all_usable: bool = False) -> Read:
    """Structures of another generator, from any file or folder that `load.read_crystals` reads.

    A structure that cannot be used is named on stderr and stays in as a crystal without atoms.

    Args:
        path: file or folder.
        periodicity: as for `load.read_crystals`.
        all_usable: a structure that cannot be used is an error, as it is among the true ones.

    Raises:
        SamplesError: nothing there, or a file that holds no structures or does not say whether they are slabs.
    """
    try:
        found = read_crystals(path, periodicity=periodicity)
    except DataError as error:
        raise SamplesError(str(error)) from error
    if all_usable and found.problems:
        raise SamplesError(str(found.problems[0]))
    for problem in found.problems:
        print(f"note: {problem}; it counts as invalid", file=sys.stderr)
    rows = [row for row in found.rows if not _is_of_a_table(row)]
    if not rows:
        raise SamplesError(f"{path}: no structures")
    crystals: list[Crystal] = []
    asked: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        if isinstance(row, Problem):
            crystals.append(nothing(row.id or f"s{place:04d}", found.periodicity))
            asked.append({})
            continue
        crystals.append(Crystal(row.id, row.atomic_numbers, row.positions, row.cell, found.periodicity))
        asked.append({key: value for key, value in row.values.items() if key.startswith("asked_")})
    return Read(crystals, asked, found.periodicity)


def _is_of_a_table(row: Entry | Problem) -> bool:
    """A row of a table of properties that names no structure file: there is nothing to be scored."""
    return isinstance(row, Problem) and row.file.endswith((PROPERTIES_FILE, CGCNN_FILE))


def nothing(name: str, periodicity: Periodicity) -> Crystal:
    """Stands for a structure that cannot be read."""
    return Crystal(name, np.zeros(0, int), np.zeros((0, 3)), np.full((3, 3), np.nan), periodicity)


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
        _, rows = read_table(path, read_text(path))
        by_id: dict[str, dict[str, str]] = {}
        for row in rows:
            if isinstance(row, TableError):
                raise SamplesError(f"{path}: row {row.place}: {row.field}: {row.reason}. {row.advice}")
            name = row.cells.get("id", "").strip()
            if not name or name in by_id:
                reason = f"{name!r} occurs before" if name else "empty or no such column"
                raise SamplesError(f"{path}: row {row.place}: id: {reason}")
            by_id[name] = dict(row.cells)
    except DataError as error:
        raise SamplesError(str(error)) from error
    return by_id


def asked_of(crystals: Sequence[Crystal], columns: Sequence[dict[str, Any]], origin: str) -> list[dict[str, Any]]:
    """Columns `asked_formula` and `asked_..._ev` as what `Samples.asked` holds.

    Raises:
        SamplesError: nothing was asked of any structure, or an energy is no number.
    """
    asked: list[dict[str, Any]] = []
    for crystal, row in zip(crystals, columns, strict=True):
        formula = str(row.get("asked_formula") or "") or None
        energies = [
            row[key] for key in row if key.startswith("asked_") and key.endswith("_ev") and not is_absent(row[key])
        ]
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
