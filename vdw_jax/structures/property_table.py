"""Properties of the structure files of a folder, in a table beside them.

| file | header | rows |
|---|---|---|
| `properties.csv` | `material_id` and a name for each property | the name of a file and its values |
| `id_prop.csv` (CGCNN) | none: they are called `property_1`, `property_2`, ... | the same |

The name of a file may stand with or without its suffix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vdw_jax.structures.contents import read_text
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.table import Row, TableError, listed, read_table, unnamed_header
from vdw_jax.structures.values import as_number, is_absent

PROPERTIES_FILE = "properties.csv"
"""With a header."""

CGCNN_FILE = "id_prop.csv"
"""Without one."""


@dataclass(frozen=True)
class PropertyTable:
    """Values by the name of a structure file without its suffix."""

    path: Path | None = None
    rows: Mapping[str, Row] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def values_of(self, name: str) -> Mapping[str, str]:
        """Of one file; empty where the table has no row for it."""
        row = self.rows.get(name)
        return row.cells if row else {}

    def unused(self, names: Iterable[str]) -> list[Problem]:
        """Rows that name no file."""
        known, advice = set(names), "Add the file, or remove the row"
        return [
            Problem(
                str(self.path),
                row.place,
                "material_id",
                f"no structure file {name!r}",
                advice,
                name,
            )
            for name, row in self.rows.items()
            if name not in known
        ]


def find_properties(folder: Path, names: Iterable[str]) -> PropertyTable:
    """The table of a folder; an empty one where there is none.

    Args:
        folder: with the structure files.
        names: of these files, without suffix.

    Raises:
        DataError: the table names a column or a file twice, a row has another number of cells, or it is no table.
    """
    notes: tuple[str, ...] = ()
    by_header, by_place = folder / PROPERTIES_FILE, folder / CGCNN_FILE
    if by_header.exists():
        if by_place.exists():
            notes = (f"{by_place} is not read, because {PROPERTIES_FILE} is beside it",)
        header, rows = read_table(by_header, read_text(by_header))
        if "material_id" not in header:
            raise DataError(f"{by_header}: header: no column 'material_id' among {listed(header)}")
        return PropertyTable(by_header, _by_name(by_header, rows, "material_id", names), notes)
    if by_place.exists():
        text = read_text(by_place)
        header, rows = read_table(by_place, text, unnamed_header(text, "property_"))
        found = list(rows)
        if found and isinstance(found[0], Row) and _is_header(found[0], names):
            header, rows = read_table(by_place, text)
            return PropertyTable(by_place, _by_name(by_place, rows, header[0], names))
        return PropertyTable(by_place, _by_name(by_place, found, header[0], names))
    return PropertyTable()


def _is_header(row: Row, names: Iterable[str]) -> bool:
    """It names no file, and none of its values is a number."""
    name, *values = row.cells.values()
    said = [value for value in values if not is_absent(value)]
    return (
        name.strip() not in set(names)
        and bool(said)
        and all(as_number(value) is None for value in said)
    )


def _by_name(
    path: Path, rows: Iterable[Row | TableError], column: str, names: Iterable[str]
) -> dict[str, Row]:
    known = set(names)
    found: dict[str, Row] = {}
    for row in rows:
        if isinstance(row, TableError):
            raise DataError(f"{path}: row {row.place}: {row.field}: {row.reason}. {row.advice}")
        cells = dict(row.cells)
        name = cells.pop(column).strip()
        # "b0.cif" names the file b0.cif as "b0" does; a name with a dot of its own stays.
        if name not in known and "." in name:
            name = _without_suffix(name, known)
        if not name or name in found:
            reason = f"{name!r} occurs before" if name else "empty"
            raise DataError(
                f"{path}: row {row.place}: material_id: {reason}. Give every file one row"
            )
        found[name] = Row(row.place, cells)
    return found


def _without_suffix(name: str, known: set[str]) -> str:
    bare = name
    for _ in range(2):  # .cif.gz has two
        bare = bare.rpartition(".")[0]
        if bare in known:
            return bare
    return name
