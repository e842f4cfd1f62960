"""Tables in CDVAE's CSV format: one crystal a row, with its CIF in a column.

`material_id` gives the ids, and columns whose name begins with "cif" are not kept. The cell and the choice of
atoms stay as written (no Niggli reduction).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from vdw_jax.structures.cif import CIF_ADVICE, parse_cif
from vdw_jax.structures.entries import Entry, Reading, StructureError, first_line
from vdw_jax.structures.errors import DataError, Problem

_LONGEST_CELL = 10_000_000
"""Characters; a CIF of 20 atoms has two thousand."""


def read_csv(path: Path, content: bytes) -> Reading:
    """Rows of a CSV file.

    Args:
        path: for messages.
        content: of the file, unpacked.

    Raises:
        DataError: no text, or a header without `material_id` and `cif`.
    """
    header, rows = _read_rows(path, content)
    for name in ("material_id", "cif"):
        if name not in header:
            raise DataError(f"{path}: header: no column {name!r} among {', '.join(header)}")
    return Reading(len(rows), _parse_rows(path, header, rows))


def _read_rows(path: Path, content: bytes) -> tuple[list[str], list[list[str] | csv.Error]]:
    """Header and rows, an error where the table breaks off; columns without a name are called "column_0" and so on."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: not a CSV file: its text is UTF-16; save it as UTF-8")
    text = content.decode("utf-8-sig", errors="replace")
    table: list[list[str] | csv.Error] = []
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        table += (row for row in reader if row)
    except csv.Error as error:
        table.append(error)
    if not table:
        raise DataError(f"{path}: the file is empty")
    if isinstance(table[0], csv.Error) or "\ufffd" in "".join(table[0]):
        raise DataError(f"{path}: not a CSV file: {table[0] if isinstance(table[0], csv.Error) else 'no UTF-8 text'}")
    header = [name.strip() or f"column_{place}" for place, name in enumerate(table[0])]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: header: column {repeated[0]!r} occurs more than once")
    return header, table[1:]


def _parse_rows(path: Path, header: list[str], rows: list[list[str] | csv.Error]) -> Iterator[Entry | Problem]:
    for place, row in enumerate(rows, start=1):

        def wrong(field: str, reason: str, advice: str, place: int = place) -> Problem:
            return Problem(str(path), place, field, reason, advice)

        if isinstance(row, csv.Error):
            yield wrong("row", f"the table breaks off here ({row})", "Close the quotes, or take the whole file again")
            continue
        if len(row) != len(header):
            reason = f"{len(row)} cells under {len(header)} columns"
            yield wrong("row", reason, "Quote cells that hold commas or line breaks; write every cell")
            continue
        cells = dict(zip(header, row, strict=True))
        garbled = [name for name, cell in cells.items() if "\ufffd" in cell]
        name = cells.pop("material_id").strip()
        if garbled:
            yield wrong(garbled[0], "not UTF-8 text", "Save the file as UTF-8")
            continue
        if not name:
            yield wrong("material_id", "empty", "Give every row a name of its own")
            continue
        try:
            numbers, fractions, cell = parse_cif(cells["cif"])
        except StructureError as error:
            yield wrong("cif", first_line(error), CIF_ADVICE)
            continue
        values = {name: cell for name, cell in cells.items() if not name.startswith("cif")}
        yield Entry(str(path), place, name, numbers, fractions @ cell, cell, values, column="cif")
