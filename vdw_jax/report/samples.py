"""Generated candidates as crystals, files and a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.table import text_table
from vdw_jax.report.writer import write_samples
from vdw_jax.types import SLAB, CrystalBatch, Periodicity

VACUUM_ANGSTROM = 20.0
"""Added above slabs, whose model knows none."""


def to_crystals(batch: CrystalBatch, periodicity: Periodicity, prefix: str = "s") -> list[Crystal]:
    """Crystals of a padded batch, named by their place: `s0000`, ...; slabs get their height and vacuum as c."""
    width = max(4, len(str(len(batch.cell) - 1)))
    crystals = []
    for index in range(len(batch.cell)):
        numbers, positions = np.asarray(batch.atomic_numbers[index]), np.asarray(batch.positions[index], np.float64)
        cell, real = np.array(batch.cell[index], np.float64), np.asarray(batch.atomic_numbers[index]) > 0
        if periodicity == SLAB:
            heights = positions[real, 2]
            cell[2] = (0.0, 0.0, np.ptp(heights) + VACUUM_ANGSTROM)
        crystals.append(Crystal(f"{prefix}{index:0{width}d}", numbers[real], positions[real], cell, periodicity))
    return crystals


def save_samples(
    directory: str | Path,
    crystals: Sequence[Crystal],
    asked: Mapping[str, Any],
    predicted: Sequence[Mapping[str, float]],
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Writes what `write_samples` writes, and `settings.json`; crystals that are not finite are left out and counted.

    Returns:
      The rows of the table.
    """
    pairs = [(crystal, guess) for crystal, guess in zip(crystals, predicted, strict=True) if crystal.is_finite]
    kept = [crystal for crystal, _ in pairs]
    rows = sample_rows(kept, [asked] * len(kept), [guess for _, guess in pairs])
    record = {**settings, "not_finite": len(crystals) - len(kept)}
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    write_samples(directory, kept, rows, overwrite=overwrite, extra={"settings.json": text})
    return rows


def short_table(rows: Sequence[Mapping[str, Any]], max_rows: int = 20) -> str:
    """The columns that fit a terminal."""
    named = {
        "id": "id",
        "formula": "formula",
        "valid": "valid",
        "min_distance_angstrom": "min d (A)",
        "lattice_constant_angstrom": "a (A)",
        "layer_names": "layers",
        "gap_angstrom": "gap (A)",
        "bilayer": "bilayer",
        "spacegroup": "space group",
    }
    scalars = [key for row in rows[:1] for key in row if key.startswith("predicted_")]
    asked = [key for row in rows[:1] for key in row if key.startswith("asked_") and key != "asked_formula"]
    renamed = {key: key.split("_")[0] for key in asked + scalars} if len(scalars) == 1 else {}
    named |= {key: renamed.get(key, key) for key in asked + scalars}
    shown = [{title: row.get(key) for key, title in named.items()} for row in rows]
    return text_table(shown, max_rows=max_rows)
