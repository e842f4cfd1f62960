"""Compositions of a chemical system: all of its elements, and what the data or their family hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vdw_jax.design.compositions import compositions_of_system
from vdw_jax.design.coverage import Coverage, read_system
from vdw_jax.design.request import Request
from vdw_jax.structures.families import III_VI_BILAYERS
from vdw_jax.structures.formula import parse_formula

FORMULAS = tuple(map(parse_formula, ("MoS2", "WS2", "MoWS4", "Mo2WS6")))
OF_DATA = Coverage("", (16, 34, 42, 74), (6, 9), (), FORMULAS, {}, {})
OF_FAMILY = Coverage("", (31, 49, 16, 34), (8, 10), (III_VI_BILAYERS,), (), {}, {})


def listed(coverage: Coverage, system: str, formula: dict[int, float] | None = None) -> dict[tuple, float]:
    """Weights by counts, as they add up to 1."""
    composition = np.zeros(100, np.float32)
    for number, share in (formula or {}).items():
        composition[number - 1] = share
    nothing = np.zeros(0, np.float32)
    request = Request(nothing, nothing, nothing > 0, composition, np.zeros(10, np.int32), read_system(system))
    table = compositions_of_system(coverage, request, 10)
    weights = np.exp(np.asarray(table.log_weights))
    found = {}
    for slots, shares, weight in zip(np.asarray(table.slots), table.composition, weights / weights.sum(), strict=True):
        numbers, counts = np.unique(slots[slots > 0], return_counts=True)
        np.testing.assert_allclose(np.asarray(shares)[numbers - 1], counts / counts.sum(), rtol=1e-6)
        found[tuple(zip(numbers.tolist(), counts.tolist(), strict=True))] = float(weight)
    return found


def test_a_family_gives_all_of_its_compositions_by_their_arrangements():
    found = listed(OF_FAMILY, "Ga-In-Se")
    of_four = {((31, a), (34, size - 4), (49, 4 - a)): ways for size in (8, 10) for a, ways in ((1, 4), (2, 6), (3, 4))}
    assert found.keys() == of_four.keys()
    for counts, ways in of_four.items():
        assert found[counts] == pytest.approx(ways / 28)


def test_data_without_a_family_give_their_own_compositions():
    assert listed(OF_DATA, "Mo-S") == {((16, 4), (42, 2)): pytest.approx(0.5), ((16, 6), (42, 3)): pytest.approx(0.5)}
    assert listed(OF_DATA, "Mo-W-S").keys() == {((16, 4), (42, 1), (74, 1)), ((16, 6), (42, 2), (74, 1))}


def test_elements_of_one_group_stand_in_for_each_other():
    found = listed(OF_DATA, "W-Se")
    assert found.keys() == {((34, 4), (74, 2)), ((34, 6), (74, 3))}
    mixed = listed(OF_DATA, "Mo-S-Se")
    assert all({number for number, _ in counts} == {16, 34, 42} for counts in mixed)
    assert ((16, 3), (34, 1), (42, 2)) in mixed and len(mixed) == 3 + 5


def test_a_system_that_nothing_covers_has_even_shares():
    assert listed(OF_FAMILY, "Ga-In").keys() == {((31, 4), (49, 4)), ((31, 5), (49, 5))}


def test_a_formula_without_its_counts_draws_to_what_is_near():
    found = listed(OF_FAMILY, "Ga-In-Se", {31: 3 / 8, 49: 1 / 8, 34: 4 / 8})
    near, far = found[((31, 3), (34, 4), (49, 1))], found[((31, 1), (34, 4), (49, 3))]
    assert max(found.values()) == near
    assert near / far == pytest.approx(np.exp(4.0), rel=1e-3)


def test_the_table_is_as_wide_as_the_model():
    request = dataclasses.replace(
        Request(*np.zeros((2, 0), np.float32), np.zeros(0, bool), np.zeros(100, np.float32), np.zeros(12, np.int32)),
        system=(31, 34),
    )
    assert compositions_of_system(OF_FAMILY, request, 12).slots.shape == (2, 12)
