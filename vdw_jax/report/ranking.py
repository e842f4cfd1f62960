"""Which of the candidates is best: what holds of what was asked, put in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vdw_jax.structures.errors import FormulaError
from vdw_jax.structures.formula import parse_formula

RULE = "Valid first, then two layers, then the asked formula, then the smallest miss in standard deviations."


def asked_numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The targets of a row that are numbers, by name: `{"formation_energy_ev": -0.2}`."""
    wanted = {key.removeprefix("asked_"): value for key, value in row.items() if key.startswith("asked_")}
    return {name: float(value) for name, value in wanted.items() if is_number(value)}


def is_number(value: Any) -> bool:
    """A finite number; verdicts are none."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return math.isfinite(value)


def formula_met(asked: str, got: str) -> bool | None:
    """Whether two formulas are the same composition, whatever the order and number of formula units.

    None where one of them cannot be read.
    """
    try:
        wanted, found = parse_formula(asked), parse_formula(got)
    except FormulaError:
        return None
    units, size = sum(found.values()), sum(wanted.values())
    return {z: n * units for z, n in wanted.items()} == {z: n * size for z, n in found.items()}


def add_ranks(rows: Sequence[Mapping[str, Any]], spreads: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Rows with `rank` (1 is best), `formula_met` where a formula was asked, and `miss_...`, |got - asked|, a target.

    Got is what is predicted; a target without a prediction has no miss and ranks behind those with one. Equals rank
    in the order of the rows.

    Args:
      rows: as `describe.sample_rows` makes them.
      spreads: standard deviation of each target, by which misses are made comparable; 1 by default.
    """
    judged = []
    for row in rows:
        extra: dict[str, Any] = {}
        if isinstance(row.get("asked_formula"), str):
            extra["formula_met"] = formula_met(row["asked_formula"], str(row.get("formula", "")))
        for name, value in asked_numbers(row).items():
            got = row.get(f"predicted_{name}")
            extra[f"miss_{name}"] = abs(float(got) - value) if got is not None and is_number(got) else None
        judged.append((row, extra))

    def order(index: int) -> tuple[bool, bool, bool, float, int]:
        row, extra = judged[index]
        misses = [
            math.inf if value is None else value / (spreads or {}).get(key.removeprefix("miss_"), 1.0)
            for key, value in extra.items()
            if key.startswith("miss_")
        ]
        met = extra.get("formula_met", True)
        return not row.get("valid"), not row.get("bilayer", True), not met, sum(misses), index

    place = {index: rank for rank, index in enumerate(sorted(range(len(judged)), key=order), start=1)}
    return [{"rank": place[index], **row, **extra} for index, (row, extra) in enumerate(judged)]
