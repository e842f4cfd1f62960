"""The property model reads a crystal as it is, learns, and comes back from disk the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.property_model.cgcnn import CGCNN, CGCNNConfig
from vdw_jax.property_model.train import Fit, _batch, fit_property_model
from vdw_jax.property_model.trained import PropertyModel, load_property_model, save_property_model
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.source import load_source
from vdw_jax.types import CrystalBatch

SIZES = {"channels": 16, "num_layers": 2, "hidden": 16, "max_neighbours": 12, "cutoff_angstrom": 5.0}


@pytest.fixture(scope="module")
def data():
    return load_source("j2dh8", properties=("formation_energy_ev",))


@pytest.fixture(scope="module")
def trained(data):
    model = CGCNN(CGCNNConfig("formation_energy_ev", 0.5, 2.0, image_range=(2, 2, 0), **SIZES))
    return PropertyModel(model, model.init(jax.random.key(0), _batch(data, np.arange(2))), {"errors": {"test": 0.1}})


def test_value_is_of_the_crystal_alone(data, trained):
    """Not of order, place, orientation, padding, lattice choice, or what else is in the batch."""
    batch = _batch(data, np.array([5]))
    numbers, positions, cell = (np.asarray(x) for x in (batch.atomic_numbers, batch.positions, batch.cell))
    before = trained.predict(batch)
    order = np.random.default_rng(0).permutation(numbers.shape[1])
    angle = np.radians(40.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    other = cell.copy()
    other[:, 1] += cell[:, 0]
    changed = [
        (numbers[:, order], positions[:, order], cell),
        (numbers, positions + [0.3, 0.1, 0.0], cell),
        (numbers, positions @ turn.T, cell @ turn.T),
        (np.pad(numbers, ((0, 0), (0, 3))), np.pad(positions, ((0, 0), (0, 3), (0, 0))), cell),
        (numbers, positions, other),
    ]
    for inputs in changed:
        after = trained.predict(CrystalBatch(*(np.asarray(x) for x in inputs)))
        np.testing.assert_allclose(after, before, rtol=1e-4)
    together = trained.predict(_batch(data, np.array([3, 5, 9])), chunk=2)
    np.testing.assert_allclose(together[1], before[0], rtol=1e-4)


def test_value_depends_on_species_and_distances(data, trained):
    batch = _batch(data, np.array([5]))
    wider = batch.replace(cell=batch.cell * 1.05, positions=batch.positions * jnp.array([1.05, 1.05, 1.0]))
    other = 52 if batch.atomic_numbers[0, 0] != 52 else 16
    swapped = batch.replace(atomic_numbers=batch.atomic_numbers.at[0, 0].set(other))
    values = [trained.predict(b)[0] for b in (batch, wider, swapped)]
    assert len(set(np.round(values, 5))) == 3


def test_not_finite_is_nan_and_harms_no_other(data, trained):
    batch = _batch(data, np.array([5, 6]))
    broken = batch.replace(positions=batch.positions.at[0, 0, 0].set(jnp.nan))
    values = trained.predict(broken)
    assert np.isnan(values[0])
    np.testing.assert_allclose(values[1], trained.predict(batch)[1], rtol=1e-4)
    assert np.isnan(trained.predict(batch.replace(cell=jnp.zeros_like(batch.cell)))).all()


def test_learns_and_comes_back_from_disk(data, tmp_path):
    few = data.select(np.arange(0, 19926, 100))
    label = few.scalars["formation_energy_ev"]
    fit = Fit(600, batch_size=32, learning_rate=5e-3)
    trained = fit_property_model(few, "formation_energy_ev", fit, sizes=SIZES, quiet=True)
    constant = np.abs(label - np.median(label)).mean()
    assert trained.facts["errors"]["train"] < 0.5 * constant
    assert trained.facts["errors"]["test"] < 0.8 * constant
    save_property_model(tmp_path, trained)
    batch = _batch(few, np.arange(4))
    again = load_property_model(tmp_path)
    np.testing.assert_array_equal(again.predict(batch), trained.predict(batch))
    assert again.facts["errors"] == trained.facts["errors"]
    assert again.model == trained.model


def test_errors_say_what_is_wrong(data, tmp_path):
    with pytest.raises(DataError, match="no property 'band_gap'"):
        fit_property_model(data, "band_gap", Fit(1), quiet=True)
    unlabelled = dataclasses.replace(data, scalars={"x": np.full(len(data), np.nan, np.float32)})
    with pytest.raises(DataError, match="no row of the training part has a x"):
        fit_property_model(unlabelled, "x", Fit(1), quiet=True)
    with pytest.raises(DataError, match="no property model at"):
        load_property_model(tmp_path)
    (tmp_path / "weights.npz").write_bytes(b"")
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(DataError, match="holds no property model"):
        load_property_model(tmp_path)
