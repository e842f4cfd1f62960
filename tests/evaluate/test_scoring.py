"""Every measure has the value that a person can work out by hand."""

from __future__ import annotations

import csv
import gzip
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.conftest import changed, layers_swapped, moved
from vdw_jax.evaluate.samples import Samples, from_dataset, nothing
from vdw_jax.evaluate.scoring import (
    EnergyModel,
    Settings,
    distributed,
    of_reference,
    score_conditional,
    score_generation,
    score_reconstruction,
)
from vdw_jax.metrics.stacking import same_registry
from vdw_jax.structures.load import load_structures
from vdw_jax.structures.source import load_relaxed
from vdw_jax.types import SLAB

MP20 = Path(__file__).parents[3] / "shared" / "data" / "mp20_biternary_val.csv.gz"


def test_registry_tells_all_six_stackings_of_fifty_pairs_apart():
    data, _ = load_relaxed("j2dh8")
    random = np.random.default_rng(0)
    usable = (data.metadata["status"] == "ok") & (data.metadata["duplicate_of"] == "")
    pairs, counts = np.unique(data.metadata["pair"][usable], return_counts=True)
    for pair in random.choice(pairs[counts == 6], 50, replace=False):
        rows = np.flatnonzero(data.metadata["pair"] == pair)
        slabs = [(data.atomic_numbers[row], data.positions[row], data.cell[row]) for row in rows]
        for place, slab in enumerate(slabs):
            turn = np.diag([1.0, -1.0, -1.0]) if random.random() < 0.5 else np.eye(3)
            noisy = (slab[1] + random.normal(scale=0.05, size=slab[1].shape)) @ turn + random.uniform(-3, 3, 3)
            copy = slab[0], noisy, slab[2] @ turn
            assert [same_registry(other, copy) for other in slabs[place:]] == [True] + [False] * (5 - place)


def test_reconstructions_of_known_displacement(reference, crystals, settings):
    """A copy with one atom moved, another stacking, a wrong element, layers swapped, nothing at all."""
    truth = crystals[0]
    pushed = truth.positions.copy()
    pushed[3, 2] += 0.3
    found = [replace(truth, positions=pushed), crystals[1], changed(truth, 49, 31), layers_swapped(truth),
             nothing("none", SLAB), moved(truth, 0.0)]  # fmt: skip
    scored = score_reconstruction(Samples(found, {}, [truth] * len(found)), settings)
    rows = scored.rows
    unit = np.cbrt(abs(np.linalg.det(truth.cell)) / 8)
    assert rows[0]["rmse"] == pytest.approx(0.3 * np.sqrt(1 / 8 - 1 / 64) / unit, rel=0.02)
    assert [row["tight_match"] for row in rows] == [True, False, False, False, False, True]
    assert [row["same_sequence"] for row in rows] == [True, True, False, False, False, True]
    assert [row["same_registry"] for row in rows] == [True, False, False, False, False, True]
    assert rows[1]["match"] and rows[1]["rmse"] > 0.1
    assert rows[2]["reason"] == "composition" and rows[4]["reason"] == "missing"
    value, low, high = scored.measures["registry_accuracy"]
    assert value == pytest.approx(2 / 6) and low < value < high
    assert scored.measures["sequence_rate"][0] == pytest.approx(3 / 6)
    known = [row["rmse"] for row in rows if row["match"]]
    assert scored.measures["rmse"][0] == pytest.approx(np.mean(known))
    assert scored.measures["match_rate"][0] == pytest.approx(len(known) / 6)


def test_samples_of_every_kind(reference, crystals, settings):
    """A copy of a training structure, two of a test structure, one that collides and one that is not finite."""
    train, test = crystals[0], crystals[3]
    close = test.positions.copy()
    close[1] = close[0] + [0, 0, 0.3]
    found = [
        moved(train, 0.03, 1, "known"), moved(test, 0.03, 2, "new"), moved(test, 0.03, 3, "again"),
        replace(test, id="close", positions=close), replace(test, id="nan", positions=close * np.nan),
    ]  # fmt: skip
    scored = score_generation(Samples(found, {}), reference, "j2dh8", settings)
    rows = {row["id"]: row for row in scored.rows}
    assert rows["known"]["matches"] == train.id and not rows["known"]["novel"] and rows["known"]["unique"]
    assert rows["new"]["novel"] and rows["new"]["unique"] and rows["new"]["matches"] is None
    assert rows["again"]["novel"] and not rows["again"]["unique"] and rows["again"]["repeats"] == "new"
    values = {name: value for name, (value, _, _) in scored.measures.items()}
    assert values["struct_valid"] == 3 / 5 and values["comp_valid"] == 1.0
    assert values["novelty"] == values["uniqueness"] == 2 / 5
    assert values["bilayer_rate"] == 3 / 5
    assert not rows["nan"]["covered"] and rows["new"]["covered"]
    gaps = [row["gap_angstrom"] for row in scored.rows if row["bilayer"]]
    assert values["gap_angstrom"] == pytest.approx(np.mean(gaps))
    assert scored.notes["samples"] == 5 and scored.notes["reference_structures"] == 6
    assert all(low <= value <= high for value, low, high in scored.measures.values())


