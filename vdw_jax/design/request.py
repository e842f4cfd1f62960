"""What is asked for, checked against what the model has seen."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vdw_jax.design.coverage import Target, read_system, refusal
from vdw_jax.design.trained import Trained
from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.errors import FormulaError
from vdw_jax.structures.formula import fit_formula_units, formula_string, parse_formula
from vdw_jax.types import NUM_ELEMENTS


class RequestError(ValueError):
    """Something is asked for that cannot be given; the message is one line that a person can act on."""


class NotCoveredError(RequestError):
    """The model was not trained for what is asked; the message names what it covers and the nearest request."""


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """One wish, for any number of candidates. Absent parts have mask False, slots 0."""

    scalar_low: np.ndarray  # [S] float64, in the unit of each label; the range that each candidate draws its aim from
    scalar_high: np.ndarray  # [S] float64, the same as the lower end for a value
    scalar_mask: np.ndarray  # [S] bool
    composition: np.ndarray  # [E] float32, atomic fractions
    slots: np.ndarray  # [N] int32, the atomic numbers that the cell has to hold, all 0 if the model is to choose them
    system: tuple[int, ...] = ()  # atomic numbers, all that the cell holds; () for any
    asked: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # as it was asked for, for tables
    notes: tuple[str, ...] = ()  # what of it lies outside the training data
    untrained: str = ""  # what of it the model does not cover; "" where it covers all


MOST_SAMPLES = 100_000
MOST_STEPS = 100_000


def checked_count(value: Any, name: str, most: int, reason: str) -> int:
    """A whole number from 1 to `most`.

    Raises:
      RequestError: it is something else; the message says why there is a limit.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not 1 <= value <= most:
        raise RequestError(f"{name} is a whole number from 1 to {most}, not {value!r} ({reason})")
    return int(value)


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_VALUE = re.compile(_NUMBER)
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})")
_ONE_SIDED = re.compile(rf"(<=|>=)\s*({_NUMBER})")
_TARGET = re.compile(r"(?P<name>.*?)\s*(?P<value>(?:<=|>=|=)[^=<>]*)")


def parse_range(text: str) -> Target:
    """`1.5`; `1..2` as a range; `>=1.5` and `<=1.5` as ranges with an end at infinity. Spaces do not count.

    Raises:
      ValueError: none of them, or a number that is not finite.
    """
    plain = text.strip().replace("\N{MINUS SIGN}", "-")
    found: Target | None = None
    if _VALUE.fullmatch(plain):
        found = float(plain)
    elif (ends := _RANGE.fullmatch(plain)) and "..." not in plain:
        found = (float(ends[1]), float(ends[2]))
    elif side := _ONE_SIDED.fullmatch(plain):
        value = float(side[2])
        found = (value, math.inf) if side[1] == ">=" else (-math.inf, value)
        if not math.isfinite(value):
            found = None
    if found is None or (not _ONE_SIDED.match(plain) and not np.isfinite(found).all()):
        raise ValueError(f"{text!r} is neither a number nor a range as in -0.3..-0.1")
    return found


def parse_targets(texts: Sequence[str]) -> dict[str, Target]:
    """`gap=1.5`, `gap=1..2`, `gap>=1` or `gap<=2` by its name; spaces around the name do not count.

    Raises:
      RequestError: no name, no number, or a name twice.
    """
    targets: dict[str, Target] = {}
    for text in texts:
        found = _TARGET.fullmatch(text.strip())
        name = found["name"] if found else ""
        try:
            target = parse_range(found["value"].removeprefix("=")) if found else None
        except ValueError:
            target = None
        if not name or target is None:
            raise RequestError(f"{text!r} is not NAME=VALUE or NAME=FROM..TO, as in gap=1.5")
        if name in targets:
            raise RequestError(f"{name} is asked for twice")
        targets[name] = target
    return targets


def asked_targets(texts: Sequence[str], energy: str | None, conditions: Sequence[str]) -> dict[str, Target]:
    """`parse_targets`, with what is asked of the first condition in front.

    Raises:
      RequestError: as `parse_targets`, an energy that is no number or range, or one for a model without conditions.
    """
    targets = parse_targets(texts)
    if energy is None:
        return targets
    if not conditions:
        raise RequestError("this checkpoint was trained without an energy")
    if conditions[0] in targets:
        raise RequestError(f"{conditions[0]} is asked for twice")
    try:
        return {conditions[0]: parse_range(energy)} | targets
    except ValueError as error:
        raise RequestError(f"the energy {error}") from None


