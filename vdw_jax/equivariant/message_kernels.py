"""`messages.send` and `messages.collect` as Pallas kernels (Triton), each passing over the edges once.

XLA splits them into several passes over all edges, or into one kernel of thousands of instructions. Here a program
holds one degree of a node and goes through the edges it is an end of, an edge or two by all channels at a time; each
number that belongs to an edge is read and written once.
Gradients are sums in a fixed order, without atomics, so results do not change from run to run. The gradient with
respect to the frames, which training has no use for, is XLA's of the plain version; unused, it costs nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from vdw_jax.equivariant.grid import wide
from vdw_jax.equivariant.irreps import EdgeOrder
from vdw_jax.equivariant.kernels import fma, run_kernel


@dataclasses.dataclass(frozen=True)
class Tile:
    """What one program works on, and with how many warps; sizes are powers of 2."""

    edges: int
    channels: int
    warps: int


# The fastest, or nearly so, on an H200 for both configs/j2dh8.py and configs/paper.py: benchmarks/NOTES.md.
SEND, SEND_BACKWARD = Tile(2, 128, 1), Tile(1, 128, 1)
COLLECT, COLLECT_BACKWARD = Tile(2, 128, 1), Tile(1, 128, 1)


@dataclasses.dataclass(frozen=True)
class Turn:
    """Where the numbers of one (l, m) lie: in the frames, in the blocks of each |m|, and among the radial weights."""

    degree: int
    m: int
    row: int  # of the packed frames, of its first entry; 2 l + 1 follow each other
    place: int  # in the block of |m|
    weight: int  # which radial weight


@functools.cache
def turns(order: EdgeOrder) -> tuple[tuple[Turn, ...], ...]:
    """Of each degree, in the order of the rows of its frame."""
    degrees, row = [], 0
    starts = np.cumsum([0] + [order.num_degrees(m) for m in range(order.mmax + 1)])
    for degree in range(order.lmax + 1):
        top, found = min(degree, order.mmax), []
        for m in range(-top, top + 1):
            place = degree - abs(m) + (order.num_degrees(abs(m)) if m < 0 else 0)
            found.append(Turn(degree, m, row, place, int(starts[abs(m)]) + degree - abs(m)))
            row += 2 * degree + 1
        degrees.append(tuple(found))
    return tuple(degrees)


def incoming(index: jax.Array | None, num_nodes: int, num_slots: int) -> tuple[jax.Array, jax.Array]:
    """Edges sorted by the node they come from: i K + k, [B or 1, N K], and where each node's begin, [B or 1, N + 1].

    Empty slots name a node too: what belongs to an edge is written by the node it comes from.
    """
    if index is None:
        times = num_slots // (num_nodes + 1)
        slots = np.concatenate([np.repeat(np.arange(num_nodes), times), np.full(times, -1)])
        index = jnp.asarray(np.where(slots < 0, np.arange(num_nodes)[:, None], slots)[None])
    flat = index.reshape(index.shape[0], -1)
    counts = jnp.sum(flat[:, None] == jnp.arange(num_nodes)[:, None], axis=-1)
    start = jnp.concatenate([jnp.zeros_like(counts[:, :1]), jnp.cumsum(counts, axis=-1)], axis=-1)
    return jnp.argsort(flat, axis=-1, stable=True).astype(jnp.int32), start.astype(jnp.int32)


class _Lanes:
    """The channels of a tile, and which of them exist."""

    def __init__(self, first: jax.Array, count: int, num_columns: int) -> None:
        self.column = first * count + jnp.arange(count)
        self.real = None if num_columns % count == 0 else self.column < num_columns


def _at(ref, *index):
    return ref.at[tuple(jnp.int32(x) if isinstance(x, int) else x for x in index)]


def _load(ref, *index, mask=None):
    value = plt.load(_at(ref, *index), mask=mask, other=None if mask is None else 0)
    return value.astype(wide(value.dtype)) if jnp.issubdtype(value.dtype, jnp.floating) else value


class _Edges:
    """A tile of edges: where their numbers lie, and which are real."""

    def __init__(self, frames, batch, node, slot, real, lanes: _Lanes) -> None:
        self.batch, self.node, self.slot = batch, node, slot
        # Where there is no edge the first frame is read: 0 times what lies behind an array may be NaN.
        self.frames, self.frame = frames, (batch, jnp.where(real, node, 0), jnp.where(real, slot, 0))
        self.column = lanes.column[None, :]
        self.mask = jnp.broadcast_to(real[:, None], (real.size, lanes.column.size))
        if lanes.real is not None:
            self.mask &= lanes.real[None, :]

    def entries(self, turn: Turn) -> list[jax.Array]:
        """Row of the frame, each entry [edges, 1]."""
        return [
            _load(self.frames, *self.frame, turn.row + column)[:, None]
            for column in range(2 * turn.degree + 1)
        ]

    def _where(self, ref, *last):
        first = (x[:, None] if getattr(x, "ndim", 0) else x for x in (self.batch, self.node, self.slot))
        return _at(ref, *first, *last)

    def load(self, ref, *place, shift: int | jax.Array = 0):
        """[edges, channels] of an array [B, N, K, ..., C]."""
        value = plt.load(self._where(ref, *place, shift + self.column), mask=self.mask, other=0)
        return value.astype(wide(value.dtype))

    def store(self, ref, value, *place, shift: int | jax.Array = 0) -> None:
        """Inverse of `load`."""
        plt.store(self._where(ref, *place, shift + self.column), value.astype(ref.dtype), mask=self.mask)


def _row(lanes: _Lanes, ref, batch, node, place):
    """[1, channels] of an array [B, N, n, C]."""
    return _load(ref, batch, node, place, lanes.column, mask=lanes.real)[None, :]


def _store_sums(lanes: _Lanes, ref, batch, node, places, totals) -> None:
    """Sums over the edges of tiles [edges, channels], to an array [B, N, n, C]."""
    for place, total in zip(places, totals, strict=True):
        plt.store(_at(ref, batch, node, place, lanes.column), total.sum(0).astype(ref.dtype), mask=lanes.real)


def _dot(entries, values):
    """Sum of products."""
    total = entries[0] * values[0]
    for entry, value in zip(entries[1:], values[1:], strict=True):
        total = fma(entry, value, total)
    return total


def _piece(count: int, size: int, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Places of a piece of `size` of `count` places, and which exist."""
    place = number * size + jnp.arange(size)
    return place, place < count


