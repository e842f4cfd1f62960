"""Candidates as an ASE database, whatever the columns of their table are called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase.db import connect
from ase.db.core import check
from ase.db.row import AtomsRow
from ase.formula import Formula

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.layout import WRITTEN_BY
from vdw_jax.report.table import all_columns

ID_KEY, FORMULA_KEY = "name", "reduced_formula"
"""`id` and `formula` are ASE's own words."""


def write_database(
    path: Path, crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]
) -> None:
    """All of a row as keys to select by, under the names of `database_keys`.

    What ASE takes for no value (a list, and a text that reads as a number, as the formula InF does) stands in the
    row's `data` instead, under the column's own name. The metadata of the database hold the names that were changed.

    Args:
      path: the file.
      crystals: the candidates.
      rows: for each its row of the table.
    """
    keys = database_keys(rows)
    with connect(path, append=False) as database:
        for crystal, row in zip(crystals, rows, strict=True):
            named = {
                key: row[column] for column, key in keys.items() if row.get(column) is not None
            }
            named = {ID_KEY: crystal.id, FORMULA_KEY: crystal.formula} | named
            selectable = {key: value for key, value in named.items() if _is_taken(key, value)}
            columns = {key: column for column, key in keys.items()}
            rest = {
                columns.get(key, key): value
                for key, value in named.items()
                if key not in selectable
            }
            database.write(crystal.to_ase(), key_value_pairs=selectable, data=rest)
    database.metadata = {
        **WRITTEN_BY,
        "columns": {key: column for column, key in changed_names(rows).items()},
    }


def database_keys(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For each column besides `id` and `formula` its key: a word of ASCII letters, digits and `_`.

    A key is none of ASE's own words, no formula, and no other column's key. Most columns keep their names.
    """
    names = [name for name in all_columns(rows) if name not in ("id", "formula")]
    kept = [name for name in names if _is_key(name) and name not in (ID_KEY, FORMULA_KEY)]
    keys = {name: name for name in kept}
    used = {ID_KEY, FORMULA_KEY, *kept}
    for name in names:
        if name in keys:
            continue
        wanted, key, number = _word(name), _word(name), 1
        while key in used:
            number += 1
            key = f"{wanted}_{number}"
        keys[name] = key
        used.add(key)
    return keys


def changed_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns that have another name in the database, and that name."""
    return {name: key for name, key in database_keys(rows).items() if name != key}


def _word(name: str) -> str:
    """The nearest key: `gap (eV)` -> `gap_eV`, `energy` -> `column_energy`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    word = re.sub(r"[^0-9A-Za-z_]+", "_", plain).strip("_")
    return word if _is_key(word) else f"column_{word}".rstrip("_")


def _is_key(name: str) -> bool:
    if (
        name.startswith("_")
        or hasattr(AtomsRow, name)
        or name in ("external_tables", "constraints")
    ):
        return False
    try:
        Formula(name, strict=True)
    except ValueError:
        return _is_taken(name, 0)
    return False  # to select by it would select by the formula


def _is_taken(key: str, value: Any) -> bool:
    """Whether ASE takes the value under the key."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return False
    try:
        check({key: value})
    except ValueError:
        return False
    return True
