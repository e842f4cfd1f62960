"""Data sets by name: what training asks for."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vdw_jax.structures.csv_reader import read_csv
from vdw_jax.structures.dataset import CrystalDataset, concatenate
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.files import SHIPPED

SOURCES = ("j2dh8", "iii_vi", "j2dh8+iii_vi", "csv")


def _with_properties(dataset: CrystalDataset, properties: Sequence[str]) -> CrystalDataset:
    """Keep the named columns as scalars; real-valued metadata may be named too."""
    reals = {name: values for name, values in dataset.metadata.items() if values.dtype.kind == "f"}
    columns = reals | dataset.scalars
    for name in properties:
        if name not in columns:
            raise DataError(f"no property {name!r}; there are {', '.join(sorted(columns))}")
    return replace(dataset, scalars={name: columns[name].astype(np.float32) for name in properties})


def load_relaxed(family: str) -> tuple[CrystalDataset, dict[str, Any]]:
    """A shipped data set ("j2dh8", "iii_vi", or the free "layers") and how it was made.

    Raises:
        DataError: no such family.
    """
    path = SHIPPED / f"{family}.json"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.npz")))
        raise DataError(f"no relaxed data set {family!r}; there are {known}")
    return CrystalDataset.load(SHIPPED / f"{family}.npz"), json.loads(path.read_text(encoding="utf-8"))


def load_source(
    name: str,
    *,
    path: str | os.PathLike[str] | None = None,
    properties: Sequence[str] = (),
    max_atoms: int = 20,
    cache_dir: str | os.PathLike[str] | None = None,
) -> CrystalDataset:
    """Load a data set.

    Args:
        name: "j2dh8", "iii_vi", "j2dh8+iii_vi" (relaxed and labelled), or "csv" (read from `path`).
        path: the CSV file, for "csv" only.
        properties: scalars to keep; empty keeps all of them. docs/dataset.md lists those of the families.
        max_atoms: most atoms a crystal may have.
        cache_dir: where parsed CSV files are kept; see `csv_reader.read_csv`.

    Raises:
        DataError: an unknown name or property, `path` missing or out of place, a bad row, or a crystal that
            is too large.
    """
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}; choose one of {', '.join(SOURCES)}")
    if (name == "csv") != (path is not None):
        raise DataError(f"data set {name!r} {'needs' if name == 'csv' else 'takes no'} path")
    if path is not None:
        return read_csv(path, properties, max_atoms, "raise", cache_dir)[0]
    parts = [load_relaxed(family)[0] for family in name.split("+")]
    dataset = parts[0] if len(parts) == 1 else concatenate(parts)
    largest = int(dataset.num_atoms.max())
    if largest > max_atoms:
        raise DataError(f"data set {name!r} has crystals of {largest} atoms; max_atoms is {max_atoms}")
    return _with_properties(dataset, properties) if properties else dataset
