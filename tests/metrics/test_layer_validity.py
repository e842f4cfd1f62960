"""What a chemist objects to in a slab, each objection by itself."""

from __future__ import annotations

import numpy as np
import pytest

from vdw_jax.metrics.layer_validity import (
    MARGIN_ANGSTROM,
    SHORTEST_BOND_FACTOR,
    crystal_problems,
    lattice_constant_angstrom,
    layer_problems,
    layer_ranges,
)
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.types import BULK, SLAB

A = 3.9
CELL = np.array([[A, 0, 0], [-A / 2, A * np.sqrt(3) / 2, 0], [0, 0, 35.0]])
GAS_ON_INSE = [16, 31, 31, 16, 34, 49, 49, 34]
SITES = np.array([[2 / 3, 1 / 3], [1 / 3, 2 / 3], [1 / 3, 2 / 3], [2 / 3, 1 / 3]])
HEIGHTS = np.array([0.0, 1.1, 3.6, 4.7])


def positions_of(distance: float = 3.1, layers: int = 2) -> np.ndarray:
    """Sheets of chalcogen, metal, metal, chalcogen, 4.7 Angstrom thick, one above the other."""
    z = np.concatenate([HEIGHTS + place * (HEIGHTS[-1] + distance) for place in range(layers)])
    return np.column_stack([np.tile(SITES, (layers, 1)) @ CELL[:2, :2], z - z.mean()])


def problems(numbers=GAS_ON_INSE, positions=None, **options) -> tuple[str, ...]:
    return layer_problems(np.array(numbers), positions_of() if positions is None else positions, CELL, **options)


def dataset_of(*slabs: tuple[list[int], np.ndarray], periodicity=SLAB) -> CrystalDataset:
    width = max(len(numbers) for numbers, _ in slabs)
    padded = np.zeros((len(slabs), width), np.int16)
    positions = np.zeros((len(slabs), width, 3), np.float32)
    for row, (numbers, places) in enumerate(slabs):
        padded[row, : len(numbers)], positions[row, : len(numbers)] = numbers, places
    ids = np.array([f"s{row}" for row in range(len(slabs))])
    return CrystalDataset(ids, padded, positions, np.tile(CELL, (len(slabs), 1, 1)).astype(np.float32), periodicity)


def test_a_bilayer_has_no_problem():
    assert problems() == ()


def test_loose_pieces_are_no_layer():
    """One S atom far below: the bilayer's lower sheet has lost a plane, which no bond holds."""
    positions = positions_of()
    positions[0, 2] -= 5.0
    assert problems(positions=positions) == ("1 of 3 bonded pieces is not a sheet", "3 bonded pieces, not 2")


@pytest.mark.parametrize(("layers", "text"), [(1, "1 bonded piece, not 2"), (3, "3 bonded pieces, not 2")])
def test_another_number_of_layers(layers, text):
    numbers, positions = [16, 31, 31, 16] * layers, positions_of(layers=layers)
    assert problems(numbers, positions) == (text,)
    assert problems(numbers, positions, num_layers=layers) == ()
    assert problems(numbers, positions, num_layers=None) == ()


def test_layers_too_far_apart_to_hold_together():
    (problem,) = problems(positions=positions_of(6.0))
    assert problem.startswith("interlayer distance 6.00 A")


@pytest.mark.parametrize("distance", [3.0 - MARGIN_ANGSTROM, 3.5 + MARGIN_ANGSTROM])
@pytest.mark.parametrize("beyond", [-0.01, 0.01])
def test_the_range_of_interlayer_distances_has_a_margin(distance, beyond):
    ranges = {"interlayer_distance_angstrom": [3.0, 3.5]}
    found = problems(positions=positions_of(distance + beyond), ranges=ranges)
    assert (found != ()) is ((beyond > 0) is (distance > 3.2))
    assert all("interlayer distance" in text and "3.00 to 3.50 A" in text for text in found)


def test_layers_thicker_than_the_data():
    inside = {"layer_thickness_angstrom": [4.6, 4.8]}
    assert problems(ranges=inside) == ()
    thin = {"layer_thickness_angstrom": [2.0, 4.4]}
    assert problems(ranges=thin) == ("layer thickness 4.70 A is outside 2.00 to 4.40 A of the data",) * 2


