"""Layers are what bonds hold together, whatever the atoms; contacts that are clearly longer part them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell

from vdw_jax.metrics.layers import (
    find_layers,
    height_groups,
    layer_names,
    same_sequence,
    species_sequence,
)

METALS, CHALCOGENS = ("Al", "Ga", "In"), ("S", "Se", "Te")
REGISTRIES = ((0.0, 0.0), (1 / 3, 2 / 3), (2 / 3, 1 / 3))


def hexagonal(lattice_constant: float) -> np.ndarray:
    cell = np.diag([lattice_constant, lattice_constant * np.sqrt(3) / 2, 30.0])
    cell[1, 0] = -lattice_constant / 2
    return cell


def stacked(symbols: str | list[str], lattice_constant: float, sites: list[int], heights: list[float]) -> Atoms:
    """Atoms over the sites (0, 0), (1/3, 2/3) and (2/3, 1/3) of a hexagonal cell."""
    cell = hexagonal(lattice_constant)
    positions = np.array([REGISTRIES[site] for site in sites]) @ cell[:2]
    positions[:, 2] = heights
    return Atoms(symbols, positions, cell=cell, pbc=(True, True, False))


def layers_of(atoms: Atoms):
    return find_layers(atoms.numbers, atoms.positions, atoms.cell.array)


@pytest.mark.parametrize("gap", [3.3, 4.0, 4.5])
def test_two_layers_at_every_gap_and_stacking(bilayer, gap):
    for metal, below, above in itertools.product(METALS, CHALCOGENS, CHALCOGENS):
        for shift, turned in itertools.product(REGISTRIES, (False, True)):
            layers = (below, metal, metal, below), (above, metal, metal, above)
            slab = bilayer(*layers, stacking=(shift, turned), gap=gap)
            stack = find_layers(*slab.arrays)
            assert stack.num_layers == 2, (metal, below, above, shift, turned)
            assert stack.is_bilayer
            assert stack.gaps_angstrom[0] == pytest.approx(gap, abs=1e-6)
            assert stack.layers[0].indices == (0, 1, 2, 3)


def test_how_near_and_how_far_depends_on_the_facing_atoms(bilayer):
    """Se over S: a bond at 2.3 Angstrom, and no layers that face each other beyond 1.4 times 3.71."""
    layers = ("S", "Ga", "Ga", "S"), ("Se", "Ga", "Ga", "Se")
    expected = {2.3: False, 2.9: True, 4.4: True, 5.1: True, 5.3: False, 9.0: False}
    assert {gap: find_layers(*bilayer(*layers, gap=gap).arrays).is_bilayer for gap in expected} == expected


def hydroxide(gap: float) -> Atoms:
    """Two layers of Mg(OH)2 whose facing planes of H are `gap` apart."""
    heights = np.array([0, 0.97, 2.0, 3.03, 4.0])
    return stacked("HOMgOH" * 2, 3.14, [1, 1, 0, 2, 2] * 2, [*heights, *(heights + 4.0 + gap)])


def test_hydrogen_is_small():
    expected = {0.8: True, 1.0: True, 1.4: True, 1.9: True, 2.7: True, 3.5: False}
    assert {gap: layers_of(hydroxide(gap)).is_bilayer for gap in expected} == expected


ELEMENTS = {
    "Te": (4.20, 1.60, 3.2),
    "Sb": (4.12, 1.65, 2.6),
    "P": (3.28, 1.24, 3.2),
    "Bi": (4.30, 1.73, 2.6),
    "As": (3.61, 1.40, 2.5),
}
"""Lattice constant, buckling and distance of the facing planes, Angstrom."""


@pytest.mark.parametrize("element", ELEMENTS)
def test_buckled_layers_of_one_element(element):
    constant, buckling, gap = ELEMENTS[element]
    heights = [0, buckling, buckling + gap, 2 * buckling + gap]
    stack = layers_of(stacked(element * 4, constant, [0, 1, 0, 1], heights))
    assert stack.is_bilayer and stack.layers[1].indices == (2, 3)
    alone = layers_of(stacked(element * 2, constant, [0, 1], heights[:2]))
    assert alone.num_layers == 1 and alone.layers[0].is_sheet


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_layers_of_one_atom_each(count):
    sites = [0, 1, 1, 2, 0, 1, 1, 2, 0, 1][: 2 * count]
    heights = np.repeat(3.35 * np.arange(count), 2).tolist()
    stack = layers_of(stacked("C2" * count, 2.46, sites, heights))
    assert stack.num_layers == count and all(layer.is_sheet for layer in stack.layers)
    assert all(layer.thickness_angstrom == 0 for layer in stack.layers)
    assert stack.gaps_angstrom == pytest.approx([3.35] * (count - 1))
    assert stack.is_bilayer == (count == 2)


def pleated(distance: float) -> Atoms:
    """Two deeply pleated sheets of P, one `distance` above the other: each lies in the pleats of the next."""
    heights = np.array([0, 2, 4, 6, 8, 6, 4, 2], dtype=float)
    sheet = np.column_stack([1.15 * np.arange(8), np.zeros(8), heights])
    cell = np.diag([8 * 1.15, 2.3, 40.0])
    return Atoms("P16", np.concatenate([sheet, sheet + [0, 0, distance]]), cell=cell, pbc=(True, True, False))


def test_sheets_that_interlock():
    stack = layers_of(pleated(7.2))
    assert stack.is_bilayer
    assert stack.interlayer_distance_angstrom == pytest.approx(-0.8)
    assert stack.center_distances_angstrom == pytest.approx((7.2,))
    nearest = min(np.hypot(1.15 * step, 7.2 - 2 * step) for step in range(5))
    assert stack.contact_distances_angstrom == pytest.approx((nearest,))
    assert stack.contact_ratios == pytest.approx((nearest / 3.80,))  # P: 1.90 Angstrom


@pytest.mark.parametrize(("spacing", "count"), [(2.6, 1), (3.4, 2)])
def test_a_step_in_the_contacts_parts_layers(spacing, count):
    """Sb planes over each other: 2.9 Angstrom within a sheet, and the next sheet either bonded or clearly off."""
    stack = layers_of(stacked("Sb4", 4.12, [0, 1, 1, 0], [0, 1.65, 1.65 + spacing, 3.3 + spacing]))
    assert stack.num_layers == count


def test_a_long_bond_beside_a_clear_gap_is_a_bond():
    """The Te-Ga bonds of this quintuple layer, 3.13 Angstrom, are as long as Bi bilayers are apart."""
    quintuple = [0, 1.03, 3.56, 5.90, 6.98]
    heights = [*quintuple, *(np.array(quintuple) + 10.7)]
    stack = layers_of(stacked("SAlTeGaS" * 2, 3.61, [0, 1, 1, 0, 1] * 2, heights))
    assert [len(layer.indices) for layer in stack.layers] == [5, 5]


def test_a_septuple_layer_is_one():
    """Te-Bi-Te-Mn-Te-Bi-Te, with the inner Te-Bi bonds drawn out to a reduced distance of 0.3."""
    heights = [0, 1.79, 4.05, 5.65, 7.25, 9.51, 11.3]
    stack = layers_of(stacked(["Te", "Bi", "Te", "Mn", "Te", "Bi", "Te"], 4.33, [0, 1, 2, 0, 1, 2, 0], heights))
    assert [layer.is_sheet for layer in stack.layers] == [True]


def test_a_molecule_between_layers_is_a_piece_of_its_own(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("S", "Ga", "Ga", "S"), gap=9.0)
    nitrogen = np.array([[0, 0, 4.7 + 3.95], [0, 0, 4.7 + 5.05]])
    numbers = np.append(slab.numbers, [7, 7])
    stack = find_layers(numbers, np.concatenate([slab.positions, nitrogen]), slab.cell)
    assert [layer.is_sheet for layer in stack.layers] == [True, False, True]
    assert stack.layers[1].indices == (8, 9) and not stack.is_bilayer


def test_chains_are_no_sheets():
    chain = Atoms("C4", [[0, 0, 0], [1.28, 0, 0], [0, 0, 3.5], [1.28, 0, 3.5]], cell=[2.56, 9.0, 30.0])
    stack = layers_of(chain)
    assert [layer.is_sheet for layer in stack.layers] == [False, False]


def test_large_cells_give_the_same_layers(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("Te", "In", "In", "Te"))
    small = find_layers(*slab.arrays)
    atoms = Atoms(slab.numbers, slab.positions, cell=slab.cell, pbc=(True, True, False))
    large = layers_of(make_supercell(atoms, [[6, 1, 0], [0, 6, 0], [0, 0, 1]]))
    assert [len(layer.indices) for layer in large.layers] == [144, 144]
    assert large.contact_ratios == pytest.approx(small.contact_ratios)


def test_layers_that_share_bonds_are_one(bilayer):
    # hollow registry: X of the upper layer over M of the lower one, pushed down to a bond
    slab = bilayer(("S", "Ga", "Ga", "S"), ("S", "Ga", "Ga", "S"), ((2 / 3, 1 / 3), False), gap=0.8)
    stack = find_layers(*slab.arrays)
    assert stack.num_layers == 1 and not stack.is_bilayer


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
