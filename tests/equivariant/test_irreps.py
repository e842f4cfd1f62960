"""Spherical harmonics and Wigner matrices against e3nn, and frames of edges."""

import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.equivariant.irreps import (
    EdgeOrder,
    apply_wigner,
    rotation_to_pole,
    spherical_harmonics,
    wigner_blocks,
)
from vdw_jax.equivariant.rotation import edge_frames, from_edges, to_edges

from .helpers import error, improper, normal, rotation, turn

LMAX = 4
AXES = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)


def directions(count: int = 20) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("degree", range(LMAX + 1))
def test_wigner_matrices_are_those_of_e3nn(degree):
    for seed in range(3):
        matrix = jnp.asarray(rotation(seed))
        expected = e3nn_jax.Irrep(degree, 1).D_from_matrix(matrix)
        np.testing.assert_allclose(wigner_blocks(matrix, LMAX)[degree], expected, atol=1e-5)


@pytest.mark.parametrize("degree", range(LMAX + 1))
def test_inversion_has_natural_parity(degree):
    block = wigner_blocks(-jnp.eye(3), LMAX)[degree]
    np.testing.assert_allclose(block, (-1) ** degree * np.eye(2 * degree + 1), atol=1e-5)


def test_wigner_matrices_are_a_representation():
    first, second = jnp.asarray(rotation(1)), jnp.asarray(improper(2))
    both = wigner_blocks(first @ second, LMAX)
    for left, right, product in zip(
        wigner_blocks(first, LMAX), wigner_blocks(second, LMAX), both, strict=True
    ):
        np.testing.assert_allclose(left @ right, product, atol=1e-5)
        np.testing.assert_allclose(product @ product.T, np.eye(len(product)), atol=1e-5)


def test_spherical_harmonics_are_those_of_e3nn():
    points = directions()
    vectors = e3nn_jax.IrrepsArray("1o", jnp.asarray(points, jnp.float32))
    expected = e3nn_jax.spherical_harmonics(
        list(range(LMAX + 1)), vectors, normalize=True, normalization="component"
    )
    np.testing.assert_allclose(spherical_harmonics(points, LMAX), expected.array, atol=1e-5)


@pytest.mark.parametrize("matrix", [rotation(3), improper(3)], ids=["rotation", "reflection"])
def test_spherical_harmonics_turn_with_their_argument(matrix):
    points = directions()
    harmonics = jnp.asarray(spherical_harmonics(points, LMAX), jnp.float32)[..., None]
    turned = spherical_harmonics(points @ matrix.T, LMAX)[..., None]
    np.testing.assert_allclose(turn(matrix, harmonics, LMAX), turned, atol=1e-5)


def test_no_degree_beyond_lmax():
    assert [block.shape[-1] for block in wigner_blocks(jnp.eye(3), 0)] == [1]
    assert apply_wigner(wigner_blocks(jnp.eye(3), 2), jnp.ones((9, 2))).shape == (9, 2)


@pytest.mark.parametrize(("lmax", "mmax"), [(0, 0), (1, 0), (1, 1), (2, 1), (4, 2), (4, 0), (3, 3)])
def test_wigner_matrices_without_the_rows_beyond_mmax(lmax, mmax):
    frame = rotation_to_pole(jnp.array([0.3, -0.5, 0.8]))
    whole, cut = wigner_blocks(frame, lmax), wigner_blocks(frame, lmax, mmax)
    for degree, (one, other) in enumerate(zip(whole, cut, strict=True)):
        np.testing.assert_allclose(other, one[max(0, degree - mmax) : degree + mmax + 1], atol=1e-6)


@pytest.mark.parametrize("vectors", [directions() * 2.5, AXES * 3.0], ids=["random", "axes"])
def test_rotation_to_pole_is_proper_and_maps_the_edge_to_y(vectors):
    vectors = jnp.asarray(vectors, jnp.float32)
    turns = rotation_to_pole(vectors)
    lengths = jnp.linalg.norm(vectors, axis=-1)
    mapped = jnp.einsum("pij,pj->pi", turns, vectors, precision="highest")
    np.testing.assert_allclose(mapped, lengths[:, None] * jnp.array([0.0, 1.0, 0.0]), atol=2e-6)
    np.testing.assert_allclose(jnp.linalg.det(turns), 1.0, atol=2e-6)
    gram = jnp.einsum("pij,pkj->pik", turns, turns, precision="highest")
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=2e-6)


def test_rotation_of_a_zero_edge_is_a_rotation():
    np.testing.assert_allclose(jnp.linalg.det(rotation_to_pole(jnp.zeros(3))), 1.0, atol=1e-6)


@pytest.mark.parametrize("vector", [np.zeros(3, np.float32), *AXES], ids=str)
def test_gradients_of_wigner_matrices_are_finite(vector):
    def total(edge):
        return sum(jnp.sum(block) for block in wigner_blocks(rotation_to_pole(edge), LMAX))

    gradient = jax.grad(total)(jnp.asarray(vector))
    assert jnp.all(jnp.isfinite(gradient))
    if not vector.any():
        np.testing.assert_array_equal(gradient, 0.0)


def test_order_of_the_coefficients_on_an_edge():
    order = EdgeOrder(2, 1)
    assert order.degrees_and_orders == [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, -1), (2, -1)]
    assert order.l_major_index.tolist() == [0, 2, 6, 3, 7, 1, 5]
    covered = [place for m in range(2) for place in range(order.size)[order.block(m)]]
    assert covered == list(range(order.size))


def test_to_the_edge_and_back_is_the_identity_if_nothing_is_cut():
    features = normal(0, 6, (LMAX + 1) ** 2, 3)
    frames = edge_frames(normal(1, 6, 3), EdgeOrder(LMAX, LMAX))
    assert error(from_edges(frames, to_edges(frames, features)), features) < 1e-5


def test_cutting_orders_is_a_projection():
    features = normal(0, 6, (LMAX + 1) ** 2, 3)
    frames = edge_frames(normal(1, 6, 3), EdgeOrder(LMAX, 2))
    edge = to_edges(frames, features)
    assert error(to_edges(frames, from_edges(frames, edge)), edge) < 1e-5
    assert error(from_edges(frames, edge), features) > 0.1
