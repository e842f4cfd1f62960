"""Wishes: what can be read, what fits, what lies outside."""

import math
from collections import Counter

import pytest

from vdw_jax.design.request import RequestError, make_request, parse_targets


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
    "formula, said", [("GaXxS", "'Xx'"), ("Ga-2S", "negative"), ("Ga(S", "("), ("", "empty"), ("Ga20S20", "40 atoms")]
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
        ("AlGaS2", {}, "no structure of the training data has this composition"),
        (None, {"energy_ev": 2.0}, "outside the training data (-0.3 to 0.9)"),
    ],
)
def test_what_lies_outside_the_data_is_noted(trained, formula, scalars, said):
    request = make_request(trained, formula, scalars)
    assert len(request.notes) == 1
    assert said in request.notes[0]


def test_targets_by_name():
    assert parse_targets(["gap=1.5", "a=b=-2e-3", "c=-0.3..-.1"]) == {"gap": 1.5, "a=b": -0.002, "c": (-0.3, -0.1)}


@pytest.mark.parametrize("texts", [["gap"], ["=1"], ["gap=wide"], ["gap=nan"], ["gap=1.."], ["gap=1", "gap=2"]])
def test_targets_that_are_none(texts):
    with pytest.raises(RequestError, match="NAME=VALUE|asked for twice"):
        parse_targets(texts)


def test_ranges(trained):
    request = make_request(trained, scalars={"energy_ev": (-0.1, 0.2)})
    assert (request.scalar_low[0], request.scalar_high[0]) == pytest.approx((-0.1, 0.2))
    assert request.asked == {"energy_ev_min": -0.1, "energy_ev_max": 0.2}
    assert not make_request(trained, scalars={"energy_ev": (0.5, 4.0)}).notes  # some of it is inside
    with pytest.raises(RequestError, match=r"from 0.2 to -0.1 is empty"):
        make_request(trained, scalars={"energy_ev": (0.2, -0.1)})


def test_how_far_outside_and_strict(trained):
    wish = {"energy_ev": 1.1}
    (note,) = make_request(trained, scalars=wish).notes
    assert "by 0.2 or 1.0 standard deviations" in note
    with pytest.raises(RequestError, match="1.0 standard deviations"):
        make_request(trained, scalars=wish, strict=True)


def test_chemical_systems(trained):
    request = make_request(trained, system="Se-Ga")
    assert request.system == (31, 34)
    assert request.asked == {"chemical_system": "Ga-Se"}
    assert make_request(trained, "GaSe", system="Ga-Se").slots.any()
    assert "Mo not in the training data" in make_request(trained, system="Mo-S").notes[0]
    with pytest.raises(RequestError, match="holds S, Se, which In-Ga does not"):
        make_request(trained, "GaInSSe2", system="In-Ga")
    with pytest.raises(RequestError, match="'Xx' is no element"):
        make_request(trained, system="Ga-Xx")
