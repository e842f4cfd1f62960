"""Into the frame of an edge and back: only |m| <= mmax ever leaves a rotation."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import struct

from vdw_jax.equivariant.irreps import EdgeOrder, rotation_to_pole, wigner_blocks


@struct.dataclass
class EdgeFrames:
    """Wigner matrices that turn every edge onto the polar axis, block by block."""

    blocks: tuple[
        jax.Array, ...
    ]  # l = 0..lmax, each [..., min(2l, 2mmax)+1, 2l+1] float32, rows m = -mmax..mmax
    order: EdgeOrder = struct.field(pytree_node=False)


def edge_frames(vectors: jax.Array, order: EdgeOrder) -> EdgeFrames:
    """Frames of edges [..., 3], computed once a network call and shared by its layers."""
    full = wigner_blocks(rotation_to_pole(vectors.astype(jnp.float32)), order.lmax)
    rows = (block[..., max(0, d - order.mmax) : d + order.mmax + 1, :] for d, block in enumerate(full))
    return EdgeFrames(tuple(rows), order)


def to_edges(frames: EdgeFrames, features: jax.Array) -> jax.Array:
    """l-major features [..., (lmax+1)^2, C] in the global frame -> m-major [..., size, C] on the edge.

    Multiplied in float32 whatever the dtype, since TF32 here costs equivariance; as sums of products that XLA fuses,
    since the matrices are too small for a matrix unit.
    """
    order, pieces = frames.order, {}
    for degree, block in enumerate(frames.blocks):
        part = features[..., degree * degree : (degree + 1) ** 2, :].astype(jnp.float32)
        top = min(degree, order.mmax)
        for m in range(-top, top + 1):
            row = block[..., top + m, :, None]
            pieces[degree, m] = _sum(row[..., n, :] * part[..., n, :] for n in range(2 * degree + 1))
    return jnp.stack([pieces[key] for key in order.degrees_and_orders], axis=-2).astype(features.dtype)


def from_edges(frames: EdgeFrames, features: jax.Array) -> jax.Array:
    """m-major features [..., size, C] on the edge -> l-major [..., (lmax+1)^2, C] in the global frame."""
    order, parts = frames.order, []
    place = {key: position for position, key in enumerate(order.degrees_and_orders)}
    for degree, block in enumerate(frames.blocks):
        top = min(degree, order.mmax)
        rows = [features[..., place[degree, m], :].astype(jnp.float32) for m in range(-top, top + 1)]
        for n in range(2 * degree + 1):
            parts.append(_sum(block[..., k, n, None] * row for k, row in enumerate(rows)))
    return jnp.stack(parts, axis=-2).astype(features.dtype)


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, terms)
