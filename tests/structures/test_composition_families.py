"""Families as compositions, and how alike compositions are."""

from itertools import pairwise

import pytest

from vdw_jax.structures.elements import ATOMIC_NUMBERS
from vdw_jax.structures.families import III_VI_BILAYERS, Family, families_of, whole_cells
from vdw_jax.structures.formula import formula_string, parse_formula
from vdw_jax.structures.similarity import (
    composition_distance,
    element_distance,
    exchanged_groups,
    group_shares,
    period_and_group,
)

III_VI = (13, 16, 31, 34, 49, 52)


@pytest.mark.parametrize("formula", ["Ga4S4", "Al2InGaSe4S", "Ga2In2S2Se4", "In4Te5"])
def test_bilayers_of_quadruples_and_quintuples(formula):
    assert III_VI_BILAYERS.holds(parse_formula(formula))


@pytest.mark.parametrize("formula", ["Ga2S2", "Ga4S7", "Ga3S5", "Ga5S4", "Ga8", "Ga4S3O", "MoGa3S4"])
def test_what_is_no_such_bilayer(formula):
    assert not III_VI_BILAYERS.holds(parse_formula(formula))


def test_every_composition_of_a_family_once():
    """4 metals out of 3 in 15 ways, and 4, 5 or 6 chalcogens out of 3 in 15, 21 and 28."""
    found = [formula_string(counts) for counts in III_VI_BILAYERS.compositions()]
    assert len(found) == len(set(found)) == 15 * (15 + 21 + 28)
    assert all(III_VI_BILAYERS.holds(counts) for counts in III_VI_BILAYERS.compositions())


def test_a_family_is_restricted_to_what_the_data_hold():
    part = III_VI_BILAYERS.restricted((31, 49, 34), (8,))
    assert part.sites == {"M": (31, 49), "X": (34,)} and list(part.layers) == ["quadruple"]
    assert not part.holds(parse_formula("Ga4Se5")) and not part.holds(parse_formula("Al4Se4"))
    assert list(III_VI_BILAYERS.restricted(III_VI, (9,)).layers) == ["quadruple", "quintuple"]


def test_families_as_json():
    assert Family.from_dict(III_VI_BILAYERS.to_dict()) == III_VI_BILAYERS
    told = III_VI_BILAYERS.to_dict()
    for wrong in (told | {"num_layers": 40}, told | {"sites": {"M": ["Xx"]}}, {"name": "x"}):
        with pytest.raises((ValueError, KeyError)):
            Family.from_dict(wrong)


def test_the_family_of_formulas():
    formulas = [parse_formula(formula) for formula in ("GaS", "InGaSe2S")]
    (found,) = families_of(formulas, III_VI, (8, 10))
    assert found.name == III_VI_BILAYERS.name
    assert families_of([*formulas, parse_formula("MoS2")], {*III_VI, 42}, (6, 8, 10)) == ()
    assert families_of([], III_VI, (8,)) == ()


def test_multiples_that_make_cells():
    assert whole_cells(parse_formula("GaInSSe2"), (8, 9, 10)) == [{31: 2, 49: 2, 16: 2, 34: 4}]
    assert whole_cells({31: 1}, (8, 9)) == [{31: 8}, {31: 9}]
    assert whole_cells({31: 7}, (8, 9)) == []


@pytest.mark.parametrize(
    ("symbol", "place"),
    [("H", (1, 1)), ("He", (1, 18)), ("Li", (2, 1)), ("B", (2, 13)), ("Ne", (2, 18)), ("Mg", (3, 2)), ("S", (3, 16)),
     ("Sc", (4, 3)), ("Ga", (4, 13)), ("Mo", (5, 6)), ("Te", (5, 16)), ("Ba", (6, 2)), ("La", (6, 3)), ("Lu", (6, 3)),
     ("Hf", (6, 4)), ("W", (6, 6)), ("Tl", (6, 13)), ("Rn", (6, 18)), ("U", (7, 3)), ("Fm", (7, 3))],
)  # fmt: skip
def test_the_periodic_table(symbol, place):
    assert period_and_group(ATOMIC_NUMBERS[symbol]) == place


def test_likeness_of_elements():
    """The same; the next in the group; farther in the group; a metal of another group; no metal."""
    indium, *others = (ATOMIC_NUMBERS[symbol] for symbol in ("In", "Tl", "Al", "Zn", "S"))
    distances = [0.0, *(element_distance(indium, other) for other in others)]
    assert element_distance(indium, indium) == 0.0
    assert all(first < second for first, second in pairwise(distances))
    assert element_distance(49, 16) == element_distance(16, 49)


def test_distance_of_compositions():
    first = parse_formula("GaInSSe2")
    assert composition_distance(first, parse_formula("Ga2In2S2Se4")) == 0.0
    swapped = composition_distance(first, parse_formula("Ga2SSe2"))
    assert swapped == pytest.approx(element_distance(31, 49) / 5)
    assert composition_distance(first, parse_formula("CBN")) > 0.5 > swapped


def test_shares_by_group():
    shares = group_shares(parse_formula("GaInSSe2"))
    assert shares == {13: pytest.approx(0.4), 16: pytest.approx(0.6)}
    assert exchanged_groups(shares, group_shares(parse_formula("AlGaS2"))) == pytest.approx(0.1)
    assert exchanged_groups({1: 1.0}, {2: 1.0}) == 1.0