def test_the_reference_itself_is_perfect(reference, crystals, settings, monkeypatch):
    test = from_dataset(reference.data.select(reference.parts["test"]))
    scored = score_generation(Samples(test, {}), reference, "all", settings)
    values = {name: value for name, (value, _, _) in scored.measures.items()}
    ones = ("cov_recall", "cov_precision", "novelty", "uniqueness", "valid", "bilayer_rate")
    assert {name: values[name] for name in ones} == dict.fromkeys(ones, 1.0)
    assert values["wdist_density"] == values["wdist_num_elems"] == 0.0
    assert values["wdist_density_all"] == values["wdist_num_elems_all"] == 0.0
    assert values["comp_valid_reference"] == values["comp_valid"]
    (stored,) = settings.cache.iterdir()
    monkeypatch.setattr("vdw_jax.metrics.fingerprints.structure_fingerprint", lambda *_: np.zeros(61))
    again = score_generation(Samples(test, {}), reference, "all", settings)
    assert again.measures["cov_precision"][0] == 0.0  # samples are made again, the reference comes from the cache
    assert list(settings.cache.iterdir()) == [stored]


def test_what_a_draw_from_the_reference_scores(settings):
    """As many of 4 elements as of 5: |share - 1/2|, its median over draws of 1,000 is 0.674 / sqrt(4,000)."""
    data, _ = load_relaxed("j2dh8")
    elements = np.array([len(set(row[row > 0])) for row in data.atomic_numbers])
    rows = np.concatenate([np.flatnonzero(elements == kind)[:200] for kind in (4, 5)])
    known = from_dataset(data.select(rows))
    found = of_reference(known, distributed(known), settings)
    middle, low, high = found["wdist_num_elems_reference"]
    assert middle == pytest.approx(0.674 / 4000**0.5, rel=0.1)
    assert high == pytest.approx(2.24 / 4000**0.5, rel=0.1)
    assert low < 0.002
    assert found["comp_valid_reference"][0] == 1.0


def test_asked_and_got(crystals, settings):
    first = crystals[0]
    asked = [
        {"kind": "formula held", "formula": first.formula, "energy_ev": None},
        {"kind": "formula held", "formula": "GaInSSe2", "energy_ev": None},
        {"kind": "formula free", "formula": first.formula, "energy_ev": None},
        {"kind": "energy", "formula": None, "energy_ev": -0.1},
        {"kind": "energy", "formula": None, "energy_ev": 0.2},
        {"kind": "energy and formula", "formula": first.formula, "energy_ev": 0.0},
    ]
    predicted = np.array([0.0, 0.0, 0.0, -0.05, 0.35, 0.01])
    samples = Samples([replace(first, id=f"s{n}") for n in range(6)], {}, asked=asked, predicted=predicted)
    scored = score_conditional(samples, settings)
    values = {name: value for name, (value, _, _) in scored.measures.items()}
    assert values["formula_exact"] == 0.5 and values["formula_exact_free"] == 1.0
    assert values["energy_mae"] == pytest.approx(0.1) and values["energy_mae_held"] == pytest.approx(0.01)
    assert scored.notes["energy_model"] == "property head of the generator"
    assert [row["asked_formula"] for row in scored.rows][:2] == [first.formula, "GaInSSe2"]

    other = score_conditional(samples, settings, energy_model=EnergyModel("ten", ten_atoms_of_energy))
    assert other.measures["energy_mae"][0] == pytest.approx((8.1 + 7.8) / 2)
    assert other.notes["energy_model"] == "ten"
    with pytest.raises(ValueError, match="energies of shape"):
        score_conditional(samples, settings, energy_model=EnergyModel("one", lambda crystals: [0.0]))
    with pytest.raises(ValueError, match="asked of each"):
        score_conditional(Samples(samples.crystals, {}), settings)


def ten_atoms_of_energy(crystals):
    return [float(len(crystal.atomic_numbers)) for crystal in crystals]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_real_bulk_crystals(tmp_path):
    """MP-20: copies moved by a known step, and with one element exchanged."""
    if not MP20.exists():
        pytest.skip("the MP-20 file is not beside the repository")
    with gzip.open(MP20, "rt", newline="") as file:
        table = list(itertools.islice(csv.reader(file), 41))
    with open(tmp_path / "mp20.csv", "w", newline="") as file:
        csv.writer(file).writerows(table)
    data, _ = load_structures(tmp_path / "mp20.csv", use_cache=False)
    truths = from_dataset(data.select(np.flatnonzero(data.num_atoms <= 4)[:6]))
    random = np.random.default_rng(0)
    found, expected = [], []
    for truth in truths:
        moves = random.normal(size=truth.positions.shape)
        moves *= 0.1 / np.linalg.norm(moves, axis=1, keepdims=True)
        found.append(replace(truth, positions=truth.positions + moves))
        left = moves - moves.mean(0)
        expected.append(np.sqrt((left**2).sum(1).mean()) / np.cbrt(abs(np.linalg.det(truth.cell)) / len(moves)))
    found += [changed(truth, truth.atomic_numbers[0], 9) for truth in truths[:2]]
    scored = score_reconstruction(Samples(found, {}, truths + truths[:2]), Settings(progress=False))
    for row, bound in zip(scored.rows, expected, strict=False):
        assert row["reason"] == "match" or not row["valid"]
        if row["match"]:
            assert row["rmse"] <= bound * 1.05 + 1e-6
    assert sum(row["match"] for row in scored.rows[:6]) >= 3
    assert not any(row["match"] for row in scored.rows[6:])
    assert "registry_accuracy" not in scored.measures
