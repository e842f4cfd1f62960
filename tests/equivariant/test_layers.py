"""Every layer commutes with rotations and reflections of its input."""

import jax
import jax.numpy as jnp
import pytest

from vdw_jax.equivariant.activations import GridFeedForward, gate
from vdw_jax.equivariant.attention import EdgeInputs, GraphAttention
from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.equiformer import ScalarHead, VectorHead
from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.equivariant.irreps import EdgeOrder
from vdw_jax.equivariant.layers import DegreeLinear, EquivariantLayerNorm
from vdw_jax.equivariant.rotation import edge_frames
from vdw_jax.equivariant.so2 import SO2Linear

from .helpers import (
    TOLERANCE,
    about_y,
    error,
    improper,
    mirror,
    normal,
    randomised,
    rotation,
    turn,
    turn_edge,
)

LMAX, MMAX, CHANNELS = 3, 2, 8
ORDER = EdgeOrder(LMAX, MMAX)
GRID = SphereGrid(5, 10)  # products are exact at lmax 3
MATRICES = pytest.mark.parametrize("matrix", [rotation(1), improper(2)], ids=["rotation", "reflection"])
KEY = jax.random.key(0)


def config(**changes) -> EquiformerConfig:
    return EquiformerConfig(
        num_layers=1, channels=CHANNELS, attention_channels=8, num_heads=2, alpha_channels=4, value_channels=4,
        ffn_channels=8, lmax=LMAX, mmax=MMAX, edge_channels=8, num_basis=8, edge_activation="gate",
        ffn_activation="product", edge_grid=GRID, node_grid=GRID, **changes,
    )  # fmt: skip


def edge_inputs(vectors) -> EdgeInputs:
    index = jnp.array([[[1, 2], [0, 2], [0, 1]]])
    return EdgeInputs(
        index, jnp.ones((1, 3, 2), bool), normal(5, 1, 3, 2, 6), jnp.ones((1, 3, 2)) * 0.7,
        edge_frames(vectors, ORDER),
    )  # fmt: skip


def joined(blocks):
    return jnp.concatenate(blocks, axis=-2)


def so2_errors(matrix, reflections):
    layer = SO2Linear(6, ORDER, jnp.float32, 3, reflections)
    features = normal(0, 5, ORDER.size, CHANNELS)
    params = randomised(layer.init(KEY, ORDER.split(features)))
    out, extra = layer.apply(params, ORDER.split(features))
    turned, turned_extra = layer.apply(params, ORDER.split(turn_edge(matrix, features, ORDER)))
    return error(joined(turned), turn_edge(matrix, joined(out), ORDER)), error(turned_extra, extra)


@pytest.mark.parametrize("reflections", [True, False])
def test_so2_linear_commutes_with_rotations_about_the_edge(reflections):
    assert max(so2_errors(about_y(0.7), reflections)) < TOLERANCE


@pytest.mark.parametrize("normal_of_plane", [(1, 0, 0), (0.6, 0, 0.8)])
def test_so2_linear_commutes_with_mirrors_only_if_asked(normal_of_plane):
    assert max(so2_errors(mirror(normal_of_plane), True)) < TOLERANCE
    assert so2_errors(mirror(normal_of_plane), False)[0] > 0.1


@MATRICES
@pytest.mark.parametrize(
    "layer",
    [
        DegreeLinear(6, LMAX, jnp.float32),
        EquivariantLayerNorm(LMAX),
        GridFeedForward(8, 6, LMAX, GRID, jnp.float32, product=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_node_layers(layer, matrix):
    features = normal(0, 5, (LMAX + 1) ** 2, CHANNELS)
    params = randomised(layer.init(KEY, features))
    expected = turn(matrix, layer.apply(params, features), LMAX)
    assert error(layer.apply(params, turn(matrix, features, LMAX)), expected) < TOLERANCE
    assert error(layer.apply(params, features), expected) > 0.1


@pytest.mark.parametrize("matrix", [about_y(0.7), mirror((0.6, 0, 0.8))], ids=["rotation", "reflection"])
def test_gate(matrix):
    features, gates = normal(0, 5, ORDER.size, CHANNELS), normal(1, 5, LMAX * CHANNELS)
    expected = turn_edge(matrix, joined(gate(ORDER.split(features), gates, ORDER)), ORDER)
    turned = gate(ORDER.split(turn_edge(matrix, features, ORDER)), gates, ORDER)
    assert error(joined(turned), expected) < TOLERANCE


def attention_error(layer, matrix, vector: bool):
    nodes, vectors = normal(0, 1, 3, (LMAX + 1) ** 2, CHANNELS), normal(1, 1, 3, 2, 3)
    params = randomised(layer.init(KEY, nodes, edge_inputs(vectors)))
    out = layer.apply(params, nodes, edge_inputs(vectors))
    turned = layer.apply(params, turn(matrix, nodes, LMAX), edge_inputs(vectors @ matrix.T))
    return error(turned, out @ matrix.T if vector else turn(matrix, out, LMAX))


@MATRICES
def test_attention(matrix):
    assert attention_error(GraphAttention(config(), 6), matrix, False) < TOLERANCE


@MATRICES
def test_vector_head(matrix):
    assert attention_error(VectorHead(config(), 2), matrix, True) < TOLERANCE


def test_vector_head_without_reflections_fails_under_a_reflection():
    head = VectorHead(config(reflections=False), 2)
    assert attention_error(head, rotation(1), True) < TOLERANCE
    assert attention_error(head, improper(2), True) > 1e-3


@MATRICES
def test_scalar_head(matrix):
    head, nodes = ScalarHead(config(), 4), normal(0, 1, 3, (LMAX + 1) ** 2, CHANNELS)
    params = randomised(head.init(KEY, nodes))
    assert error(head.apply(params, turn(matrix, nodes, LMAX)), head.apply(params, nodes)) < TOLERANCE
