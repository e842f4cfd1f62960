"""Whether a model covers what is asked for: its elements, cells, compositions and ranges of properties.

`covers("UTe2")` asks the model that ships, `Designer.covers` any other. A composition is covered where a family of the
training data holds it, in the training data or not. Data of one's own have no family: there a composition is covered
where at most a tenth of its atoms would have to change their group of the periodic table to make one of the training
data.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vdw_jax.pretrained import SHIPPED
from vdw_jax.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from vdw_jax.structures.errors import FormulaError
from vdw_jax.structures.families import Family, whole_cells
from vdw_jax.structures.formula import formula_string, parse_formula
from vdw_jax.structures.similarity import (
    composition_distance,
    element_distance,
    exchanged_groups,
    group_shares,
    period_and_group,
)
from vdw_jax.training.coverage import MOST_NAMED, as_list, coverage_record

Target = float | tuple[float, float]
"""A value to aim at, or the lower and upper end of a range; an infinite end is that of the training data."""

MOST_EXCHANGED = 0.1
"""Share of the atoms in another group of the periodic table than in the training data, at most."""

MOST_BEYOND = 1.0
"""Standard deviations of a label outside its range in the training data, at most; nearer is noted only."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Answer:
    """Whether a request is covered; true if it is."""

    reason: str = ""
    """What is not covered; empty if everything is."""
    nearest: str | None = None
    """The nearest covered request."""

    def __bool__(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Coverage:
    """What `model.json` records under `coverage`."""

    summary: str
    elements: tuple[int, ...]
    atom_counts: tuple[int, ...]
    families: tuple[Family, ...]
    formulas: tuple[Mapping[int, int], ...]  # atoms of each in the training data, where there is no family
    scalar_range: Mapping[str, tuple[float, float]]
    scalar_std: Mapping[str, float]
    layers: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Coverage:
        """Of a `model.json`; of one without `coverage`, what follows from the rest.

        Raises:
          KeyError, TypeError, ValueError, AttributeError: the file is damaged.
        """
        told = facts["coverage"] if "coverage" in facts else coverage_record(facts)
        ranges = {name: (float(low), float(high)) for name, (low, high) in told["scalar_range"].items()}
        spreads = {scalar["name"]: float(scalar["std"]) for scalar in facts["model"]["scalars"]}
        if ranges.keys() != spreads.keys():
            raise ValueError("coverage has other properties than the model")
        return cls(
            str(told["summary"]),
            tuple(ATOMIC_NUMBERS[symbol] for symbol in told["elements"]),
            tuple(int(count) for count in told["atom_counts"]),
            tuple(Family.from_dict(family) for family in told["families"]),
            tuple(parse_formula(formula) for formula in told["compositions"]),
            ranges,
            spreads,
            dict(told["layers"]),
        )

    def covers(
        self,
        formula: str | None = None,
        *,
        chemical_system: str | None = None,
        targets: Mapping[str, Target] | None = None,
    ) -> Answer:
        """Whether this model covers a request; what cannot be read is not covered.

        Args:
          formula: such as "GaInSSe2".
          chemical_system: such as "Ga-In-S-Se".
          targets: values or ranges by the name of the property.
        """
        try:
            answers = [] if formula is None else [self._covers_formula(formula, parse_formula(formula))]
            if chemical_system is not None:
                answers.append(self._covers_system(chemical_system, read_system(chemical_system)))
        except FormulaError as error:
            return Answer(str(error))
        answers += [self._covers_target(name, target) for name, target in (targets or {}).items()]
        bad = [answer for answer in answers if not answer]
        nearest = " with ".join(answer.nearest for answer in bad if answer.nearest)
        return Answer("; ".join(answer.reason for answer in bad), nearest or None)

    def described(self) -> str:
        """Everything that is covered, in sentences."""
        parts = [f"This model covers {self.summary}"]
        if not self.families and len(self.elements) > MOST_NAMED:
            parts[0] += f": {', '.join(SYMBOLS[number - 1] for number in self.elements)}"
        for family in self.families:
            kinds = (
                f"{kind} ({', '.join(f'{count} {site}' for site, count in sites.items())})"
                for kind, sites in family.layers.items()
            )
            sites = (
                f"{site} is {', '.join(SYMBOLS[number - 1] for number in numbers)}"
                for site, numbers in family.sites.items()
            )
            parts[0] += f". A cell holds {family.num_layers} layers, each a {' or a '.join(kinds)}; {', '.join(sites)}"
        ranges = [f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in self.scalar_range.items()]
        if ranges:
            parts.append(f"Targets: {', '.join(ranges)}")
        shown = {
            key.replace("_", " ").removesuffix(" angstrom"): self.layers[key]
            for key in ("interlayer_distance_angstrom", "layer_thickness_angstrom")
            if key in self.layers
        }
        if shown:
            measured = (f"{name} {low:.3g} to {high:.3g} Angstrom" for name, (low, high) in shown.items())
            parts.append(f"Layers: {', '.join(measured)}")
        return ". ".join(parts)

    def _covers_formula(self, formula: str, counts: Mapping[int, int]) -> Answer:
        reason = self._formula_reason(formula, counts)
        return Answer(reason, self._nearest_formula(counts)) if reason else Answer()

    def _formula_reason(self, formula: str, counts: Mapping[int, int]) -> str:
        unknown = [SYMBOLS[number - 1] for number in counts if number not in self.elements]
        if unknown:
            return f"{formula}: {', '.join(unknown)} not in the training data"
        cells = whole_cells(counts, self.atom_counts)
        if not cells:
            sizes = as_list(self.atom_counts)
            return f"{formula}: no number of formula units makes a cell of {sizes} atoms, as in the training data"
        if self.families:
            if any(family.holds(cell) for family in self.families for cell in cells):
                return ""
            names = " or ".join(family.name for family in self.families)
            return f"{formula}: {names} have no cell of this composition"
        if self._group_distance(counts) > MOST_EXCHANGED + _ROUNDING:
            return f"{formula}: no structure of the training data has a composition like this"
        return ""

    def _group_distance(self, counts: Mapping[int, int]) -> float:
        """The smallest share of atoms in other groups of the periodic table than those of a training formula."""
        shares = group_shares(counts)
        return min((exchanged_groups(shares, other) for other in self._known_shares), default=0.0)

    @functools.cached_property
    def _known_shares(self) -> list[dict[int, float]]:
        """The different `group_shares` of the training formulas; there are far fewer than formulas."""
        found = {tuple(sorted(group_shares(counts).items())) for counts in self.formulas}
        return [dict(shares) for shares in found]

    def _compositions(self) -> Iterator[Mapping[int, int]]:
        for family in self.families:
            for counts in family.compositions():
                if sum(counts.values()) in self.atom_counts:
                    yield counts
        yield from self.formulas

    def _nearest_formula(self, counts: Mapping[int, int]) -> str | None:
        """That of the likest composition; of equals the one with the number of atoms that was asked for."""
        size = sum(counts.values())

        def order(found: Mapping[int, int]) -> tuple[float, int, str]:
            distance = round(composition_distance(counts, found), 9)
            return distance, abs(sum(found.values()) - size), formula_string(found)

        nearest = min(self._compositions(), key=order, default=None)
        return None if nearest is None else formula_string(nearest)

    def _covers_system(self, system: str, elements: tuple[int, ...]) -> Answer:
        unknown = [SYMBOLS[number - 1] for number in elements if number not in self.elements]
        if unknown:
            reason = f"{system}: {', '.join(unknown)} not in the training data"
        elif self._has_system(elements):
            return Answer()
        else:
            reason = f"{system}: no structure like those of the training data has exactly these elements"
        wanted = {self._likest(number) for number in elements}
        systems = {tuple(sorted(counts)) for counts in self._compositions()}
        nearest = min(systems, key=lambda found: (len(wanted.symmetric_difference(found)), found), default=())
        return Answer(reason, system_string(nearest) or None)

    def _has_system(self, elements: tuple[int, ...]) -> bool:
        if self.families:
            return any(counts.keys() == set(elements) for counts in self._compositions())
        if not self.formulas:
            return True
        groups = group_shares(dict.fromkeys(elements, 1)).keys()
        few_enough = len(elements) <= max(self.atom_counts, default=0)
        return few_enough and any(shares.keys() == groups for shares in self._known_shares)

    def _likest(self, number: int) -> int:
        return min(self.elements, key=lambda known: (element_distance(number, known), known))

    def _covers_target(self, name: str, target: Target) -> Answer:
        if name not in self.scalar_range:
            return Answer(f"this model has no condition {name!r}; it has {', '.join(self.scalar_range) or 'none'}")
        low, high = target if isinstance(target, tuple) else (target, target)
        least, most = self.scalar_range[name]
        apart = self.beyond(name, low, high)
        if math.isnan(apart):
            return Answer(f"{name}: {target} is no number to aim at")
        if apart <= MOST_BEYOND + _ROUNDING:
            return Answer()
        text = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        reason = (
            f"{name} = {text} is {apart:.1f} standard deviations outside the training data "
            f"({least:.3g} to {most:.3g})"
        )
        return Answer(reason, f"{name} = {most if low > most else least:.3g}")

    def beyond(self, name: str, low: float, high: float) -> float:
        """How far outside the training data an aim lies, in standard deviations; 0 where some of it is inside."""
        least, most = self.scalar_range[name]
        apart = max(low - most, least - high)
        if math.isnan(apart):
            return math.nan
        return max(apart, 0.0) / self.scalar_std[name]


def refusal(answer: Answer, coverage: Coverage) -> str:
    """One paragraph for a request that is not covered."""
    nearest = f" The nearest covered request is {answer.nearest}." if answer.nearest else ""
    return (
        f"{answer.reason}. {coverage.described()}.{nearest} --allow_untrained (from Python allow_untrained=True) "
        "goes on and marks every candidate."
    )


def system_string(elements: Iterable[int]) -> str:
    """`Ga-In-S-Se` of atomic numbers: by group of the periodic table, then by number."""
    ordered = sorted(elements, key=lambda number: (period_and_group(number)[1], number))
    return "-".join(SYMBOLS[number - 1] for number in ordered)


def read_system(system: str) -> tuple[int, ...]:
    """Atomic numbers of a chemical system such as "Ga-In-S-Se", in order.

    Raises:
      FormulaError: a part is no element.
    """
    symbols = [symbol.strip() for symbol in system.split("-")]
    wrong = [symbol for symbol in symbols if symbol not in ATOMIC_NUMBERS]
    if wrong:
        raise FormulaError(
            f"chemical system {system!r}: {wrong[0]!r} is no element; write it as Ga-In-S-Se"
        )
    return tuple(sorted({ATOMIC_NUMBERS[symbol] for symbol in symbols}))


@functools.cache
def coverage_of(directory: Path = SHIPPED) -> Coverage:
    """Of an export; of the model that ships by default."""
    return Coverage.from_facts(json.loads((directory / "model.json").read_text(encoding="utf-8")))


def covers(
    formula: str | None = None,
    *,
    chemical_system: str | None = None,
    targets: Mapping[str, Target] | None = None,
) -> Answer:
    """Whether the model that ships covers a request; `Coverage.covers` says more."""
    return coverage_of().covers(formula, chemical_system=chemical_system, targets=targets)
