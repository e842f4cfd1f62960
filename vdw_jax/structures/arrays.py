"""Arrays of many crystals in one .npz file, with a record of how they came about. No crystal library is needed."""

from __future__ import annotations

import json
import math
import os
import stat
import zipfile
from collections.abc import Mapping
from typing import IO, Any

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


MOST_BYTES = 1 * 2**30
"""Of all arrays of one file, unpacked. The data sets that ship have 15 MB; 100,000 crystals of 20 atoms have 30 MB."""


def load_npz(path: str | os.PathLike[str], most_bytes: int | None = None) -> dict[str, NDArray]:
    """The arrays of an .npz file. What it says of their sizes is compared before memory is taken for them.

    Args:
        path: the file.
        most_bytes: of all arrays, unpacked; `MOST_BYTES` by default.

    Raises:
        OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error: no such file, another, or one that is damaged
            or unpacks to more than `most_bytes`.
    """
    most_bytes = MOST_BYTES if most_bytes is None else most_bytes
    try:
        return _load_npz(path, most_bytes)
    except (NotImplementedError, RuntimeError) as error:  # of zipfile: another compression, or a password
        raise ValueError(str(error)) from error


def _load_npz(path: str | os.PathLike[str], most_bytes: int) -> dict[str, NDArray]:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("neither a file nor a folder, but a pipe or a device")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > most_bytes:
            raise ValueError(f"its arrays have {total / 2**20:.4g} MiB, more than {most_bytes / 2**20:.4g} MiB")
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise ValueError("an array occurs twice")
        for member in members:
            with archive.open(member) as stored:
                _require_size(member, stored)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _require_size(member: zipfile.ZipInfo, stored: IO[bytes]) -> None:
    """The shape in the head of an array has to be that of the bytes behind it."""
    version = np.lib.format.read_magic(stored)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"{member.filename}: no array")
    shape, _, dtype = read[version](stored)
    promised = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or promised != member.file_size - stored.tell():
        raise ValueError(f"{member.filename}: its size is not that of its shape {shape}")


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Record and arrays of `write_arrays`.

    Raises:
        OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error: no such file, or another.
    """
    arrays = load_npz(path)
    return json.loads(str(arrays.pop("record"))), arrays


def has_record(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `write_arrays` wrote, by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "record.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
