"""Opens any file of structures: one entry for each format, found by the name of the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vdw_jax.structures.ase_database import read_sqlite
from vdw_jax.structures.contents import bare_name, require_file
from vdw_jax.structures.csv_reader import read_csv
from vdw_jax.structures.entries import Reading
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.extxyz_reader import read_extxyz
from vdw_jax.structures.folder import SINGLE, kind_of_file, read_folder, read_single
from vdw_jax.structures.json_reader import read_json


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    suffixes: tuple[str, ...]  # of names in small letters, without .gz
    read: Callable[[Path], Reading]


FORMATS = (
    Format((".csv",), read_csv),
    Format((".extxyz", ".xyz"), read_extxyz),
    Format((".db",), read_sqlite),
    Format((".json",), read_json),
)
"""Every format of many structures; `folder.SINGLE` has those of one. Any of them may be gzipped."""


def open_reading(path: Path) -> Reading:
    """The structures of a file or folder by its kind.

    Raises:
        DataError: none of the known kinds, or not what its name says.
    """
    if path.is_dir():
        return read_folder(path)
    require_file(path)
    name = bare_name(path)
    if kind_of_file(path):
        return read_single(path)
    for kind in FORMATS:
        if name.endswith(kind.suffixes):
            return kind.read(path)
    if name.endswith(".npz"):
        raise DataError(f"{path}: a packed .npz; it is packed as it is: unpack it first")
    many = [suffix for kind in FORMATS for suffix in kind.suffixes]
    single = [kind.name for kind in SINGLE]
    known = ", ".join([*many, ".npz", *single])
    raise DataError(
        f"{path}: unknown kind of file; give {known}, or a folder of {' or '.join(single)}"
    )
