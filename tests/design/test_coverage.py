"""What a model covers: by family for the data that ship, by likeness for data of one's own."""

import json
import math

import pytest

from tests.tiny import tiny_facts
from vdw_jax.design.coverage import Coverage, coverage_of, covers, read_system, refusal, system_string
from vdw_jax.pretrained import SHIPPED
from vdw_jax.structures.errors import FormulaError
from vdw_jax.training.coverage import as_list, coverage_record
from vdw_jax.types import BULK


def facts_of(formulas, elements, atom_counts, **more):
    return tiny_facts() | {"formulas": formulas, "elements": elements, "atom_counts": atom_counts} | more


@pytest.fixture(scope="module")
def own():
    """MoS2 and WSe2 as bilayers."""
    return Coverage.from_facts(facts_of(["MoS2", "WSe2"], [16, 34, 42, 74], [6]))


@pytest.mark.parametrize("formula", ["GaInSSe2", "GaS", "InTe", "Al2Ga2S5", "Al2S3"])
def test_the_model_that_ships_covers_its_family(formula):
    """Al2Ga2S5 and Al2S3 are in none of its training structures."""
    assert covers(formula)


@pytest.mark.parametrize(
    ("formula", "reason", "nearest"),
    [
        ("UTe2", "U not in the training data", "In2Te3"),
        ("MoWS2Se2", "Mo, W not in the training data", "In3GaSe3S3"),
        ("CBN", "C, B, N not in the training data", "Al2S3"),
        ("Tl2Se3", "Tl not in the training data", "In2Se3"),
        ("Ga3S5", "no cell of this composition", "Ga2S3"),
        ("Ga", "no cell of this composition", "GaSe"),
        ("Ga4Se7", "no number of formula units makes a cell of 8, 9 or 10 atoms", "Ga2Se3"),
        ("GaXx", "unknown element 'Xx'", None),
    ],
)
def test_what_is_not_covered_has_a_reason_and_a_neighbour(formula, reason, nearest):
    answer = covers(formula)
    assert not answer
    assert reason in answer.reason
    assert answer.nearest == nearest
    assert nearest is None or covers(nearest)


@pytest.mark.parametrize(
    ("system", "nearest"), [("Ga-In", "Ga-In-S"), ("Mo-S", "In-S"), ("Se-Te", "Al-Se-Te"), ("Ga-Xx", None)]
)
def test_chemical_systems(system, nearest):
    assert covers(chemical_system="Ga-In-Se")
    answer = covers(chemical_system=system)
    assert not answer and answer.nearest == nearest
    assert nearest is None or covers(chemical_system=nearest)


def test_targets_far_outside_are_not_covered():
    """The labels run from -0.517 to 1.02 with a standard deviation of 0.152."""
    name = "formation_energy_ev"
    assert covers(targets={name: -0.6}) and covers(targets={name: (0.9, 5.0)})
    answer = covers(targets={name: -0.9})
    assert "2.5 standard deviations outside" in answer.reason and answer.nearest == f"{name} = -0.517"
    assert covers(targets={name: (-math.inf, 0.0)})
    assert not covers(targets={name: math.nan})
    assert "no condition 'colour'" in covers(targets={"colour": 1.0}).reason


def test_several_reasons_stand_together():
    answer = covers("UTe2", chemical_system="U-Te", targets={"formation_energy_ev": 9.0})
    assert answer.reason.count(";") == 2
    assert answer.nearest == "In2Te3 with In-Te with formation_energy_ev = 1.02"


def test_a_refusal_names_what_is_covered():
    text = refusal(covers("UTe2"), coverage_of())
    assert "\n" not in text
    for part in (
        "U not in",
        "Al, Ga, In with S, Se, Te",
        "8, 9 or 10 atoms",
        "quadruple (2 M, 2 X)",
        "In2Te3",
        "formation_energy_ev -0.517 to 1.02",
        "interlayer distance 2.54 to 4.38",
        "--allow_untrained",
    ):
        assert part in text


def test_the_record_that_ships_is_what_the_rest_of_the_file_says():
    facts = json.loads((SHIPPED / "model.json").read_text(encoding="utf-8"))
    recorded = facts.pop("coverage")
    layers = recorded.pop("layers")
    assert recorded == {k: v for k, v in coverage_record(facts).items() if k != "layers"}
    assert layers["num_layers"] == [2, 2]
    low, high = layers["interlayer_distance_angstrom"]
    assert 2.3 < low < 3.0 < high < 4.5


def test_every_training_formula_is_covered():
    facts = json.loads((SHIPPED / "model.json").read_text(encoding="utf-8"))
    assert [formula for formula in facts["formulas"] if not covers(formula)] == []


def test_exports_without_a_record_still_say_what_they_cover():
    found = Coverage.from_facts(tiny_facts())
    assert found.covers("AlInTe2") and not found.covers("MoS2")
    assert found.layers == {}


def test_data_of_ones_own_cover_what_is_like_them(own):
    assert own.families == ()
    assert own.covers("MoSSe") and own.covers("MoWS2Se2")
    assert "like this" in own.covers("Mo2S").reason and own.covers("Mo2S").nearest == "MoS2"
    assert "Ga not in" in own.covers("GaS").reason
    assert "6 atoms" in own.covers("Mo3S5").reason
    assert own.covers(chemical_system="Mo-W-S") and not own.covers(chemical_system="Mo-W")
    assert own.covers(chemical_system="Mo-W").nearest == "Mo-S"


def test_one_atom_in_ten_of_another_group_is_like_the_data():
    found = Coverage.from_facts(facts_of(["Mo4S6"], [16, 42], [10]))
    assert found.covers("MoS") and not found.covers("Mo3S2")


def test_many_elements_are_counted_in_the_sentence_and_named_in_the_refusal():
    elements = [*range(11, 18), *range(19, 31)]
    record = coverage_record(facts_of(["NaCl", "MgS"], elements, [2, 3, 4, 5, 8]))
    assert record["summary"] == "structures of 19 elements; 2 to 5 or 8 atoms a cell"
    assert record["compositions"] == ["NaCl", "MgS"]
    assert "Na, Mg, Al" in Coverage.from_facts(facts_of(["NaCl"], elements, [2])).described()


def test_bulk_of_the_same_elements_is_no_bilayer():
    facts = tiny_facts(BULK)
    record = coverage_record(facts)
    assert record["periodicity"] == "bulk" and record["families"] == [] and record["compositions"]


@pytest.mark.parametrize(
    ("numbers", "text"), [([8], "8"), ([8, 9], "8 or 9"), ([8, 9, 10], "8, 9 or 10"), ([1, 2, 3, 4, 7], "1 to 4 or 7")]
)
def test_lists_of_numbers(numbers, text):
    assert as_list(numbers) == text


def test_systems_as_text():
    assert read_system(" Se-Ga-Ga ") == (31, 34)
    assert system_string((16, 31, 49, 34)) == "Ga-In-S-Se"
    with pytest.raises(FormulaError, match="'Xx' is no element"):
        read_system("Ga-Xx")
