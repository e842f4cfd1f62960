"""CDVAE's CSV format: one crystal a row, with its CIF in a column.

The column `material_id` (or another of `entries.ID_KEYS`) gives the ids, and columns whose name begins with "cif" are
not kept. The cell and the choice of atoms stay as written (no Niggli reduction).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vdw_jax.structures.cif import CIF_ADVICE, parse_cif
from vdw_jax.structures.contents import read_text
from vdw_jax.structures.entries import ID_KEYS, Entry, Reading, StructureError, first_line
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.table import Row, TableError, listed, read_table


def read_csv(path: Path) -> Reading:
    """Rows of a CSV file.

    Raises:
        DataError: no text, or a header without a column for the ids or without `cif`.
    """
    header, rows = read_table(path, read_text(path))
    id_column = next((name for name in ID_KEYS if name in header), None)
    for name, there in (("material_id", id_column), ("cif", "cif" in header)):
        if not there:
            raise DataError(f"{path}: header: no column {name!r} among {listed(header)}")
    assert id_column is not None
    return Reading(None, _parse_rows(path, id_column, rows))


def _parse_rows(
    path: Path, id_column: str, rows: Iterator[Row | TableError]
) -> Iterator[Entry | Problem]:
    for row in rows:
        if isinstance(row, TableError):
            yield Problem(str(path), row.place, row.field, row.reason, row.advice)
            continue
        cells = dict(row.cells)
        name = cells.pop(id_column).strip()
        if not name:
            yield Problem(
                str(path), row.place, id_column, "empty", "Give every row a name of its own"
            )
            continue
        try:
            numbers, fractions, cell = parse_cif(cells["cif"])
        except StructureError as error:
            yield Problem(str(path), row.place, "cif", first_line(error), CIF_ADVICE, name)
            continue
        values = {name: cell for name, cell in cells.items() if not name.startswith("cif")}
        yield Entry(
            str(path),
            row.place,
            name,
            numbers,
            fractions @ cell,
            cell,
            values,
            column="cif",
            id_field=id_column,
        )
