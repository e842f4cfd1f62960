"""One structure however it is written: supercells, origins, orientations and vacuum are no news; another one is."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell

from vdw_jax.metrics.novelty import compare, nearest
from vdw_jax.metrics.primitive import primitive_cell, primitive_slabs
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.source import load_relaxed
from vdw_jax.types import BULK, SLAB

SUPERCELLS = {
    "2x1": [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
    "1x3": [[1, 0, 0], [0, 3, 0], [0, 0, 1]],
    "2x2": [[2, 0, 0], [0, 2, 0], [0, 0, 1]],
    "sqrt3": [[2, 1, 0], [1, 2, 0], [0, 0, 1]],
    "oblique": [[1, 0, 0], [3, 1, 0], [0, 0, 1]],
    "oblique supercell": [[2, 1, 0], [5, 4, 0], [0, 0, 1]],
}


def turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """Atoms and cell under an orthogonal matrix."""
    return Atoms(atoms.numbers, atoms.positions @ matrix.T, cell=atoms.cell.array @ matrix.T, pbc=atoms.pbc)


def in_plane(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )


def shifted(atoms: Atoms, shift: tuple[float, float, float]) -> Atoms:
    """By fractions of the cell; every atom is wrapped into it, along c too."""
    moved = atoms.copy()
    moved.set_scaled_positions((atoms.get_scaled_positions(wrap=False) + shift) % 1.0)
    return moved


def turned_over(atoms: Atoms) -> Atoms:
    moved = turned(atoms, np.diag([1.0, -1.0, -1.0]))
    cell = moved.cell.array
    cell[2] *= -1
    moved.set_cell(cell)
    return moved


def more_vacuum(atoms: Atoms) -> Atoms:
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array + np.diag([0, 0, 17.0]))
    return moved


TRANSFORMED = {name: lambda atoms, by=matrix: make_supercell(atoms, by) for name, matrix in SUPERCELLS.items()}
TRANSFORMED |= {
    "origin": lambda atoms: shifted(atoms, (0.31, 0.77, 0)),
    "wrapped across c": lambda atoms: shifted(atoms, (0, 0, 0.55)),
    "turned over": turned_over,
    "mirrored": lambda atoms: turned(atoms, np.diag([-1.0, 1.0, 1.0])),
    "rotated": lambda atoms: turned(atoms, in_plane(37.0)),
    "order": lambda atoms: atoms[::-1],
    "all": lambda atoms: shifted(
        turned(turned_over(make_supercell(atoms, SUPERCELLS["oblique supercell"])), in_plane(71.0)),
        (0.2, 0.4, 0.3),
    ),
}
OF_SLABS = TRANSFORMED | {"vacuum": more_vacuum}


def dataset(structures: dict[str, Atoms], periodicity=SLAB) -> CrystalDataset:
    width = max(len(atoms) for atoms in structures.values())
    numbers = np.zeros((len(structures), width), np.int16)
    positions = np.zeros((len(structures), width, 3), np.float32)
    for row, atoms in enumerate(structures.values()):
        numbers[row, : len(atoms)] = atoms.numbers
        positions[row, : len(atoms)] = atoms.positions
    cells = np.array([atoms.cell.array for atoms in structures.values()], np.float32)
    return CrystalDataset(np.array(list(structures)), numbers, positions, cells, periodicity)


def slab(numbers: list[int], fractions: list, heights: list[float], a: np.ndarray, b: np.ndarray) -> Atoms:
    plane = np.array([a, b])
    positions = np.column_stack([np.array(fractions) @ plane, heights])
    positions[:, 2] -= positions[:, 2].mean()
    cell = np.zeros((3, 3))
    cell[:2, :2], cell[2, 2] = plane, np.ptp(heights) + 20.0
    return Atoms(numbers, positions, cell=cell, pbc=True)


def bilayer() -> Atoms:
    """A bilayer of unlike III-VI layers from the shipped data."""
    data, _ = load_relaxed("j2dh8")
    return Atoms(data.atomic_numbers[12_345], data.positions[12_345], cell=data.cell[12_345], pbc=True)


def graphene() -> Atoms:
    a, b = np.array([2.46, 0]), np.array([-1.23, 2.1304])
    return slab([6, 6], [[0, 0], [1 / 3, 2 / 3]], [0, 0], a, b)


def chiral() -> Atoms:
    """An oblique cell of three elements with no mirror, two atoms of one element in one plane."""
    a, b = np.array([3.3, 0]), np.array([0.9, 4.6])
    fractions = [[0.1, 0.0], [0.45, 0.4], [0.62, 0.87], [0.05, 0.55]]
    return slab([42, 16, 16, 34], fractions, [0, 1.5, 1.5, 3.4], a, b)


@pytest.mark.parametrize("build", [bilayer, graphene, chiral])
def test_a_slab_written_otherwise_is_no_news(build):
    atoms = build()
    known = dataset({"known": atoms})
    own = dataset({name: change(atoms) for name, change in OF_SLABS.items()})
    found = compare(own, known, progress=False)
    expected = [("known", None if row == 0 else 0) for row in range(len(own))]
    assert dict(zip(own.ids, found, strict=True)) == dict(zip(own.ids, expected, strict=True))


def test_a_supercell_among_the_known_makes_the_cell_known():
    known = dataset({"known": make_supercell(chiral(), SUPERCELLS["sqrt3"])})
    assert compare(dataset({"own": chiral()}), known, progress=False) == [("known", None)]
    assert [one.id for one in nearest(dataset({"own": chiral()}), known)] == ["known"]


def test_what_really_differs_is_new():
    """One atom of a supercell moved, one exchanged, and the supercell of another stacking."""
    atoms = bilayer()
    moved, exchanged = (make_supercell(atoms, SUPERCELLS["2x1"]) for _ in range(2))
    moved.positions[3, :2] += 1.5
    unlike = int(np.flatnonzero(exchanged.numbers != exchanged.numbers[0])[0])
    exchanged.numbers[[0, unlike]] = exchanged.numbers[[unlike, 0]]
    other = atoms.copy()
    top = atoms.positions[:, 2] > 0
    other.positions[top] += np.array([1 / 3, 2 / 3]) @ atoms.cell.array[:2]
    own = dataset(
        {"moved": moved, "exchanged": exchanged, "stacking": make_supercell(other, SUPERCELLS["2x2"])}
    )
    assert compare(own, dataset({"known": atoms}), progress=False) == [(None, None)] * 3


def cubic_salt() -> Atoms:
    """Primitive rock salt."""
    cell = 2.82 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Atoms("NaCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=cell, pbc=True)


def layered_bulk() -> Atoms:
    """Two layers a period, no mirror."""
    cell = np.array([[3.3, 0, 0], [0.9, 4.6, 0], [0.4, 0.3, 6.2]])
    fractions = [[0.1, 0, 0.1], [0.45, 0.4, 0.3], [0.62, 0.87, 0.35], [0.05, 0.55, 0.7]]
    return Atoms([42, 16, 16, 34], scaled_positions=fractions, cell=cell, pbc=True)


@pytest.mark.parametrize("build", [cubic_salt, layered_bulk])
def test_a_bulk_crystal_written_otherwise_is_no_news(build):
    atoms = build()
    along_c = {"along c": lambda crystal: make_supercell(crystal, [[1, 0, 0], [0, 1, 0], [1, 0, 2]])}
    own = dataset({name: change(atoms) for name, change in (TRANSFORMED | along_c).items()}, BULK)
    found = compare(own, dataset({"known": atoms}, BULK), progress=False)
    assert [name for name, (match, _) in zip(own.ids, found, strict=True) if match is None] == []
    assert [earlier for _, earlier in found] == [None] + [0] * (len(own) - 1)


@pytest.mark.parametrize("name", SUPERCELLS)
def test_the_primitive_cell_is_found_again(name):
    atoms = chiral()
    large = make_supercell(atoms, SUPERCELLS[name], wrap=False)
    noise = np.random.default_rng(0).normal(scale=0.02, size=(len(large), 3))
    numbers, positions, cell = primitive_cell(large.numbers, large.positions + noise, large.cell.array)
    assert sorted(numbers) == sorted(atoms.numbers)
    area = abs(np.linalg.det(cell[:2, :2]))
    assert area == pytest.approx(abs(np.linalg.det(atoms.cell.array[:2, :2])), rel=0.02)
    heights = sorted(positions[:, 2])
    assert heights == pytest.approx(sorted(atoms.positions[:, 2]), abs=0.06)


def test_a_distortion_keeps_its_supercell():
    large = make_supercell(graphene(), SUPERCELLS["2x1"], wrap=False)
    large.positions[0, 0] += 0.5
    assert len(primitive_cell(large.numbers, large.positions, large.cell.array)[0]) == 4


@pytest.mark.parametrize("family", ["j2dh8", "iii_vi", "layers"])
def test_the_shipped_slabs_are_primitive(family):
    data, _ = load_relaxed(family)
    same = primitive_slabs(data)
    assert np.array_equal(same.atomic_numbers, data.atomic_numbers)
    assert np.array_equal(same.positions, data.positions) and np.array_equal(same.cell, data.cell)


def test_values_that_are_not_finite_are_left_alone():
    atoms = graphene()
    data = dataset({"a": atoms, "b": make_supercell(atoms, SUPERCELLS["2x1"])})
    data.positions[0, 0] = np.nan
    assert primitive_slabs(data).num_atoms.tolist() == [2, 2]
