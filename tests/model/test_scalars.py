"""Labels as networks see them: narrowed after they are standardised, never before."""

import numpy as np
import pytest

from vdw_jax.model.config import ScalarCondition, in_units, standardise
from vdw_jax.structures.spread import mean_and_spread

ALL_ELECTRON = -123456.789 + 0.0007 * np.arange(24)
"""eV; neighbours in float32 are 8 meV apart here."""


def test_millielectronvolts_of_all_electron_energies_are_kept():
    scalar = ScalarCondition.of("total_energy", ALL_ELECTRON)
    assert scalar.mean == pytest.approx(ALL_ELECTRON.mean(), abs=1e-9)
    assert scalar.std == pytest.approx(0.0007 * np.std(np.arange(24)), rel=1e-6)
    shown = standardise(ALL_ELECTRON[:, None], (scalar,))
    assert shown.dtype == np.float32
    np.testing.assert_allclose(np.diff(shown[:, 0]), 0.0007 / scalar.std, rtol=1e-4)
    back = in_units(shown, (scalar,))
    assert back.dtype == np.float64
    np.testing.assert_allclose(back[:, 0], ALL_ELECTRON, rtol=0, atol=1e-8)


def test_absent_values_stay_absent_and_count_for_nothing():
    values = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, 7.0]])
    scalars = [ScalarCondition.of(name, column) for name, column in zip("ab", values.T, strict=True)]
    assert [(s.mean, s.std) for s in scalars] == [(2.0, 1.0), (6.0, 1.0)]
    np.testing.assert_array_equal(np.isnan(standardise(values, scalars)), np.isnan(values))


def test_no_scalars():
    assert standardise(np.zeros((3, 0)), ()).shape == (3, 0)


@pytest.mark.parametrize("value", [0.0, 2.5, -123456.789, 1e-30])
def test_equal_values_have_a_small_spread(value):
    mean, spread = mean_and_spread(np.full(7, value))
    assert mean == pytest.approx(value) and 0 < spread <= 1e-6


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_unit_does_not_matter(scale):
    mean, spread = mean_and_spread(scale * np.array([1.0, 2.0, 3.0]))
    assert mean / scale == pytest.approx(2.0) and spread / scale == pytest.approx(np.sqrt(2 / 3))


def test_single_precision_labels_are_averaged_in_double():
    values = np.full(10_000, 0.1, np.float32)
    assert mean_and_spread(values)[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
