"""`activations.separable_s2` as a Pallas kernel (Triton): coefficients to the grid, SiLU, and back, in registers.

XLA writes the values at the grid's points, five times as many numbers as there are coefficients, and reads them again.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from vdw_jax.equivariant.grid import SphereGrid, wide
from vdw_jax.equivariant.irreps import EdgeOrder
from vdw_jax.equivariant.kernels import run_kernel

EDGES = 8
"""Edges that one program goes through."""

WARPS = 4


def _power_of_two(size: int) -> int:
    """The next one, at least 16: what a matrix product takes."""
    return max(16, 1 << (size - 1).bit_length())


def _matrices(grid: SphereGrid, order: EdgeOrder, dtype) -> tuple[jax.Array, jax.Array]:
    """To the grid [P, n] and back [n, P], padded with zeros."""
    forth, back = grid.matrices(order.lmax, order)
    points, size = (_power_of_two(length) for length in forth.shape)
    padded = np.zeros((points, size)), np.zeros((size, points))
    for whole, part in zip(padded, (forth, back), strict=True):
        whole[: part.shape[0], : part.shape[1]] = part
    return jnp.asarray(padded[0], dtype), jnp.asarray(padded[1], dtype)


class _Rows:
    """All coefficients of one edge by its channels, gathered from the blocks of each |m|."""

    def __init__(self, order: EdgeOrder, size: int, edge: jax.Array, channels: int) -> None:
        self.row, self.edge = jnp.arange(size), edge
        self.column = jnp.arange(_power_of_two(channels))
        self.real = self.column < channels
        self.slices = [order.block(m) for m in range(order.mmax + 1)]

    def _where(self, ref, part: slice):
        inside = (self.row >= part.start) & (self.row < part.stop)
        place = jnp.where(inside, self.row - part.start, part.stop - part.start)  # never used: masked
        return ref.at[self.edge, place[:, None], self.column[None, :]], inside[:, None] & self.real[None, :]

    def load(self, refs):
        """[size, channels] in the dtype of the blocks; each row is in one of them."""
        values = []
        for ref, part in zip(refs, self.slices, strict=True):
            where, mask = self._where(ref, part)
            values.append(plt.load(where, mask=mask, other=0))
        return functools.reduce(lambda a, b: a + b, values)

    def store(self, refs, value) -> None:
        """Inverse of `load`."""
        for ref, part in zip(refs, self.slices, strict=True):
            where, mask = self._where(ref, part)
            plt.store(where, value.astype(ref.dtype), mask=mask)


def _dot(left, right):
    exact = left.dtype == jnp.float32
    return jnp.dot(left, right, precision="highest" if exact else None, preferred_element_type=jnp.float32)


def _each_edge(num_edges: int, body) -> None:
    first = pl.program_id(0) * EDGES

    def step(number, _):
        edge = first + number
        pl.when(edge < num_edges)(lambda: body(edge))
        return 0

    jax.lax.fori_loop(0, EDGES, step, 0)


def _kernel(order: EdgeOrder, num_edges: int, channels: int, forth, back, gates, *refs) -> None:
    count = order.mmax + 1
    inputs, outputs = refs[:count], refs[count:]
    to_points, from_points = forth[...], back[...]

    def edge_of(edge):
        rows = _Rows(order, forth.shape[1], edge, channels)
        values = _dot(to_points, rows.load(inputs))
        values = values * jax.nn.sigmoid(values)
        out = _dot(from_points, values.astype(to_points.dtype))
        scalars = plt.load(gates.at[edge, rows.column], mask=rows.real, other=0).astype(out.dtype)
        scalars = scalars * jax.nn.sigmoid(scalars)
        rows.store(outputs, jnp.where(rows.row[:, None] == 0, scalars[None, :], out))

    _each_edge(num_edges, edge_of)


def _backward_kernel(order: EdgeOrder, num_edges: int, channels: int, forth, forth_t, back_t, *refs) -> None:
    count = order.mmax + 1
    inputs, gradients, outputs = refs[:count], refs[count : 2 * count], refs[2 * count :]
    to_points, of_points, from_points = forth[...], forth_t[...], back_t[...]

    def edge_of(edge):
        rows = _Rows(order, forth.shape[1], edge, channels)
        values = _dot(to_points, rows.load(inputs))
        gradient = rows.load(gradients)
        gradient = jnp.where(rows.row[:, None] == 0, jnp.zeros_like(gradient), gradient)
        sigmoid = jax.nn.sigmoid(values)
        slope = sigmoid * (1 + values * (1 - sigmoid)) * _dot(from_points, gradient)
        rows.store(outputs, _dot(of_points, slope.astype(to_points.dtype)))

    _each_edge(num_edges, edge_of)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def separable_s2(
    grid: SphereGrid, order: EdgeOrder, interpret: bool, blocks: list[jax.Array], gates: jax.Array
) -> list[jax.Array]:
    """As `activations.separable_s2`."""
    lead, channels = gates.shape[:-1], gates.shape[-1]
    num_edges = int(np.prod(lead))
    flat = [block.reshape(num_edges, *block.shape[-2:]) for block in blocks]
    shapes = [jax.ShapeDtypeStruct(block.shape, block.dtype) for block in flat]
    kernel = functools.partial(_kernel, order, num_edges, channels)
    inputs = (*_matrices(grid, order, blocks[0].dtype), gates.reshape(num_edges, channels), *flat)
    out = run_kernel(kernel, inputs, shapes, (pl.cdiv(num_edges, EDGES),), WARPS, interpret)
    return [new.reshape(old.shape) for new, old in zip(out, blocks, strict=True)]


def _forward(grid, order, interpret, blocks, gates):
    return separable_s2(grid, order, interpret, blocks, gates), (blocks, gates)


def _backward(grid, order, interpret, kept, gradients):
    blocks, gates = kept
    channels, num_edges = gates.shape[-1], int(np.prod(gates.shape[:-1]))
    flat = [array.reshape(num_edges, *array.shape[-2:]) for array in (*blocks, *gradients)]
    shapes = [jax.ShapeDtypeStruct(block.shape, block.dtype) for block in flat[: len(blocks)]]
    forth, back = _matrices(grid, order, blocks[0].dtype)
    kernel = functools.partial(_backward_kernel, order, num_edges, channels)
    inputs = (forth, forth.T, back.T, *flat)
    out = run_kernel(kernel, inputs, shapes, (pl.cdiv(num_edges, EDGES),), WARPS, interpret)
    _, pull = jax.vjp(lambda gates: jax.nn.silu(gates.astype(wide(gates.dtype))), gates)
    of_gates = pull(gradients[0][..., 0, :].astype(wide(gates.dtype)))[0]
    return [new.reshape(old.shape) for new, old in zip(out, blocks, strict=True)], of_gates


separable_s2.defvjp(_forward, _backward)
