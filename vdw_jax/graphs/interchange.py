"""Between dense batches and padded `jraph.GraphsTuple`, the interchange format at the program's edge."""

from __future__ import annotations

import jax.numpy as jnp
import jraph
import numpy as np

from vdw_jax.types import CrystalBatch, Neighbours


def to_graphs_tuple(batch: CrystalBatch, neighbours: Neighbours) -> jraph.GraphsTuple:
    """A `GraphsTuple` padded as jraph's own `pad_with_graphs` pads: the last graph holds the padding.

    Shapes depend only on the padded shapes of the inputs ([B, N] atoms, K slots), so equal shapes in
    give equal shapes out. Runs on the host.

    Returns:
      nodes {"atomic_numbers": [B*N+1], "positions": [B*N+1, 3] Angstrom}, edges {"vector":
      [B*N*K, 3] Angstrom}, globals {"cell": [B+1, 3, 3] Angstrom}; the message of an edge goes from
      `senders` (the neighbour) to `receivers` (the atom).
    """
    atom_mask = np.asarray(batch.atom_mask)
    edge_mask = np.asarray(neighbours.mask)
    num_crystals, num_slots = atom_mask.shape
    sink = num_crystals * num_slots
    node_order = np.concatenate([np.flatnonzero(atom_mask), np.flatnonzero(~atom_mask)])
    place = np.empty(sink, np.int32)
    place[node_order] = np.arange(sink)

    base = (np.arange(num_crystals) * num_slots)[:, None, None]
    receivers = np.broadcast_to(base + np.arange(num_slots)[None, :, None], edge_mask.shape)
    senders = base + np.asarray(neighbours.index)
    edge_order = np.concatenate([np.flatnonzero(edge_mask), np.flatnonzero(~edge_mask)])
    real_edge = edge_mask.reshape(-1)[edge_order]

    def ordered(values) -> jnp.ndarray:
        flat = np.asarray(values).reshape(sink, *np.asarray(values).shape[2:])[node_order]
        return jnp.asarray(np.concatenate([flat, np.zeros_like(flat[:1])]))

    def ends(nodes) -> jnp.ndarray:
        return jnp.asarray(np.where(real_edge, place[nodes.reshape(-1)[edge_order]], sink).astype(np.int32))

    n_node, n_edge = atom_mask.sum(1), edge_mask.sum((1, 2))
    return jraph.GraphsTuple(
        nodes={"atomic_numbers": ordered(batch.atomic_numbers), "positions": ordered(batch.positions)},
        edges={"vector": jnp.asarray(np.asarray(neighbours.vector).reshape(-1, 3)[edge_order])},
        senders=ends(senders),
        receivers=ends(receivers),
        globals={"cell": jnp.concatenate([batch.cell, jnp.zeros((1, 3, 3))])},
        n_node=jnp.asarray([*n_node, sink + 1 - n_node.sum()], jnp.int32),
        n_edge=jnp.asarray([*n_edge, edge_mask.size - n_edge.sum()], jnp.int32),
    )


def from_graphs_tuple(graphs: jraph.GraphsTuple, max_atoms: int) -> CrystalBatch:
    """The dense batch of a padded `GraphsTuple`; its last graph is taken as padding.

    Raises:
      ValueError: if a crystal has more than `max_atoms` atoms.
    """
    n_node = np.asarray(graphs.n_node)[:-1]
    if n_node.size and n_node.max() > max_atoms:
        raise ValueError(f"a crystal has {n_node.max()} atoms; the batch takes {max_atoms}")
    numbers = np.zeros((n_node.size, max_atoms), np.int32)
    positions = np.zeros((n_node.size, max_atoms, 3), np.float32)
    start = 0
    for crystal, count in enumerate(n_node):
        numbers[crystal, :count] = graphs.nodes["atomic_numbers"][start : start + count]
        positions[crystal, :count] = graphs.nodes["positions"][start : start + count]
        start += count
    cell = graphs.globals["cell"][:-1]
    return CrystalBatch(jnp.asarray(numbers), jnp.asarray(positions), jnp.asarray(cell))
