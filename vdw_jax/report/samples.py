"""Generated candidates as crystals, files and a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdw_jax.design.saved import REQUEST_NAME
from vdw_jax.design.trained import Trained
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.page import PAGE_NAME, render_page
from vdw_jax.report.table import text_table
from vdw_jax.report.writer import write_samples
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.source import load_source
from vdw_jax.structures.splits import split_dataset
from vdw_jax.structures.stacking import VACUUM_ANGSTROM
from vdw_jax.types import SLAB, CrystalBatch, Periodicity


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
    rows: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    trained: Trained,
    *,
    overwrite: bool = False,
) -> None:
    """Writes what `write_samples` writes, `report.html` and `request.json`.

    Args:
      directory: where to.
      crystals: the candidates.
      rows: of each what the table says, with its rank.
      record: what made them, as `saved.describe_run` says it.
      trained: the model, for the data it was trained on.
      overwrite: replaces an earlier output.
    """
    extra = {
        REQUEST_NAME: json.dumps(record, indent=2) + "\n",
        PAGE_NAME: render_page(crystals, rows, record, training_labels(trained)),
    }
    write_samples(directory, crystals, rows, overwrite=overwrite, extra=extra)


def training_labels(trained: Trained) -> dict[str, NDArray[np.float32]]:
    """The labels of the training part by name, [n] each; none where the model's data are not those that ship."""
    told = trained.facts["config"]["data"]
    if told.get("path") or not told["scalars"]:
        return {}
    try:
        data = load_source(told["source"], properties=tuple(told["scalars"]), max_atoms=told["max_atoms"])
    except DataError:  # a label of former data
        return {}
    if data.content_hash() != trained.facts["data_hash"]:
        return {}
    part = split_dataset(data, told["split_seed"], by=told["split"])["train"]
    return {name: values[part] for name, values in data.scalars.items()}


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
