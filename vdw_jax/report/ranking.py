"""Which of the candidates is best: what holds of what was asked, put in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.errors import FormulaError
from vdw_jax.structures.formula import parse_formula

RULE = "Valid first, then two layers, then the asked formula, then the smallest miss in standard deviations."


def asked_ranges(row: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The targets of a row that are numbers, by name: `{"formation_energy_ev": (-0.2, -0.2)}`.

    A range stands in two columns, `asked_..._min` and `asked_..._max`; a value is a range of no width.
    """
    wanted = {key.removeprefix("asked_"): float(value) for key, value in row.items()
              if key.startswith("asked_") and is_number(value)}  # fmt: skip
    bases = [name.removesuffix("_min") for name in wanted if name.endswith("_min")]
    pairs = {name: (f"{name}_min", f"{name}_max") for name in bases if f"{name}_max" in wanted}
    ends = {end for pair in pairs.values() for end in pair}
    values = {name: (value, value) for name, value in wanted.items() if name not in ends}
    return values | {name: (wanted[low], wanted[high]) for name, (low, high) in pairs.items()}


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


def system_met(asked: str, got: str) -> bool | None:
    """Whether a formula holds exactly the elements of a chemical system; None where it cannot be read."""
    try:
        return {SYMBOLS[number - 1] for number in parse_formula(got)} == set(asked.split("-"))
    except FormulaError:
        return None


def add_ranks(rows: Sequence[Mapping[str, Any]], spreads: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Rows with `rank` (1 is best) and what became of each wish.

    `formula_met` and `chemical_system_met` where these were asked, `miss_...` for each target: |got - asked|, or how
    far got lies outside the range. With several targets `on_front`: valid, and no other valid row is nearer in all of
    them. Got is what is predicted; a target without a prediction has no miss and ranks behind those with one. Equals
    rank in the order of the rows.

    Args:
      rows: as `describe.sample_rows` makes them.
      spreads: standard deviation of each target, by which misses are made comparable; 1 by default.
    """
    judged = []
    for row in rows:
        extra: dict[str, Any] = {}
        if isinstance(row.get("asked_formula"), str):
            extra["formula_met"] = formula_met(row["asked_formula"], str(row.get("formula", "")))
        if isinstance(row.get("asked_chemical_system"), str):
            extra["chemical_system_met"] = system_met(row["asked_chemical_system"], str(row.get("formula", "")))
        for name, (low, high) in asked_ranges(row).items():
            got = row.get(f"predicted_{name}")
            missed = is_number(got) and max(low - float(got), float(got) - high, 0.0)  # type: ignore[arg-type]
            extra[f"miss_{name}"] = missed if is_number(got) else None
        judged.append((row, extra))
    _mark_front(judged)

    def order(index: int) -> tuple[bool, bool, bool, float, int]:
        row, extra = judged[index]
        misses = [
            math.inf if value is None else value / (spreads or {}).get(key.removeprefix("miss_"), 1.0)
            for key, value in extra.items()
            if key.startswith("miss_")
        ]
        met = extra.get("formula_met", True) and extra.get("chemical_system_met", True)
        return not row.get("valid"), not row.get("bilayer", True), not met, sum(misses), index

    place = {index: rank for rank, index in enumerate(sorted(range(len(judged)), key=order), start=1)}
    return [{"rank": place[index], **row, **extra} for index, (row, extra) in enumerate(judged)]


def _mark_front(judged: Sequence[tuple[Mapping[str, Any], dict[str, Any]]]) -> None:
    """Adds `on_front` to the extras, where there are two targets or more."""
    names = [key for key in (judged[0][1] if judged else ()) if key.startswith("miss_")]
    if len(names) < 2:
        return
    misses = np.array([[np.nan if extra[name] is None else extra[name] for name in names] for _, extra in judged])
    usable = np.isfinite(misses).all(1) & np.array([bool(row.get("valid")) for row, _ in judged])
    for own, here, (_, extra) in zip(misses, usable, judged, strict=True):
        others = misses[usable]
        beaten = (others <= own).all(1) & (others < own).any(1)
        extra["on_front"] = bool(here and not beaten.any())
