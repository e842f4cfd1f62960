"""Messages between nodes in the frames of their edges: all that passes memory once for each edge.

All keep nothing for their gradients but their inputs, and go through the edges again instead: what they make on the way
is several times larger than what they read. Edge features are lists of the blocks of each |m| (`EdgeOrder.split`), as
the SO(2) products read and write them, so that nothing is joined only to be split again. On one GPU they are kernels
(`message_kernels`), elsewhere plain XLA.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from vdw_jax.equivariant import message_kernels
from vdw_jax.equivariant.edges import gather_neighbours, row_major
from vdw_jax.equivariant.kernels import has_kernels
from vdw_jax.equivariant.rotation import EdgeFrames, split_rows, stack_rows, turn_from_edges, turn_to_edges

Ends = tuple[jax.Array, jax.Array]


def find_ends(index: jax.Array | None, num_nodes: int, num_slots: int, fused: bool) -> Ends | None:
    """For `send`, once for all layers: edges sorted by the node they come from; None where kernels do not run."""
    return message_kernels.incoming(index, num_nodes, num_slots) if fused and has_kernels() else None


def send(
    frames: EdgeFrames, nodes: jax.Array, index: jax.Array | None, weights: jax.Array, ends: Ends | None = None
) -> list[jax.Array]:
    """Neighbour and node turned into the frame of each edge, side by side, and scaled.

    Args:
      nodes: l-major [B, N, (lmax+1)^2, C].
      index: as for `gather_neighbours`.
      weights: [B, N, K, num_radial_weights], one a (l, |m|) and channel.
      ends: of `find_ends`: by kernels.
    Returns:
      Blocks [B, N, K, coefficients, 2 C], in the dtype of the nodes.
    """
    if ends is not None:
        return _send_fused(False, frames, nodes, index, ends, weights)
    return _send(frames, nodes, index, weights)


def collect(frames: EdgeFrames, values: list[jax.Array], weights: jax.Array, fused: bool = False) -> jax.Array:
    """Sum over the neighbours of weighed values, turned back into the global frame.

    Args:
      values: blocks [B, N, K, coefficients, H * V], the values of all heads.
      weights: [B, N, K, H].
      fused: by kernels, where `has_kernels`.
    Returns:
      l-major [B, N, (lmax+1)^2, H * V], in the dtype of the values.
    """
    if fused and has_kernels():
        return _collect_fused(False, frames, values, weights)
    return _collect(frames, values, weights)


@jax.checkpoint
def _send(frames, nodes, index, weights):
    order, num_slots = frames.order, weights.shape[2]
    neighbours = gather_neighbours(nodes, index, num_slots)
    sources = turn_to_edges(frames, neighbours)
    targets = turn_to_edges(frames, row_major(jnp.broadcast_to(nodes[:, :, None], neighbours.shape)))
    keys = [key for key in order.degrees_and_orders if key[1] >= 0]
    scale = dict(zip(keys, jnp.split(weights, len(keys), axis=-1), strict=True))
    rows = {
        (degree, m): jnp.concatenate([sources[degree, m], targets[degree, m]], axis=-1) * scale[degree, abs(m)]
        for degree, m in order.degrees_and_orders
    }
    return [block.astype(nodes.dtype) for block in stack_rows(order, rows)]


@jax.checkpoint
def _collect(frames, values, weights):
    each = jnp.repeat(weights, values[0].shape[-1] // weights.shape[-1], axis=-1)[..., None, :]
    turned = turn_from_edges(frames, split_rows(frames.order, values))
    summed = row_major(turned * each).sum(axis=2).astype(values[0].dtype)
    return jax.lax.optimization_barrier(summed)  # else XLA sums again for each degree that reads it


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _send_fused(interpret, frames, nodes, index, ends, weights):
    return message_kernels.send(frames.order, frames.packed, nodes, ends, weights, interpret=interpret)


def _send_fused_forward(interpret, *inputs):
    return _send_fused(interpret, *inputs), inputs


def _send_fused_backward(interpret, inputs, gradients):
    frames, nodes, index, ends, weights = inputs
    # Of the frames by XLA: it drops this where nobody asks for it, as in training.
    _, pull = jax.vjp(lambda frames: _send(frames, nodes, index, weights), frames)
    of_nodes, of_weights = message_kernels.send_backward(
        frames.order, frames.packed, nodes, ends, weights, gradients, interpret=interpret
    )
    return *pull(gradients), of_nodes, None, None, of_weights


_send_fused.defvjp(_send_fused_forward, _send_fused_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _collect_fused(interpret, frames, values, weights):
    return message_kernels.collect(frames.order, frames.packed, values, weights, interpret=interpret)


def _collect_fused_forward(interpret, *inputs):
    return _collect_fused(interpret, *inputs), inputs


def _collect_fused_backward(interpret, inputs, gradient):
    frames, values, weights = inputs
    _, pull = jax.vjp(lambda frames: _collect(frames, values, weights), frames)  # as for `send`
    of_values, of_weights = message_kernels.collect_backward(
        frames.order, frames.packed, values, weights, gradient, interpret=interpret
    )
    return *pull(gradient), of_values, of_weights


_collect_fused.defvjp(_collect_fused_forward, _collect_fused_backward)
