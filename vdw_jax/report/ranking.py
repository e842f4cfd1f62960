"""Which of the candidates is best: what holds of what was asked, put in order.

`add_ranks` reads rows alone; `rank` lets a reference model evaluate the crystals first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.reference import Reference
from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.errors import FormulaError
from vdw_jax.structures.formula import parse_formula

MEASURED = {
    "lattice_constant_angstrom": "lattice_constant_angstrom",
    "gap_angstrom": "gap_angstrom",
    "interlayer_distance_angstrom": "gap_angstrom",
    "thickness_angstrom": "thickness_angstrom",
}
"""Targets that are read off the structure, each with its column of `describe.describe`."""

STABILITY = "formation_energy_ev"
"""Orders what has no target that is a number: the formation energy against free layers, the lowest first."""

_OWN = ("rank", "formula_met", "chemical_system_met", "on_front", "evaluated_by")


def rule(rows: Sequence[Mapping[str, Any]]) -> str:
    """How these rows are ranked, and by whom their targets are evaluated; a text of whole sentences."""
    with_targets = any(asked_ranges(row) for row in rows)
    last = "the lowest formation energy against free layers"
    if with_targets:
        last = "the smallest error in standard deviations"
    by = dict.fromkeys(text for row in rows for text in str(row.get("evaluated_by") or "").split("; ") if text)
    if not (with_targets or by):
        last = "the order in which they were made"
    evaluated = f" Evaluated: {'; '.join(by)}." if by else ""
    return f"Valid first, then two layers, then the asked formula, then {last}.{evaluated}"


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


COMPUTED = ("formation_energy_ev", "binding_energy_ev_per_a2")
"""Properties that a relaxation computes; its total energy is no property of a name like `energy_ev`."""


def value_of(row: Mapping[str, Any], name: str) -> tuple[float | None, str]:
    """The best value there is of a property, and where it is from.

    In this order: computed by the potential that relaxed the structure (`relaxed_...`), measured on the structure
    (`MEASURED`), evaluated by a reference model (`evaluated_...`), predicted by the property head (`predicted_...`).
    None and "" where there is none.
    """
    for column in _columns_of(name):
        value = row.get(column)
        if is_number(value):
            return float(value), _source(row, column)  # type: ignore[arg-type]
    return None, ""


def column_of(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The column that `value_of` reads in these rows; that of the property head where none has a value."""
    columns = _columns_of(name)
    return next((column for column in columns if any(is_number(row.get(column)) for row in rows)), columns[-1])


def _columns_of(name: str) -> list[str]:
    computed = [f"relaxed_{name}"] if name in COMPUTED else []
    measured = [MEASURED[name]] if name in MEASURED else []
    return [*computed, *measured, f"evaluated_{name}", f"predicted_{name}"]


def _source(row: Mapping[str, Any], column: str) -> str:
    if column.startswith("relaxed_"):
        return f"computed by {row.get('relaxed_by') or 'the potential'}"
    if column.startswith("evaluated_"):
        return f"evaluated by {row.get('reference_model') or 'a reference model'}"
    return "predicted by the property head" if column.startswith("predicted_") else "measured"


def add_ranks(rows: Sequence[Mapping[str, Any]], spreads: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Rows with `rank` (1 is best) and how near each comes to what was asked.

    `formula_met` and `chemical_system_met` where these were asked, `miss_...` for each target: how far `value_of` is
    from the target or outside the range; `evaluated_by`: where these values are from. With several targets
    `on_front`: valid, and no other valid row is nearer in all of them. A target without a value has no miss and ranks
    behind those with one. Rows without a target that is a number are ranked by their formation energy against free
    layers, where it is known. Equals rank in the order of the rows. What an earlier call added is replaced.

    Args:
      rows: as `describe.sample_rows` makes them.
      spreads: standard deviation of each target, by which misses are made comparable; 1 by default.
    """
    plain = [{key: value for key, value in row.items() if not _is_of_ranking(key)} for row in rows]
    judged = [(row, _compared(row)) for row in plain]
    _mark_front(judged)

    def order(index: int) -> tuple[bool, bool, bool, float, float, int]:
        row, extra = judged[index]
        misses = [
            math.inf if value is None else value / (spreads or {}).get(key.removeprefix("miss_"), 1.0)
            for key, value in extra.items()
            if key.startswith("miss_")
        ]
        met = extra.get("formula_met", True) and extra.get("chemical_system_met", True)
        energy = None if misses else value_of(row, STABILITY)[0]
        return (
            not row.get("valid"),
            not row.get("bilayer", True),
            not met,
            sum(misses),
            math.inf if energy is None else energy,
            index,
        )

    place = {index: rank for rank, index in enumerate(sorted(range(len(judged)), key=order), start=1)}
    return [{"rank": place[index], **row, **extra} for index, (row, extra) in enumerate(judged)]


def _is_of_ranking(key: str) -> bool:
    return key in _OWN or key.startswith("miss_")


def _compared(row: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of a row against what is there."""
    extra: dict[str, Any] = {}
    if isinstance(row.get("asked_formula"), str):
        extra["formula_met"] = formula_met(row["asked_formula"], str(row.get("formula", "")))
    if isinstance(row.get("asked_chemical_system"), str):
        extra["chemical_system_met"] = system_met(row["asked_chemical_system"], str(row.get("formula", "")))
    targets = asked_ranges(row)
    sources = {}
    for name, (low, high) in targets.items():
        value, sources[name] = value_of(row, name)
        extra[f"miss_{name}"] = None if value is None else max(low - value, value - high, 0.0)
    if not targets:
        _, sources[STABILITY] = value_of(row, STABILITY)
    told = [f"{name} {source}" for name, source in sources.items() if source]
    return extra | ({"evaluated_by": "; ".join(told)} if told else {})


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


def rank(
    crystals: Sequence[Crystal],
    rows: Sequence[Mapping[str, Any]],
    spreads: Mapping[str, float] | None = None,
    reference: Reference | None = None,
) -> list[dict[str, Any]]:
    """`add_ranks` of rows whose crystals a reference model evaluates first; again for relaxed ones.

    Args:
      crystals: what the rows describe, in their order.
      rows: as `describe.sample_rows` makes them, or as this function returned them.
      spreads: as for `add_ranks`.
      reference: adds `evaluated_...` and `reference_model` to what it covers; None keeps the rows as they are.
    """
    if reference is None:
        return add_ranks(rows, spreads)
    column = f"evaluated_{reference.label}"
    told = []
    for row, value in zip(rows, reference.evaluate(crystals), strict=True):
        kept = {key: known for key, known in row.items() if key not in (column, "reference_model")}
        own = {} if value is None else {column: value, "reference_model": reference.name}
        told.append(kept | own)
    return add_ranks(told, spreads)
