"""The reference model says something of what it covers, and nothing of the rest."""

import numpy as np
import pytest

from vdw_jax.design.trained import load_trained
from vdw_jax.pretrained import SHIPPED
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.reference import Reference, reference_for
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.source import load_source
from vdw_jax.types import BULK


@pytest.fixture(scope="module")
def reference() -> Reference:
    found = reference_for(load_trained(SHIPPED))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def data() -> CrystalDataset:
    return load_source("j2dh8+iii_vi", properties=("formation_energy_ev",))


def crystal_of(data: CrystalDataset, row: int) -> Crystal:
    size = int(data.num_atoms[row])
    return Crystal(str(data.ids[row]), data.atomic_numbers[row, :size], data.positions[row, :size], data.cell[row])


def test_it_knows_the_energies_of_the_data(reference, data):
    crystals = [crystal_of(data, row) for row in (0, 7_000, 15_000)]
    truth = data.scalars["formation_energy_ev"][[0, 7_000, 15_000]]
    np.testing.assert_allclose(reference.evaluate(crystals), truth, atol=0.05)
    lifted = [Crystal(c.id, c.atomic_numbers, c.positions + [0, 0, 5.0], c.cell) for c in crystals]
    np.testing.assert_allclose(reference.evaluate(lifted), reference.evaluate(crystals), atol=1e-4)


def test_what_it_does_not_cover_has_no_value(reference, data):
    good = crystal_of(data, 0)
    numbers = good.atomic_numbers.copy()
    numbers[0] = 8
    oxide = Crystal("oxide", numbers, good.positions, good.cell)
    half = Crystal("half", good.atomic_numbers[:4], good.positions[:4], good.cell)
    bulk = Crystal("bulk", good.atomic_numbers, good.positions, good.cell, BULK)
    broken = Crystal("broken", good.atomic_numbers, np.full_like(good.positions, np.nan), good.cell)
    values = reference.evaluate([oxide, good, half, bulk, broken])
    assert [value is None for value in values] == [True, False, True, True, True]
    assert reference.evaluate([oxide]) == [None] and reference.evaluate([]) == []


def test_data_of_ones_own_have_no_reference_model():
    """Whatever their labels are called."""
    trained = load_trained(SHIPPED)
    trained.facts["config"]["data"]["path"] = "mine.csv"
    assert reference_for(trained) is None
