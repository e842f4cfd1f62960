"""Neighbours at borders: of the cutoff, of the cell, of the slots and of the images searched."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.graphs.neighbours import (
    MAX_IMAGES,
    edge_length,
    find_neighbours,
    find_pairs,
    image_range_for,
    nearest_differences,
    widened_image_range,
)
from vdw_jax.types import BULK, SLAB, CrystalBatch


def crystal(positions, cell, size: int | None = None) -> CrystalBatch:
    """One crystal of carbon, padded to `size` atoms."""
    positions = np.asarray(positions, np.float32)
    numbers = np.full(len(positions), 6)
    more = (size or len(positions)) - len(positions)
    numbers, positions = np.pad(numbers, (0, more)), np.pad(positions, ((0, more), (0, 0)))
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell)
    return CrystalBatch(
        jnp.asarray(numbers)[None],
        jnp.asarray(positions)[None],
        jnp.asarray(cell, jnp.float32)[None],
    )


def search(batch, periodicity, cutoff, slots, images):
    return find_neighbours(
        batch,
        periodicity=periodicity,
        cutoff_angstrom=cutoff,
        max_neighbours=slots,
        image_range=images,
    )


def lengths(found, atom: int = 0) -> np.ndarray:
    """Of the edges of one atom, as they come."""
    return np.asarray(edge_length(found))[0, atom][np.asarray(found.mask)[0, atom]]


def test_the_cutoff_itself_is_outside():
    """Atoms at 1, 2 and 3 Angstrom: at a cutoff of exactly 2 the second takes no part."""
    batch = crystal([[0, 0, 0], [0, 0, 1.0], [0, 0, 2.0], [0, 0, 3.0]], [50.0, 50.0, 50.0])
    np.testing.assert_allclose(lengths(search(batch, SLAB, 2.0, 6, (0, 0, 0))), [1.0])
    np.testing.assert_allclose(lengths(search(batch, SLAB, 2.0001, 6, (0, 0, 0))), [1.0, 2.0])
    np.testing.assert_allclose(lengths(search(batch, SLAB, 1.0, 6, (0, 0, 0))), [])


def test_the_ratio_is_1_at_the_first_neighbour_left_out_or_at_the_cutoff():
    batch = crystal([[0, 0, 0], [0, 0, 1.0], [0, 0, 2.0], [0, 0, 4.0]], [50.0, 50.0, 50.0])
    for slots, expected in (
        (1, [1 / 2]),
        (2, [1 / 4, 2 / 4]),
        (3, [1 / 5, 2 / 5, 4 / 5]),
        (4, [1 / 5, 2 / 5, 4 / 5]),
    ):
        found = search(batch, SLAB, 5.0, slots, (0, 0, 0))
        np.testing.assert_allclose(
            found.ratio[0, 0][np.asarray(found.mask)[0, 0]], expected, rtol=1e-6
        )


@pytest.mark.parametrize("slots", [7, 8, 9, 10, 12])
def test_slots_may_be_fewer_or_more_than_the_images_searched(slots):
    """One atom in a square, nine images: eight neighbours, 4 at 3 and 4 at 3 sqrt 2 Angstrom."""
    found = search(crystal([[0, 0, 0]], [3.0, 3.0, 20.0]), SLAB, 5.0, slots, (1, 1, 0))
    expected = np.array([3.0] * 4 + [18**0.5] * 4)[:slots]
    np.testing.assert_allclose(lengths(found), expected, rtol=1e-6)
    assert found.mask.shape == (1, 1, slots)


@pytest.mark.parametrize("periodicity, axes", [(SLAB, 2), (BULK, 3)], ids=["slab", "bulk"])
def test_an_atom_across_a_border_is_near(periodicity, axes):
    """At 0.1 and 0.9 of the cell, 0.2 apart through each border that is a period."""
    cell = np.array([5.0, 6.0, 5.5])
    for axis in range(3):
        ends = np.full((2, 3), 0.5)
        ends[:, axis] = 0.1, 0.9
        batch = crystal(ends * cell, cell)
        found = search(batch, periodicity, 5.7, 1, (1, 1, 1))
        expected = (0.2 if axis < axes else 0.8) * cell[axis]
        direction = np.zeros(3)
        direction[axis] = -expected if axis < axes else expected
        np.testing.assert_allclose(found.vector[0, 0, 0], direction, atol=1e-5)
        np.testing.assert_allclose(found.vector[0, 1, 0], -direction, atol=1e-5)
        assert found.index[0, :, 0].tolist() == [1, 0]


def test_neighbours_are_neighbours_both_ways():
    """Where no slot is short each edge has its opposite."""
    rng = np.random.default_rng(0)
    cell = np.array([[4.0, 0, 0], [-2.0, 3.5, 0], [0.5, 0.3, 9.0]])
    batch = crystal(rng.uniform(-1, 1, (4, 3)) @ cell, cell, 6)
    for periodicity in (SLAB, BULK):
        found = search(batch, periodicity, 4.5, 80, (2, 2, 2))
        assert found.complete.all() and found.mask.sum() > 20
        edges = [
            (atom, int(found.index[0, atom, slot]), *np.asarray(found.vector[0, atom, slot]))
            for atom, slot in np.argwhere(np.asarray(found.mask)[0])
        ]
        there = np.array(edges)
        back = np.column_stack([there[:, 1], there[:, 0], -there[:, 2:]])
        for edge in there:
            assert np.abs(back - edge).max(1).min() < 1e-4


def test_differences_are_the_nearest_in_fractions_of_the_cell():
    cell = np.array([[4.0, 0, 0], [-2.0, 3.5, 0], [0, 0, 9.0]])
    fractional = np.array([[0.05, 0.9, 0.1], [0.95, 0.2, 0.9], [7.4, -3.3, 0.5]])
    found = nearest_differences(crystal(fractional @ cell, cell), SLAB)[0] @ np.linalg.inv(cell)
    expected = fractional[None] - fractional[:, None]
    expected[..., :2] -= np.round(expected[..., :2])
    np.testing.assert_allclose(found, expected, atol=1e-5)


# Images.


HEXAGONAL = np.array([[[4.0, 0, 0], [-2.0, 2 * 3**0.5, 0], [0, 0, 20.0]]])
"""Lattice planes 2 sqrt 3 = 3.46 Angstrom apart, less than the lattice constant."""


def test_images_are_counted_by_planes_not_by_lengths():
    """A difference of half a cell and the cutoff: n images reach (n + 1/2) spacings."""
    assert image_range_for(HEXAGONAL, SLAB, 1.49 * 2 * 3**0.5) == (1, 1, 0)
    assert image_range_for(HEXAGONAL, SLAB, 1.51 * 2 * 3**0.5) == (2, 2, 0)
    assert image_range_for(HEXAGONAL, BULK, 11.0) == (3, 3, 1)
    skewed = np.array([[[4.0, 0, 0], [3.0, 4.0, 0], [0, 0, 20.0]]])  # planes of a 3.2 apart, of b 4
    assert image_range_for(skewed, SLAB, 1.7 * 3.2) == (2, 1, 0)


def test_at_the_border_there_is_one_image_more():
    """float32 on the device may find a border one way and float64 on the host the other."""
    cell = np.eye(3)[None] * 4.0
    assert image_range_for(cell, BULK, 6.0) == (2, 2, 2)
    assert image_range_for(cell, BULK, 6.0 - 1e-4) == (2, 2, 2)
    assert image_range_for(cell, BULK, 6.0 - 1e-2) == (1, 1, 1)


def test_generated_cells_widen_the_range_up_to_a_limit():
    cell = np.diag([2.0, 8.0, 20.0])[None]
    assert widened_image_range((1, 3, 0), cell, SLAB, 9.0) == (5, 3, 0)
    collapsed = np.diag([0.5, 1.0, 20.0])[None]
    assert widened_image_range((1, 1, 0), collapsed, SLAB, 9.0) == (8, 8, 0)
    assert widened_image_range((11, 1, 0), collapsed, SLAB, 5.0) == (11, 5, 0)
    assert MAX_IMAGES == 8


def test_complete_up_to_the_last_image_that_reaches():
    for images, complete in (
        ((1, 1, 0), True),
        ((0, 1, 0), False),
        ((1, 0, 0), False),
        ((3, 3, 0), True),
    ):
        found = search(crystal([[0, 0, 0]], [4.0, 4.0, 20.0]), SLAB, 5.9, 4, images)
        assert found.complete.tolist() == [complete]


# Pairs.


def test_pairs_are_symmetric():
    """The edges of i to j are those of j to i turned round, and so are the ratios."""
    rng = np.random.default_rng(1)
    cell = np.array([[4.0, 0, 0], [-2.0, 3.5, 0], [0, 0, 30.0]])
    batch = crystal(rng.uniform(-1, 1, (3, 3)) @ np.diag([4.0, 3.5, 3.0]), cell)
    found = find_pairs(batch, periodicity=SLAB)
    mask, index = np.asarray(found.mask)[0], np.asarray(found.index)[0]
    for first in range(3):
        for second in range(3):
            one, other = (
                np.column_stack(
                    [np.asarray(found.vector)[0, a, s] * sign, np.asarray(found.ratio)[0, a, s]]
                )
                for a, b, sign in ((first, second, 1.0), (second, first, -1.0))
                for s in [mask[a] & (index[a] == b)]
            )
            assert len(one) == len(other) == (6 if first == second else 3)
            for row in one:
                assert np.abs(other - row).max(1).min() < 1e-4


def test_a_pair_takes_its_three_nearest_images_and_ends_at_the_fourth():
    """In a square of 3 Angstrom, 0.3 beside an atom: images at 0.3, 2.7, 3.0149 and again 3.0149 Angstrom."""
    found = find_pairs(crystal([[0, 0, 0], [0.3, 0, 5.0]], [3.0, 3.0, 30.0]), periodicity=SLAB)
    chosen = np.asarray(found.mask[0, 0] & (found.index[0, 0] == 1))
    along = np.linalg.norm(np.asarray(found.vector)[0, 0, chosen, :2], axis=-1)
    fourth = np.hypot(3.0, 0.3)
    np.testing.assert_allclose(np.sort(along), [0.3, 2.7, fourth], rtol=1e-5)
    np.testing.assert_allclose(np.sort(np.asarray(found.ratio)[0, 0, chosen]), [0.3 / fourth, 2.7 / fourth, 1.0],
                               rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(np.asarray(found.vector)[0, 0, chosen, 2], 5.0)


def test_pairs_are_complete_while_the_images_searched_reach():
    """Three images reach 3.5 spacings. Of an atom itself the seventh is looked for: (0, 4) where b is long enough."""
    for length, complete in ((3.4, True), (3.6, False)):
        # In a strip of 1 by `length`: images of itself at 1, 1, 2, 2, 3, 3 and, seventh, at `length`.
        found = find_pairs(crystal([[0, 0, 0]], [1.0, length, 30.0]), periodicity=SLAB)
        assert found.complete.tolist() == [complete]


def test_padding_does_not_decide_whether_pairs_are_complete():
    narrow = crystal([[0, 0, 0], [1.0, 0.5, 2.0]], [3.0, 3.0, 30.0])
    wide = crystal([[0, 0, 0], [1.0, 0.5, 2.0]], [3.0, 3.0, 30.0], 5)
    few, many = find_pairs(narrow, periodicity=SLAB), find_pairs(wide, periodicity=SLAB)
    assert few.complete.all() and many.complete.all()
    np.testing.assert_array_equal(few.mask.sum(-1), many.mask.sum(-1)[:, :2])


def test_positions_have_a_gradient_through_their_edges_alone():
    """The length of one edge of 2 Angstrom pulls its ends apart, and nothing else."""
    batch = crystal([[0, 0, 0], [0, 0, 2.0]], [9.0, 9.0, 30.0])

    def total(positions):
        return jnp.sum(
            edge_length(search(batch.replace(positions=positions), SLAB, 3.0, 4, (1, 1, 0)))
        )

    np.testing.assert_allclose(
        jax.grad(total)(batch.positions)[0], [[0, 0, -2.0], [0, 0, 2.0]], atol=1e-6
    )
