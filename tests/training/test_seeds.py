"""Seeds are told apart, or refused."""

import numpy as np
import pytest

from vdw_jax.training.errors import ConfigError
from vdw_jax.training.seeds import LARGEST_SEED, checked_seed


@pytest.mark.parametrize("seed", [0, 7, LARGEST_SEED, np.int64(5)])
def test_seeds_that_can_be_used(seed):
    assert checked_seed(seed) == seed


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 2**64, 1.0, True, "7", None])
def test_seeds_that_can_not(seed):
    with pytest.raises(ConfigError, match="^--seed is a whole number from 0 to 4294967295, not "):
        checked_seed(seed, "--seed")