def _places(degree: int) -> range:
    """Of the coefficients of a degree among the l-major ones."""
    return range(degree**2, (degree + 1) ** 2)


class _Ends:
    """The edges that a node is an end of: those it feeds, whose messages begin with it, then its own, which end so."""

    def __init__(self, frames, num_slots: int, order, start, tile: Tile) -> None:
        self.batch, self.node = pl.program_id(0), pl.program_id(1)
        self.listed = 0 if start.shape[0] == 1 else self.batch
        self.first, last = (_load(start, self.listed, self.node + more) for more in (0, 1))
        self.num_fed, self.num_slots = last - self.first, num_slots
        self.frames, self.order, self.size = frames, order, tile.edges

    def each(self, lanes: _Lanes, channels: int, body, carry):
        """`carry = body(edges, where their half of a message begins, carry)`, tile by tile."""
        fed_pieces = jax.lax.div(self.num_fed + jnp.int32(self.size - 1), jnp.int32(self.size))

        def piece_of(piece, carry):
            is_own = piece >= fed_pieces
            place = jnp.where(is_own, piece - fed_pieces, piece) * self.size + jnp.arange(self.size)
            real = place < jnp.where(is_own, self.num_slots, self.num_fed)
            fed = _load(self.order, self.listed, self.first + place, mask=real & ~is_own)
            edge = jnp.where(is_own, self.node * self.num_slots + place, fed)
            node, slot = edge // self.num_slots, edge % self.num_slots
            edges = _Edges(self.frames, self.batch, node, slot, real, lanes)
            return body(edges, is_own.astype(jnp.int32) * channels, carry)

        return jax.lax.fori_loop(0, fed_pieces + pl.cdiv(self.num_slots, self.size), piece_of, carry)


def _degree_by_degree(order: EdgeOrder, which: jax.Array, body) -> None:
    """`body(degree, its turns)` for the one that this program is for, the longest first."""
    for degree, rows in enumerate(turns(order)):
        pl.when(which == order.lmax - degree)(functools.partial(body, degree, rows))


