"""Bootstrap intervals cover what they should, as often as they should."""

import numpy as np
import pytest

from vdw_jax.metrics.distributions import wasserstein_distance
from vdw_jax.metrics.intervals import distance_interval, mean_interval
from vdw_jax.metrics.parallel import parallel_map


def test_interval_of_a_share_is_that_of_the_binomial():
    verdicts = np.arange(1000) < 250
    low, high = mean_interval(verdicts, seed=3)
    half = 1.96 * np.sqrt(0.25 * 0.75 / 1000)
    assert low == pytest.approx(0.25 - half, abs=0.004) and high == pytest.approx(0.25 + half, abs=0.004)
    assert mean_interval(verdicts, seed=3) == (low, high)


def test_intervals_cover_the_mean_nineteen_times_in_twenty():
    random = np.random.default_rng(0)
    held = [low <= 1.0 <= high for low, high in
            (mean_interval(random.exponential(size=200), seed=n) for n in range(200))]  # fmt: skip
    assert 0.88 <= np.mean(held) <= 0.99


def test_missing_values_are_left_out():
    assert mean_interval([1.0, np.nan, 1.0]) == (1.0, 1.0)
    assert np.isnan(mean_interval([np.nan])).all() and np.isnan(distance_interval(np.mean, [])).all()


def test_a_distance_lies_in_its_interval():
    random = np.random.default_rng(1)
    reference, sample = random.normal(size=500), random.normal(0.3, size=200)
    low, high = distance_interval(lambda values: wasserstein_distance(values, reference), sample)
    assert 0 <= low < wasserstein_distance(sample, reference) < high < 0.7


def _times(shared, task):
    return shared * task


def test_results_come_in_the_order_of_the_tasks():
    assert parallel_map(_times, [1, 5, 2], shared=3, progress=False) == [3, 15, 6]
    with pytest.raises(ValueError, match="workers"):
        parallel_map(_times, [1], workers=0)
