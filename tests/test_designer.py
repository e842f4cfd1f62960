"""The Python interface, on a tiny model."""

import json
import math
from collections import Counter

import ase.io
import numpy as np
import pandas as pd
import pytest

import vdw_jax
from tests.tiny import write_export
from vdw_jax import designer as designer_module
from vdw_jax.design import generate as generate_module
from vdw_jax.design.request import RequestError
from vdw_jax.designer import SamplingError, as_text
from vdw_jax.report import samples as samples_module
from vdw_jax.structures.source import load_relaxed


@pytest.fixture(scope="module")
def designer(tmp_path_factory):
    return vdw_jax.Designer.from_pretrained(write_export(tmp_path_factory.mktemp("tiny") / "export"))


@pytest.fixture(scope="module")
def found(designer):
    return designer.sample(4, formula="GaInSSe2", targets={"energy_ev": (0.0, 0.1)}, seed=3)


def test_candidates_come_best_first_with_their_records(found):
    assert [design.record["rank"] for design in found] == sorted(design.record["rank"] for design in found)
    assert {design.id for design in found} == {"s0000", "s0001", "s0002", "s0003"}
    for design in found:
        assert design.structure.composition.reduced_formula == "InGaSe2S"
        assert Counter(design.atoms.get_chemical_symbols()) == {"Ga": 2, "In": 2, "S": 2, "Se": 4}
        assert design.structure.properties["id"] == design.atoms.info["id"] == design.id
        got = design.record["predicted_energy_ev"]
        assert design.record["miss_energy_ev"] == pytest.approx(max(0.0 - got, got - 0.1, 0.0))


def test_slices_tables_and_structures(found):
    assert len(found[:2]) == 2 and found[:2][0].id == found[0].id
    assert list(found.table["id"]) == [design.id for design in found]
    assert len(found.structures) == 4
    assert found.front == []


def test_what_is_saved_is_what_the_command_line_saves(found, tmp_path):
    found.save(tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "samples.csv")
    assert list(table["id"]) == ["s0000", "s0001", "s0002", "s0003"]
    assert (table["asked_energy_ev_max"] == 0.1).all()
    saved = json.loads((tmp_path / "out" / "request.json").read_text())
    assert "--target_formula=GaInSSe2 --target=energy_ev=0.0..0.1 " in saved["command"]
    with pytest.raises(FileExistsError):
        found.save(tmp_path / "out")


def test_relaxed_copies_say_what_it_took(found, tmp_path):
    relaxed = found.relax("tests.report.test_relaxation:still")
    assert [design.id for design in relaxed] == [design.id for design in found]
    for before, after in zip(found, relaxed, strict=True):
        assert (after.record["relaxed_converged"], after.record["relaxed_energy_ev"]) == (True, 1.0)
        assert "relaxed_steps" not in before.record
        assert after.record["miss_energy_ev"] == before.record["miss_energy_ev"]
    relaxed.save(tmp_path / "relaxed")
    assert "relaxed_steps" in pd.read_csv(tmp_path / "relaxed" / "samples.csv")
    with pytest.raises(ValueError, match="unknown potential"):
        found.relax("nothing")


def test_the_training_part_is_loaded_once(designer, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(samples_module, "load_configured", lambda *_, **__: asked.append(1) or load_relaxed("j2dh8")[0])
    samples_module.training_part.cache_clear()
    designer.sample(1).save(tmp_path / "out")
    assert asked == [1]


def test_the_same_seed_gives_the_same(designer, found):
    again = designer.sample(4, formula="GaInSSe2", targets={"energy_ev": (0.0, 0.1)}, seed=3)
    np.testing.assert_array_equal(again[0].crystal.positions, found[0].crystal.positions)


def test_requests_are_judged_before_any_work(designer):
    plan = designer.plan(2, formula="MoS2", allow_untrained=True)
    assert "Mo not in the training data" in plan.notes[0]
    with pytest.raises(RequestError, match="Mo not in"):
        designer.plan(2, formula="MoS2")
    assert designer.plan(2, formula="AlGaS2", strict=True).notes  # of former versions, without effect
    for wrong in (0, -1, 10**12, 1.5):
        with pytest.raises(RequestError, match="number of samples is a whole number from 1 to 100000, not"):
            designer.plan(wrong)
        with pytest.raises(RequestError, match="number of steps is a whole number from 1 to 100000, not"):
            designer.plan(1, steps=wrong)
    for wrong in (-1, 2**32, 0.5, None):
        with pytest.raises(ValueError, match="seed is a whole number from 0 to 4294967295, not"):
            designer.plan(1, seed=wrong)
    assert designer.conditions == {"energy_ev": (-0.3, 0.9)}


def test_what_is_not_finite_is_left_out_and_counted(designer, monkeypatch, tmp_path):
    whole = designer_module.generate

    def broken(*arguments, **settings):
        made = whole(*arguments, **settings)
        return made.replace(crystals=made.crystals.replace(positions=made.crystals.positions.copy()))

    def generate(*arguments, **settings):
        made = broken(*arguments, **settings)
        made.crystals.positions[1] = np.nan
        return made

    monkeypatch.setattr(designer_module, "generate", generate)
    found = designer.sample(3, formula="GaInSSe2")
    assert {design.id for design in found} == {"s0000", "s0002"}
    found.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "request.json").read_text())["not_finite"] == 1


