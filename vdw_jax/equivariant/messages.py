"""Messages between nodes in the frames of their edges: all that passes memory once for each edge.

All keep nothing for their gradients but their inputs, and go through the edges again instead: what they make on the way
is several times larger than what they read. Edge features are lists of the blocks of each |m| (`EdgeOrder.split`), as
the SO(2) products read and write them, so that nothing is joined only to be split again.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vdw_jax.equivariant.edges import gather_neighbours, row_major
from vdw_jax.equivariant.rotation import EdgeFrames, split_rows, stack_rows, turn_from_edges, turn_to_edges


@jax.checkpoint
def send(frames: EdgeFrames, nodes: jax.Array, index: jax.Array | None, weights: jax.Array) -> list[jax.Array]:
    """Neighbour and node turned into the frame of each edge, side by side, and scaled.

    Args:
      nodes: l-major [B, N, (lmax+1)^2, C].
      index: as for `gather_neighbours`.
      weights: [B, N, K, num_radial_weights], one a (l, |m|) and channel.
    Returns:
      Blocks [B, N, K, coefficients, 2 C], in the dtype of the nodes.
    """
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
def collect(frames: EdgeFrames, values: list[jax.Array], weights: jax.Array) -> jax.Array:
    """Sum over the neighbours of weighed values, turned back into the global frame.

    Args:
      values: blocks [B, N, K, coefficients, H * V], the values of all heads.
      weights: [B, N, K, H].
    Returns:
      l-major [B, N, (lmax+1)^2, H * V], in the dtype of the values.
    """
    each = jnp.repeat(weights, values[0].shape[-1] // weights.shape[-1], axis=-1)[..., None, :]
    turned = turn_from_edges(frames, split_rows(frames.order, values))
    summed = row_major(turned * each).sum(axis=2).astype(values[0].dtype)
    return jax.lax.optimization_barrier(summed)  # else XLA sums again for each degree that reads it


@jax.checkpoint
def collect_scalars(frames: EdgeFrames, values: jax.Array, weights: jax.Array) -> jax.Array:
    """`collect` of values that have m = 0 alone.

    Args:
      values: [B, N, K, lmax + 1, C].
      weights: [B, N, K].
    """
    parts = [
        block[..., min(degree, frames.order.mmax), :, None] * (values[..., degree, None, :] * weights[..., None, None])
        for degree, block in enumerate(frames.blocks)
    ]
    return row_major(jnp.concatenate(parts, axis=-2)).sum(axis=2).astype(values.dtype)
