"""Densities and distances with known values."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from vdw_jax.metrics.distributions import density_g_cm3, num_elements, slab_height, wasserstein_distance


def test_density_of_bulk_is_pymatgens():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    density = density_g_cm3(np.array(salt.atomic_numbers), salt.lattice.matrix)
    assert density == pytest.approx(float(salt.density), rel=1e-6)
    assert density == pytest.approx(2.165, rel=0.01)  # measured


def test_height_takes_the_vacuum_out(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("Se", "In", "In", "Se"))
    height = slab_height(slab.positions)
    assert height == pytest.approx(12.4)
    thick = density_g_cm3(slab.numbers, slab.cell, height)
    assert thick == pytest.approx(density_g_cm3(slab.numbers, slab.cell) * 40.0 / 12.4)
    taller = slab.cell * [[1], [1], [2]]
    assert density_g_cm3(slab.numbers, taller, height) == pytest.approx(thick)


@pytest.mark.parametrize("height", [0.0, -1.0, float("nan")])
def test_no_volume_no_density(height):
    with pytest.raises(ValueError, match="volume"):
        density_g_cm3(np.array([6]), np.eye(3), height)


def test_elements_are_counted_once():
    assert num_elements(np.array([16, 31, 31, 16, 34])) == 3


def test_wasserstein_distance_of_a_shift_is_the_shift():
    values = np.random.default_rng(0).normal(size=200)
    assert wasserstein_distance(values, values + 0.7) == pytest.approx(0.7)
    assert wasserstein_distance([0, 0, 0], [0, 3]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="generated"):
        wasserstein_distance([], [1.0])
    with pytest.raises(ValueError, match="real"):
        wasserstein_distance([1.0], [np.nan])
