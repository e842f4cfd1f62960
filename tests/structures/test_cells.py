"""Cells: skewed ones are the same crystals, slabs cut by the cell are put together, vacuum is no length to judge."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from vdw_jax.structures.load import load_structures
from vdw_jax.structures.slabs import joined, reduced
from vdw_jax.structures.source import load_relaxed
from vdw_jax.types import BULK, SLAB


@pytest.fixture(scope="module")
def slab() -> Atoms:
    data = load_relaxed("j2dh8")[0].select([4711])
    return Atoms(data.atomic_numbers[0], data.positions[0], cell=data.cell[0], pbc=True)


def read(folder, *frames, **settings):
    write(folder / "a.extxyz", list(frames), format="extxyz")
    return load_structures(folder / "a.extxyz", on_error="skip", use_cache=False, **settings)


def distances(data, row: int) -> np.ndarray:
    """All distances up to 6 Angstrom, in order."""
    atoms = Atoms(
        data.atomic_numbers[row], data.positions[row], cell=data.cell[row], pbc=data.periodicity
    )
    from ase.neighborlist import neighbor_list

    return np.sort(neighbor_list("d", atoms, 6.0))


@pytest.mark.parametrize("steps", [0, 1, -2, 6, 1000])
@pytest.mark.parametrize("pbc", [SLAB, BULK])
def test_a_skewed_cell_is_the_same_slab(tmp_path, slab, steps, pbc):
    skewed = slab.copy()
    skewed.set_cell(
        slab.cell.array + [[0, 0, 0], steps * slab.cell.array[0], 3 * slab.cell.array[1]]
    )
    skewed.pbc = pbc
    data, problems = read(tmp_path, slab, skewed)
    assert problems == [] and data.periodicity == SLAB
    lengths = np.linalg.norm(data.cell[:, :2], axis=-1)
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-5)
    across = np.cross(data.cell[:, 0], data.cell[:, 1])
    np.testing.assert_allclose(across[1], across[0], atol=1e-4)
    np.testing.assert_allclose(distances(data, 1), distances(data, 0), atol=1e-4)


def test_a_skewed_crystal_is_the_same_crystal(tmp_path):
    plain = Atoms(
        "GaSe", [[0.1, 0.2, 0.3], [2.0, 2.5, 3.0]], cell=[[4, 0, 0], [0, 5, 0], [1, 1, 6]], pbc=True
    )
    skewed = plain.copy()
    a, b, c = plain.cell.array
    skewed.set_cell([a + 7 * b - 5 * c, b + 3 * c, c])
    data, problems = read(tmp_path, plain, skewed)
    assert problems == [] and data.periodicity == BULK
    np.testing.assert_allclose(data.cell[0], plain.cell.array, rtol=1e-6)  # as written
    assert np.linalg.norm(data.cell[1], axis=1).max() < 6.5
    np.testing.assert_allclose(np.linalg.det(data.cell), np.linalg.det(plain.cell.array), rtol=1e-5)
    np.testing.assert_allclose(distances(data, 1), distances(data, 0), atol=1e-4)


def test_reduction_keeps_the_lattice_and_leaves_short_vectors_alone():
    for cell in (np.diag([3.0, 4.0, 5.0]), np.array([[3, 0, 0], [1.5, 2.598, 0], [0, 0, 9]])):
        np.testing.assert_array_equal(reduced(cell), cell)
    flat = np.array(
        [[4.0, 0, 0], [-2.0, 3.464, 0], [-2.0, -3.464, 0.7]]
    )  # short only as a sum of all three
    short = reduced(flat)
    assert np.linalg.norm(short, axis=1).min() < 0.75
    steps = short @ np.linalg.inv(flat)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    assert round(np.linalg.det(steps)) == 1


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.5, 0.9])
def test_a_slab_that_the_cell_cuts_along_c_is_put_together(tmp_path, slab, shift):
    cut = slab.copy()
    cut.set_scaled_positions((slab.get_scaled_positions() + [0, 0, shift]) % 1.0)
    cut.pbc = SLAB
    data, problems = read(tmp_path, slab, cut)
    assert problems == []
    np.testing.assert_allclose(data.slab_height[1], data.slab_height[0], atol=1e-4)
    np.testing.assert_allclose(distances(data, 1), distances(data, 0), atol=1e-4)


def test_layers_that_are_apart_in_a_tight_cell_are_no_cut():
    cell = np.diag([4.0, 4.0, 13.0])
    heights = (
        np.array([0.0, 2.0, 4.8, 8.2, 10.0, 12.5]) / 13.0
    )  # 3.4 between the layers, 0.5 around
    fractions = np.stack([np.zeros(6), np.zeros(6), heights], axis=1)
    np.testing.assert_array_equal(joined(fractions, cell), fractions)
    far = np.stack(
        [np.zeros(2), np.zeros(2), np.array([0.1, 0.5])], axis=1
    )  # 12 between, 18 around
    np.testing.assert_array_equal(joined(far, np.diag([4.0, 4.0, 30.0])), far)


@pytest.mark.parametrize("pbc", [SLAB, BULK])
def test_c_of_a_slab_is_no_length_to_judge(tmp_path, slab, pbc):
    long = slab.copy()
    long.cell[2] = [0, 0, 5000.0]
    long.pbc = pbc
    data, problems = read(tmp_path, slab, long)
    assert problems == []
    np.testing.assert_allclose(data.cell[1], data.cell[0], atol=1e-4)


@pytest.mark.parametrize(
    "cell,words",
    [
        ([600, 4, 5], "lattice vector of 600 Angstrom; the limit is 500"),
        ([0.4, 4, 5], "lattice planes 0.4 Angstrom apart; the limit is 1"),
        ([0, 4, 5], "span no cell"),
    ],
)
def test_a_cell_that_is_too_large_or_too_small_is_named(tmp_path, cell, words):
    chain = Atoms(
        ["Ga"] * 8, np.arange(8)[:, None] * [cell[0] / 8, 0, 0], cell=np.diag(cell), pbc=True
    )
    _, problems = read(tmp_path, chain)
    assert [problem.field for problem in problems] == ["cell"] and words in problems[0].reason
