"""`activations.separable_s2` as a Pallas kernel (Triton): coefficients to the grid, SiLU, and back, in registers.

XLA writes the values at the grid's points, three times as many numbers as there are coefficients, and reads them again.
Here some points at a time are made for a tile of edges and channels, and added to what goes back. In bfloat16 a
sigmoid is made of a tanh, one instruction: an exponential and a division would take longer than all the rest.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from vdw_jax.equivariant.grid import SphereGrid, wide
from vdw_jax.equivariant.irreps import EdgeOrder
from vdw_jax.equivariant.kernels import fma, run_kernel, tanh


@dataclasses.dataclass(frozen=True)
class Tile:
    """What one program goes through: `pieces` tiles of edges times channels, each by `points` of the grid at a time."""

    rows: int
    pieces: int
    points: int
    warps: int


FORWARD, BACKWARD = Tile(64, 2, 32, 4), Tile(64, 16, 32, 4)


def _power_of_two(size: int) -> int:
    """The next one, at least 16: what a matrix product takes."""
    return max(16, 1 << (size - 1).bit_length())


def _matrices(grid: SphereGrid, order: EdgeOrder, points: int, dtype) -> tuple[list[jax.Array], list[jax.Array]]:
    """To half the grid's values [n, P] and from its values [P, n], of the coefficients of each |m|, padded."""
    forth, back = grid.matrices(order.lmax, order)
    to_points, from_points = [], []
    for m in range(order.mmax + 1):
        part, size = order.block(m), order.block_size(m)
        padding = [(0, _power_of_two(size) - size), (0, -len(forth) % points)]
        to_points.append(jnp.asarray(np.pad(0.5 * forth[:, part].T, padding), dtype))
        from_points.append(jnp.asarray(np.pad(back[part], padding).T, dtype))
    return to_points, from_points


