"""Structures in JSON: of pymatgen, JARVIS, OPTIMADE and ASE, alone, in lists, by name, or in tables
of pandas.

| layout | what is a structure |
|---|---|
| one structure, or an entry with one under `structure`, `crystal`, `atoms` or `final_structure` | itself |
| a list of them, or a dictionary by name | an item |
| OPTIMADE's answer (`data`, each with `attributes`) | an item of `data` |
| matbench, pandas `orient="split"` (`index`, `columns`, `data`) | a row |
| pandas by columns (a dictionary for each column) | a row |

Numbers and texts beside a structure, and under `data` in a `ComputedStructureEntry`, are its
properties. Nothing that a file names (`@module`, `@class`) is imported or called: see
`json_structures` for what is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vdw_jax.structures.ase_database import is_ase_database, read_json_database
from vdw_jax.structures.contents import as_text, read_content
from vdw_jax.structures.entries import (
    MOST_STRUCTURES,
    Entry,
    Reading,
    StructureError,
    first_line,
    id_among,
    merged,
    plain_values,
)
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.json_structures import kind_of, values_within

MOST_MEMORY = 1.25 * 2**30
"""Bytes that a document may take as Python objects; its text and the rest of the program come to
this.
"""

_BYTES_A_CONTAINER, _BYTES_A_VALUE = 200, 40

_HOLDERS = ("structure", "crystal", "atoms", "final_structure", "attributes")
"""Keys of an entry that its structure may stand under."""

_ADVICE = "Write it again with Structure.as_dict() of pymatgen, or leave it out"
_KNOWN = "a structure of pymatgen, JARVIS, OPTIMADE or ASE"
_REPEATED = "\0repeated"


def read_json(path: Path) -> Reading:
    """Structures of a document.

    Raises:
        DataError: not JSON, too large, or no structure in it.
    """
    document = _load(path)
    if is_ase_database(document):
        return read_json_database(path, document)
    named = _items(path, document)
    if not any(_holder(item) is not None for _, item in named):
        keys = [str(name)[:30] for name, _ in named[:5] if name is not None]
        found = f"; its keys are {', '.join(keys)}" if keys else ""
        raise DataError(f"{path}: no list or dictionary of structures: no item is {_KNOWN}{found}")
    return Reading(len(named), _parse(path, named))


def _load(path: Path) -> Any:
    content = read_content(path)
    containers = content.count(b"{") + content.count(b"[")
    needed = _BYTES_A_CONTAINER * containers + _BYTES_A_VALUE * (
        content.count(b",") + content.count(b":")
    )
    if needed > MOST_MEMORY:
        size = f"{needed / 2**30:.1f} GiB, more than {MOST_MEMORY / 2**30:.3g} GiB"
        raise DataError(
            f"{path}: as JSON it needs about {size}. Split it, or write it as extended XYZ"
        )
    text = as_text(path, content)
    del content
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {first_line(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary that remembers if a key occurred twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        found[_REPEATED] = next(name for place, name in enumerate(names) if name in names[:place])
    return found


def _repeated_in(item: Any) -> str | None:
    """The key that occurs twice in a dictionary within an item, if there is one."""
    waiting = [item]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if _REPEATED in here:
                return here[_REPEATED]
            waiting += [value for value in here.values() if isinstance(value, dict | list)]
        elif isinstance(here, list):
            waiting += [value for value in here if isinstance(value, dict | list)]
    return None


def _items(path: Path, document: Any, within: bool = False) -> list[tuple[str | None, Any]]:
    """Structures and entries, each with its name where the layout gives one."""
    if isinstance(document, dict | list) and len(document) > MOST_STRUCTURES:
        raise DataError(f"{path}: more than {MOST_STRUCTURES} structures. Split it into smaller files")
    if _holder(document) is not None:
        return [(None, document)]
    if isinstance(document, dict):
        if _REPEATED in document:
            raise DataError(
                f"{path}: the key {document[_REPEATED][:60]!r} occurs twice. Rename or remove one"
            )
        rows = _split_table(path, document) or _column_table(path, document)
        if rows:
            return rows
        data = document.get("data")
        wrapped = "meta" in document or "schema" in document or len(document) == 1
        if isinstance(data, dict | list) and wrapped and not within:
            return _items(path, data, within=True)
        return list(document.items())
    if isinstance(document, list) and document:
        return [(None, item) for item in document]
    raise DataError(f"{path}: no list or dictionary of structures")


def _split_table(path: Path, document: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """Rows of pandas' `orient="split"`, as matbench writes it; none where it is another
    document.
    """
    index, columns, data = (document.get(name) for name in ("index", "columns", "data"))
    if not (isinstance(columns, list) and isinstance(data, list)):
        return []
    names = [str(name) for name in columns]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise DataError(f"{path}: columns: {twice!r} occurs more than once. Rename or remove one")
    if not isinstance(index, list):
        index = list(range(len(data)))
    if len(index) != len(data):
        raise DataError(f"{path}: {len(index)} names in 'index' of {len(data)} rows in 'data'")
    rows: list[tuple[str | None, Any]] = []
    for name, row in zip(index, data, strict=True):
        fits = isinstance(row, list) and len(row) == len(names)
        rows.append((_name(name), dict(zip(names, row, strict=True)) if fits else row))
    return rows


def _column_table(path: Path, document: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """Rows of a table that is written column by column; none where it is another document."""
    holder = next((name for name in _HOLDERS if name in document), None)
    column = document.get(holder) if holder else None
    if not isinstance(column, dict | list) or not column:
        return []
    keys = list(column) if isinstance(column, dict) else list(range(len(column)))
    if not any(kind_of(column[key]) for key in keys):
        return []
    columns: dict[str, Any] = {}
    for name, values in document.items():
        if isinstance(values, dict | list):  # single values belong to the table, not to its rows
            alike = type(values) is type(column) and len(values) == len(column)
            if not alike or (isinstance(values, dict) and set(values) != set(keys)):
                raise DataError(
                    f"{path}: columns {holder!r} and {name[:40]!r} do not have the same rows"
                )
            columns[name] = values
    return [(_name(key), {name: values[key] for name, values in columns.items()}) for key in keys]


def _name(key: Any) -> str | None:
    return str(key).strip() or None if isinstance(key, str | int) else None


def _holder(item: Any) -> dict[str, Any] | None:
    """The structure of an item, plain as it is in the file."""
    if not isinstance(item, dict):
        return None
    if kind_of(item):
        return item
    return next((item[key] for key in _HOLDERS if kind_of(item.get(key))), None)


def _parse(path: Path, named: list[tuple[str | None, Any]]) -> Iterator[Entry | Problem]:
    for row, (name, item) in enumerate(named, start=1):
        inside = _holder(item)
        otherwise = name or f"{path.name.split('.')[0]}-{row}"
        if inside is None:
            reason = f"no structure: neither of pymatgen, nor of JARVIS, OPTIMADE or ASE{_has_keys(item)}"
            yield Problem(str(path), row, "structure", reason, _ADVICE, otherwise)
            continue
        repeated = _repeated_in(item)
        if repeated is not None:
            reason = f"the key {repeated[:60]!r} occurs twice"
            yield Problem(
                str(path), row, repeated[:40] or "key", reason, "Rename or remove one", otherwise
            )
            continue
        values = _values(item, inside)
        label, id_field = id_among(values, otherwise)
        if name and not (
            id_field in values and name.isdigit()
        ):  # a row's number is the last resort
            label, id_field = name, "name"
        kind = kind_of(inside)
        assert kind is not None
        try:
            numbers, positions, cell, periodicity = kind.read(inside)
        except (
            StructureError,
            ValueError,
            TypeError,
            KeyError,
            OverflowError,
            RecursionError,
        ) as error:
            yield Problem(
                str(path), row, "structure", f"not readable ({_said(error)})", _ADVICE, label
            )
            continue
        if str(values.get(id_field)).strip() == label:
            values.pop(id_field)
        plain, others = plain_values(values)
        yield Entry(
            str(path),
            row,
            label,
            numbers,
            positions,
            cell,
            plain,
            periodicity,
            id_field=id_field,
            not_taken=others,
        )


def _values(item: dict[str, Any], inside: dict[str, Any]) -> dict[str, Any]:
    """What stands beside the structure: of the entry, in its `data`, and within the structure."""
    own = values_within(inside)
    if item is inside:
        return own
    data = item.get("data")
    beside = {key: value for key, value in item.items() if value is not inside and key != "data"}
    found = merged(beside, data if isinstance(data, dict) else {}, own)
    return {key: value for key, value in found.items() if not key.startswith("@")}


def _has_keys(item: Any) -> str:
    return (
        f"; its keys are {', '.join(str(key)[:30] for key in list(item)[:5])}"
        if isinstance(item, dict)
        else ""
    )


def _said(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else first_line(error)