def _send_kernel(order: EdgeOrder, tile: Tile, sorted_edges, start, nodes, frames, weights, *out) -> None:
    """One degree of a node, turned into the frame of each edge it is an end of."""
    channels, which = nodes.shape[-1], pl.program_id(2)
    lanes = _Lanes(which // (order.lmax + 1), tile.channels, channels)
    ends = _Ends(frames, weights.shape[2], sorted_edges, start, tile)

    def degree_of(degree, rows):
        values = [_row(lanes, nodes, ends.batch, ends.node, place) for place in _places(degree)]

        def edges_of(edges, shift, nothing):
            for turn in rows:
                scale = edges.load(weights, shift=turn.weight * 2 * channels + shift)
                edges.store(out[abs(turn.m)], _dot(edges.entries(turn), values) * scale, turn.place, shift=shift)
            return nothing

        ends.each(lanes, channels, edges_of, ())

    _degree_by_degree(order, which % (order.lmax + 1), degree_of)


def _send_backward_kernel(order, tile, sorted_edges, start, nodes, frames, weights, *rest) -> None:
    """One degree of a node: from its half of the messages it is an end of, gradients of their weights and of itself."""
    *gradients, of_nodes, of_weights = rest
    channels, which = nodes.shape[-1], pl.program_id(2)
    lanes = _Lanes(which // (order.lmax + 1), tile.channels, channels)
    ends = _Ends(frames, weights.shape[2], sorted_edges, start, tile)

    def degree_of(degree, rows):
        places = _places(degree)
        values = [_row(lanes, nodes, ends.batch, ends.node, place) for place in places]

        def edges_of(edges, shift, totals):
            for weight, both in itertools.groupby(sorted(rows, key=lambda turn: abs(turn.m)), lambda turn: turn.weight):
                key, of_weight = weight * 2 * channels + shift, 0.0
                for turn in both:
                    gradient = edges.load(gradients[abs(turn.m)], turn.place, shift=shift)
                    scaled, entries = gradient * edges.load(weights, shift=key), edges.entries(turn)
                    of_weight = fma(gradient, _dot(entries, values), of_weight)
                    totals = tuple(fma(entry, scaled, total) for total, entry in zip(totals, entries, strict=True))
                edges.store(of_weights, of_weight, shift=key)
            return totals

        zero = jnp.zeros((tile.edges, tile.channels), wide(nodes.dtype))
        totals = ends.each(lanes, channels, edges_of, (zero,) * len(places))
        _store_sums(lanes, of_nodes, ends.batch, ends.node, places, totals)

    _degree_by_degree(order, which % (order.lmax + 1), degree_of)


def _collect_kernel(order: EdgeOrder, tile: Tile, frames, weights, *rest) -> None:
    """One degree of the sum over the edges of a node."""
    *values, out = rest
    columns, num_slots, width = out.shape[-1], weights.shape[2], out.shape[-1] // weights.shape[-1]
    batch, node, which = (pl.program_id(axis) for axis in range(3))
    lanes = _Lanes(which // (order.lmax + 1), tile.channels, columns)

    def degree_of(degree, rows):
        places = _places(degree)

        def piece_of(piece, totals):
            slot, real = _piece(num_slots, tile.edges, piece)
            edges = _Edges(frames, batch, node, slot, real, lanes)
            weight = _load(weights, batch, node, slot[:, None], lanes.column[None, :] // width, mask=edges.mask)
            for turn in rows:
                value = weight * edges.load(values[abs(turn.m)], turn.place)
                totals = [fma(entry, value, total) for total, entry in zip(totals, edges.entries(turn), strict=True)]
            return tuple(totals)

        zero = jnp.zeros((tile.edges, tile.channels), wide(out.dtype))
        totals = jax.lax.fori_loop(0, pl.cdiv(num_slots, tile.edges), piece_of, (zero,) * len(places))
        _store_sums(lanes, out, batch, node, places, totals)

    _degree_by_degree(order, which % (order.lmax + 1), degree_of)


def _collect_backward_kernel(order: EdgeOrder, tile: Tile, frames, weights, gradient, *rest) -> None:
    """Gradients of values, and the products whose sum over a head's channels is that of its weight."""
    count = order.mmax + 1
    values, products, of_values = rest[:count], rest[count], rest[count + 1 :]
    columns, num_slots, width = gradient.shape[-1], weights.shape[2], gradient.shape[-1] // weights.shape[-1]
    batch, node, which = (pl.program_id(axis) for axis in range(3))
    pieces = pl.cdiv(num_slots, tile.edges)
    slot, real = _piece(num_slots, tile.edges, which % pieces)
    lanes = _Lanes(which // pieces, tile.channels, columns)
    edges = _Edges(frames, batch, node, slot, real, lanes)
    weight = _load(weights, batch, node, slot[:, None], lanes.column[None, :] // width, mask=edges.mask)
    total = jnp.zeros((tile.edges, tile.channels), wide(gradient.dtype))
    for degree, rows in enumerate(turns(order)):
        own = [_row(lanes, gradient, batch, node, place) for place in _places(degree)]
        for turn in rows:
            turned = _dot(edges.entries(turn), own)
            total = fma(turned, edges.load(values[abs(turn.m)], turn.place), total)
            edges.store(of_values[abs(turn.m)], weight * turned, turn.place)
    edges.store(products, total)


def _shape(lead, order: EdgeOrder, channels: int, dtype) -> list[jax.ShapeDtypeStruct]:
    """Blocks of each |m|."""
    return [jax.ShapeDtypeStruct((*lead, order.block_size(m), channels), dtype) for m in range(order.mmax + 1)]


def send(order: EdgeOrder, packed, nodes, ends, weights, *, interpret: bool = False) -> list[jax.Array]:
    """`messages.send` with packed frames [B, N, K, R] and the edges of `incoming`."""
    size, num_nodes = nodes.shape[:2]
    channels, tile = nodes.shape[-1], SEND
    grid = (size, num_nodes, (order.lmax + 1) * pl.cdiv(channels, tile.channels))
    out_shape = _shape(weights.shape[:3], order, 2 * channels, nodes.dtype)
    kernel = functools.partial(_send_kernel, order, tile)
    return run_kernel(kernel, (*ends, nodes, packed, weights), out_shape, grid, tile.warps, interpret)


def send_backward(order, packed, nodes, ends, weights, gradients, *, interpret: bool = False):
    """Gradients of `send` with respect to nodes and weights."""
    size, num_nodes = nodes.shape[:2]
    channels, tile = nodes.shape[-1], SEND_BACKWARD
    grid = (size, num_nodes, (order.lmax + 1) * pl.cdiv(channels, tile.channels))
    out_shape = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (nodes, weights)]
    kernel = functools.partial(_send_backward_kernel, order, tile)
    inputs = (*ends, nodes, packed, weights, *gradients)
    return run_kernel(kernel, inputs, out_shape, grid, tile.warps, interpret)


def collect(order: EdgeOrder, packed, values, weights, *, interpret: bool = False) -> jax.Array:
    """`messages.collect` with packed frames."""
    size, num_nodes = weights.shape[:2]
    columns, tile = values[0].shape[-1], COLLECT
    grid = (size, num_nodes, (order.lmax + 1) * pl.cdiv(columns, tile.channels))
    out_shape = jax.ShapeDtypeStruct((size, num_nodes, (order.lmax + 1) ** 2, columns), values[0].dtype)
    kernel = functools.partial(_collect_kernel, order, tile)
    return run_kernel(kernel, (packed, weights, *values), [out_shape], grid, tile.warps, interpret)[0]


def collect_backward(order, packed, values, weights, gradient, *, interpret: bool = False):
    """Gradients of `collect` with respect to values and weights."""
    size, num_nodes, num_slots, _ = weights.shape
    columns, tile = values[0].shape[-1], COLLECT_BACKWARD
    grid = (size, num_nodes, pl.cdiv(num_slots, tile.edges) * pl.cdiv(columns, tile.channels))
    out_shape = [jax.ShapeDtypeStruct((*weights.shape[:3], columns), wide(weights.dtype))]
    out_shape += [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in values]
    kernel = functools.partial(_collect_backward_kernel, order, tile)
    inputs = (packed, weights, gradient, *values)
    products, *of_values = run_kernel(kernel, inputs, out_shape, grid, tile.warps, interpret)
    of_weights = products.reshape(*weights.shape, -1).sum(-1).astype(weights.dtype)
    return of_values, of_weights
