"""Candidates that lie in a folder, and which of them are wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.lib
import pyarrow.parquet
from ase.io import read as ase_read
from ase.io.extxyz import key_val_str_to_dict

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.layout import EXTXYZ_NAME, PARQUET_NAME, REQUEST_NAME
from vdw_jax.structures.ids import check_ids, shown_id
from vdw_jax.structures.load import read_crystals
from vdw_jax.structures.scan import MOST_STRUCTURES

_MOST_PROBLEMS = 5
_LARGEST_REQUEST_BYTES = 10_000_000


class HandoverError(ValueError):
    """What is asked for cannot be handed over; the message is one line that a person can act on."""


def read_candidates(
    path: str | Path, on_note: Callable[[str], None] | None = None
) -> tuple[list[Crystal], list[dict[str, Any]]]:
    """Crystals and rows of a folder of samples, or of any file or folder that `load.read_crystals` takes.

    A structure of a file that cannot be used is left out and noted; its properties are the columns of its row.

    Args:
      path: folder or file.
      on_note: called with each thing that the user should know, one line.

    Raises:
      HandoverError: as `read_samples`; a file none of whose structures can be used.
      DataError: the file is unusable, or an id cannot be the name of a file.
    """
    source = Path(path)
    if source.is_dir() and any((source / name).exists() for name in (EXTXYZ_NAME, PARQUET_NAME)):
        return read_samples(source)
    found = read_crystals(source)
    note = on_note or (lambda text: None)
    for text in found.notes:
        note(text)
    for problem in found.problems[:_MOST_PROBLEMS]:
        note(f"{problem}; left out")
    if len(found.problems) > _MOST_PROBLEMS:
        note(
            f"{len(found.problems)} problems in all; python -m vdw_jax.structures.check {source} lists them"
        )
    if not found.entries:
        raise HandoverError(f"{source}: no structure that can be used")
    check_ids((entry.id for entry in found.entries), str(source))
    crystals = [
        Crystal(entry.id, entry.atomic_numbers, entry.positions, entry.cell, found.periodicity)
        for entry in found.entries
    ]
    rows = [
        {"id": crystal.id, "formula": crystal.formula} | _columns(entry.values)
        for crystal, entry in zip(crystals, found.entries, strict=True)
    ]
    return crystals, rows


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside a structure, where it is called as our own columns under another name."""
    return {
        f"{name}_in_file" if name in ("id", "formula", "rank") else name: value
        for name, value in values.items()
    }


def saved_request(source: Path) -> dict[str, Any]:
    """What a folder's `request.json` holds, to be shown; nothing of it is looked up or run. Empty where it is none."""
    path = source / REQUEST_NAME
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_REQUEST_BYTES:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: None)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_samples(directory: str | Path) -> tuple[list[Crystal], list[dict[str, Any]]]:
    """Crystals and rows of the table as `writer.write_samples` wrote them, in its order.

    Raises:
      HandoverError: no samples there, files that are damaged, or table and crystals do not have the same ids.
      DataError: an id that cannot be the name of a file; nothing is to be written under it.
    """
    folder = Path(directory)
    for name in (EXTXYZ_NAME, PARQUET_NAME):
        if not (folder / name).is_file():
            raise HandoverError(f"{folder / name} is missing; name a folder that sample.py wrote")
    try:
        with pyarrow.parquet.ParquetFile(folder / PARQUET_NAME) as table:
            if table.metadata.num_rows > MOST_STRUCTURES:
                raise HandoverError(
                    f"{folder / PARQUET_NAME} has {table.metadata.num_rows} rows; "
                    f"{MOST_STRUCTURES} are read at most"
                )
            rows = table.read().to_pylist()
    except (OSError, pyarrow.lib.ArrowException) as error:
        raise HandoverError(
            f"{folder / PARQUET_NAME} cannot be read: {_first_line(error)}"
        ) from None
    if any(not isinstance(row.get("id"), str) for row in rows):
        raise HandoverError(f"{folder / PARQUET_NAME}: id: a row has none, or no text")
    ids = [row["id"] for row in rows]
    check_ids(ids, str(folder / PARQUET_NAME))
    try:
        images = ase_read(folder / EXTXYZ_NAME, ":", format="extxyz") if rows else []
    except Exception as error:  # ASE has no common error
        raise HandoverError(
            f"{folder / EXTXYZ_NAME} cannot be read: {_first_line(error)}"
        ) from None
    same = len(images) == len(ids)
    if not same or any(
        not _is_id(atoms.info.get("id"), name) for atoms, name in zip(images, ids, strict=True)
    ):
        raise HandoverError(f"{folder}: {EXTXYZ_NAME} and {PARQUET_NAME} do not hold the same ids")
    crystals = [
        Crystal(name, atoms.numbers, atoms.positions, atoms.cell.array, tuple(atoms.pbc.tolist()))
        for atoms, name in zip(images, ids, strict=True)
    ]
    if broken := [crystal.id for crystal in crystals if not crystal.is_finite]:
        raise HandoverError(
            f"{folder / EXTXYZ_NAME}: {shown_id(broken[0])}: a number is not finite"
        )
    return crystals, rows


def _is_id(found: Any, name: str) -> bool:
    """Whether ASE read this id: it takes `001` for a number, and `T` for true."""
    return str(found) == str(key_val_str_to_dict(f"id={name}")["id"])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def choose(
    rows: Sequence[Mapping[str, Any]], ids: Sequence[str] | None = None, best: int | None = None
) -> list[int]:
    """Places of the rows that are wanted: those named, or the best by rank, or all.

    Raises:
      HandoverError: an id that is not there, or fewer than one wanted.
    """
    places = {row["id"]: place for place, row in enumerate(rows)}
    if ids is not None:
        if unknown := [name for name in ids if name not in places]:
            raise HandoverError(
                f"no candidate {', '.join(unknown)}; there are {len(rows)}, such as {list(places)[:3]}"
            )
        return [places[name] for name in dict.fromkeys(ids)]
    if best is None:
        return list(places.values())
    if best < 1:
        raise HandoverError(f"--best is at least 1, not {best}")
    return sorted(places.values(), key=lambda place: _rank(rows[place], place))[:best]


def _rank(row: Mapping[str, Any], place: int) -> float:
    rank = row.get("rank")
    return float(rank) if isinstance(rank, int | float) else float(place)
