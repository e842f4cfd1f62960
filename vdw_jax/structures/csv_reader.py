"""Data sets in CDVAE's CSV format: one crystal a row, with its CIF in a column.

Every column of numbers is a scalar, every other column metadata; `material_id` gives the ids, and columns
whose name begins with "cif" are not kept. The cell and the choice of atoms stay as written (no Niggli
reduction).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vdw_jax.structures.cif import CifError, parse_cif
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.types import BULK

_CACHE_VERSION = 1
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LARGEST = float(np.finfo(np.float32).max)
_ABSENT = ("", "nan", "NaN")


@dataclass(frozen=True)
class RowProblem:
    """Why a row was left out."""

    file: str
    row: int  # 1 is the first row under the header
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.field}: {self.reason}"


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/vdw_jax`, or `~/.cache/vdw_jax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vdw_jax"


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _read_rows(path: Path, content: bytes) -> tuple[list[str], list[list[str]]]:
    """Header and rows; columns without a name are called "column_0" and so on."""
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        table = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file: {error}") from error
    rows = [row for row in table if row]
    if not rows:
        raise DataError(f"{path}: the file is empty")
    header = [name.strip() or f"column_{place}" for place, name in enumerate(rows[0])]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: header: column {repeated[0]!r} occurs more than once")
    return header, rows[1:]


def _numeric_columns(header: list[str], rows: list[list[str]]) -> list[str]:
    """Columns of which more than half of the cells that say something are numbers."""
    numeric = []
    for place, name in enumerate(header):
        cells = [row[place] for row in rows if place < len(row) and row[place] not in _ABSENT]
        if 2 * sum(_NUMBER.fullmatch(cell.strip()) is not None for cell in cells) > len(cells):
            numeric.append(name)
    return [name for name in numeric if name != "material_id" and not name.startswith("cif")]


def _number(cell: str) -> float:
    cell = cell.strip()
    if cell in _ABSENT:
        return float("nan")
    if _NUMBER.fullmatch(cell) is None or abs(float(cell)) > _LARGEST:
        raise ValueError(f"{cell!r} is not a number")
    return float(cell)


@dataclass
class _Row:
    """One good row."""

    name: str
    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    scalars: list[float]
    texts: list[str]


def _parse_row(
    row: list[str], header: list[str], properties: list[str], texts: list[str], max_atoms: int
) -> _Row | tuple[str, str]:
    """A crystal, or (field, reason)."""
    if len(row) != len(header):
        return "row", f"{len(row)} cells under {len(header)} columns"
    cells = dict(zip(header, row, strict=True))
    if not cells["material_id"].strip():
        return "material_id", "empty"
    scalars = []
    for name in properties:
        try:
            scalars.append(_number(cells[name]))
        except ValueError as error:
            return name, str(error)
    try:
        numbers, fractions, cell = parse_cif(cells["cif"])
    except CifError as error:
        return "cif", str(error)
    if len(numbers) > max_atoms:
        return "cif", f"{len(numbers)} atoms; at most {max_atoms} are asked for"
    name = cells["material_id"].strip()
    return _Row(name, numbers, fractions @ cell, cell, scalars, [cells[t] for t in texts])


def _assemble(good: list[_Row], properties: list[str], texts: list[str]) -> CrystalDataset:
    width = max((len(row.numbers) for row in good), default=1)
    numbers = np.zeros((len(good), width), np.int16)
    positions = np.zeros((len(good), width, 3), np.float32)
    for place, row in enumerate(good):
        numbers[place, : len(row.numbers)] = row.numbers
        positions[place, : len(row.numbers)] = row.positions
    cell = np.array([row.cell for row in good], np.float32).reshape(-1, 3, 3)
    return CrystalDataset(
        ids=np.array([row.name for row in good], dtype=np.str_),
        atomic_numbers=numbers,
        positions=positions,
        cell=cell,
        periodicity=BULK,
        scalars={
            name: np.array([r.scalars[i] for r in good], np.float32) for i, name in enumerate(properties)
        },
        metadata={name: np.array([r.texts[i] for r in good], np.str_) for i, name in enumerate(texts)},
    )


def _parse(
    path: Path, content: bytes, properties: Sequence[str], max_atoms: int, on_error: str
) -> tuple[CrystalDataset, list[RowProblem]]:
    header, rows = _read_rows(path, content)
    for name in ("material_id", "cif", *properties):
        if name not in header:
            raise DataError(f"{path}: header: no column {name!r} among {', '.join(header)}")
    numeric = _numeric_columns(header, rows)
    wanted = list(properties) or numeric
    skipped = {"material_id", *wanted, *numeric}
    texts = [name for name in header if name not in skipped and not name.startswith("cif")]
    good: list[_Row] = []
    names: set[str] = set()
    problems: list[RowProblem] = []
    for place, row in enumerate(rows, start=1):
        parsed = _parse_row(row, header, wanted, texts, max_atoms)
        if isinstance(parsed, _Row) and parsed.name in names:
            parsed = ("material_id", f"{parsed.name!r} occurs before")
        if isinstance(parsed, _Row):
            names.add(parsed.name)
            good.append(parsed)
            continue
        problems.append(RowProblem(str(path), place, *parsed))
        if on_error == "raise":
            raise DataError(str(problems[-1]))
    return _assemble(good, wanted, texts), problems


def read_csv(
    path: str | os.PathLike[str],
    properties: Sequence[str] = (),
    max_atoms: int = 20,
    on_error: str = "raise",
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[CrystalDataset, list[RowProblem]]:
    """Read a CSV file, plain or gzipped, and keep the parsed data set in a cache.

    Args:
        path: the file, with columns `material_id` and `cif`.
        properties: columns to keep as scalars; empty keeps every column of numbers. An empty cell is NaN.
        max_atoms: crystals with more atoms are problems.
        on_error: "raise" stops at the first problem; "skip" leaves the row out and lists it.
        cache_dir: default `default_cache_dir()`; a cache that cannot be written is done without.

    Returns:
        The data set (BULK) and what is wrong with each row that is not in it.

    Raises:
        DataError: the file is unusable, or a row is and `on_error` is "raise"; names file, row and field.
    """
    if on_error not in ("raise", "skip"):
        raise DataError(f"on_error is {on_error!r}; choose 'raise' or 'skip'")
    path = Path(path)
    content = _read_bytes(path)
    settings = json.dumps([_CACHE_VERSION, list(properties), max_atoms])
    key = hashlib.sha256(settings.encode() + b"\0" + content).hexdigest()[:32]
    stored = Path(cache_dir or default_cache_dir()) / f"csv-{key}.npz"
    listed = stored.with_suffix(".json")
    try:
        entries = json.loads(listed.read_text())
        problems = [RowProblem(**{**entry, "file": str(path)}) for entry in entries]
        dataset = CrystalDataset.load(stored)
    except (OSError, ValueError, TypeError):
        dataset, problems = _parse(path, content, properties, max_atoms, on_error)
        try:
            dataset.save(stored)
            partial = listed.with_suffix(f".{os.getpid()}.part")
            partial.write_text(json.dumps([asdict(problem) for problem in problems]))
            os.replace(partial, listed)
        except OSError:
            pass
    if problems and on_error == "raise":
        raise DataError(str(problems[0]))
    return dataset, problems