def make_request(
    trained: Trained,
    formula: str | None = None,
    scalars: Mapping[str, Target] | None = None,
    *,
    system: str | None = None,
    hold_counts: bool = True,
    allow_untrained: bool = False,
) -> Request:
    """Checks a request and turns it into arrays.

    A formula gets the smallest number of formula units that makes a cell of a size the model has seen, or one
    unit if none does. An infinite end of a range becomes that of the training data.

    Args:
      formula: such as "GaInSSe2"; None for any.
      scalars: wanted values or ranges by name, each a condition that the model was trained with.
      system: chemical system such as "Ga-In-S-Se": every cell holds all of these elements and no others.
      hold_counts: place exactly the atoms of the formula; otherwise it is only a condition, and the model chooses how
        many atoms of each element there are.
      allow_untrained: go on with what the model does not cover, and say so in `untrained`.

    Raises:
      NotCoveredError: the model does not cover it (`coverage.Coverage`).
      RequestError: a formula or system that cannot be read, a formula that is too large or holds other elements than
        the system or fewer, more elements than atoms, an unknown condition, a value that is no number, or an empty
        range.
    """
    config = trained.model.config
    asked: dict[str, Any] = {}
    targets = {name: _ends(trained, name, target, asked) for name, target in (scalars or {}).items()}
    try:
        counts = None if formula is None else parse_formula(formula)
        elements = () if system is None else read_system(system)
    except FormulaError as error:
        raise RequestError(str(error)) from None
    if elements and counts:
        others = [SYMBOLS[number - 1] for number in counts if number not in elements]
        if others:
            raise RequestError(f"{formula} holds {', '.join(others)}, which {system} does not")
        lacking = [SYMBOLS[number - 1] for number in elements if number not in counts]
        if lacking:
            raise RequestError(f"{formula} lacks {', '.join(lacking)}, which {system} names")
    if len(elements) > max(trained.atom_counts):
        most = max(trained.atom_counts)
        raise RequestError(f"{system} names {len(elements)} elements; a cell holds at most {most} atoms")
    answer = trained.coverage.covers(formula, chemical_system=system, targets=targets)
    if not answer and not allow_untrained:
        raise NotCoveredError(refusal(answer, trained.coverage))

    names = [scalar.name for scalar in config.scalars]
    ends, mask = np.zeros((2, len(names))), np.zeros(len(names), bool)
    for name, (low, high) in targets.items():
        ends[:, names.index(name)], mask[names.index(name)] = (low, high), True
    composition = np.zeros(NUM_ELEMENTS, np.float32)
    slots = np.zeros(config.max_atoms, np.int32)
    if counts is not None:
        try:
            units, _ = fit_formula_units(counts, set(trained.atom_counts), config.max_atoms)
        except FormulaError as error:
            raise RequestError(str(error)) from None
        filled = np.repeat(list(counts), [count * units for count in counts.values()])
        if hold_counts:
            slots[: len(filled)] = filled
        for number, count in counts.items():
            composition[number - 1] = count / sum(counts.values())
        asked["formula"] = formula
    if elements:
        asked["chemical_system"] = "-".join(SYMBOLS[number - 1] for number in elements)
    notes = [answer.reason] if answer.reason else _notes(trained, formula, counts, targets)
    return Request(
        ends[0], ends[1], mask, composition, slots, elements, asked, tuple(notes), answer.reason
    )


def _ends(trained: Trained, name: str, target: Target, asked: dict[str, Any]) -> tuple[float, float]:
    """Both ends of a target, which is written to `asked` as a table has it.

    Raises:
      RequestError: an unknown name, no number, or an empty range.
    """
    names = [scalar.name for scalar in trained.model.config.scalars]
    if name not in names:
        raise RequestError(f"this model has no condition {name!r}; it has {', '.join(names) or 'none'}")
    is_range = isinstance(target, tuple | list)
    ends: Any = target if is_range else (target, target)
    try:
        low, high = map(float, ends)
    except (TypeError, ValueError):
        raise RequestError(f"{name}: {target!r} is neither a number nor a pair of numbers") from None
    least, most = trained.coverage.scalar_range[name]
    if is_range and low == -math.inf and math.isfinite(high):
        low = min(least, high)
    elif is_range and high == math.inf and math.isfinite(low):
        high = max(most, low)
    if not np.isfinite([low, high]).all():
        raise RequestError(f"{name}: {target} is no number to aim at")
    if low > high:
        raise RequestError(f"{name}: the range from {low:g} to {high:g} is empty")
    asked |= {f"{name}_min": low, f"{name}_max": high} if is_range else {name: low}
    return low, high


def _notes(
    trained: Trained,
    formula: str | None,
    counts: Mapping[int, int] | None,
    targets: Mapping[str, tuple[float, float]],
) -> list[str]:
    """What is covered and yet outside the training data: a new composition, an aim a little beyond a range."""
    notes = []
    for name, (low, high) in targets.items():
        least, most = trained.coverage.scalar_range[name]
        if apart := trained.coverage.beyond(name, low, high):
            text = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            notes.append(
                f"{name} = {text} is outside the training data ({least:.3g} to {most:.3g}), by "
                f"{max(low - most, least - high):.3g} or {apart:.1f} standard deviations"
            )
    if counts is not None and formula_string(counts) not in trained.facts["formulas"]:
        notes.append(f"{formula}: no structure of the training data has this composition")
    return notes
