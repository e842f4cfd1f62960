"""Messages, their sums and radial functions against plain versions that write out what is meant."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.equivariant import message_kernels, sphere_kernels
from vdw_jax.equivariant.activations import separable_s2
from vdw_jax.equivariant.edges import EdgeInputs, gather_neighbours
from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.equivariant.irreps import EdgeOrder, apply_wigner, rotation_to_pole, wigner_blocks
from vdw_jax.equivariant.layers import RadialFunction
from vdw_jax.equivariant.message_kernels import incoming
from vdw_jax.equivariant.messages import _collect_fused, _send_fused, collect, send
from vdw_jax.equivariant.rotation import edge_frames
from vdw_jax.equivariant.so2 import num_radial_weights

from .helpers import normal, randomised

# The time goes to compilation, not to what is compiled.
jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)
BATCH, NODES, SLOTS, CHANNELS, HEADS = 2, 3, 8, 4, 2
ORDER = EdgeOrder(3, 2)
VECTORS = normal(0, BATCH, NODES, SLOTS, 3)
NEAREST = jax.random.randint(jax.random.key(1), (BATCH, NODES, SLOTS), 0, NODES)
PAIRS = jnp.broadcast_to(jnp.array([[0, 0, 1, 1, 2, 2, i, i] for i in range(NODES)]), (BATCH, NODES, SLOTS))
INDICES = pytest.mark.parametrize("index", [NEAREST, None], ids=["nearest", "pairs"])
FEATURES = normal(2, BATCH, NODES, 16, CHANNELS)


def plain_gather(features, index):
    index = PAIRS if index is None else index
    return features[jnp.arange(BATCH)[:, None, None], index]


def full_blocks(vectors):
    return wigner_blocks(rotation_to_pole(vectors), ORDER.lmax)


def plain_send(vectors, nodes, index, weights):
    """Both ends side by side, turned by whole Wigner matrices, cut at mmax, times the weight of (l, |m|)."""
    ends = [plain_gather(nodes, index), jnp.broadcast_to(nodes[:, :, None], (BATCH, NODES, SLOTS, *nodes.shape[2:]))]
    turned = apply_wigner(full_blocks(vectors), jnp.concatenate(ends, axis=-1))[..., ORDER.l_major_index, :]
    positive = [key for key in ORDER.degrees_and_orders if key[1] >= 0]
    place = [positive.index((degree, abs(m))) for degree, m in ORDER.degrees_and_orders]
    return turned * weights.reshape(*weights.shape[:3], len(positive), -1)[..., np.array(place), :]


def plain_collect(vectors, values, weights):
    """Each head's values times its weight, turned back, summed."""
    each = values.reshape(*values.shape[:-1], HEADS, -1) * weights[..., None, :, None]
    full = jnp.zeros((BATCH, NODES, SLOTS, 16, values.shape[-1]), values.dtype)
    full = full.at[..., ORDER.l_major_index, :].set(each.reshape(values.shape))
    return apply_wigner([jnp.swapaxes(block, -1, -2) for block in full_blocks(vectors)], full).sum(2)


def fast_send(vectors, nodes, index, weights):
    return jnp.concatenate(send(edge_frames(vectors, ORDER), nodes, index, weights), axis=-2)


def fast_collect(vectors, values, weights):
    return collect(edge_frames(vectors, ORDER), ORDER.split(values), weights)


def same_with_gradients(fast, plain, *inputs, rtol=1e-5):
    """Outputs, and gradients with respect to every input, agree."""
    cotangent = normal(9, *jax.eval_shape(plain, *inputs).shape)

    def run(function):
        out, pull = jax.vjp(function, *inputs)
        return out, *pull(cotangent)

    for left, right in zip(jit(lambda: run(fast))(), jit(lambda: run(plain))(), strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol * float(jnp.abs(right).max()))


@INDICES
def test_gather(index):
    same_with_gradients(
        lambda features: gather_neighbours(features, index, SLOTS), lambda features: plain_gather(features, index),
        FEATURES,
    )  # fmt: skip


