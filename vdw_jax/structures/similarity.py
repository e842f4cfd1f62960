"""How alike elements and compositions are, by the periodic table: what may stand in for what."""

from __future__ import annotations

import bisect
import functools
from collections import Counter
from collections.abc import Mapping

from vdw_jax.structures.elements import ATOMIC_NUMBERS

_NOBLE_GASES = (2, 10, 18, 36, 54, 86)
_NO_METAL_SYMBOLS = "H He B C N O F Ne Si P S Cl Ar As Se Br Kr Te I Xe At Rn"
_NO_METALS = frozenset(ATOMIC_NUMBERS[symbol] for symbol in _NO_METAL_SYMBOLS.split())
_SAME_GROUP, _OTHER_GROUP, _OTHER_CLASS = 0.3, 1.0, 1.0
_A_PERIOD, _A_GROUP = 0.05, 0.02


def period_and_group(number: int) -> tuple[int, int]:
    """Place of an atomic number in the periodic table; lanthanides and actinides are in group 3."""
    period = bisect.bisect_left(_NOBLE_GASES, number) + 1
    before = (0, *_NOBLE_GASES)[period - 1]
    place = number - before
    if number == 1 or (period > 1 and place <= 2):
        return period, place
    if period <= 3:
        return period, place + (16 if period == 1 else 10)
    if period <= 5:
        return period, place
    return period, 3 if place <= 17 else place - 14


def group_shares(counts: Mapping[int, int]) -> dict[int, float]:
    """Atomic fractions by group of the periodic table."""
    size = sum(counts.values())
    shares: Counter[int] = Counter()
    for number, count in counts.items():
        shares[period_and_group(number)[1]] += count  # type: ignore[assignment]
    return {group: count / size for group, count in shares.items()}


def exchanged_groups(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    """The share of the atoms that change their group between two `group_shares`; 0 to 1."""
    return sum(abs(first.get(group, 0) - second.get(group, 0)) for group in {*first, *second}) / 2


@functools.cache
def element_distance(first: int, second: int) -> float:
    """How unlike two elements are: 0 for the same, below 1 in one group, above 2 for a metal and none."""
    if first == second:
        return 0.0
    (period, group), (other_period, other_group) = map(period_and_group, (first, second))
    apart = _A_PERIOD * abs(period - other_period)
    if group == other_group:
        return _SAME_GROUP + apart
    class_differs = (first in _NO_METALS) != (second in _NO_METALS)
    return _OTHER_GROUP + _OTHER_CLASS * class_differs + _A_GROUP * abs(group - other_group) + apart


def composition_distance(first: Mapping[int, int], second: Mapping[int, int]) -> float:
    """Mean `element_distance` over the atoms, the likest exchanged first; 0 for the same composition."""
    left, right = (
        {number: count / sum(counts.values()) for number, count in counts.items()} for counts in (first, second)
    )
    pairs = sorted((element_distance(a, b), a, b) for a in left for b in right)
    total = 0.0
    for distance, a, b in pairs:
        moved = min(left[a], right[b])
        left[a] -= moved
        right[b] -= moved
        total += moved * distance
    return total
