"""What a slab is from side to side: the same however it lies, and different for what differs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.model.stack import Stack, as_placed, as_vector, stack_loss, stack_of, turned_over
from vdw_jax.structures.j2dh8 import build_j2dh8
from vdw_jax.types import CrystalBatch


@pytest.fixture(scope="module")
def stackings():
    """All six of one pair whose layers differ, padded to 10 atoms."""
    data = build_j2dh8()
    pair = np.flatnonzero(data.metadata["pair"] == data.metadata["pair"][9000])
    rows = data.select(pair)
    pad = ((0, 0), (0, 2), (0, 0))
    return CrystalBatch(
        jnp.asarray(np.pad(rows.atomic_numbers[:, :8], pad[:2]), jnp.int32),
        jnp.asarray(np.pad(rows.positions[:, :8], pad), jnp.float32), jnp.asarray(rows.cell, jnp.float32),
    )  # fmt: skip


def upward(batch: CrystalBatch) -> Stack:
    """From bottom to top."""
    return stack_of(batch, jnp.zeros(len(batch.cell), bool))


def answers(batch: CrystalBatch) -> Stack:
    """What a head that knows would say."""
    known = stack_of(batch, turned_over(batch))
    logits = 50.0 * jax.nn.one_hot(known.species - 1, 100)
    return Stack(logits, known.height, known.distance)


def test_stackings_differ_where_their_atoms_stand(stackings):
    distance = np.asarray(upward(stackings).distance)[:, :8, :8]
    for first in range(6):
        for second in range(first):
            assert np.abs(distance[first] - distance[second]).max() > 0.3


def test_distances_are_those_of_the_nearest_images(stackings):
    distance = np.asarray(upward(stackings).distance)[:, :8, :8]
    side = np.sqrt(np.sqrt(3) / 2)
    nearest = np.array([0.0, 1 / np.sqrt(3)]) / side  # on top, or over a hollow
    assert np.abs(distance[..., None] - nearest).min(-1).max() < 1e-3


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_knowing_costs_nothing_however_it_lies(stackings, sign):
    lies = dataclasses.replace(stackings, positions=stackings.positions * jnp.array([1.0, 1.0, sign]))
    assert stack_loss(answers(stackings), lies) < 1e-3
    np.testing.assert_allclose(as_vector(lies, 10), as_vector(stackings, 10), atol=1e-5)


def test_the_wrong_stacking_or_sequence_costs(stackings):
    known = answers(stackings)
    rolled = jax.tree.map(lambda x: jnp.roll(x, 1, 0), known)
    assert stack_loss(rolled, stackings) > 0.1
    swapped = dataclasses.replace(known, species=known.species[:, jnp.array([1, 0, *range(2, 10)])])
    assert stack_loss(swapped, stackings) > 1.0


def test_places_orders_and_turns_do_not_matter(stackings):
    angle = 0.7
    turn = jnp.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    mask = stackings.atom_mask[..., None]
    shifted = (stackings.positions + jnp.array([0.7, -1.3, 2.0])) * mask
    order = jnp.array([4, 2, 0, 1, 3, 7, 6, 5, 8, 9])
    moved = CrystalBatch(stackings.atomic_numbers[:, order], (shifted @ turn.T)[:, order], stackings.cell @ turn.T)
    np.testing.assert_array_equal(upward(moved).species, upward(stackings).species)
    np.testing.assert_allclose(upward(moved).distance[:, :8, :8], upward(stackings).distance[:, :8, :8], atol=1e-4)
    assert stack_loss(answers(stackings), moved) < 1e-3


@pytest.mark.parametrize("upside_down", [False, True])
def test_every_atom_is_told_its_own(stackings, upside_down):
    """Whichever side the answer is read from, and however atoms are ordered, noisy or turned over."""
    order = jnp.array([4, 2, 0, 1, 3, 7, 6, 5, 8, 9])
    lies = stackings.positions * jnp.array([1.0, 1.0, -1.0]) if upside_down else stackings.positions
    noise = 0.1 * jax.random.normal(jax.random.key(0), lies.shape) * stackings.atom_mask[..., None]
    shaken = CrystalBatch(stackings.atomic_numbers[:, order], (lies + noise)[:, order], stackings.cell)
    told = as_placed(answers(stackings), shaken)
    numbers = jnp.where(shaken.atom_mask, jnp.argmax(told.species, -1) + 1, 0)
    np.testing.assert_array_equal(numbers, shaken.atomic_numbers)
    centred = lies[..., 2] - lies[..., 2].sum(1, keepdims=True) / 8
    np.testing.assert_allclose(told.height[:, :8], centred[:, order[:8]], atol=1e-4)
    rows = jnp.argsort(jnp.where(shaken.atom_mask, centred[:, order], jnp.inf), 1)
    by_height = jnp.take_along_axis(jnp.take_along_axis(told.distance, rows[:, :, None], 1), rows[:, None], 2)
    known = upward(CrystalBatch(stackings.atomic_numbers, lies, stackings.cell)).distance
    np.testing.assert_allclose(by_height[:, :8, :8], known[:, :8, :8], atol=1e-4)
