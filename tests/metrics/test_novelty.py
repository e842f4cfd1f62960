"""New or not: the bounds let every match through, copies are found however they lie, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest

from vdw_jax.metrics.matching import TIGHT_STOL, Tolerances
from vdw_jax.metrics.novelty import Nearest, first_matches, nearest, possible_matches, repeats
from vdw_jax.metrics.stacking import displacement_rms
from vdw_jax.structures.dataset import CrystalDataset, concatenate
from vdw_jax.structures.source import load_relaxed
from vdw_jax.types import BULK

DATA, _ = load_relaxed("j2dh8")
PAIR = np.flatnonzero(DATA.metadata["pair"] == 2057)  # one pair of unlike layers, six stackings


def copies_of(row: int, count: int, spread: float, seed: int = 0) -> CrystalDataset:
    """Copies turned over in half of the cases, moved as a whole in all directions and atom by atom; then the row."""
    random = np.random.default_rng([seed, row])
    positions = np.tile(DATA.positions[row].astype(float), (count, 1, 1))
    positions[::2, :, 1:] *= -1.0
    positions += random.uniform(-2, 2, (count, 1, 3)) + random.normal(scale=spread, size=positions.shape)
    return CrystalDataset(
        ids=np.array([f"copy-{spread}-{n}" for n in range(count)] + ["own"]),
        atomic_numbers=np.tile(DATA.atomic_numbers[row], (count + 1, 1)),
        positions=np.concatenate([positions, DATA.positions[[row]]]).astype(np.float32),
        cell=np.tile(DATA.cell[row], (count + 1, 1, 1)), periodicity=DATA.periodicity,
    )  # fmt: skip


@pytest.mark.parametrize(("row", "spread"), [(12_345, 0.05), (12_345, 0.25), (7_000, 0.3), (12_345, 0.4)])
def test_what_matches_is_let_through(row, spread):
    count = 8
    data = copies_of(row, count, spread)
    near = possible_matches(data, count, np.arange(count), TIGHT_STOL)
    matcher, own = Tolerances(stol=TIGHT_STOL).matcher(), data.to_pymatgen(count)
    matched = {other for other in range(count) if matcher.fit(own, data.to_pymatgen(other))}
    assert matched <= set(near.tolist())
    if spread == 0.05:
        assert len(matched) == count
    if spread == 0.4:
        assert len(near) < count


def test_other_stackings_are_ruled_out_without_the_matcher():
    for row in PAIR:
        assert possible_matches(DATA, int(row), PAIR, TIGHT_STOL).tolist() == [row]


def test_copies_are_no_news_and_stackings_are():
    data = concatenate([DATA.select(PAIR), copies_of(int(PAIR[0]), 2, 0.05)])
    found = first_matches(data, [6, 7, 1], [0, 2, 3, 4, 5], progress=False)
    assert [match and match[0] for match in found] == [0, 0, None]
    assert 0 < found[0][1] < TIGHT_STOL
    assert repeats(data, [6, 0, 1, 2, 7], progress=False) == [None, 6, None, None, 6]


def slab(data: CrystalDataset, row: int):
    real = data.atomic_numbers[row] > 0
    return data.atomic_numbers[row][real], data.positions[row][real], data.cell[row]


def test_the_nearest_is_as_far_as_its_atoms_were_moved():
    """Turned over, shifted and stretched as a whole it is no distance away; a lifted atom is, and by how much."""
    own = copies_of(int(PAIR[0]), 2, 0.0)
    own = replace(own, cell=own.cell * np.array([1.05, 1.05, 1])[:, None], positions=own.positions.copy())
    own.positions[..., :2] *= 1.05
    size = own.num_atoms[0]
    own.positions[2, 0, 2] += 0.2
    found = nearest(own, DATA)
    assert [one.id for one in found] == [DATA.ids[PAIR[0]]] * 3
    assert [one.rms_angstrom for one in found[:2]] == pytest.approx([0, 0], abs=1e-4)
    assert found[2].rms_angstrom == pytest.approx(0.2 * np.sqrt(size - 1) / size, abs=1e-3)
    assert [one.swaps for one in found] == [0, 0, 0]


def test_the_nearest_is_that_of_all_pairs():
    """The bound by heights leaves nothing out, and another stacking is further than what a match leaves."""
    rows = np.flatnonzero((np.sort(DATA.atomic_numbers, 1) == np.sort(DATA.atomic_numbers[PAIR[0]])).all(1))
    own, others = DATA.select(PAIR), DATA.select([PAIR[0], *np.setdiff1d(rows, PAIR)[:40]])
    for row, one in enumerate(nearest(own, others)):
        every = [displacement_rms(slab(own, row), slab(others, other)) for other in range(len(others))]
        assert one.rms_angstrom == min(every)
        assert one.id == others.ids[int(np.argmin(every))]
        assert (one.rms_angstrom < 0.01) == (row == 0)
        assert row == 0 or one.rms_angstrom > 0.3


def test_without_the_formula_it_says_how_many_atoms_are_other():
    own = DATA.select(PAIR[:2])
    numbers = own.atomic_numbers.copy()
    numbers[0, 0], numbers[1, :2] = 42, 42
    found = nearest(replace(own, atomic_numbers=numbers), DATA.select(PAIR))
    assert found == [Nearest(None, None, 1), Nearest(None, None, 2)]


def test_bulk_crystals_go_by_reduced_composition():
    cell = 5.6 * np.eye(3, dtype=np.float32)[None]
    numbers = np.array([[11, 17, 0, 0]], np.int16)
    salt = CrystalDataset(
        ids=np.array(["a"]), atomic_numbers=numbers, cell=0.5 * cell,
        positions=np.array([[[0, 0, 0], [1.4, 1.4, 1.4], [0, 0, 0], [0, 0, 0]]], np.float32), periodicity=BULK,
    )  # fmt: skip
    doubled = CrystalDataset(
        ids=np.array(["b"]), atomic_numbers=np.array([[11, 11, 17, 17]], np.int16),
        cell=0.5 * cell * np.array([[1], [1], [2]], np.float32), periodicity=BULK,
        positions=np.array([[[0, 0, 0], [0, 0, 2.8], [1.4, 1.4, 1.4], [1.4, 1.4, 4.2]]], np.float32),
    )  # fmt: skip
    other = replace(salt, ids=np.array(["c"]), atomic_numbers=np.array([[11, 9, 0, 0]], np.int16))
    data = concatenate([salt, doubled, other])
    assert repeats(data, [0, 1, 2], progress=False) == [None, 0, None]
