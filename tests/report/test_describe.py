"""Descriptions are right for good crystals and never fail for bad ones."""

from __future__ import annotations

import numpy as np
import pytest

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import describe, sample_rows, spacegroup
from vdw_jax.types import BULK, SLAB


def test_a_bilayer_is_described(slab):
    row = describe(slab)
    assert row["valid"] and row["problems"] == "-" and row["bilayer"] and row["layers"] == 2
    assert row["thickness_angstrom"] == pytest.approx(4.7 + 3.1 + 4.7)
    assert row["gap_angstrom"] == pytest.approx(3.1)
    assert row["min_distance_angstrom"] == pytest.approx(2.5)  # metal over metal
    assert row["lattice_constant_angstrom"] == pytest.approx(3.9)
    assert row["layer_names"] == "SGaGaS / SeInInSe"
    assert row["sequence"] == "S-Ga-Ga-S-Se-In-In-Se"
    assert row["stacking"] == "SGaGaSSeInInSe ABBAABBA"
    assert row["spacegroup"] == "P3m1 (156)"
    assert row["layer_group"] == "p3m1 (69)"


def test_bulk_has_no_layers(bulk):
    row = describe(bulk)
    assert row["valid"] and row["spacegroup"] == "Fm-3m (225)" and row["layer_group"] == "-"
    assert row["min_distance_angstrom"] == pytest.approx(2.82)
    assert row["layers"] is None and row["bilayer"] is None and row["layer_names"] == "-"


RANGES = {"num_layers": [2, 2], "interlayer_distance_angstrom": [2.6, 4.2], "layer_thickness_angstrom": [4.2, 8.0]}


def test_valid_means_what_the_data_have(slab, make_slab):
    assert describe(slab, layer_ranges=RANGES)["valid"]
    far = describe(make_slab(gap=4.45), layer_ranges=RANGES)
    assert not far["valid"] and far["problems"] == "interlayer distance 4.45 A is outside 2.60 to 4.20 A of the data"
    assert far["structure_valid"] and far["composition_valid"]
    alone = Crystal("alone", slab.atomic_numbers[:4], slab.positions[:4], slab.cell)
    assert describe(alone)["valid"]
    assert describe(alone, layer_ranges=RANGES)["problems"] == "1 bonded piece, not 2"


def test_a_slab_in_pieces_is_not_valid(slab):
    positions = slab.positions.copy()
    positions[0, 2] -= 3.0
    row = describe(Crystal("pieces", slab.atomic_numbers, positions, slab.cell))
    assert row["structure_valid"] and row["composition_valid"] and not row["valid"]
    assert row["problems"] == "1 of 3 bonded pieces is not a sheet"


def test_close_atoms_are_invalid(slab):
    positions = slab.positions.copy()
    positions[1] = positions[0] + [0, 0, 0.3]
    row = describe(Crystal("close", slab.atomic_numbers, positions, slab.cell))
    assert not row["structure_valid"] and not row["valid"] and row["composition_valid"]
    assert row["min_distance_angstrom"] == pytest.approx(0.3)


def test_symmetry_has_a_tolerance(slab):
    positions = slab.positions.copy()
    positions[3, 0] += 0.05
    moved = Crystal("moved", slab.atomic_numbers, positions, slab.cell)
    assert spacegroup(moved, 0.1) == "P3m1 (156)"
    assert spacegroup(moved, 0.01) != "P3m1 (156)"


GOOD = {"numbers": [31, 16], "positions": [[0, 0, 0], [0, 0, 2.3]], "cell": np.diag([4.0, 4.0, 22.3])}
UGLY = {
    "all atoms in one place": {"positions": np.zeros((2, 3))},
    "not a number": {"positions": np.full((2, 3), np.nan)},
    "infinite cell": {"cell": np.full((3, 3), np.inf)},
    "no cell": {"cell": np.zeros((3, 3))},
    "flat cell": {"cell": np.ones((3, 3))},
    "tiny cell": {"cell": np.diag([1e-3, 1e-3, 20])},
    "huge": {"positions": [[0, 0, 0], [1e30, 0, 0]]},
    "unknown element": {"numbers": [0, 200]},
    "superheavy": {"numbers": [118, 110]},
    "no atoms": {"numbers": [], "positions": np.zeros((0, 3))},
    "one atom": {"numbers": [31], "positions": np.zeros((1, 3))},
}


@pytest.mark.parametrize("periodicity", [SLAB, BULK])
@pytest.mark.parametrize("what", UGLY)
def test_ugly_crystals_are_described_too(what, periodicity):
    fields = GOOD | UGLY[what]
    row = describe(Crystal("ugly", fields["numbers"], fields["positions"], fields["cell"], periodicity))
    assert row.keys() == describe(Crystal("good", *GOOD.values())).keys()
    assert row["valid"] is (what == "one atom" and periodicity == BULK)
    assert (row["problems"] == "-") is row["valid"]
    assert isinstance(row["spacegroup"], str)
    if what in ("not a number", "infinite cell", "no cell", "no atoms"):
        assert row["spacegroup"] == "-" and row["layers"] is None


def test_rows_carry_what_was_asked(slab, bulk):
    asked = [{"formula": "GaInSSe", "energy_ev": -0.2}, {}]
    rows = sample_rows([slab, bulk], asked, [{}, {"energy_ev": 0.1}])
    assert rows[0]["asked_formula"] == rows[0]["formula"] == "GaInSSe"
    assert rows[0]["asked_energy_ev"] == -0.2 and "predicted_energy_ev" not in rows[0]
    assert rows[1]["predicted_energy_ev"] == 0.1 and rows[1]["id"] == "nacl"
    assert list(rows[0])[:2] == ["id", "formula"]
    with pytest.raises(ValueError, match="1 asked"):
        sample_rows([slab, bulk], [{}])
