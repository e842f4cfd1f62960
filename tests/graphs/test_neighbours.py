"""Neighbour lists against ASE's, and the way to jraph and back."""

import ase
import ase.neighborlist
import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from vdw_jax import geometry
from vdw_jax.equivariant.layers import polynomial_envelope
from vdw_jax.graphs.interchange import from_graphs_tuple, to_graphs_tuple
from vdw_jax.graphs.neighbours import edge_length, find_neighbours, find_pairs, image_range_for
from vdw_jax.types import BULK, SLAB, CrystalBatch

CUTOFF = 4.5
KINDS = pytest.mark.parametrize("periodicity", [SLAB, BULK], ids=["slab", "bulk"])
COUNTS = (1, 4, 2)


def make_batch(periodicity, counts=COUNTS, max_atoms=5, seed=0) -> CrystalBatch:
    """Random crystals with atoms in, and outside of, their cells."""
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(2.8, 4.0, size=(len(counts), 3))
    angles = np.full((len(counts), 3), 90.0)
    angles[:, 2] = rng.uniform(70.0, 120.0, size=len(counts))
    if periodicity == SLAB:
        lengths[:, 2] = 12.0
    else:
        angles[:, :2] = rng.uniform(75.0, 105.0, size=(len(counts), 2))
    cell = np.asarray(geometry.cell_from_parameters(jnp.asarray(lengths), jnp.asarray(angles)), np.float32)
    numbers = np.zeros((len(counts), max_atoms), np.int32)
    positions = np.zeros((len(counts), max_atoms, 3), np.float32)
    for crystal, count in enumerate(counts):
        numbers[crystal, :count] = rng.integers(1, 90, size=count)
        fractional = rng.uniform(-1.5, 1.5, size=(count, 3))
        if periodicity == SLAB:
            fractional[:, 2] = rng.uniform(-0.2, 0.2, size=count)
        positions[crystal, :count] = fractional @ cell[crystal]
    return CrystalBatch(jnp.asarray(numbers), jnp.asarray(positions), jnp.asarray(cell))


def search(batch, periodicity, max_neighbours=100, image_range=None):
    image_range = image_range or image_range_for(np.asarray(batch.cell), periodicity, CUTOFF)
    return find_neighbours(
        batch,
        periodicity=periodicity,
        cutoff_angstrom=CUTOFF,
        max_neighbours=max_neighbours,
        image_range=image_range,
    )


def reference(batch, crystal, periodicity):
    """ASE's neighbours: for each atom, (neighbour, vector) sorted by distance."""
    count = int(batch.num_atoms[crystal])
    atoms = ase.Atoms(
        np.asarray(batch.atomic_numbers)[crystal, :count],
        np.asarray(batch.positions, np.float64)[crystal, :count],
        cell=np.asarray(batch.cell, np.float64)[crystal],
        pbc=periodicity,
    )
    centres, others, vectors = ase.neighborlist.primitive_neighbor_list(
        "ijD", atoms.pbc, atoms.cell, atoms.positions, CUTOFF, self_interaction=False
    )
    lists = []
    for atom in range(count):
        mine = centres == atom
        rank = np.argsort(np.linalg.norm(vectors[mine], axis=-1), kind="stable")
        lists.append((others[mine][rank], vectors[mine][rank]))
    return lists


def as_rows(index, vector):
    """Rows that do not depend on the order of equally far neighbours."""
    rows = np.concatenate([np.asarray(index)[:, None], np.asarray(vector)], axis=1).round(2) + 0.0
    return rows[np.lexsort(rows.T)]


@KINDS
def test_all_neighbours_are_those_of_ase(periodicity):
    batch = make_batch(periodicity)
    found = search(batch, periodicity)
    assert found.complete.all()
    for crystal in range(len(COUNTS)):
        for atom, (index, vector) in enumerate(reference(batch, crystal, periodicity)):
            mask = np.asarray(found.mask[crystal, atom])
            assert mask.sum() == len(index) > 0
            mine = as_rows(found.index[crystal, atom][mask], found.vector[crystal, atom][mask])
            np.testing.assert_allclose(mine, as_rows(index, vector), atol=0.011)
            distance = np.linalg.norm(vector, axis=-1)
            np.testing.assert_allclose(edge_length(found)[crystal, atom][mask], distance, atol=1e-4)
            np.testing.assert_allclose(found.ratio[crystal, atom][mask], distance / CUTOFF, atol=1e-4)


