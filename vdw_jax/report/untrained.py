"""Marks on candidates that were asked of a model outside what it was trained for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vdw_jax.report.crystal import Crystal

COLUMN = "untrained"


def mark_untrained(
    crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]], reason: str, elements: Iterable[int]
) -> list[dict[str, Any]]:
    """Rows with the reason in the column `untrained`; as they are where there is none.

    A candidate with an element that the model never saw has no `predicted_...` value and no verdict in `valid`: the
    weights of that element are as they were drawn.

    Args:
      crystals: the candidates.
      rows: for each its row of the table.
      reason: what of the request the model does not cover; "" if it covers all.
      elements: atomic numbers of the training data.
    """
    if not reason:
        return [dict(row) for row in rows]
    known = set(elements)
    marked = []
    for crystal, row in zip(crystals, rows, strict=True):
        values = {"id": crystal.id, "formula": row.get("formula"), COLUMN: reason, **row}
        values[COLUMN] = reason
        if not set(map(int, crystal.atomic_numbers)) <= known:
            values = {key: value for key, value in values.items() if not key.startswith("predicted_")}
            values["valid"] = None
        marked.append(values)
    return marked


def untrained_reasons(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every reason in the rows, once."""
    return list(dict.fromkeys(str(row[COLUMN]) for row in rows if row.get(COLUMN)))
