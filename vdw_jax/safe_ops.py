"""Norm, normalisation and division whose gradients are finite at 0.

Each uses the double `where`: the singular argument is replaced *before* the operation, so that the
branch not taken contributes a zero, not a NaN, to the gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def safe_norm(vector: jax.Array, axis: int = -1, keepdims: bool = False) -> jax.Array:
    """Euclidean norm along `axis`, with gradient 0 where the vector is 0."""
    squared = jnp.sum(vector * vector, axis=axis, keepdims=keepdims)
    is_zero = squared == 0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squared)))


def safe_normalize(vector: jax.Array, fallback: tuple[float, ...]) -> jax.Array:
    """`vector / |vector|` along the last axis; the constant `fallback` where the vector is 0."""
    norm = safe_norm(vector, keepdims=True)
    is_zero = norm == 0
    return jnp.where(is_zero, jnp.asarray(fallback, vector.dtype), vector / jnp.where(is_zero, 1.0, norm))


def safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """`numerator / denominator`, and 0 (with gradient 0) where the denominator is 0."""
    is_zero = denominator == 0
    return jnp.where(is_zero, 0.0, numerator / jnp.where(is_zero, 1.0, denominator))