def test_atoms_too_close():
    positions = positions_of()
    positions[0, 2] = positions[1, 2] - 0.1
    positions[0, :2] = positions[1, :2] + [1.0, 0.0]
    found = crystal_problems(np.array(GAS_ON_INSE), positions, CELL, SLAB)
    assert found == ("S and Ga are 1.00 A apart",)
    assert set(found) <= set(problems(positions=positions))
    n2 = np.array([[0.0, 0.0, 0.0], [1.098, 0.0, 0.0]])  # the shortest bond of its kind
    assert crystal_problems(np.array([7, 7]), n2, CELL, SLAB) == ()
    assert pytest.approx(1.42 * SHORTEST_BOND_FACTOR, abs=0.01) == 0.99


def test_a_charge_that_nothing_balances():
    positions = np.diag([4.0, 4.0, 4.0])
    charge = "no choice of oxidation states is neutral"
    assert crystal_problems(np.array([11, 11, 17]), positions, 9 * np.eye(3), SLAB) == (charge,)
    assert crystal_problems(np.array([11, 17]), positions[:2], 9 * np.eye(3), SLAB) == ()
    assert problems([17, 31, 31, 34, 34, 49, 49, 34]) == (charge,)


@pytest.mark.parametrize(
    ("numbers", "positions", "cell", "text"),
    [
        ([], np.zeros((0, 3)), CELL, "no atoms"),
        ([31], np.full((1, 3), np.nan), CELL, "not finite"),
        ([31], np.zeros((1, 3)), np.zeros((3, 3)), "no volume"),
        ([0, 200], np.zeros((2, 3)), CELL, "no known element"),
        ([31, 16], np.zeros((2, 3)), CELL, "0.00 A apart"),
    ],
)
@pytest.mark.parametrize("periodicity", [SLAB, BULK])
def test_ugly_crystals_have_a_problem_and_raise_nothing(numbers, positions, cell, text, periodicity):
    assert text in crystal_problems(np.array(numbers), positions, cell, periodicity)[0]
    assert text in layer_problems(np.array(numbers), positions, cell)[0]


def test_ranges_of_a_data_set():
    near, far = positions_of(3.0), positions_of(3.6)
    far[[6, 7], 2] += 0.2
    found = layer_ranges(dataset_of((GAS_ON_INSE, near), (GAS_ON_INSE, far)))
    assert found["num_layers"] == [2, 2]
    assert found["interlayer_distance_angstrom"] == pytest.approx([3.0, 3.6], abs=1e-5)
    assert found["layer_thickness_angstrom"] == pytest.approx([4.7, 4.9], abs=1e-5)
    assert found["lattice_constant_angstrom"] == pytest.approx([A, A], abs=1e-5)


def test_ranges_are_not_widened_by_what_came_apart():
    loose = positions_of()
    loose[:4, 2] -= [40.0, 30.0, 20.0, 0.0]
    mixed = dataset_of((GAS_ON_INSE, positions_of()), (GAS_ON_INSE, loose))
    assert layer_ranges(mixed) == layer_ranges(mixed.select([0]))


def test_monolayers_have_no_interlayer_distance_and_bulk_no_layers():
    one = dataset_of(([16, 31, 31, 16], positions_of(layers=1)))
    found = layer_ranges(one)
    assert found["num_layers"] == [1, 1] and "interlayer_distance_angstrom" not in found
    assert layer_ranges(one.select([])) == {}
    assert layer_ranges(dataset_of((GAS_ON_INSE, positions_of()), periodicity=BULK)) == {}


def test_large_data_sets_are_read_in_part():
    slabs = [(GAS_ON_INSE, positions_of(distance)) for distance in (3.0, 3.5, 3.1, 3.6)]
    found = layer_ranges(dataset_of(*slabs), most=2)
    assert found["interlayer_distance_angstrom"] == pytest.approx([3.0, 3.1], abs=1e-5)


def test_the_lattice_constant_of_a_hexagonal_cell_is_its_side():
    assert lattice_constant_angstrom(CELL) == pytest.approx(A)
    assert lattice_constant_angstrom(np.diag([3.0, 3.0, 20.0])) == pytest.approx(3.0 / np.sqrt(np.sqrt(0.75)))
