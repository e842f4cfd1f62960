"""Arrays of many crystals in one .npz file, with a record of how they came about. No crystal library is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdw_jax.structures.files import write_whole
from vdw_jax.types import CrystalBatch

FIELDS = ("atomic_numbers", "positions", "cell")
"""Of a `CrystalBatch`, in its order."""


def flat(prefix: str, crystals: CrystalBatch) -> dict[str, NDArray]:
    """The fields of a batch as arrays of the host, `prefix/field`."""
    return {f"{prefix}/{name}": np.asarray(getattr(crystals, name)) for name in FIELDS}


def crystals_in(arrays: Mapping[str, Any], prefix: str) -> CrystalBatch:
    """Inverse of `flat`.

    Raises:
        KeyError: a field is not there.
    """
    return CrystalBatch(*(arrays[f"{prefix}/{name}"] for name in FIELDS))


def write_arrays(path: str | os.PathLike[str], record: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> None:
    """One file, whole or not at all; the record as JSON."""
    text = np.array(json.dumps(record))
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, record=text, **arrays))


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Record and arrays of `write_arrays`.

    Raises:
        OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile: no such file, or another.
    """
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return json.loads(str(arrays.pop("record"))), arrays
