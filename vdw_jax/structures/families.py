"""Families of structures: which compositions are built alike, whether or not each of them is in the data.

A family is a stack of layers, each a kind with sites: an III-VI quadruple X-M-M-X has two sites M and two X.
A composition belongs to it where its atoms fill the sites of so many layers.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vdw_jax.structures.elements import ATOMIC_NUMBERS, CHALCOGENS, METALS, SYMBOLS

Composition = Mapping[int, int]
"""Atoms in a cell by atomic number."""


@dataclass(frozen=True)
class Family:
    """Stacks of `num_layers` layers."""

    name: str
    sites: Mapping[str, tuple[int, ...]]  # atomic numbers that each kind of site may take, none in two
    layers: Mapping[str, Mapping[str, int]]  # sites in a layer, by kind of layer and of site
    num_layers: int

    def cells(self) -> list[dict[str, int]]:
        """Sites in a cell, by kind of site, for every choice of layers; none twice."""
        cells: list[dict[str, int]] = []
        for kinds in itertools.combinations_with_replacement(self.layers.values(), self.num_layers):
            cell = {site: sum(kind.get(site, 0) for kind in kinds) for site in self.sites}
            if cell not in cells:
                cells.append(cell)
        return cells

    def holds(self, counts: Composition) -> bool:
        """Whether these atoms fill the sites of a cell."""
        site_of = {number: site for site, numbers in self.sites.items() for number in numbers}
        if not counts.keys() <= site_of.keys():
            return False
        filled = Counter({site: 0 for site in self.sites})
        for number, count in counts.items():
            filled[site_of[number]] += count
        return dict(filled) in self.cells()

    def compositions(self) -> Iterator[dict[int, int]]:
        """Every composition that the family holds."""
        for cell in self.cells():
            choices = [
                itertools.combinations_with_replacement(self.sites[site], count)
                for site, count in cell.items()
            ]
            for chosen in itertools.product(*choices):
                yield dict(Counter(itertools.chain(*chosen)))

    def restricted(self, elements: Iterable[int], atom_counts: Iterable[int]) -> Family:
        """The part with these elements, and with the layers that make cells of these numbers of atoms."""
        known, counts = set(elements), set(atom_counts)
        sites = {site: tuple(n for n in numbers if n in known) for site, numbers in self.sites.items()}
        seen: set[str] = set()
        for kinds in itertools.combinations_with_replacement(self.layers, self.num_layers):
            if sum(sum(self.layers[kind].values()) for kind in kinds) in counts:
                seen |= set(kinds)
        layers = {kind: parts for kind, parts in self.layers.items() if kind in seen}
        return Family(self.name, sites, layers, self.num_layers)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, elements by symbol."""
        return {
            "name": self.name,
            "sites": {site: [SYMBOLS[n - 1] for n in numbers] for site, numbers in self.sites.items()},
            "layers": {kind: dict(parts) for kind, parts in self.layers.items()},
            "num_layers": self.num_layers,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Family:
        """What `to_dict` gave.

        Raises:
          KeyError, TypeError, ValueError, AttributeError: something else.
        """
        sites = {site: tuple(ATOMIC_NUMBERS[s] for s in symbols) for site, symbols in told["sites"].items()}
        layers = {
            kind: {site: int(count) for site, count in parts.items()}
            for kind, parts in told["layers"].items()
        }
        num_layers = int(told["num_layers"])
        if not 1 <= num_layers <= MOST_LAYERS or len(layers) > MOST_KINDS:
            raise ValueError(f"a family of {num_layers} layers of {len(layers)} kinds")
        return cls(str(told["name"]), sites, layers, num_layers)


MOST_LAYERS, MOST_KINDS = 4, 8
"""Of a family in a file; more would take long to list."""

III_VI_BILAYERS = Family(
    "III-VI bilayers",
    {"M": METALS, "X": CHALCOGENS},
    {"quadruple": {"M": 2, "X": 2}, "quintuple": {"M": 2, "X": 3}},
    2,
)
"""X-M-M-X and X-M-X-M-X, two of them on each other: the data that ship."""

KNOWN = (III_VI_BILAYERS,)


def whole_cells(counts: Composition, atom_counts: Iterable[int]) -> list[dict[int, int]]:
    """The multiples of a formula that make cells of these numbers of atoms, smallest first."""
    size = sum(counts.values())
    units = [total // size for total in sorted(set(atom_counts)) if total % size == 0]
    return [{number: count * unit for number, count in counts.items()} for unit in units]


def families_of(
    formulas: Iterable[Composition], elements: Iterable[int], atom_counts: Iterable[int]
) -> tuple[Family, ...]:
    """The known family that holds all of these formulas, restricted to what is there; () if none does.

    Args:
      formulas: reduced or not, at least one.
      elements: atomic numbers.
      atom_counts: numbers of atoms in a cell.
    """
    elements, atom_counts = set(elements), set(atom_counts)
    formulas = list(formulas)
    for family in KNOWN:
        part = family.restricted(elements, atom_counts)
        cells = [whole_cells(formula, atom_counts) for formula in formulas]
        if formulas and all(any(part.holds(cell) for cell in choices) for choices in cells):
            return (part,)
    return ()
