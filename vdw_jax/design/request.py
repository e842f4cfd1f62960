"""What is asked for, checked against what the model has seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

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

    scalars: np.ndarray  # [S] float32, in the unit of each label
    scalar_mask: np.ndarray  # [S] bool
    composition: np.ndarray  # [E] float32, atomic fractions
    slots: np.ndarray  # [N] int32, the atomic numbers that the cell has to hold, all 0 if the model is to choose them
    formula: str | None = None  # as it was asked for
    notes: tuple[str, ...] = ()  # what of it lies outside the training data

    @property
    def asked(self) -> dict[str, str]:
        """The formula, if there is one; scalars are named by the model."""
        return {} if self.formula is None else {"formula": self.formula}


def parse_targets(texts: Sequence[str]) -> dict[str, float]:
    """`gap=1.5` as a value by its name.

    Raises:
      RequestError: no name, no number, or a name twice.
    """
    targets: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not name or not np.isfinite(number):
            raise RequestError(f"{text!r} is not NAME=VALUE, as in gap=1.5")
        if name in targets:
            raise RequestError(f"{name} is asked for twice")
        targets[name] = number
    return targets


def make_request(
    trained: Trained,
    formula: str | None = None,
    scalars: Mapping[str, float] | None = None,
    *,
    hold_counts: bool = True,
) -> Request:
    """Checks a wish and turns it into arrays.

    A formula gets the smallest number of formula units that makes a cell of a size the model has seen, or one
    unit if none does.

    Args:
      formula: such as "GaInSSe2"; None for any.
      scalars: wanted values by name, each a condition that the model was trained with.
      hold_counts: place exactly the atoms of the formula; otherwise it is only a condition, and the model chooses how
        many atoms of each element there are.
    Raises:
      RequestError: a formula that cannot be read or is too large, an unknown condition, a value that is no number.
    """
    config, notes = trained.model.config, []
    names = [scalar.name for scalar in config.scalars]
    values, mask = np.zeros(len(names), np.float32), np.zeros(len(names), bool)
    for name, value in (scalars or {}).items():
        if name not in names:
            raise RequestError(f"this model has no condition {name!r}; it has {', '.join(names) or 'none'}")
        if not np.isfinite(value):
            raise RequestError(f"{name}: {value} is no number to aim at")
        values[names.index(name)], mask[names.index(name)] = value, True
        low, high = trained.facts["scalar_range"][name]
        if not low <= value <= high:
            notes.append(f"{name} = {value:g} is outside the training data ({low:.3g} to {high:.3g})")

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
    return Request(values, mask, composition, slots, formula, tuple(notes))


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
