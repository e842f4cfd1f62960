"""Best first: what is valid, what was asked, what comes close."""

import numpy as np
import pytest

from vdw_jax.report.ranking import add_ranks, formula_met


def row(energy=0.0, gap=3.0, **changes):
    made = {"formula": "InGaSe2S", "asked_formula": "GaInSSe2", "valid": True, "bilayer": True}
    made |= {"asked_energy_ev": -0.1, "predicted_energy_ev": energy}
    made |= {"asked_gap_angstrom": 3, "predicted_gap_angstrom": gap}
    return made | changes


def ranks(*rows, spreads=None):
    return [ranked["rank"] for ranked in add_ranks(rows, spreads)]


def test_order():
    far, near = row(0.3), row(np.float32(-0.12))
    worse = row(-0.1, valid=False), row(-0.1, bilayer=False), row(-0.1, formula="GaSe")
    assert ranks(far, near, *worse) == [2, 1, 5, 4, 3]
    assert ranks(near, near, far) == [1, 2, 3]


def test_misses_are_compared_by_their_spread():
    rows = [row(-0.1 + 0.02, 3.0), row(-0.1, 3.1)]
    assert ranks(*rows, spreads={"energy_ev": 0.1, "gap_angstrom": 1.0}) == [2, 1]
    assert ranks(*rows, spreads={"energy_ev": 0.1, "gap_angstrom": 0.1}) == [1, 2]


def test_columns():
    (ranked,) = add_ranks([row(0.15)])
    assert ranked["miss_energy_ev"] == pytest.approx(0.25) and ranked["miss_gap_angstrom"] == 0
    assert ranked["formula_met"] is True
    bulk = {"formula": "NaCl", "valid": True, "bilayer": None, "predicted_energy_ev": 0.1}
    assert add_ranks([bulk]) == [{"rank": 1, **bulk}]
    assert add_ranks([row(float("nan"))])[0]["miss_energy_ev"] is None
    assert ranks(row(float("nan")), row(5.0)) == [2, 1]
    assert add_ranks([]) == []


@pytest.mark.parametrize(
    ("asked", "got", "met"),
    [("GaInSSe2", "InGaSe2S", True), ("Ga2S2", "GaS", True), ("GaS", "Ga2S3", False), ("GaS", "-", None)],
)
def test_formulas_are_compared_as_compositions(asked, got, met):
    assert formula_met(asked, got) is met


def test_ranges_are_missed_from_their_nearer_end():
    rows = [
        {"asked_gap_angstrom_min": 3.0, "asked_gap_angstrom_max": 3.4, "predicted_gap_angstrom": got, "valid": True}
        for got in (3.1, 2.8, 3.9, None)
    ]
    misses = [row["miss_gap_angstrom"] for row in add_ranks(rows)]
    assert misses[:3] == pytest.approx([0.0, 0.2, 0.5])
    assert misses[3] is None


def test_the_front_holds_what_nothing_beats_in_every_target():
    wish = {"asked_a": 0.0, "asked_b": 0.0, "valid": True}
    points = [(0.0, 3.0), (1.0, 1.0), (2.0, 2.0), (3.0, 0.0), (1.0, 1.0)]
    rows = [wish | {"predicted_a": a, "predicted_b": b} for a, b in points]
    rows += [wish | {"predicted_a": 0.0, "predicted_b": 0.0, "valid": False}, wish | {"predicted_a": 0.0}]
    assert [row["on_front"] for row in add_ranks(rows)] == [True, True, False, True, True, False, False]
    assert "on_front" not in add_ranks([{"asked_a": 0.0, "predicted_a": 1.0}])[0]


def test_chemical_systems_are_met_by_all_of_their_elements_alone():
    wish = {"asked_chemical_system": "Ga-Se", "valid": True}
    rows = [wish | {"formula": formula} for formula in ("Se", "GaSe", "GaInSe2")]
    ranked = add_ranks(rows)
    assert [row["chemical_system_met"] for row in ranked] == [False, True, False]
    assert ranked[1]["rank"] == 1
