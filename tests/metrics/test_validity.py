"""Validity agrees with pymatgen's distances and with SMACT itself."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure
from smact.screening import smact_validity

from vdw_jax.metrics.validity import (
    check_structure,
    check_validity,
    composition_is_valid,
    min_distance,
    structure_is_valid,
)

SLAB, BULK = (True, True, False), (True, True, True)


def numbers(formula: str) -> np.ndarray:
    composition = Composition(formula)
    return np.array([element.Z for element, count in composition.items() for _ in range(int(count))])


@pytest.mark.parametrize(
    ("formula", "valid"),
    [
        ("NaCl", True),
        ("NaCl2", False),
        ("GaS", True),
        ("Ga2SSe", True),
        ("GaInSSe2", True),
        ("Ga3Se4", False),
        ("FeNi", True),  # metals only
        ("Si", True),  # one element
        ("HeNe", False),
    ],
)
def test_known_formulas(formula, valid):
    assert composition_is_valid(numbers(formula)) is valid
    assert composition_is_valid(np.tile(numbers(formula), 3)) is valid


def test_agrees_with_smact_on_random_formulas():
    generator = np.random.default_rng(0)
    verdicts = []
    for _ in range(300):
        chosen = generator.choice(np.arange(1, 93), size=generator.integers(1, 5), replace=False)
        atoms = np.repeat(chosen, generator.integers(1, 5, size=len(chosen)))
        formula = Composition(dict(zip(*np.unique(atoms, return_counts=True), strict=True)))
        expected = smact_validity(formula, oxidation_states_set="smact14")
        assert composition_is_valid(atoms) == expected, formula
        verdicts.append(expected)
    assert 0.1 < np.mean(verdicts) < 0.9


def test_many_elements_take_no_time():
    start = time.perf_counter()
    composition_is_valid(np.arange(16, 36))
    assert time.perf_counter() - start < 1.0


def test_impossible_atomic_numbers_are_invalid():
    assert not composition_is_valid(np.array([], dtype=int))
    assert not composition_is_valid(np.array([0, 8]))
    assert not composition_is_valid(np.array([8, 130]))
    assert not composition_is_valid(np.array([8, 110]))


@pytest.mark.parametrize("periodicity", [SLAB, BULK])
def test_shortest_distance_is_pymatgens(periodicity):
    generator = np.random.default_rng(3)
    for _ in range(20):
        matrix = np.eye(3) * [3, 4, 9] + generator.normal(size=(3, 3)) * 0.4
        matrix = np.array([[1, 0, 0], [2, 1, 0], [0, 0, 1]]) @ matrix  # skewed
        fractional = generator.uniform(-2, 2, size=(6, 3))
        lattice = Lattice(matrix, pbc=periodicity)
        structure = Structure(lattice, ["H"] * 6, fractional)
        neighbours = [structure.get_neighbors(site, 12.0) for site in structure]
        expected = min(neighbour.nn_distance for found in neighbours for neighbour in found)
        assert min_distance(structure.cart_coords, matrix, periodicity) == pytest.approx(expected, abs=1e-5)


def test_an_atom_sees_its_own_images():
    cell = np.diag([3.0, 0.4, 20.0])
    assert min_distance(np.zeros((1, 3)), cell, SLAB) == pytest.approx(0.4)
    assert not structure_is_valid(np.zeros((1, 3)), cell, SLAB)
    assert min_distance(np.zeros((1, 3)), cell, (True, False, False)) == pytest.approx(3.0)
    assert min_distance(np.zeros((1, 3)), cell, (False, False, False)) == np.inf


@pytest.mark.parametrize(("distance", "valid"), [(0.3, False), (0.49, False), (0.51, True)])
def test_distances_are_seen_through_the_border(distance, valid):
    cell = np.diag([4.0, 4.0, 20.0])
    positions = np.array([[0.1, 0, 0], [4.1 - distance, 0, 0]])
    assert structure_is_valid(positions, cell, SLAB) is valid


def test_c_is_a_period_of_bulk_only():
    positions, cell = np.array([[0, 0, 0.1], [0, 0, 9.9]]), np.diag([4.0, 4.0, 10.0])
    assert structure_is_valid(positions, cell, SLAB)
    assert not structure_is_valid(positions, cell, BULK)


def test_broken_input_is_invalid_not_an_error():
    good = np.array([[0, 0, 0], [2.0, 0, 0]])
    for cell in (np.zeros((3, 3)), np.full((3, 3), np.nan), np.diag([4, 4, 1e-9]), np.ones((3, 3))):
        assert not structure_is_valid(good, cell, BULK)
    assert not structure_is_valid(good * np.nan, np.eye(3) * 4, BULK)
    assert not structure_is_valid(np.zeros((0, 3)), np.eye(3) * 4, BULK)


def test_both_verdicts_are_kept_apart(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("Se", "In", "In", "Se"))
    assert check_validity(*slab.arrays, SLAB).valid
    wrong = check_validity(np.full(8, 2) + np.arange(8) % 2 * 8, slab.positions, slab.cell, SLAB)
    assert wrong.structure and not wrong.composition and not wrong.valid
    rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    assert check_structure(rocksalt).valid
