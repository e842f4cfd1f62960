"""Best first: what is valid, what was asked, what comes close."""

import numpy as np
import pytest

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.ranking import add_ranks, column_of, formula_met, rank, rule, value_of


def row(energy=0.0, gap=3.0, **changes):
    made = {"formula": "InGaSe2S", "asked_formula": "GaInSSe2", "valid": True, "bilayer": True}
    made |= {"asked_energy_ev": -0.1, "predicted_energy_ev": energy}
    made |= {"asked_band_gap_ev": 3, "predicted_band_gap_ev": gap}
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
    assert ranks(*rows, spreads={"energy_ev": 0.1, "band_gap_ev": 1.0}) == [2, 1]
    assert ranks(*rows, spreads={"energy_ev": 0.1, "band_gap_ev": 0.1}) == [1, 2]


def test_columns():
    (ranked,) = add_ranks([row(0.15)])
    assert ranked["miss_energy_ev"] == pytest.approx(0.25) and ranked["miss_band_gap_ev"] == 0
    assert ranked["formula_met"] is True
    bulk = {"formula": "NaCl", "valid": True, "bilayer": None, "predicted_energy_ev": 0.1}
    source = {"evaluated_by": "formation_energy_ev predicted by the property head"}
    assert add_ranks([bulk]) == [{"rank": 1, **bulk}]
    bulk["predicted_formation_energy_ev"] = 0.1
    assert add_ranks([bulk]) == [{"rank": 1, **bulk, **source}]
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
        {"asked_gap_angstrom_min": 3.0, "asked_gap_angstrom_max": 3.4, "gap_angstrom": got, "valid": True}
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


@pytest.mark.parametrize("name", ["gap_angstrom", "interlayer_distance_angstrom"])
def test_geometric_targets_are_measured(name):
    """The property head said 3.0 of both; the structures have 3.4 and 3.1."""
    rows = [
        {"asked_" + name: 3.0, "predicted_" + name: 3.0, "gap_angstrom": there, "valid": True} for there in (3.4, 3.1)
    ]
    ranked = add_ranks(rows)
    assert [row["miss_" + name] for row in ranked] == pytest.approx([0.4, 0.1])
    assert [row["rank"] for row in ranked] == [2, 1]
    assert ranked[0]["evaluated_by"] == f"{name} measured"


def test_the_best_source_of_a_value_counts():
    row = {"predicted_formation_energy_ev": 0.3}
    assert value_of(row, "formation_energy_ev") == (0.3, "predicted by the property head")
    row |= {"evaluated_formation_energy_ev": 0.2, "reference_model": "CGCNN that ships"}
    assert value_of(row, "formation_energy_ev") == (0.2, "evaluated by CGCNN that ships")
    row |= {"relaxed_formation_energy_ev": 0.1, "relaxed_by": "sevennet"}
    assert value_of(row, "formation_energy_ev") == (0.1, "computed by sevennet")
    assert value_of({"evaluated_formation_energy_ev": float("nan")}, "formation_energy_ev") == (None, "")
    rows = [{"predicted_formation_energy_ev": 0.3}, row]
    assert column_of(rows, "formation_energy_ev") == "relaxed_formation_energy_ev"
    assert column_of([], "formation_energy_ev") == "predicted_formation_energy_ev"


def test_a_formula_alone_is_ranked_by_stability():
    wish = {"formula": "GaS", "asked_formula": "GaS", "valid": True, "reference_model": "CGCNN that ships"}
    rows = [wish | {"evaluated_formation_energy_ev": energy} for energy in (-0.1, -0.3, -0.2)]
    rows.append(wish | {"valid": False, "evaluated_formation_energy_ev": -0.9})
    rows.append(wish)
    ranked = add_ranks(rows)
    assert [row["rank"] for row in ranked] == [3, 1, 2, 5, 4]
    assert not any(key.startswith("miss_") for row in ranked for key in row)
    assert rule(ranked) == (
        "Valid first, then two layers, then the asked formula, then the lowest formation energy against free layers. "
        "Evaluated: formation_energy_ev evaluated by CGCNN that ships."
    )


def test_the_rule_says_what_holds():
    assert rule(add_ranks([row()])).endswith(
        "then the smallest error in standard deviations. Evaluated: energy_ev predicted by the property head; "
        "band_gap_ev predicted by the property head."
    )
    assert rule(add_ranks([{"formula": "GaS", "valid": True}])).endswith("then the order in which they were made.")


class Fixed:
    """A reference model that says what it was told to."""

    name, label = "fixed", "energy_ev"

    def __init__(self, values):
        self.values = values

    def evaluate(self, crystals):
        assert len(crystals) == len(self.values)
        return self.values


def test_a_reference_model_evaluates_before_ranking_and_again_afterwards():
    crystals = [Crystal(f"s{place}", [31], np.zeros((1, 3)), np.diag([4.0, 4.0, 20.0])) for place in range(3)]
    rows = [row(energy=-0.1) for _ in crystals]
    first = rank(crystals, rows, reference=Fixed([0.3, -0.1, None]))
    assert [ranked["rank"] for ranked in first] == [3, 1, 2]
    assert [ranked.get("evaluated_energy_ev") for ranked in first] == [0.3, -0.1, None]
    assert first[2]["evaluated_by"].startswith("energy_ev predicted by the property head")
    again = rank(crystals, first, reference=Fixed([-0.1, None, 0.3]))
    assert [ranked["rank"] for ranked in again] == [1, 2, 3]
    assert "evaluated_energy_ev" not in again[1] and "reference_model" not in again[1]
    assert rank(crystals, again) == again
