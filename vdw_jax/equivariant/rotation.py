"""Into the frame of an edge and back: only |m| <= mmax ever leaves a rotation."""

from __future__ import annotations

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

    Multiplied in float32 at the highest precision whatever the dtype: TF32 here costs equivariance.
    """
    order, pieces = frames.order, {}
    for degree, block in enumerate(frames.blocks):
        part = features[..., degree * degree : (degree + 1) ** 2, :].astype(jnp.float32)
        turned = jnp.einsum("...mn,...nc->...mc", block, part, precision="highest").astype(features.dtype)
        top = min(degree, order.mmax)
        for m in range(-top, top + 1):
            pieces[degree, m] = turned[..., top + m : top + m + 1, :]
    return jnp.concatenate([pieces[key] for key in order.degrees_and_orders], axis=-2)


def from_edges(frames: EdgeFrames, features: jax.Array) -> jax.Array:
    """m-major features [..., size, C] on the edge -> l-major [..., (lmax+1)^2, C] in the global frame."""
    order, parts = frames.order, []
    place = {key: position for position, key in enumerate(order.degrees_and_orders)}
    for degree, block in enumerate(frames.blocks):
        top = min(degree, order.mmax)
        rows = [features[..., place[degree, m], :] for m in range(-top, top + 1)]
        part = jnp.stack(rows, axis=-2).astype(jnp.float32)
        parts.append(
            jnp.einsum("...mn,...mc->...nc", block, part, precision="highest").astype(features.dtype)
        )
    return jnp.concatenate(parts, axis=-2)
