"""Seeds that mean one thing: whole numbers that every generator of random numbers here tells apart."""

from __future__ import annotations

import numbers
from typing import Any

from vdw_jax.training.errors import ConfigError

LARGEST_SEED = 2**32 - 1
"""JAX keeps 32 bits of a seed, and NumPy's `RandomState` takes no more: 2^32 would be 0 again."""


def checked_seed(seed: Any, name: str = "seed") -> int:
    """The seed as it is.

    Raises:
      ConfigError: no whole number, negative, or above `LARGEST_SEED`; the message begins with `name`.
    """
    is_whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not is_whole or not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"{name} is a whole number from 0 to {LARGEST_SEED}, not {seed!r}")
    return int(seed)
