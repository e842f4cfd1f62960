"""Wishes: what can be read, what fits, what lies outside."""

import math
from collections import Counter

import numpy as np
import pytest

from vdw_jax.design.request import (
    NotCoveredError,
    RequestError,
    asked_targets,
    checked_count,
    make_request,
    parse_range,
    parse_targets,
)


def test_smallest_fitting_number_of_formula_units(trained):
    request = make_request(trained, "GaInSSe2")
    assert Counter(request.slots.tolist()) == {31: 2, 49: 2, 16: 2, 34: 4}
    assert request.composition[34 - 1] == pytest.approx(0.4)
    assert request.notes == ()


def test_a_formula_whose_counts_are_free_is_a_condition_alone(trained):
    request = make_request(trained, "GaInSSe2", hold_counts=False)
    assert not request.slots.any()
    assert request.composition[34 - 1] == pytest.approx(0.4)
    assert request.asked == {"formula": "GaInSSe2"}


def test_nothing_asked(trained):
    request = make_request(trained)
    assert not request.slots.any()
    assert not request.scalar_mask.any()


@pytest.mark.parametrize(
    "formula, said",
    [("GaXxS", "'Xx'"), ("Ga-2S", "negative"), ("Ga(S", "("), ("", "empty"), ("Ga20S20", "no number of")],
)
def test_what_cannot_be_given_is_said_in_one_line(trained, formula, said):
    with pytest.raises(RequestError) as caught:
        make_request(trained, formula)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_conditions_are_known_numbers(trained):
    with pytest.raises(RequestError, match="no condition 'colour'; it has energy_ev"):
        make_request(trained, scalars={"colour": 1.0})
    with pytest.raises(RequestError, match="no number"):
        make_request(trained, scalars={"energy_ev": math.nan})


@pytest.mark.parametrize(
    "formula, scalars, said",
    [
        ("MoS2", {}, "Mo not in the training data"),
        ("Al3S4", {}, "no number of formula units"),
        ("Al3S5", {}, "III-VI bilayers have no cell of this composition"),
        (None, {"energy_ev": 2.0}, "outside the training data (-0.3 to 0.9)"),
    ],
)
def test_what_is_not_covered_is_refused_or_marked(trained, formula, scalars, said):
    with pytest.raises(NotCoveredError) as caught:
        make_request(trained, formula, scalars)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    request = make_request(trained, formula, scalars, allow_untrained=True)
    assert said in request.untrained
    assert request.notes == (request.untrained,)


def test_a_new_composition_of_the_family_is_noted(trained):
    request = make_request(trained, "AlGaS2")
    assert request.untrained == ""
    assert request.notes == ("AlGaS2: no structure of the training data has this composition",)


def test_what_no_cell_can_hold_is_refused_all_the_same(trained):
    with pytest.raises(RequestError, match="asks for 40 atoms; at most 10 fit"):
        make_request(trained, "Ga20S20", allow_untrained=True)


def test_targets_by_name():
    assert parse_targets(["gap=1.5", "a=b=-2e-3", "c=-0.3..-.1"]) == {"gap": 1.5, "a=b": -0.002, "c": (-0.3, -0.1)}
    assert parse_targets(["gap (PBE), eV = 1 .. 2 "]) == {"gap (PBE), eV": (1.0, 2.0)}
    assert parse_targets(["gap>=1.5", "a <= 2"]) == {"gap": (1.5, math.inf), "a": (-math.inf, 2.0)}


@pytest.mark.parametrize(
    "text, target",
    [("1.5", 1.5), (" -.5 ", -0.5), ("1e-3", 0.001), ("1.", 1.0), ("-0.25..-0.15", (-0.25, -0.15)),
     (" -0.25 .. -0.15 ", (-0.25, -0.15)), ("1...5", None), ("0.1...2", None), ("-0.25...-0.15", None), ("..1", None),
     ("1..2..3", None), ("nan", None), ("inf", None), ("1..inf", None), ("1e999", None), (">=1e999", None), ("", None),
     ("1_0", None), ("1 2", None), ("\N{MINUS SIGN}1.5", -1.5), ("> = 1", None), (">=1..2", None)],
)  # fmt: skip
def test_numbers_and_ranges(text, target):
    if target is None:
        with pytest.raises(ValueError, match="neither a number nor a range"):
            parse_range(text)
    else:
        assert parse_range(text) == target


