"""Lattices and coordinates: round trips, numpy and ASE as reference, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.cell import Cell

from vdw_jax import geometry
from vdw_jax.types import BULK, SLAB

LENGTHS = np.array([[3.0, 4.0, 5.0], [2.5, 2.5, 20.0], [6.0, 3.0, 4.0]], np.float32)
ANGLES = np.array([[90.0, 90.0, 90.0], [90.0, 90.0, 120.0], [75.0, 100.0, 63.0]], np.float32)


@pytest.fixture
def cells():
    return geometry.cell_from_parameters(jnp.asarray(LENGTHS), jnp.asarray(ANGLES))


def vectors(scale: float = 5.0):
    return jnp.asarray(np.random.default_rng(0).normal(scale=scale, size=(3, 7, 3)), jnp.float32)


def test_cells_are_those_of_ase(cells):
    for cell, length, angle in zip(cells, LENGTHS, ANGLES, strict=True):
        np.testing.assert_allclose(cell, Cell.fromcellpar([*length, *angle]).array, atol=1e-5)


def test_parameters_round_trip(cells):
    lengths, angles = geometry.parameters_from_cell(cells)
    np.testing.assert_allclose(lengths, LENGTHS, rtol=1e-6)
    np.testing.assert_allclose(angles, ANGLES, atol=1e-3)


def test_angles_that_close_no_cell_give_a_finite_one():
    def volume(angles):
        return jnp.linalg.det(geometry.cell_from_parameters(jnp.ones(3), angles))

    impossible = jnp.array([20.0, 150.0, 90.0])
    assert volume(impossible) > 0
    assert jnp.isfinite(jax.grad(volume)(impossible)).all()


def test_inverse(cells):
    np.testing.assert_allclose(geometry.inverse_cell(cells), np.linalg.inv(cells), atol=1e-6)


def test_plane_spacings(cells):
    expected = np.linalg.det(cells)[:, None] / np.stack(
        [np.linalg.norm(np.cross(cells[:, (i + 1) % 3], cells[:, (i + 2) % 3]), axis=-1) for i in range(3)],
        -1,
    )
    np.testing.assert_allclose(geometry.plane_spacings(cells), expected, rtol=1e-5)


def test_fractional_round_trip(cells):
    fractional = geometry.to_fractional(vectors(), cells)
    np.testing.assert_allclose(geometry.to_cartesian(fractional, cells), vectors(), atol=1e-5)


@pytest.mark.parametrize("periodicity", [SLAB, BULK], ids=["slab", "bulk"])
@pytest.mark.parametrize("centre", [0.0, 0.5])
def test_wrap(cells, periodicity, centre):
    before = np.asarray(geometry.to_fractional(vectors(), cells))
    after = np.asarray(geometry.to_fractional(geometry.wrap(vectors(), cells, periodicity, centre), cells))
    moved = before - after
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-5)
    periods = np.array(periodicity)
    assert np.all(np.abs(after - centre)[..., periods] <= 0.5 + 1e-5)
    np.testing.assert_allclose(moved[..., ~periods], 0.0, atol=1e-5)


def test_gradient_of_wrap_is_the_identity(cells):
    gradient = jax.grad(lambda v: (geometry.wrap(v, cells, BULK) * vectors(1.0)).sum())(vectors())
    np.testing.assert_allclose(gradient, vectors(1.0), atol=1e-5)


def test_gradients_at_zero_are_finite(cells):
    def total(positions, cell):
        wrapped = geometry.wrap(positions, cell, BULK, centre=0.0)
        return jnp.sum(wrapped**2) + jnp.sum(geometry.to_fractional(positions, cell))

    for gradient in jax.grad(total, argnums=(0, 1))(jnp.zeros((3, 2, 3)), cells):
        assert jnp.isfinite(gradient).all()


def test_gradients_of_the_parameters_are_finite_at_right_angles(cells):
    gradient = jax.grad(lambda c: sum(jnp.sum(x) for x in geometry.parameters_from_cell(c)))(cells)
    assert jnp.isfinite(gradient).all()


def test_image_offsets():
    assert geometry.image_offsets(BULK, (1, 1, 2)).shape == (45, 3)
    offsets = geometry.image_offsets(SLAB, (1, 2, 3))
    assert offsets.shape == (15, 3)
    assert not offsets[:, 2].any()
    assert len(np.unique(offsets, axis=0)) == 15


@pytest.mark.parametrize("periodicity", [SLAB, BULK], ids=["slab", "bulk"])
def test_images_needed_are_enough(cells, periodicity):
    cutoff = 6.0
    needed = np.asarray(geometry.images_needed(cells, periodicity, cutoff))
    rng = np.random.default_rng(1)
    offsets = geometry.image_offsets(periodicity, (7, 7, 7))
    for cell, enough in zip(np.asarray(cells), needed, strict=True):
        for difference in rng.uniform(-0.5, 0.5, size=(20, 3)):
            near = np.linalg.norm((difference + offsets) @ cell, axis=-1) < cutoff
            assert np.all(np.abs(offsets[near]) <= enough)
