"""Stackings are told apart, and only by what differs."""

from __future__ import annotations

import numpy as np
import pytest

from vdw_jax.metrics.stacking import registry_displacement, same_registry, stacking_signature

PAIRS = [
    (("S", "Ga", "Ga", "S"), ("Se", "In", "In", "Se")),
    (("S", "Ga", "In", "Se"), ("S", "Al", "In", "Te")),
    (("S", "Ga", "In", "Se"), ("S", "Ga", "In", "Se")),
]


def stackings(bilayer, pair):
    registries = ((0.0, 0.0), (1 / 3, 2 / 3), (2 / 3, 1 / 3))
    return [bilayer(*pair, stacking=(shift, turned)) for shift in registries for turned in (False, True)]


@pytest.mark.parametrize("pair", PAIRS)
def test_each_stacking_only_equals_itself(bilayer, pair):
    six = stackings(bilayer, pair)
    same = np.array([[same_registry(a.arrays, b.arrays) for b in six] for a in six])
    np.testing.assert_array_equal(same, np.eye(6, dtype=bool))
    assert len({stacking_signature(slab.arrays) for slab in six}) == 6


def test_nearest_other_stacking_is_beyond_the_tolerance(six_stackings):
    displacements = [
        registry_displacement(a.arrays, b.arrays)
        for i, a in enumerate(six_stackings)
        for j, b in enumerate(six_stackings)
        if i != j
    ]
    # one layer shifted by a / sqrt(3), shared by both layers
    assert min(displacements) == pytest.approx(3.9 / np.sqrt(3) / 2, abs=1e-6)


def test_a_symmetric_pair_has_equal_stackings(bilayer):
    # GaS on GaS: turning the stack over exchanges the shifts (1/3, 2/3) and (2/3, 1/3).
    six = stackings(bilayer, (("S", "Ga", "Ga", "S"), ("S", "Ga", "Ga", "S")))
    same = np.array([[same_registry(a.arrays, b.arrays) for b in six] for a in six])
    signatures = [stacking_signature(slab.arrays) for slab in six]
    np.testing.assert_array_equal(same, np.array(signatures)[:, None] == np.array(signatures))
    assert same[2, 4] and not same[0, 2] and not same[0, 1]
    assert len(set(signatures)) < 6


def test_isometries_change_nothing(six_stackings):
    generator = np.random.default_rng(0)
    for slab in six_stackings:
        label = stacking_signature(slab.arrays)
        shift = generator.normal(size=3) * 5
        order = generator.permutation(8)
        copies = [slab.shifted(shift), slab.flipped(), slab.rotated(60), slab.rotated(17.3).shifted(shift)]
        copies += [slab.flipped().rotated(-100)]
        copies += [type(slab)(slab.numbers[order], slab.positions[order], slab.cell)]
        mirror = np.diag([-1.0, 1.0, 1.0])
        copies += [type(slab)(slab.numbers, slab.positions @ mirror, slab.cell @ mirror)]
        other_cell = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]) @ slab.cell  # 60 degrees
        copies += [type(slab)(slab.numbers, slab.positions, other_cell)]
        skewed = np.array([[1, 0, 0], [3, 1, 0], [0, 0, 1]]) @ slab.cell
        copies += [type(slab)(slab.numbers, slab.positions, skewed)]
        for copy in copies:
            assert registry_displacement(slab.arrays, copy.arrays) == pytest.approx(0, abs=1e-6)
            assert stacking_signature(copy.arrays) == label


def test_turning_one_layer_is_no_isometry(six_stackings):
    slab = six_stackings[0]
    positions = slab.positions.copy()
    positions[4:, :2] *= -1
    assert not same_registry(slab.arrays, (slab.numbers, positions, slab.cell))


def test_noise_below_the_tolerance_is_forgiven(six_stackings):
    generator = np.random.default_rng(1)
    for i, slab in enumerate(six_stackings):
        noisy = slab.shifted(generator.uniform(-0.15, 0.15, size=(8, 3)))
        stretch = np.diag([1.03, 0.98, 1.0])
        noisy = type(slab)(noisy.numbers, noisy.positions @ stretch, noisy.cell @ stretch)
        found = [same_registry(noisy.arrays, other.arrays) for other in six_stackings]
        assert found == [j == i for j in range(6)]
        assert stacking_signature(noisy.arrays) == stacking_signature(slab.arrays)


def test_one_atom_off_its_site_is_measured(six_stackings):
    slab = six_stackings[2]
    positions = slab.positions.copy()
    positions[5, 0] += 0.8
    moved = (slab.numbers, positions, slab.cell)
    # the common translation takes an eighth of it
    assert registry_displacement(slab.arrays, moved) == pytest.approx(0.8 * 7 / 8, abs=1e-6)
    assert not same_registry(slab.arrays, moved)
    assert same_registry(slab.arrays, moved, tol=0.75)
    assert stacking_signature(moved) is None


def test_other_species_or_cells_are_never_the_same(bilayer, six_stackings):
    slab = six_stackings[0]
    numbers = slab.numbers.copy()
    numbers[0] = 34
    assert not same_registry(slab.arrays, (numbers, slab.positions, slab.cell))
    square = slab.cell.copy()
    square[1] = [0, 3.9, 0]
    assert not same_registry(slab.arrays, (slab.numbers, slab.positions, square))
    assert stacking_signature((slab.numbers, slab.positions, square)) is None
    for broken in (np.zeros((3, 3)), np.full((3, 3), np.nan)):
        assert not same_registry(slab.arrays, (slab.numbers, slab.positions, broken))
        assert stacking_signature((slab.numbers, slab.positions, broken)) is None


def test_supercells_pair_atoms_of_one_plane(six_stackings):
    def doubled(slab):
        cell = np.diag([2, 2, 1]) @ slab.cell
        images = [i * slab.cell[0] + j * slab.cell[1] for i in (0, 1) for j in (0, 1)]
        positions = np.concatenate([slab.positions + image for image in images])
        return np.tile(slab.numbers, 4), positions, cell

    a, b = six_stackings[:2]
    order = np.random.default_rng(2).permutation(32)
    numbers, positions, cell = doubled(a)
    assert same_registry(doubled(a), (numbers[order], positions[order] + 0.7, cell))
    assert not same_registry(doubled(a), doubled(b))
    assert not same_registry(doubled(a), a.arrays)


def test_signature_reads_species_then_sites(bilayer):
    slab = bilayer(("S", "Ga", "Ga", "S"), ("Se", "In", "In", "Se"))
    assert stacking_signature(slab.arrays) == "SGaGaSSeInInSe ABBAABBA"
    slab = bilayer(("S", "Ga", "Ga", "S"), ("Se", "In", "In", "Se"), stacking=((0.0, 0.0), True))
    assert stacking_signature(slab.arrays) == "SGaGaSSeInInSe ABBABAAB"
