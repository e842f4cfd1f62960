"""What is asked for, checked against what the model has seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vdw_jax.design.trained import Trained
from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.errors import FormulaError
from vdw_jax.structures.formula import fit_formula_units, formula_string, parse_formula
from vdw_jax.types import NUM_ELEMENTS


class RequestError(ValueError):
    """Something is asked for that cannot be given; the message is one line that a person can act on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """One wish, for any number of candidates. Absent parts have mask False, slots 0."""

    scalar_low: np.ndarray  # [S] float64, in the unit of each label; the range that each candidate draws its aim from
    scalar_high: np.ndarray  # [S] float64, the same as the lower end for a value
    scalar_mask: np.ndarray  # [S] bool
    composition: np.ndarray  # [E] float32, atomic fractions
    slots: np.ndarray  # [N] int32, the atomic numbers that the cell has to hold, all 0 if the model is to choose them
    system: tuple[int, ...] = ()  # atomic numbers, the only ones that the cell may hold; () for any
    asked: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # as it was asked for, for tables
    notes: tuple[str, ...] = ()  # what of it lies outside the training data


Target = float | tuple[float, float]
"""A value to aim at, or the lower and upper end of a range."""


def parse_range(text: str) -> Target:
    """`1.5`, or `1..2` as a range.

    Raises:
      ValueError: neither.
    """
    low, dots, high = text.partition("..")
    return (float(low), float(high)) if dots else float(low)


def parse_targets(texts: Sequence[str]) -> dict[str, Target]:
    """`gap=1.5` or `gap=1..2` by its name.

    Raises:
      RequestError: no name, no number, or a name twice.
    """
    targets: dict[str, Target] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            target = parse_range(value)
        except ValueError:
            target = float("nan")
        if not name or not np.all(np.isfinite(target)):
            raise RequestError(f"{text!r} is not NAME=VALUE or NAME=FROM..TO, as in gap=1.5")
        if name in targets:
            raise RequestError(f"{name} is asked for twice")
        targets[name] = target
    return targets


def asked_targets(texts: Sequence[str], energy: str | None, conditions: Sequence[str]) -> dict[str, Target]:
    """`parse_targets`, with what is asked of the first condition in front.

    Raises:
      RequestError: as `parse_targets`, or an energy is asked of a model without conditions.
    """
    if energy is None:
        return parse_targets(texts)
    if not conditions:
        raise RequestError("this checkpoint was trained without an energy")
    return parse_targets([f"{conditions[0]}={energy}"]) | parse_targets(texts)


def make_request(
    trained: Trained,
    formula: str | None = None,
    scalars: Mapping[str, Target] | None = None,
    *,
    system: str | None = None,
    hold_counts: bool = True,
    strict: bool = False,
) -> Request:
    """Checks a wish and turns it into arrays.

    A formula gets the smallest number of formula units that makes a cell of a size the model has seen, or one
    unit if none does.

    Args:
      formula: such as "GaInSSe2"; None for any.
      scalars: wanted values or ranges by name, each a condition that the model was trained with.
      system: chemical system such as "Ga-In-S-Se": no other elements, and of several proposals those with all of them.
      hold_counts: place exactly the atoms of the formula; otherwise it is only a condition, and the model chooses how
        many atoms of each element there are.
      strict: refuse what lies outside the training data, instead of noting it.

    Raises:
      RequestError: a formula or system that cannot be read, a formula that is too large or holds other elements than
        the system, an unknown condition, a value that is no number, an empty range, or something outside if `strict`.
    """
    config = trained.model.config
    notes: list[str] = []
    asked: dict[str, Any] = {}
    names = [scalar.name for scalar in config.scalars]
    ends, mask = np.zeros((2, len(names))), np.zeros(len(names), bool)
    for name, target in (scalars or {}).items():
        if name not in names:
            raise RequestError(f"this model has no condition {name!r}; it has {', '.join(names) or 'none'}")
        place = names.index(name)
        low, high = target if isinstance(target, tuple) else (target, target)
        if not np.isfinite([low, high]).all():
            raise RequestError(f"{name}: {target} is no number to aim at")
        if low > high:
            raise RequestError(f"{name}: the range from {low:g} to {high:g} is empty")
        ends[:, place], mask[place] = (low, high), True
        asked |= {f"{name}_min": low, f"{name}_max": high} if isinstance(target, tuple) else {name: target}
        notes += _beyond(trained, name, low, high, config.scalars[place].std)

    composition = np.zeros(NUM_ELEMENTS, np.float32)
    slots = np.zeros(config.max_atoms, np.int32)
    if formula is not None:
        try:
            counts = parse_formula(formula)
            units, inside = fit_formula_units(counts, set(trained.atom_counts), config.max_atoms)
        except FormulaError as error:
            raise RequestError(str(error)) from None
        size = sum(counts.values())
        filled = np.repeat(list(counts), [count * units for count in counts.values()])
        if hold_counts:
            slots[: len(filled)] = filled
        for number, count in counts.items():
            composition[number - 1] = count / size
        notes += _outside(trained, formula, counts, units * size, inside)
        asked["formula"] = formula
    elements = _read_system(system)
    if elements:
        asked["chemical_system"] = "-".join(SYMBOLS[number - 1] for number in elements)
        others = [SYMBOLS[place] for place in np.flatnonzero(composition) if place + 1 not in elements]
        if others:
            raise RequestError(f"{formula} holds {', '.join(others)}, which {system} does not")
        unknown = [SYMBOLS[number - 1] for number in elements if number not in trained.elements]
        if unknown:
            notes.append(f"{system}: {', '.join(unknown)} not in the training data")
    if strict and notes:
        raise RequestError("; ".join(notes))
    return Request(ends[0], ends[1], mask, composition, slots, elements, asked, tuple(notes))


def _read_system(system: str | None) -> tuple[int, ...]:
    if system is None:
        return ()
    symbols = [symbol.strip() for symbol in system.split("-")]
    wrong = [symbol for symbol in symbols if symbol not in SYMBOLS]
    if wrong:
        raise RequestError(f"chemical system {system!r}: {wrong[0]!r} is no element; write it as Ga-In-S-Se")
    return tuple(sorted({SYMBOLS.index(symbol) + 1 for symbol in symbols}))


def _beyond(trained: Trained, name: str, low: float, high: float, spread: float) -> list[str]:
    """How far outside the training data an aim lies; nothing where some of it is inside."""
    least, most = trained.facts["scalar_range"][name]
    gap = max(low - most, least - high)
    if gap <= 0:
        return []
    wish = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return [
        f"{name} = {wish} is outside the training data ({least:.3g} to {most:.3g}), by {gap:.3g} or "
        f"{gap / spread:.1f} standard deviations"
    ]


def _outside(trained: Trained, formula: str, counts: dict[int, int], atoms: int, inside: bool) -> list[str]:
    unknown = [SYMBOLS[number - 1] for number in counts if number not in trained.elements]
    if unknown:
        known = ", ".join(SYMBOLS[number - 1] for number in trained.elements)
        return [f"{formula}: {', '.join(unknown)} not in the training data, which has {known}"]
    if not inside:
        sizes = ", ".join(str(count) for count in trained.atom_counts)
        return [f"{formula}: no number of formula units makes a cell of {sizes} atoms, as in the training data; "
                f"trying {atoms}"]  # fmt: skip
    if formula_string(counts) not in trained.facts["formulas"]:
        return [f"{formula}: no structure of the training data has this composition"]
    return []