@KINDS
def test_few_slots_hold_the_nearest(periodicity):
    slots = 3
    batch = make_batch(periodicity)
    found = search(batch, periodicity, slots)
    for crystal in range(len(COUNTS)):
        for atom, (_, vector) in enumerate(reference(batch, crystal, periodicity)):
            distance = np.linalg.norm(vector, axis=-1)
            kept = np.asarray(edge_length(found)[crystal, atom])[np.asarray(found.mask[crystal, atom])]
            np.testing.assert_allclose(kept, distance[:slots], atol=1e-4)
            left_out = distance[slots] if len(distance) > slots else CUTOFF
            ratio = np.asarray(found.ratio[crystal, atom])[: len(kept)]
            np.testing.assert_allclose(ratio, kept / left_out, atol=1e-4)


def test_one_atom_sees_its_images_but_not_itself():
    batch = CrystalBatch(jnp.array([[6]]), jnp.array([[[9.0, 1.0, 0.3]]]), jnp.eye(3)[None] * 3.0)
    found = search(batch, SLAB, 12)
    assert int(found.mask.sum()) == 8  # 4 at 3 Angstrom, 4 at 3 sqrt 2
    np.testing.assert_allclose(np.sort(edge_length(found)[0, 0])[4:], [3.0] * 4 + [18**0.5] * 4, atol=1e-5)
    assert int(search(batch, BULK, 30).mask.sum()) == 18


@KINDS
def test_padding_takes_no_part(periodicity):
    narrow, wide = make_batch(periodicity), make_batch(periodicity)
    extra = ((0, 0), (0, 3))
    wide = CrystalBatch(
        jnp.pad(wide.atomic_numbers, extra), jnp.pad(wide.positions, (*extra, (0, 0))), wide.cell
    )
    few, many = search(narrow, periodicity, 8), search(wide, periodicity, 8)
    assert not few.mask[~narrow.atom_mask].any()
    for name in ("index", "vector", "mask"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:, :5])
        assert not np.asarray(getattr(many, name))[~np.asarray(wide.atom_mask)].any()
    real = np.take_along_axis(np.asarray(narrow.atom_mask)[:, None], np.asarray(few.index), axis=2)
    assert real[np.asarray(few.mask)].all()
    assert not np.asarray(few.vector)[~np.asarray(few.mask)].any()


@KINDS
def test_complete_tells_when_too_few_images_were_searched(periodicity):
    batch = make_batch(periodicity)
    enough = image_range_for(np.asarray(batch.cell), periodicity, CUTOFF)
    assert search(batch, periodicity, 8, enough).complete.all()
    assert not search(batch, periodicity, 8, (0, *enough[1:])).complete.any()
    big = batch.replace(cell=batch.cell.at[1].multiply(5.0))
    assert search(big, periodicity, 8, (0, 0, 0)).complete.tolist() == [False, True, False]


def test_image_range():
    cubic = np.eye(3)[None] * 4.0
    assert image_range_for(cubic, BULK, 7.0) == (2, 2, 2)
    assert image_range_for(cubic, SLAB, 7.0) == (2, 2, 0)
    assert image_range_for(cubic, BULK, 1.9) == (0, 0, 0)
    assert image_range_for(np.concatenate([cubic, np.diag([2.0, 9.0, 30.0])[None]]), BULK, 7.0) == (4, 2, 2)


def test_gradients_are_finite_where_atoms_coincide():
    batch = CrystalBatch(jnp.array([[6, 7]]), jnp.zeros((1, 2, 3)), jnp.eye(3)[None] * 3.0)

    def total(positions):
        return jnp.sum(edge_length(search(batch.replace(positions=positions), SLAB, 12, (2, 2, 0))))

    assert jnp.isfinite(jax.grad(total)(batch.positions)).all()


