"""Transforms to the sphere's grid: what is exact, and how much the rest aliases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.equivariant.grid import SphereGrid, from_grid, to_grid
from vdw_jax.equivariant.irreps import EdgeOrder

from .helpers import error, normal, rotation, turn

LMAX = 4


def equivariance_error(grid: SphereGrid, function) -> float:
    """How far `function` on the grid is from commuting with rotations, next to the size of its result."""
    forth, back = grid.matrices(LMAX)
    features = normal(0, 16, (LMAX + 1) ** 2, 4)

    def apply(coefficients):
        return from_grid(back, function(to_grid(forth, coefficients)))

    worst = 0.0
    for seed in range(3):
        matrix = rotation(seed)
        expected = turn(matrix, apply(features), LMAX)
        worst = max(worst, error(apply(turn(matrix, features, LMAX)), expected))
    return worst / float(jnp.max(jnp.abs(apply(features))))


@pytest.mark.parametrize("lmax", [1, 2, 4])
def test_the_smallest_grid_is_exact_for_nodes(lmax):
    forth, back = SphereGrid(lmax + 1, 2 * lmax + 1).matrices(lmax)
    np.testing.assert_allclose(back @ forth, np.eye((lmax + 1) ** 2), atol=1e-12)


@pytest.mark.parametrize("mmax", [1, 2, 4])
def test_the_smallest_grid_is_exact_on_edges(mmax):
    order = EdgeOrder(LMAX, mmax)
    forth, back = SphereGrid(LMAX + 1, 2 * mmax + 1).matrices(LMAX, order)
    assert forth.shape == ((LMAX + 1) * (2 * mmax + 1), order.size)
    np.testing.assert_allclose(back @ forth, np.eye(order.size), atol=1e-12)


@pytest.mark.parametrize("grid", [SphereGrid(LMAX, 2 * LMAX + 1), SphereGrid(LMAX + 1, 2 * LMAX)])
def test_a_smaller_grid_is_not_exact(grid):
    forth, back = grid.matrices(LMAX)
    assert np.abs(back @ forth - np.eye((LMAX + 1) ** 2)).max() > 0.1


def test_a_constant_is_the_first_coefficient():
    forth, back = SphereGrid(5, 9).matrices(LMAX)
    np.testing.assert_allclose(back @ np.ones(45), np.eye(25)[0], atol=1e-12)
    np.testing.assert_allclose(forth[:, 0], 1.0)


def test_a_product_is_exact_on_the_grid_the_docstring_names():
    assert equivariance_error(SphereGrid(7, 13), jnp.square) < 2e-6
    assert equivariance_error(SphereGrid(5, 9), jnp.square) > 1e-2


def test_aliasing_of_silu_falls_with_resolution():
    errors = [
        equivariance_error(grid, jax.nn.silu)
        for grid in (SphereGrid(5, 9), SphereGrid(10, 9), SphereGrid(10, 19), SphereGrid(20, 39))
    ]
    print("relative error of SiLU on 5x9, 10x9, 10x19, 20x39:", [f"{value:.1e}" for value in errors])
    assert errors[0] > errors[2] > errors[3]
    assert errors[1] > errors[2]
    assert errors[0] > 0.02
    assert errors[3] < errors[0] / 20
