"""The compositions that a chemical system may take: those of the families or of the training data that hold exactly
these elements."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vdw_jax.design.coverage import Coverage
from vdw_jax.design.request import Request
from vdw_jax.structures.families import Family, whole_cells
from vdw_jax.structures.similarity import period_and_group
from vdw_jax.types import NUM_ELEMENTS

MOST_COMPOSITIONS = 4096
"""Of a system outside every family: more are not listed."""

Counts = Mapping[int, int]
"""Atoms in a cell by atomic number."""


@struct.dataclass
class CompositionTable:
    """F compositions to draw from."""

    composition: jax.Array  # [F, E] float32, atomic fractions
    slots: jax.Array  # [F, N] int32, the atomic numbers of each cell, 0 behind
    log_weights: jax.Array  # [F] float32


def compositions_of_system(coverage: Coverage, request: Request, max_atoms: int) -> CompositionTable:
    """What a candidate of the request's chemical system may consist of; every element of it is in every one.

    A composition of a family weighs as much as it has arrangements on the sites of the layers, as in data where every
    arrangement occurs. Where a formula is asked for without its counts, one atom that differs makes a composition
    e^2 times rarer.

    Args:
      coverage: of the model.
      request: names a chemical system that is covered; one that is not gets even shares of its elements.
      max_atoms: width of the slots.
    """
    found = _listed(coverage, request.system)
    composition = np.zeros((len(found), NUM_ELEMENTS), np.float32)
    slots = np.zeros((len(found), max_atoms), np.int32)
    log_weights = np.zeros(len(found), np.float32)
    for row, (counts, weight) in enumerate(found):
        atoms = np.repeat(list(counts), list(counts.values()))
        slots[row, : len(atoms)] = atoms
        for number, count in counts.items():
            composition[row, number - 1] = count / len(atoms)
        log_weights[row] = math.log(weight)
        if request.composition.any():
            apart = np.abs(composition[row] - request.composition).sum()
            log_weights[row] -= len(atoms) * apart
    return CompositionTable(jnp.asarray(composition), jnp.asarray(slots), jnp.asarray(log_weights))


def _listed(coverage: Coverage, system: tuple[int, ...]) -> list[tuple[Counts, float]]:
    """Compositions and their weights, from the first source that has any."""
    if of_families := list(_of_families(coverage, system)):
        return of_families
    cells = [cell for formula in coverage.formulas for cell in whole_cells(formula, coverage.atom_counts)]
    of_data: list[tuple[Counts, float]] = [(cell, 1.0) for cell in cells if cell.keys() == set(system)]
    if of_data:
        return of_data
    if substituted := list(itertools.islice(_substituted(cells, system), MOST_COMPOSITIONS)):
        return [(counts, 1.0) for counts in substituted]
    sizes = [size for size in coverage.atom_counts if size >= len(system)]
    return [(_even(system, size), 1.0) for size in sizes]


def _of_families(coverage: Coverage, system: tuple[int, ...]) -> Iterator[tuple[Counts, float]]:
    for family in coverage.families:
        for counts in family.compositions():
            if counts.keys() == set(system) and sum(counts.values()) in coverage.atom_counts:
                yield counts, _arrangements(family, counts)


def _arrangements(family: Family, counts: Counts) -> float:
    """In how many ways these atoms fill the sites of a cell, each kind of site with its own elements."""
    ways = 1
    for numbers in family.sites.values():
        here = [counts.get(number, 0) for number in numbers]
        ways *= math.factorial(sum(here)) // math.prod(map(math.factorial, here))
    return float(ways)


def _substituted(cells: list[dict[int, int]], system: tuple[int, ...]) -> Iterator[Counts]:
    """Cells of the data with the elements of each group of the periodic table exchanged for those of the system."""
    members: dict[int, list[int]] = {}
    for number in system:
        members.setdefault(period_and_group(number)[1], []).append(number)
    seen = set()
    for cell in cells:
        totals: Counter[int] = Counter()
        for number, count in cell.items():
            totals[period_and_group(number)[1]] += count
        key = tuple(sorted(totals.items()))
        if totals.keys() != members.keys() or key in seen:
            continue
        seen.add(key)
        choices = [itertools.combinations_with_replacement(members[group], totals[group]) for group in members]
        for chosen in itertools.product(*choices):
            counts = Counter(itertools.chain(*chosen))
            if counts.keys() == set(system):
                yield dict(counts)


def _even(system: tuple[int, ...], size: int) -> Counts:
    """As many atoms of each element as of any other, as far as that goes."""
    each, more = divmod(size, len(system))
    return {number: each + (place < more) for place, number in enumerate(system)}