def test_a_run_without_a_finite_candidate_says_so(designer, monkeypatch):
    whole = designer_module.generate

    def generate(*arguments, **settings):
        made = whole(*arguments, **settings)
        return made.replace(crystals=made.crystals.replace(positions=np.full_like(made.crystals.positions, np.nan)))

    monkeypatch.setattr(designer_module, "generate", generate)
    with pytest.raises(SamplingError, match="none of 3 candidates is finite"):
        designer.sample(3, formula="GaInSSe2")


def test_what_the_model_covers(designer):
    assert designer.covers("GaInSSe2", targets={"energy_ev": 0.1})
    answer = designer.covers("UTe2")
    assert not answer and "U not in" in answer.reason and answer.nearest == "In2Te3"
    assert designer.covers(chemical_system="Ga-Se") and not designer.covers(chemical_system="Ga-In")


def test_untrained_candidates_are_marked_everywhere(designer, tmp_path):
    found = designer.sample(2, formula="MoGa3S4", targets={"energy_ev": 0.1}, allow_untrained=True)
    found.save(tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "samples.csv")
    assert table["untrained"].str.contains("Mo not in the training data").all()
    assert not [name for name in table.columns if name.startswith("predicted_")]
    assert table["valid"].isna().all()
    images = ase.io.read(tmp_path / "out" / "samples.extxyz", ":")
    assert all("Mo not in the training data" in image.info["untrained"] for image in images)
    page = (tmp_path / "out" / "report.html").read_text()
    assert '"untrained":["MoGa3S4: Mo not in the training data"]' in page
    relaxed = found.relax("tests.report.test_relaxation:still")
    assert all(design.record["valid"] is None and "Mo not" in design.record["untrained"] for design in relaxed)


def test_known_elements_in_an_untrained_cell_keep_their_values(designer):
    (design,) = designer.sample(1, formula="Al3S5", allow_untrained=True)
    assert "no cell of this composition" in design.record["untrained"]
    assert "predicted_energy_ev" in design.record and isinstance(design.record["valid"], bool)


def test_a_stopped_run_gives_what_is_finished(designer, monkeypatch):
    monkeypatch.setattr(generate_module, "default_chunk", lambda: 2)
    whole = designer.plan(5, formula="GaInSSe2", seed=3).run()
    done = []
    found = designer.plan(5, formula="GaInSSe2", seed=3).run(done.append, lambda: bool(done))
    assert sorted(design.id for design in found) == ["s0000", "s0001"]
    assert found.request["finished"] == 2 and "finished" not in whole.request
    same = {design.id: design for design in whole}
    for design in found:
        np.testing.assert_array_equal(design.crystal.positions, same[design.id].crystal.positions)
    with pytest.raises(KeyboardInterrupt):
        designer.plan(5, formula="GaInSSe2").run(should_stop=lambda: True)


def test_targets_as_the_command_line_has_them():
    texts = [as_text(target) for target in (1.5, (1.0, 2.0), (1.0, math.inf), (-math.inf, 2.0))]
    assert texts == ["=1.5", "=1.0..2.0", ">=1.0", "<=2.0"]


def test_nothing_else_is_there():
    with pytest.raises(AttributeError, match="no attribute 'Desiner'"):
        _ = vdw_jax.Desiner
