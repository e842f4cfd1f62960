"""Generated candidates as crystals, files and a table on the terminal."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdw_jax.design.saved import REQUEST_NAME
from vdw_jax.design.trained import Trained
from vdw_jax.metrics import novelty
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import UNKNOWN
from vdw_jax.report.page import PAGE_NAME, render_page
from vdw_jax.report.table import all_columns, text_table
from vdw_jax.report.untrained import COLUMN as UNTRAINED
from vdw_jax.report.writer import write_samples
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.source import load_configured
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


def as_dataset(crystals: Sequence[Crystal], prefix: str = "") -> CrystalDataset:
    """Finite crystals of one periodicity as a data set, ids with `prefix` in front."""
    width = max((len(crystal.atomic_numbers) for crystal in crystals), default=1)
    numbers = np.zeros((len(crystals), max(width, 1)), np.int16)
    positions = np.zeros((*numbers.shape, 3), np.float32)
    for row, crystal in enumerate(crystals):
        numbers[row, : len(crystal.atomic_numbers)] = crystal.atomic_numbers
        positions[row, : len(crystal.atomic_numbers)] = crystal.positions
    return CrystalDataset(
        ids=np.array([prefix + crystal.id for crystal in crystals], dtype=np.str_),
        atomic_numbers=numbers,
        positions=positions,
        cell=np.array([crystal.cell for crystal in crystals], np.float32).reshape(-1, 3, 3),
        periodicity=crystals[0].periodicity if crystals else SLAB,
    )


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


@functools.lru_cache(maxsize=1)
def training_part(trained: Trained) -> CrystalDataset | None:
    """What the model learned from; None where it is not there any more, or changed."""
    told = trained.facts["config"]["data"]
    try:
        data = load_configured(told)
    except DataError:  # a file that was moved, or a label of former data
        return None
    if data.content_hash() != trained.facts["data_hash"]:
        return None
    return data.select(split_dataset(data, told["split_seed"], by=told["split"])["train"])


def training_labels(trained: Trained) -> dict[str, NDArray[np.float32]]:
    """The labels of the training part by name, [n] each; none where it is not known or has none."""
    part = training_part(trained) if trained.facts["config"]["data"]["scalars"] else None
    return {} if part is None else dict(part.scalars)


def compare(crystals: Sequence[Crystal], known: CrystalDataset | None) -> list[dict[str, Any]]:
    """What each finite crystal repeats, at a tolerance that tells stackings apart (`novelty.TIGHT_STOL`).

    Keys: `novel` and `known_as`, the id of the first of `known` that it matches (None and `-` if `known` is None);
    `repeats`, the id of the first earlier crystal that it matches, `-` for none. Of slabs, where `known` is given,
    `nearest_training`, `nearest_rms_angstrom` and `formula_swaps`, as `novelty.Nearest` says; None or `-` otherwise.
    """
    if not crystals:
        return []
    own = as_dataset(crystals, "candidate:")
    compared = novelty.compare(own, known, progress=False)
    near: Sequence[novelty.Nearest | None] = [None] * len(own)
    if known is not None and known.periodicity == own.periodicity == SLAB:
        near = novelty.nearest(own, known)
    return [
        {
            "novel": None if known is None else match is None,
            "known_as": match or UNKNOWN,
            "repeats": UNKNOWN if earlier is None else crystals[earlier].id,
            "nearest_training": (close and close.id) or UNKNOWN,
            "nearest_rms_angstrom": close and close.rms_angstrom,
            "formula_swaps": close and close.swaps,
        }
        for (match, earlier), close in zip(compared, near, strict=True)
    ]


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
    got = ("predicted_", "evaluated_")
    scalars = [key for key in all_columns(rows) if key.startswith(got)]
    asked = [f"asked_{key.split('_', 1)[1]}" for key in scalars]
    asked = [key for key in dict.fromkeys(asked) if any(key in row for row in rows[:1])]
    is_single = len({key.split("_", 1)[1] for key in scalars}) == 1
    renamed = {key: key.split("_")[0] for key in asked + scalars} if is_single else {}
    named |= {key: renamed.get(key, key) for key in asked + scalars}
    shown = [{title: row.get(key) for key, title in named.items()} for row in rows]
    if any(row.get(UNTRAINED) for row in rows):
        shown = [line | {UNTRAINED: bool(row.get(UNTRAINED))} for line, row in zip(shown, rows, strict=True)]
    return text_table(shown, max_rows=max_rows)
