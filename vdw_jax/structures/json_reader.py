"""pymatgen's JSON: structures, or entries that hold one beside their data.

A list, or a dictionary by name, of `Structure.as_dict()`, or of dictionaries with that under `structure` (or
`crystal`) and numbers and texts beside it and under `data`, as in a `ComputedStructureEntry`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.structures.entries import Entry, Reading, arrays_of, first_line, id_among, plain_values
from vdw_jax.structures.errors import DataError, Problem

_ADVICE = "Write it again with Structure.as_dict() of pymatgen, or leave it out"


def load_json(path: Path, content: bytes) -> Any:
    """The document.

    Raises:
        DataError: not JSON.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {first_line(error)}") from error


def is_ase_database(document: Any) -> bool:
    """ASE writes its databases as JSON too."""
    return isinstance(document, dict) and {"ids", "nextid"} <= document.keys()


def read_pymatgen(path: Path, document: Any) -> Reading:
    """Structures of a document.

    Raises:
        DataError: neither a structure, nor a list or a dictionary of some.
    """
    if _is_structure(document) or (isinstance(document, dict) and _structure_of(document) is not None):
        document = [document]
    if not isinstance(document, list | dict) or not document:
        raise DataError(f"{path}: no list or dictionary of pymatgen structures")
    named: list[tuple[str | None, Any]]
    named = list(document.items()) if isinstance(document, dict) else [(None, item) for item in document]
    return Reading(len(named), _parse(path, named))


def _is_structure(item: Any) -> bool:
    return isinstance(item, dict) and {"lattice", "sites"} <= item.keys()


def _structure_of(item: dict[str, Any]) -> Any:
    return next((item[key] for key in ("structure", "crystal") if _is_structure(item.get(key))), None)


def _parse(path: Path, named: list[tuple[str | None, Any]]) -> Iterator[Entry | Problem]:
    from pymatgen.core import Structure

    for row, (name, item) in enumerate(named, start=1):
        inside = item if _is_structure(item) else _structure_of(item) if isinstance(item, dict) else None
        if inside is None:
            yield Problem(str(path), row, "structure", "no pymatgen structure", _ADVICE)
            continue
        try:
            structure = Structure.from_dict(inside)
            numbers, _, cell = arrays_of(structure)
            positions = np.asarray(structure.cart_coords, float)
            a, b, c = (bool(period) for period in structure.lattice.pbc)
            own = inside.get("properties")
        except Exception as error:  # pymatgen raises many kinds
            yield Problem(str(path), row, "structure", f"not readable ({first_line(error)})", _ADVICE)
            continue
        values: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
        if item is not inside:
            data = item.get("data")
            values |= {**item, **(data if isinstance(data, dict) else {})}
        plain = {key: value for key, value in plain_values(values).items() if not key.startswith("@")}
        label, id_field = (name, "name") if name else id_among(values, f"{path.name.split('.')[0]}-{row}")
        yield Entry(str(path), row, label, numbers, positions, cell, plain, (a, b, c), id_field=id_field)
