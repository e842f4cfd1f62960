"""A short aligned table for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def format_value(value: Any, decimals: int = 3) -> str:
    """How one value is shown: floats with `decimals` places, verdicts as yes and no, nothing as `-`."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.{decimals}f}"
    return str(value)


def all_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every key of the rows, in the order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def text_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    *,
    max_rows: int | None = None,
    decimals: int = 3,
) -> str:
    """Rows as lines of aligned columns under a header; numbers to the right, words to the left.

    Args:
      rows: a mapping a line; what a row lacks is shown as `-`.
      columns: keys to show, in this order; all by default.
      max_rows: lines to show; the last line then says how many more there are.
      decimals: places of floats.

    Returns:
      the table without a final newline; "" without columns.
    """
    chosen = list(columns) if columns is not None else all_columns(rows)
    if not chosen:
        return ""
    shown = rows if max_rows is None else rows[:max_rows]
    cells = [[format_value(row.get(key), decimals) for key in chosen] for row in shown]
    widths = [max(len(text) for text in column) for column in zip(chosen, *cells, strict=True)]
    numeric = [_is_numeric([row.get(key) for row in shown]) for key in chosen]
    lines = [chosen, ["-" * width for width in widths], *cells]
    written = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    ]
    if len(shown) < len(rows):
        written.append(f"... and {len(rows) - len(shown)} more")
    return "\n".join(written)


def _is_numeric(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None]
    kinds = int | float | np.integer | np.floating
    return bool(present) and all(isinstance(v, kinds) and not isinstance(v, bool) for v in present)


def as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as a JSON list; what is not finite is null."""
    return json.dumps([{key: _plain(value) for key, value in row.items()} for row in rows], indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
