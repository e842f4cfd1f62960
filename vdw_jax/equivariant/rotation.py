"""Into the frame of an edge and back: only |m| <= mmax ever leaves a rotation.

In float32 whatever the dtype: TF32 here costs equivariance. Products are written out as sums over the few coefficients
of a degree, which XLA fuses on a GPU with what reads and writes them; products of small matrices would pass memory.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from vdw_jax.equivariant.grid import wide
from vdw_jax.equivariant.irreps import EdgeOrder, rotation_to_pole, wigner_blocks


@struct.dataclass
class EdgeFrames:
    """Wigner matrices that turn every edge onto the polar axis, block by block."""

    blocks: tuple[
        jax.Array, ...
    ]  # l = 0..lmax, each [..., min(2l, 2mmax)+1, 2l+1] float32, rows m = -mmax..mmax
    packed: jax.Array  # the same for `message_kernels`, [..., R]
    order: EdgeOrder = struct.field(pytree_node=False)

    def zeroth(self) -> EdgeFrames:
        """Of m = 0 alone."""
        rows = tuple(
            block[..., min(degree, self.order.mmax), None, :] for degree, block in enumerate(self.blocks)
        )
        return EdgeFrames(rows, pack(rows), EdgeOrder(self.order.lmax, 0))


Rows = dict[tuple[int, int], jax.Array]
"""Coefficients on an edge, [..., C] for each (l, m)."""


def edge_frames(vectors: jax.Array, order: EdgeOrder) -> EdgeFrames:
    """Frames of edges [..., 3], computed once a network call and shared by its layers."""
    rotation = rotation_to_pole(vectors.astype(wide(vectors.dtype)))
    rows = tuple(wigner_blocks(rotation, order.lmax, order.mmax))
    return EdgeFrames(rows, pack(rows), order)


def pack(blocks: tuple[jax.Array, ...]) -> jax.Array:
    """Wigner matrices of an edge side by side: [..., R]."""
    return jnp.concatenate([block.reshape(*block.shape[:-2], -1) for block in blocks], axis=-1)


def to_edges(frames: EdgeFrames, features: jax.Array) -> jax.Array:
    """l-major features [..., (lmax+1)^2, C] in the global frame -> m-major [..., size, C] on the edge."""
    rows = turn_to_edges(frames, features)
    return jnp.concatenate(stack_rows(frames.order, rows), axis=-2).astype(features.dtype)


def from_edges(frames: EdgeFrames, features: jax.Array) -> jax.Array:
    """m-major features [..., size, C] on the edge -> l-major [..., (lmax+1)^2, C] in the global frame."""
    return turn_from_edges(frames, split_rows(frames.order, frames.order.split(features))).astype(features.dtype)


def turn_to_edges(frames: EdgeFrames, features: jax.Array) -> Rows:
    """`to_edges` row by row, in float32."""
    order, rows = frames.order, {}
    parts = jnp.split(features, [degree * degree for degree in range(1, order.lmax + 1)], axis=-2)
    for degree, (block, part) in enumerate(zip(frames.blocks, parts, strict=True)):
        top = min(degree, order.mmax)
        for m, row in zip(range(-top, top + 1), _products(block, part.astype(wide(part.dtype))), strict=True):
            rows[degree, m] = row
    return rows


def _products(block: jax.Array, part: jax.Array) -> list[jax.Array]:
    """Rows of a matrix product: on a CPU as one, elsewhere as sums."""
    if jax.default_backend() == "cpu":
        turned = jnp.einsum("...mn,...nc->...mc", block, part, precision="highest")
        return [turned[..., row, :] for row in range(block.shape[-2])]
    return [jnp.sum(block[..., row, :, None] * part, axis=-2) for row in range(block.shape[-2])]


def turn_from_edges(frames: EdgeFrames, rows: Rows) -> jax.Array:
    """`from_edges` of single rows, in float32; [..., (lmax+1)^2, C]."""
    order, parts = frames.order, []
    for degree, block in enumerate(frames.blocks):
        top = min(degree, order.mmax)
        terms = [
            block[..., top + m, :, None] * rows[degree, m][..., None, :].astype(block.dtype)
            for m in range(-top, top + 1)
        ]
        parts.append(sum(terms[1:], terms[0]))
    return jnp.concatenate(parts, axis=-2)


def split_rows(order: EdgeOrder, blocks: list[jax.Array]) -> Rows:
    """The rows of the blocks of each |m|."""
    rows = [row[..., 0, :] for block in blocks for row in jnp.split(block, block.shape[-2], axis=-2)]
    return dict(zip(order.degrees_and_orders, rows, strict=True))


def stack_rows(order: EdgeOrder, rows: Rows) -> list[jax.Array]:
    """Inverse of `split_rows`."""
    keys = order.degrees_and_orders
    return [jnp.stack([rows[key] for key in keys[order.block(m)]], axis=-2) for m in range(order.mmax + 1)]
