"""What a model covers, as it is recorded."""

import json
import shutil

import pytest

from tests.tiny import tiny_facts
from vdw_jax.pretrained import SHIPPED
from vdw_jax.structures.source import load_relaxed
from vdw_jax.training.coverage import coverage_record, main


def test_the_record_of_a_training_part():
    """A few cells of the data that ship: ranges of their layers, family and labels."""
    part = load_relaxed("j2dh8")[0].select(range(12))
    record = coverage_record(tiny_facts(), part)
    assert record["layers"]["num_layers"] == [2, 2]
    low, high = record["layers"]["lattice_constant_angstrom"]
    assert 3.4 < low < high < 4.4
    (family,) = record["families"]
    assert family["sites"] == {"M": ["Al", "Ga", "In"], "X": ["S", "Se", "Te"]}
    assert record["summary"] == "III-VI bilayers of Al, Ga, In with S, Se, Te; 8, 9 or 10 atoms a cell"
    assert record["scalar_range"] == {"energy_ev": [-0.3, 0.9]}
    assert json.loads(json.dumps(record)) == record


def test_the_command_refuses_other_data(tmp_path):
    with pytest.raises(SystemExit, match="model.json"):
        main([str(tmp_path)])
    facts = json.loads((SHIPPED / "model.json").read_text(encoding="utf-8"))
    (tmp_path / "model.json").write_text(json.dumps(facts | {"data_hash": "other"}))
    with pytest.raises(SystemExit, match="not the one that this model learned from"):
        main([str(tmp_path)])
    assert json.loads((tmp_path / "model.json").read_text())["data_hash"] == "other"


@pytest.mark.slow
def test_the_command_makes_the_record_that_ships(tmp_path):
    shipped = (SHIPPED / "model.json").read_text(encoding="utf-8")
    facts = json.loads(shipped)
    del facts["coverage"]
    shutil.copy(SHIPPED / "weights.npz", tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(facts))
    main([str(tmp_path)])
    assert (tmp_path / "model.json").read_text(encoding="utf-8") == shipped
