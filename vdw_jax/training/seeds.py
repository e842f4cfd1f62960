"""Seeds that are what they say: every one of its own, or refused."""

from __future__ import annotations

import operator
from typing import Any

import jax

LARGEST_SEED = 2**64 - 1


def checked_seed(seed: Any) -> int:
    """The seed, a whole number from 0 to 2^64 - 1.

    Raises:
      ValueError: it is something else; one line.
    """
    try:
        number = None if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = None
    if number is None or not 0 <= number <= LARGEST_SEED:
        raise ValueError(f"the seed is a whole number from 0 to {LARGEST_SEED} (2^64 - 1), not {seed!r}")
    return number


def random_key(seed: Any) -> jax.Array:
    """`jax.random.key(seed)` below 2^32; the upper 32 bits, which JAX would drop, are folded in above.

    Raises:
      ValueError: as `checked_seed`.
    """
    high, low = divmod(checked_seed(seed), 2**32)
    key = jax.random.key(low)
    return jax.random.fold_in(key, high) if high else key
