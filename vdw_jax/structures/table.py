"""Tables in CSV, row by row: a bad row is named, the others go on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vdw_jax.structures.csv_text import restored
from vdw_jax.structures.errors import DataError

LONGEST_CELL = 10_000_000
"""Characters; a CIF of 20 atoms has two thousand."""

MOST_COLUMNS = 2_000
"""Data bases have up to 300 properties; matminer's descriptors are about 1,000."""


@dataclass(frozen=True)
class Row:
    """One row under the header."""

    place: int  # from 1
    cells: Mapping[str, str]  # by column


@dataclass(frozen=True)
class TableError:
    """A row that is none."""

    place: int
    field: str
    reason: str
    advice: str


def read_table(
    path: Path, text: str, header: list[str] | None = None
) -> tuple[list[str], Iterator[Row | TableError]]:
    """Header and rows of a table; columns without a name are called "column_0" and so on.

    A `'` in front of what a spreadsheet would take for a formula is none of the text (`csv_text`).

    Args:
        path: for messages.
        text: of the file.
        header: names of the columns where the table has no header.

    Raises:
        DataError: no header, too many columns, or a name that occurs twice.
    """
    csv.field_size_limit(LONGEST_CELL)
    lines = csv.reader(_lines(path, text), strict=True)
    rows = (row for row in lines if row)
    try:
        first = header or next(rows)
    except StopIteration:
        raise DataError(f"{path}: the file is empty") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file: {error}") from error
    if "\0" in "".join(first):
        raise DataError(f"{path}: not a CSV file: its header holds bytes that are no text")
    if len(first) > MOST_COLUMNS:
        raise DataError(
            f"{path}: header: {len(first)} columns; at most {MOST_COLUMNS} are read. Remove some"
        )
    names = [restored(name.strip()) or f"column_{place}" for place, name in enumerate(first)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(
            f"{path}: header: column {repeated[0]!r} occurs more than once. Rename or remove one"
        )
    return names, _rows(names, rows)


def unnamed_header(text: str, prefix: str) -> list[str]:
    """Names for the columns of a table without a header: "material_id", then the prefix and 1, 2, ..."""
    start = text.lstrip()[: 100 * MOST_COLUMNS].split("\n", 1)[0]
    try:
        cells = len(next(csv.reader([start]), []))
    except csv.Error:
        cells = 1
    return ["material_id", *(f"{prefix}{place}" for place in range(1, max(cells, 1)))]


def _lines(path: Path, text: str) -> Iterator[str]:
    """Lines of a text, each of bearable length: the reader of CSV keeps all cells of a row."""
    source = io.StringIO(text, newline="")
    place = 0
    while line := source.readline(LONGEST_CELL + 1):
        place += 1
        if len(line) > LONGEST_CELL:
            raise DataError(f"{path}: line {place} has more than {LONGEST_CELL} characters")
        if line.count(",") > 50 * MOST_COLUMNS:
            raise DataError(
                f"{path}: line {place} has {line.count(',')} commas; {MOST_COLUMNS} columns are read"
            )
        yield line


def _rows(header: list[str], rows: Iterator[list[str]]) -> Iterator[Row | TableError]:
    place = 0
    while True:
        place += 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            reason = f"the table breaks off here ({error})"
            yield TableError(place, "row", reason, "Close the quotes, or take the whole file again")
            return
        if len(row) != len(header):
            reason = f"{len(row)} cells under {len(header)} columns"
            yield TableError(
                place,
                "row",
                reason,
                "Quote cells that hold commas or line breaks; write every cell",
            )
            continue
        cells = dict(zip(header, map(restored, row), strict=True))
        garbled = [name for name, cell in cells.items() if "\0" in cell]
        if garbled:
            yield TableError(place, garbled[0], "bytes that are no text", "Save the file as UTF-8")
        else:
            yield Row(place, cells)


def listed(names: list[str], most: int = 20) -> str:
    """Names of columns in one line of bearable length."""
    shown = [name[:40] if name.isprintable() else repr(name[:40]) for name in names[:most]]
    return ", ".join(shown) + (", ..." if len(names) > most else "")