@pytest.mark.parametrize(("index", "backend"), [(NEAREST, "cpu"), (None, "gpu")], ids=["cpu", "gpu"])
def test_send(index, backend, monkeypatch):
    """Rotations are written for each backend."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    jax.clear_caches()
    weights = normal(3, BATCH, NODES, SLOTS, num_radial_weights(ORDER, 2 * CHANNELS))
    same_with_gradients(
        lambda vectors, nodes, weights: fast_send(vectors, nodes, index, weights),
        lambda vectors, nodes, weights: plain_send(vectors, nodes, index, weights),
        VECTORS, FEATURES, weights, rtol=2e-5,
    )  # fmt: skip


def test_collect():
    values = normal(4, BATCH, NODES, SLOTS, ORDER.size, HEADS * 3)
    weights = normal(5, BATCH, NODES, SLOTS, HEADS)
    same_with_gradients(fast_collect, plain_collect, VECTORS, values, weights, rtol=2e-5)


SMALL = EdgeOrder(2, 1)
"""Interpreting kernels takes long."""


@pytest.mark.parametrize("pairs", [False, True], ids=["nearest", "pairs"])
def test_kernels_of_send(pairs):
    """Two nodes, six slots, five channels: no tile is full."""
    order = EdgeOrder(1, 1)
    index = None if pairs else jax.random.randint(jax.random.key(1), (BATCH, 2, 6), 0, 2)
    vectors, nodes = normal(0, BATCH, 2, 6, 3), normal(1, BATCH, 2, 4, 5)
    weights = normal(2, BATCH, 2, 6, num_radial_weights(order, 10))

    def run(function):
        return lambda *inputs: jnp.concatenate(function(edge_frames(inputs[0], order), *inputs[1:]), axis=-2)

    ends = incoming(index, 2, 6)
    fast = run(lambda frames, nodes, weights: _send_fused(True, frames, nodes, index, ends, weights))
    plain = run(lambda frames, nodes, weights: send(frames, nodes, index, weights))
    if pairs:  # the gradient of the frames does not see the index
        fast, plain = functools.partial(fast, vectors), functools.partial(plain, vectors)
        same_with_gradients(fast, plain, nodes, weights, rtol=2e-5)
    else:
        same_with_gradients(fast, plain, vectors, nodes, weights, rtol=2e-5)


def test_kernels_of_collect():
    vectors, values = normal(0, BATCH, 2, 6, 3), normal(1, BATCH, 2, 6, SMALL.size, 15)
    weights = normal(2, BATCH, 2, 6, 3)

    def run(function):
        return lambda *inputs: function(edge_frames(inputs[0], SMALL), SMALL.split(inputs[1]), inputs[2])

    same_with_gradients(run(functools.partial(_collect_fused, True)), run(collect), vectors, values, weights, rtol=2e-5)


def test_kernels_read_nothing_behind_the_last_slot(monkeypatch):
    """Five slots by tiles of two; behind them, and behind the last node, is no number."""
    for name in ("SEND", "SEND_BACKWARD", "COLLECT", "COLLECT_BACKWARD"):
        monkeypatch.setattr(message_kernels, name, message_kernels.Tile(2, 16, 1))
    vectors, values = normal(0, BATCH, 2, 5, 3), SMALL.split(normal(1, BATCH, 2, 5, SMALL.size, 15))
    weights, index = normal(2, BATCH, 2, 5, 3), jax.random.randint(jax.random.key(1), (BATCH, 2, 5), 0, 2)
    nodes, scale = normal(3, BATCH, 2, 9, 5), normal(4, BATCH, 2, 5, num_radial_weights(SMALL, 10))

    @jit
    def all_of(packed):
        ends = incoming(index, 2, 5)
        sent = message_kernels.send(SMALL, packed, nodes, ends, scale, interpret=True)
        summed = message_kernels.collect(SMALL, packed, values, weights, interpret=True)
        of_sent = message_kernels.send_backward(SMALL, packed, nodes, ends, scale, sent, interpret=True)
        of_summed = message_kernels.collect_backward(SMALL, packed, values, weights, summed, interpret=True)
        return sent, summed, of_sent, of_summed

    packed = edge_frames(vectors, SMALL).packed
    behind = jnp.pad(packed, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=jnp.nan)
    for left, right in zip(*map(jax.tree.leaves, (all_of(behind), all_of(packed))), strict=True):
        assert np.isfinite(left).all()
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def test_kernel_of_the_s2_activation():
    """Three edges of five channels."""
    grid = SphereGrid(4, 5)

    def run(function):
        return lambda features, gates: jnp.concatenate(function(SMALL.split(features), gates), axis=-2)

    same_with_gradients(
        run(lambda blocks, gates: sphere_kernels.separable_s2(grid, SMALL, True, blocks, gates)),
        run(lambda blocks, gates: separable_s2(blocks, gates, grid, SMALL)),
        normal(0, 3, SMALL.size, 5), normal(1, 3, 5), rtol=2e-5,
    )  # fmt: skip


def test_frames_of_m_0_alone_collect_as_if_all_else_were_zero():
    scalars, weights = normal(6, BATCH, NODES, SLOTS, 4, CHANNELS), normal(7, BATCH, NODES, SLOTS, 1)
    rest = jnp.zeros((BATCH, NODES, SLOTS, ORDER.size - 4, CHANNELS))

    @jit
    def both():
        frames = edge_frames(VECTORS, ORDER)
        whole = collect(frames, ORDER.split(jnp.concatenate([scalars, rest], axis=-2)), weights)
        return collect(frames.zeroth(), [scalars], weights), whole

    np.testing.assert_allclose(*both(), rtol=1e-5, atol=1e-5)


def test_bfloat16_differs_by_its_rounding_alone():
    weights = normal(3, BATCH, NODES, SLOTS, num_radial_weights(ORDER, 2 * CHANNELS))
    nodes, weights = FEATURES.astype(jnp.bfloat16), weights.astype(jnp.bfloat16)
    fast = jit(lambda: fast_send(VECTORS, nodes, None, weights))()
    exact = jit(lambda: plain_send(VECTORS, nodes.astype(jnp.float32), None, weights.astype(jnp.float32)))()
    assert fast.dtype == jnp.bfloat16
    np.testing.assert_allclose(fast.astype(jnp.float32), exact, rtol=2**-8, atol=1e-5)


@INDICES
def test_radial_functions_read_the_edge_its_source_and_its_target(index):
    basis, source, target = normal(1, BATCH, NODES, SLOTS, 5), normal(2, BATCH, NODES, 3), normal(3, BATCH, NODES, 4)

    def edges(invariants, source=None, target=None):
        shape = (BATCH, NODES, SLOTS)
        return EdgeInputs(index, jnp.ones(shape, bool), invariants, jnp.ones(shape), None, source, target)

    side_by_side = [basis, plain_gather(source, index)]
    side_by_side.append(jnp.broadcast_to(target[:, :, None], (BATCH, NODES, SLOTS, 4)))
    whole = edges(jnp.concatenate(side_by_side, axis=-1))
    layer = RadialFunction((6, 6), 7, jnp.float32)

    @jit
    def both():
        params = randomised(layer.init(jax.random.key(0), whole))
        return layer.apply(params, edges(basis, source, target)), layer.apply(params, whole)

    np.testing.assert_allclose(*both(), rtol=1e-5, atol=1e-5)
