"""What is known of edges in dense neighbour lists, and how what nodes hold gets to them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.experimental.layout import Layout, with_layout_constraint

from vdw_jax.equivariant.rotation import EdgeFrames


@struct.dataclass
class EdgeInputs:
    """What every layer needs to know of the edges, computed once a call."""

    index: jax.Array | None  # [B, N, K] int32, neighbour's place in its crystal; or None, see `gather_neighbours`
    mask: jax.Array  # [B, N, K] bool
    invariants: jax.Array  # [B, N, K, D], of the edge itself: distance basis
    envelope: jax.Array  # [B, N, K] float32, smooth weight of each edge, 0 in empty slots
    frames: EdgeFrames
    source: jax.Array | None = None  # [B, N, S] invariants that a node gives to the edges it is the neighbour of
    target: jax.Array | None = None  # [B, N, T] invariants that a node gives to its own edges
    ends: tuple[jax.Array, jax.Array] | None = None  # for kernels, see `messages.find_ends`


def gather_neighbours(features: jax.Array, index: jax.Array | None, num_slots: int) -> jax.Array:
    """Features [B, N, ...] of the neighbours in each slot; [B, N, K, ...].

    Args:
      index: [B, N, K], or None if the K = times (N + 1) slots hold every node in order, each `times` times, and then
        the node itself `times` times.
    """
    if index is None:
        return _gather_all(features, num_slots)
    return _gather(features, index)


def row_major(array: jax.Array) -> jax.Array:
    """The array, and its cotangent, with the last axis contiguous in memory.

    XLA likes the axis of a sum to be contiguous. Before a sum over neighbours it would transpose every edge's features,
    in passes of their own; so told, it makes the features within the sum. XLA's partitioner does not split such an
    array: with several devices networks run under `shard_map` (`training/devices.py`).
    """
    return with_layout_constraint(array, Layout(tuple(range(array.ndim))))


@jax.custom_vjp
def _gather(features, index):
    return jax.vmap(lambda nodes, where: nodes.at[where].get(mode="promise_in_bounds"))(features, index)


def _gather_forward(features, index):
    return _gather(features, index), (index, features.shape[1])


def _gather_backward(kept, gradient):
    """A product with a 0/1 matrix: a scatter's order of summation differs from run to run on a GPU."""
    index, num_nodes = kept
    batch = index.shape[0]
    chosen = jax.nn.one_hot(index.reshape(batch, -1), num_nodes, dtype=gradient.dtype)
    flat = gradient.reshape(batch, chosen.shape[1], -1)
    summed = jnp.einsum("bkn,bkc->bnc", chosen, flat, precision="highest")
    return summed.reshape(batch, num_nodes, *gradient.shape[3:]), None


_gather.defvjp(_gather_forward, _gather_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gather_all(features, num_slots):
    batch, num_nodes = features.shape[:2]
    times = num_slots // (num_nodes + 1)
    others = np.broadcast_to(np.arange(num_nodes), (num_nodes, num_nodes))
    index = np.repeat(np.concatenate([others, np.arange(num_nodes)[:, None]], axis=1), times, axis=1)
    return _gather(features, jnp.broadcast_to(jnp.asarray(index), (batch, *index.shape)))


def _gather_all_forward(features, num_slots):
    return _gather_all(features, num_slots), None


def _gather_all_backward(num_slots, _, gradient):
    batch, num_nodes, _, *rest = gradient.shape
    times = num_slots // (num_nodes + 1)
    others, itself = jnp.split(row_major(gradient), [num_nodes * times], axis=2)
    others = others.reshape(batch, num_nodes, num_nodes, times, *rest)
    return (others.sum((1, 3)) + itself.sum(2),)


_gather_all.defvjp(_gather_all_forward, _gather_all_backward)
