"""Fingerprints have matminer's values and coverage counts what it should."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.local_env import CrystalNN
from pymatgen.core import Lattice, Structure

from vdw_jax.metrics import fingerprints
from vdw_jax.metrics.coverage import coverage
from vdw_jax.metrics.fingerprints import FingerprintError, composition_fingerprint, structure_fingerprint
from vdw_jax.structures.source import load_relaxed

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
DATA, _ = load_relaxed("j2dh8")
SLAB = DATA.to_pymatgen(9000)


SALT_OPS = {22: 1.0, 23: 0.200068, 24: 1.0, 25: 0.5}
SLAB_OPS = {
    8: 0.699616, 9: 0.074484, 10: 0.409853, 11: 0.243536, 12: 0.300225, 13: 0.068183, 14: 0.194411, 15: 0.088041,
    16: 0.134658, 17: 0.136469, 36: 0.000159, 37: 3.9e-05, 38: 5.1e-05, 39: 5e-05,
}  # fmt: skip
"""What differs from 0."""


def arrays(crystal: Structure):
    return np.array(crystal.atomic_numbers), crystal.cart_coords, crystal.lattice.matrix


def test_known_structures_have_the_values_of_matminer():
    """matminer 0.10.1 with pymatgen 2026.10: the mean of CrystalNNFingerprint.from_preset("ops") over the sites."""
    assert fingerprints.STRUCTURE_SIZE == len(structure_fingerprint(*arrays(SALT))) == 61
    salt = structure_fingerprint(*arrays(SALT.get_primitive_structure()))
    assert {place: round(value, 6) for place, value in enumerate(salt) if abs(value) > 1e-6} == pytest.approx(SALT_OPS)
    slab = structure_fingerprint(*arrays(SLAB))
    assert {place: round(value, 6) for place, value in enumerate(slab) if abs(value) > 1e-6} == pytest.approx(SLAB_OPS)


@pytest.mark.parametrize("crystal", [SALT, SLAB], ids=["salt", "slab"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_coordination_is_that_of_pymatgen(crystal):
    crystal = crystal.copy().perturb(0.2)
    for site in (0, len(crystal) - 1):
        known = {cn: weight for cn, weight in CrystalNN().get_nn_data(crystal, site).cn_weights.items() if weight}
        own = {cn: weight for cn, (weight, _) in fingerprints.coordination_weights(*arrays(crystal), site).items()}
        assert own == pytest.approx({cn: weight for cn, weight in known.items() if cn}, abs=1e-9)


def test_a_slab_keeps_its_fingerprint_when_moved_turned_and_doubled():
    numbers, positions, cell = arrays(SLAB)
    own = structure_fingerprint(numbers, positions, cell)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    order = np.arange(len(numbers))[::-1]
    moved = structure_fingerprint(numbers[order], (positions[order] + [0.3, -2.0, 7.0]) @ turn, cell @ turn)
    np.testing.assert_allclose(moved, own, atol=1e-6)
    double = SLAB.copy().make_supercell([2, 1, 1])
    np.testing.assert_allclose(structure_fingerprint(*arrays(double)), own, atol=1e-6)


def test_compositions_have_the_values_of_matminer():
    """GaInSSe2 before it is scaled, from matminer's ElementProperty.from_preset("magpie")."""
    mean, std = fingerprints._scaler()
    numbers = [31, 49, 16, 34, 34]
    raw = composition_fingerprint(np.array(numbers)) * std + mean
    expected = {0: 16, 1: 49, 2: 33, 3: 32.8, 4: 7.44, 5: 34, 15: 74.9052, 46: 0.3672, 119: 0.799, 131: 14}
    assert {place: raw[place] for place in expected} == pytest.approx(expected, rel=1e-6)
    doubled = composition_fingerprint(np.array(numbers * 2)) * std + mean
    np.testing.assert_array_equal(doubled, raw)


def test_the_scaler_holds_together():
    mean, _ = fingerprints._scaler()
    low, high, spread = mean.reshape(22, 6)[:, :3].T
    np.testing.assert_allclose(high - low, spread, atol=2e-6)


@pytest.mark.parametrize(
    "broken",
    [
        (np.array([31, 16]), np.zeros((2, 3)), np.eye(3) * 4),
        (np.array([31]), np.array([[np.nan, 0, 0]]), np.eye(3) * 4),
        (np.array([31]), np.zeros((1, 3)), np.zeros((3, 3))),
        (np.array([0]), np.zeros((1, 3)), np.eye(3) * 4),
        (np.zeros(0, int), np.zeros((0, 3)), np.eye(3)),
    ],
    ids=["coincide", "nan", "flat", "no element", "empty"],
)
def test_what_has_no_fingerprint_says_so(broken):
    with pytest.raises(FingerprintError):
        structure_fingerprint(*broken)


def fingerprint_pairs(structure: list[float], composition: list[float]):
    return np.array(structure)[:, None], np.array(composition)[:, None]


def test_coverage_of_points_on_a_line():
    reference = fingerprint_pairs([0.0, 1.0, 2.0, 9.0], [0.0, 0.0, 50.0, 0.0])
    generated = fingerprint_pairs([0.4, 1.2, np.nan, 0.0, 5.0], [0.0, 10.0, 0.0, 20.0, 0.0])
    found = coverage(generated, reference)
    assert found.precise.tolist() == [True, True, False, False, False]
    assert found.precision == pytest.approx(2 / 5)
    assert found.recalled.tolist() == [True, True, False, False]
    assert coverage(reference, reference).recall == coverage(reference, reference).precision == 1.0
    assert coverage(fingerprint_pairs([np.nan], [0.0]), reference).recall == 0.0
    with pytest.raises(ValueError, match="generated"):
        coverage(fingerprint_pairs([], []), reference)


def test_stackings_of_one_pair_lie_within_the_threshold_of_each_other():
    """What the threshold of 0.4 can and cannot see."""
    rows = np.flatnonzero(DATA.metadata["pair"] == 2057)[:3]
    found = [structure_fingerprint(DATA.atomic_numbers[r], DATA.positions[r], DATA.cell[r]) for r in rows]
    assert max(np.linalg.norm(found[0] - other) for other in found[1:]) < 0.4
