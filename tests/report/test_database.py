"""Every column gets into an ASE database, under its name or one that is told."""

from __future__ import annotations

import math

import pytest
from ase.db import connect

from vdw_jax.report.database import changed_names, database_keys, write_database

NAMES = ["gap (eV)", "gap_eV", "E_form [eV/atom]", "a/b", "a.b", "energy", "natoms", "user", "age", "id_", "name",
         "reduced_formula", "latent", "external_tables", "pbc", "volume", "toatoms", "data", "Ga", "CO2", "1st",
         "_x", "", "é", "日本", "x\ny", "class", "key_value_pairs", "unique_id", "forces", "a=b",
         "<script>", "=1+1"]  # fmt: skip


def test_any_name_of_a_column(tmp_path, slab, make_slab):
    rows = [{"id": crystal.id, "formula": "GaInSSe"} | {name: float(place) for place, name in enumerate(NAMES)}
            for crystal in (slab, make_slab("other"))]  # fmt: skip
    write_database(tmp_path / "samples.db", [slab, make_slab("other")], rows)
    keys = database_keys(rows)
    assert set(keys) == set(NAMES) and len(set(keys.values())) == len(NAMES)
    with connect(tmp_path / "samples.db") as database:
        for place, name in enumerate(NAMES):
            found = list(database.select(f"{keys[name]}={place}"))
            assert [row.key_value_pairs[keys[name]] for row in found] == [place] * 2, name
        assert [row.name for row in database.select()] == ["gas-inse", "other"]
        told = database.metadata["columns"]
    assert told == {key: name for name, key in changed_names(rows).items()}


def test_common_names_stay(slab):
    kept = ["rank", "asked_formation_energy_ev", "predicted_gap_angstrom", "valid", "layer_names"]
    assert changed_names([dict.fromkeys(kept, 1)]) == {}
    assert changed_names([{"gap (eV)": 1, "energy": 2}]) == {"gap (eV)": "gap_eV", "energy": "column_energy"}


@pytest.mark.parametrize("value", ["1.5", "True", "nan", [1, 2], 2**70])
def test_values_that_are_none_to_ase_go_to_data(tmp_path, slab, value):
    write_database(tmp_path / "samples.db", [slab], [{"my note": value, "rank": 1}])
    with connect(tmp_path / "samples.db") as database:
        (row,) = database.select("rank=1")
    assert row.data == {"my note": value}


def test_numbers_that_are_not_finite(tmp_path, slab):
    write_database(tmp_path / "samples.db", [slab], [{"gap": math.nan, "mass_": math.inf, "rank": 1}])
    with connect(tmp_path / "samples.db") as database:
        (row,) = database.select("rank=1")
    assert math.isnan(row.gap) and row.mass_ == math.inf