def test_the_energy_is_the_first_condition():
    assert asked_targets(["gap=1"], "-1 .. 2", ["a=b", "gap"]) == {"a=b": (-1.0, 2.0), "gap": 1.0}
    assert asked_targets([], None, []) == {}
    for texts, energy, conditions in (([], "1", []), ([], "x", ["gap"]), (["gap=1"], "2", ["gap"])):
        with pytest.raises(RequestError):
            asked_targets(texts, energy, conditions)


@pytest.mark.parametrize("texts", [["gap"], ["=1"], ["gap=wide"], ["gap=nan"], ["gap=1.."], ["gap=1", "gap=2"]])
def test_targets_that_are_none(texts):
    with pytest.raises(RequestError, match="NAME=VALUE|asked for twice"):
        parse_targets(texts)


def test_ranges(trained):
    request = make_request(trained, scalars={"energy_ev": (-0.1, 0.2)})
    assert (request.scalar_low[0], request.scalar_high[0]) == pytest.approx((-0.1, 0.2))
    assert request.asked == {"energy_ev_min": -0.1, "energy_ev_max": 0.2}
    assert not make_request(trained, scalars={"energy_ev": (0.5, 4.0)}).notes  # some of it is inside
    for *target, low, high in [(0.5, math.inf, 0.5, 0.9), (1.0, math.inf, 1.0, 1.0), (-math.inf, 0.1, -0.3, 0.1)]:
        ends = low, high
        request = make_request(trained, scalars={"energy_ev": tuple(target)})
        assert (request.scalar_low[0], request.scalar_high[0]) == pytest.approx(ends)
    for target in ((-math.inf, math.inf), math.inf, (0.0, math.nan), "high", (1.0, 2.0, 3.0), None):
        with pytest.raises(RequestError, match="energy_ev"):
            make_request(trained, scalars={"energy_ev": target})
    with pytest.raises(RequestError, match=r"from 0.2 to -0.1 is empty"):
        make_request(trained, scalars={"energy_ev": (0.2, -0.1)})


def test_how_far_outside(trained):
    """One standard deviation is noted, more is refused."""
    (note,) = make_request(trained, scalars={"energy_ev": 1.1}).notes
    assert "by 0.2 or 1.0 standard deviations" in note
    with pytest.raises(NotCoveredError, match=r"energy_ev = 1.12 is 1.1 standard deviations outside"):
        make_request(trained, scalars={"energy_ev": 1.12})


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None, 10**12])
def test_counts_that_cannot_be(value):
    with pytest.raises(RequestError, match="the number is a whole number from 1 to 100, not .*memory"):
        checked_count(value, "the number", 100, "memory is limited")
    assert checked_count(np.int64(7), "the number", 100, "") == 7


def test_chemical_systems(trained):
    request = make_request(trained, system="Se-Ga")
    assert request.system == (31, 34)
    assert request.asked == {"chemical_system": "Ga-Se"}
    assert make_request(trained, "GaSe", system="Ga-Se").slots.any()
    with pytest.raises(NotCoveredError, match=r"Mo not in the training data.*nearest covered request is In-S\."):
        make_request(trained, system="Mo-S")
    assert "Mo not in" in make_request(trained, system="Mo-S", allow_untrained=True).untrained
    with pytest.raises(RequestError, match="holds S, Se, which In-Ga does not"):
        make_request(trained, "GaInSSe2", system="In-Ga")
    with pytest.raises(RequestError, match="'Xx' is no element"):
        make_request(trained, system="Ga-Xx")
