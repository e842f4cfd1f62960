"""Layers are what bonds hold together, across no vdW gap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vdw_jax.metrics.layers import (
    find_layers,
    height_groups,
    layer_names,
    same_sequence,
    species_sequence,
)

METALS, CHALCOGENS = ("Al", "Ga", "In"), ("S", "Se", "Te")
RADIUS = {"Al": 1.21, "Ga": 1.22, "In": 1.42, "S": 1.05, "Se": 1.20, "Te": 1.38}  # Cordero 2008, Angstrom
REGISTRIES = ((0.0, 0.0), (1 / 3, 2 / 3), (2 / 3, 1 / 3))


@pytest.mark.parametrize("gap", [2.5, 3.0, 4.5])
def test_two_layers_at_every_gap_and_stacking(bilayer, gap):
    for metal, below, above in itertools.product(METALS, CHALCOGENS, CHALCOGENS):
        for shift, turned in itertools.product(REGISTRIES, (False, True)):
            layers = (below, metal, metal, below), (above, metal, metal, above)
            slab = bilayer(*layers, stacking=(shift, turned), gap=gap)
            stack = find_layers(*slab.arrays)
            assert stack.num_layers == 2, (metal, below, above, shift, turned)
            assert stack.gaps_angstrom[0] == pytest.approx(gap, abs=1e-6)
            assert all(layer.is_sheet for layer in stack.layers)
            assert stack.layers[0].indices == (0, 1, 2, 3)


def test_a_bilayer_needs_a_vdw_gap(bilayer):
    layers = ("S", "Ga", "Ga", "S"), ("Se", "Ga", "Ga", "Se")
    expected = {2.3: False, 2.6: True, 4.4: True, 4.6: False, 9.0: False}
    assert {gap: find_layers(*bilayer(*layers, gap=gap).arrays).is_bilayer for gap in expected} == expected


def test_layers_that_share_bonds_are_one(bilayer):
    # hollow registry: X of the upper layer over M of the lower one, pushed down to a bond
    slab = bilayer(("S", "Ga", "Ga", "S"), ("S", "Ga", "Ga", "S"), ((2 / 3, 1 / 3), False), gap=0.8)
    stack = find_layers(*slab.arrays)
    assert stack.num_layers == 1 and not stack.is_bilayer


@pytest.mark.parametrize("metal", METALS)
@pytest.mark.parametrize("chalcogen", CHALCOGENS)
def test_bonds_up_to_a_fifth_longer_than_the_radii(metal, chalcogen):
    def sheet(length):
        a = 3.9
        cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 30.0]])
        height = np.sqrt(length**2 - a**2 / 3)
        positions = np.array([[0, 0, 0], [0, a / np.sqrt(3), height]])
        numbers = {"Al": 13, "Ga": 31, "In": 49, "S": 16, "Se": 34, "Te": 52}
        return find_layers(np.array([numbers[metal], numbers[chalcogen]]), positions, cell)

    length = RADIUS[metal] + RADIUS[chalcogen]
    assert sheet(1.2 * length).num_layers == 1
    assert sheet(1.25 * length).num_layers == 2


def test_lone_atoms_and_molecules_are_no_sheets(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("S", "Ga", "Ga", "S"))
    alone = [0, 1, 2, 3, 4]  # one sulphur 3 Angstrom above a layer
    stack = find_layers(slab.numbers[alone], slab.positions[alone], slab.cell)
    assert stack.num_layers == 2 and stack.gaps_angstrom[0] == pytest.approx(3.0)
    assert [layer.is_sheet for layer in stack.layers] == [True, False]
    assert not stack.is_bilayer


def test_bonds_cross_the_cell_border(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("Se", "In", "In", "Se"))
    generator = np.random.default_rng(0)
    images = generator.integers(-3, 4, size=(8, 2))
    moved = slab.positions + images @ slab.cell[:2]
    assert find_layers(slab.numbers, moved, slab.cell).is_bilayer
    skewed = np.array([[1, 0, 0], [4, 1, 0], [0, 0, 1]]) @ slab.cell
    assert find_layers(slab.numbers, moved, skewed).is_bilayer


def test_c_is_not_read(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("Se", "In", "In", "Se"))
    cell = slab.cell.copy()
    cell[2, 2] = 12.4 + 2.4 - 0.3  # through c the outermost planes would bond
    assert find_layers(slab.numbers, slab.positions, cell).is_bilayer


def test_degenerate_input_raises(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("Se", "In", "In", "Se"))
    with pytest.raises(ValueError, match="finite"):
        find_layers(slab.numbers, slab.positions * np.nan, slab.cell)
    with pytest.raises(ValueError, match="span"):
        find_layers(slab.numbers, slab.positions, slab.cell * 0)
    with pytest.raises(ValueError, match="too short"):
        find_layers(slab.numbers, slab.positions, slab.cell * np.array([[0.01], [1], [1]]))


def test_sequence_is_the_same_from_both_sides(bilayer):
    slab = bilayer(("S", "Ga", "In", "Se"), ("Te", "In", "Al", "S"))
    flipped = slab.flipped()
    assert species_sequence(slab.numbers, slab.positions) == (16, 13, 49, 52, 34, 49, 31, 16)
    assert same_sequence(slab.numbers, slab.positions, flipped.numbers, flipped.positions)
    swapped = slab.numbers[[0, 2, 1, 3, 4, 5, 6, 7]]
    assert not same_sequence(slab.numbers, slab.positions, swapped, slab.positions)


def test_atoms_of_one_plane_are_sorted_by_element():
    numbers = np.array([34, 13, 16])
    positions = np.array([[0, 0, 0.0], [0, 0, 0.25], [0, 0, 0.6]])
    assert height_groups(numbers, positions) == [[1, 0], [2]]
    assert species_sequence(numbers, positions) == (13, 34, 16)


def test_names_read_from_bottom_to_top(bilayer):
    slab = bilayer(("S", "Ga", "In", "Se"), ("Se", "In", "Ga", "S"))
    stack = find_layers(*slab.arrays)
    assert layer_names(slab.numbers, slab.positions, stack) == "SGaInSe / SeInGaS"