def hexagonal(sites, heights, constant=4.0) -> CrystalBatch:
    """Atoms on sites A, B, C (0, 1, 2) of a hexagonal slab."""
    cell = np.array([[constant, 0, 0], [-constant / 2, constant * np.sqrt(3) / 2, 0], [0, 0, 30]])
    fractional = np.stack([np.array(sites) / 3, 2 * np.array(sites) / 3, np.array(heights) / 30], -1)
    positions = jnp.asarray(fractional @ cell, jnp.float32)
    return CrystalBatch(jnp.full((1, len(sites)), 6), positions[None], jnp.asarray(cell, jnp.float32)[None])


def edges_between(found, first: int, second: int) -> np.ndarray:
    """Ratios of the edges of a pair that take part, rising."""
    chosen = np.asarray(found.mask[0, first] & (found.index[0, first] == second))
    ratio = np.asarray(found.ratio[0, first])[chosen]
    return np.sort(ratio[ratio < 0.999])


def test_a_pair_has_one_edge_on_top_and_three_over_a_hollow():
    found = find_pairs(hexagonal([0, 0, 1, 2], [0, 3.2, 6.0, 11.0]), periodicity=SLAB)
    assert found.complete.all()
    for first, second, count, ratio in ((0, 1, 1, 0.0), (0, 2, 3, 0.5), (1, 3, 3, 0.5), (2, 3, 3, 0.5)):
        for pair in ((first, second), (second, first)):
            np.testing.assert_allclose(edges_between(found, *pair), [ratio] * count, atol=1e-5)
    for atom in range(4):
        np.testing.assert_allclose(edges_between(found, atom, atom), [3**-0.5] * 6, atol=1e-5)
    vertical = np.asarray(found.vector[0, 0])[np.asarray(found.index[0, 0] == 1) & np.asarray(found.ratio[0, 0] < 0.1)]
    np.testing.assert_allclose(vertical, [[0, 0, 3.2]], atol=1e-5)


@KINDS
def test_pairs_are_the_nearest_images_of_all(periodicity):
    """Against a search over many more images."""
    batch = make_batch(periodicity)
    found = find_pairs(batch, periodicity=periodicity)
    assert found.complete.all()
    offsets = geometry.image_offsets(periodicity, (6, 6, 6))
    axes = 2 if periodicity == SLAB else 3
    for crystal, count in enumerate(COUNTS):
        shifts = offsets @ np.asarray(batch.cell[crystal])
        for first in range(count):
            for second in range(count):
                every = np.asarray(batch.positions[crystal, second] - batch.positions[crystal, first]) + shifts
                along = np.sort(np.linalg.norm(every[:, :axes], axis=-1))
                along, most = (along[1:], 6) if first == second else (along, 3)
                chosen = np.asarray(found.mask[crystal, first] & (found.index[crystal, first] == second))
                vector = np.asarray(found.vector[crystal, first])[chosen]
                assert len(vector) == most
                np.testing.assert_allclose(np.sort(np.linalg.norm(vector[:, :axes], axis=-1)), along[:most], atol=1e-4)
                ratio = np.sort(np.asarray(found.ratio[crystal, first])[chosen])
                np.testing.assert_allclose(ratio, along[:most] / along[most], atol=1e-4)


def test_pairs_of_padding_take_no_part():
    batch = make_batch(SLAB)
    found = find_pairs(batch, periodicity=SLAB)
    counts = np.asarray(batch.num_atoms)
    expected = np.where(np.arange(5) < counts[:, None], 3 * counts[:, None] + 3, 0)
    np.testing.assert_array_equal(found.mask.sum(-1), expected)
    assert not np.asarray(found.vector)[~np.asarray(found.mask)].any()
    assert not np.asarray(found.index)[~np.asarray(found.mask)].any()