class _Rows:
    """A tile: channels of one edge, then of the next; and for each the coefficients of each |m|."""

    def __init__(self, order: EdgeOrder, tile: Tile, number: jax.Array, num_edges: int, channels: int) -> None:
        width = _power_of_two(channels)
        row = jnp.arange(max(tile.rows, width))
        self.edge, self.column = number * (row.size // width) + row // width, row % width
        self.real = (self.edge < num_edges) & (self.column < channels)
        self.counts = [order.block_size(m) for m in range(order.mmax + 1)]

    def _where(self, ref, count: int):
        place = jnp.arange(_power_of_two(count))
        where = ref.at[self.edge[None, :], place[:, None], self.column[None, :]]
        return where, (place < count)[:, None] & self.real[None, :]

    def load(self, refs) -> list[jax.Array]:
        """Of each |m| [n, rows], in the dtype of the blocks."""
        places = (self._where(ref, count) for ref, count in zip(refs, self.counts, strict=True))
        return [plt.load(where, mask=mask, other=0) for where, mask in places]

    def store(self, refs, values) -> None:
        """Of each |m| [rows, n]."""
        for ref, count, value in zip(refs, self.counts, values, strict=True):
            where, mask = self._where(ref, count)
            plt.store(where, value.T.astype(ref.dtype), mask=mask)


def _num_programs(tile: Tile, num_edges: int, channels: int) -> int:
    return pl.cdiv(num_edges, tile.pieces * max(1, tile.rows // _power_of_two(channels)))


def _dot(left, right, axis: int):
    """Sum over an axis of `left` and the first of `right`, in float32."""
    precision = "highest" if left.dtype == jnp.float32 else None
    return jax.lax.dot_general(
        left, right, (((axis,), (0,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


def _to_points(coefficients, matrices) -> jax.Array:
    """[rows, points] of [n, rows] and [n, points] of each |m|."""
    return sum(_dot(part, matrix, 0) for part, matrix in zip(coefficients, matrices, strict=True))


def _add(totals, values, matrices) -> list:
    """[rows, n] of each |m|, and what [rows, points] add to them."""
    return [total + _dot(values, matrix, 1) for total, matrix in zip(totals, matrices, strict=True)]


def _groups(refs: Sequence, size: int) -> list[Sequence]:
    return [refs[start : start + size] for start in range(0, len(refs), size)]


def _pieces(refs, axis: int, size: int) -> list[list[jax.Array]]:
    """The matrices of each |m| for some points, then the next."""
    number = refs[0].shape[axis] // size
    return [[ref[(slice(None),) * axis + (pl.ds(i * size, size),)] for ref in refs] for i in range(number)]


def _silu(half: jax.Array, exact: bool) -> jax.Array:
    """Of twice the argument: x sigmoid(x) = h + h tanh(h)."""
    return jax.nn.silu(2 * half) if exact else fma(half, tanh(half), half)


def _double_slope(half: jax.Array, exact: bool) -> jax.Array:
    """Twice the derivative of SiLU at twice the argument: (1 + tanh(h)) (1 + h (1 - tanh(h)))."""
    bend = jnp.tanh(half) if exact else tanh(half)
    return (1 + bend) * (1 + fma(-half, bend, half))


def _kernel(order: EdgeOrder, tile: Tile, exact: bool, gates, *refs) -> None:
    num_edges, channels = gates.shape
    forth, back, inputs, outputs = _groups(refs, order.mmax + 1)
    steps = list(zip(_pieces(forth, 1, tile.points), _pieces(back, 0, tile.points), strict=True))
    first = pl.program_id(0) * tile.pieces

    def piece_of(number, _):
        rows = _Rows(order, tile, first + number, num_edges, channels)
        coefficients = rows.load(inputs)
        totals: list = [0.0] * len(outputs)
        for to_points, from_points in steps:
            values = _silu(_to_points(coefficients, to_points), exact)
            totals = _add(totals, values.astype(from_points[0].dtype), from_points)
        scalars = plt.load(gates.at[rows.edge, rows.column], mask=rows.real, other=0).astype(totals[0].dtype)
        is_scalar = jnp.arange(totals[0].shape[1])[None, :] == 0
        totals[0] = jnp.where(is_scalar, _silu(0.5 * scalars, exact)[:, None], totals[0])
        rows.store(outputs, totals)
        return 0

    jax.lax.fori_loop(0, tile.pieces, piece_of, 0)


def _backward_kernel(order: EdgeOrder, tile: Tile, exact: bool, gates, *refs) -> None:
    num_edges, channels = gates.shape
    forth, forth_t, back_t, inputs, gradients, outputs = _groups(refs, order.mmax + 1)
    steps = [_pieces(matrices, axis, tile.points) for matrices, axis in ((forth, 1), (forth_t, 0), (back_t, 1))]
    first = pl.program_id(0) * tile.pieces

    def piece_of(number, _):
        rows = _Rows(order, tile, first + number, num_edges, channels)
        coefficients, gradient = rows.load(inputs), rows.load(gradients)
        totals: list = [0.0] * len(outputs)
        for to_points, of_points, from_points in zip(*steps, strict=True):
            slope = _double_slope(_to_points(coefficients, to_points), exact) * _to_points(gradient, from_points)
            totals = _add(totals, slope.astype(of_points[0].dtype), of_points)
        rows.store(outputs, totals)
        return 0

    jax.lax.fori_loop(0, tile.pieces, piece_of, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def separable_s2(
    grid: SphereGrid, order: EdgeOrder, interpret: bool, blocks: list[jax.Array], gates: jax.Array
) -> list[jax.Array]:
    """As `activations.separable_s2`."""
    matrices = _matrices(grid, order, FORWARD.points, gates.dtype)
    return _run(_kernel, FORWARD, order, interpret, gates, matrices, (blocks,))


def _run(kernel, tile, order, interpret, gates, matrices, arrays) -> list[jax.Array]:
    """The kernel on matrices and arrays of each |m|; its outputs have the shapes of the first array."""
    num_edges, channels = int(np.prod(gates.shape[:-1])), gates.shape[-1]
    flat = [block.reshape(num_edges, *block.shape[-2:]) for blocks in arrays for block in blocks]
    shapes = [jax.ShapeDtypeStruct(block.shape, block.dtype) for block in flat[: order.mmax + 1]]
    exact = gates.dtype == jnp.float32 or interpret
    inputs = (gates.reshape(num_edges, channels), *(matrix for group in matrices for matrix in group), *flat)
    kernel = functools.partial(kernel, order, tile, exact)
    grid = (_num_programs(tile, num_edges, channels),)
    out = run_kernel(kernel, inputs, shapes, grid, tile.warps, interpret)
    return [new.reshape(old.shape) for new, old in zip(out, arrays[0], strict=True)]


def _forward(grid, order, interpret, blocks, gates):
    return separable_s2(grid, order, interpret, blocks, gates), (blocks, gates)


def _backward(grid, order, interpret, kept, gradients):
    blocks, gates = kept
    forth, back = _matrices(grid, order, BACKWARD.points, gates.dtype)
    back_t = [matrix.T for matrix in back]
    back_t[0] = back_t[0].at[0].set(0)  # l = 0 is the gates'
    matrices = (forth, [matrix.T for matrix in forth], back_t)
    of_blocks = _run(_backward_kernel, BACKWARD, order, interpret, gates, matrices, (blocks, gradients))
    _, pull = jax.vjp(lambda gates: jax.nn.silu(gates.astype(wide(gates.dtype))), gates)
    return of_blocks, pull(gradients[0][..., 0, :].astype(wide(gates.dtype)))[0]


separable_s2.defvjp(_forward, _backward)