def test_pairs_come_and_go_smoothly():
    """An atom taken once across the cell: what its edges weigh changes in proportion to every step."""
    batch = hexagonal([0, 1, 2], [0, 2.0, 5.0])
    steps = np.linspace(0, 1, 2001)

    @jax.jit
    def summed(fraction):
        moved = batch.positions.at[0, 1].add(fraction * (batch.cell[0, 0] + 0.37 * batch.cell[0, 1]))
        found = find_pairs(batch.replace(positions=moved), periodicity=SLAB)
        weights = jnp.where(found.mask, polynomial_envelope(found.ratio), 0.0)
        return jnp.einsum("bnk,bnkx->bnx", weights, jnp.sin(found.vector + 0.3))

    values = np.asarray(jax.lax.map(summed, jnp.asarray(steps)))
    jumps = np.abs(np.diff(values, axis=0)).max((1, 2, 3))
    assert values.std(0).max() > 0.1
    assert jumps.max() < 0.02


def test_pairs_of_a_cell_too_skewed_say_so():
    batch = hexagonal([0, 1], [0, 2.0])
    skewed = batch.replace(cell=batch.cell.at[0, 1].add(9 * batch.cell[0, 0]))
    assert not find_pairs(skewed, periodicity=SLAB).complete.any()


def test_gradients_of_pairs_are_finite_where_atoms_coincide():
    batch = CrystalBatch(jnp.array([[6, 7]]), jnp.zeros((1, 2, 3)), jnp.eye(3)[None] * 3.0)

    def total(positions):
        found = find_pairs(batch.replace(positions=positions), periodicity=SLAB)
        return jnp.sum(polynomial_envelope(found.ratio)) + jnp.sum(edge_length(found))

    assert jnp.isfinite(jax.grad(total)(batch.positions)).all()


@KINDS
def test_jraph_round_trip(periodicity):
    batch = make_batch(periodicity)
    back = from_graphs_tuple(to_graphs_tuple(batch, search(batch, periodicity, 8)), 5)
    for name in ("atomic_numbers", "positions", "cell"):
        np.testing.assert_array_equal(getattr(back, name), getattr(batch, name))


@KINDS
def test_jraph_masks_tell_padding(periodicity):
    batch = make_batch(periodicity)
    found = search(batch, periodicity, 40)
    graphs = to_graphs_tuple(batch, found)
    nodes, edges = jraph.get_node_padding_mask(graphs), jraph.get_edge_padding_mask(graphs)
    assert jraph.get_graph_padding_mask(graphs).tolist() == [True] * len(COUNTS) + [False]
    np.testing.assert_array_equal(nodes, graphs.nodes["atomic_numbers"] > 0)
    assert int(nodes.sum()) == sum(COUNTS)
    assert int(edges.sum()) == int(found.mask.sum())
    assert int(graphs.n_node.sum()) == len(nodes)
    assert int(graphs.n_edge.sum()) == len(edges)
    assert nodes[graphs.senders[edges]].all() and nodes[graphs.receivers[edges]].all()
    assert not nodes[graphs.senders[~edges]].any() and not nodes[graphs.receivers[~edges]].any()


@KINDS
def test_jraph_edges_join_their_ends(periodicity):
    batch = make_batch(periodicity)
    graphs = to_graphs_tuple(batch, search(batch, periodicity, 40))
    real = np.asarray(jraph.get_edge_padding_mask(graphs))
    positions = np.asarray(graphs.nodes["positions"])
    senders, receivers = np.asarray(graphs.senders)[real], np.asarray(graphs.receivers)[real]
    crystal = np.repeat(np.arange(len(graphs.n_edge)), graphs.n_edge)[real]
    of_node = np.repeat(np.arange(len(graphs.n_node)), graphs.n_node)
    np.testing.assert_array_equal(of_node[senders], crystal)
    np.testing.assert_array_equal(of_node[receivers], crystal)
    shift = np.asarray(graphs.edges["vector"])[real] - (positions[senders] - positions[receivers])
    periods = np.einsum("ex,exl->el", shift, np.linalg.inv(np.asarray(batch.cell))[crystal])
    np.testing.assert_allclose(periods, np.round(periods), atol=1e-4)


def test_from_jraph_rejects_a_crystal_that_does_not_fit():
    batch = make_batch(BULK)
    with pytest.raises(ValueError, match="4 atoms; the batch takes 3"):
        from_graphs_tuple(to_graphs_tuple(batch, search(batch, BULK, 4)), 3)
