"""Exponential moving average of parameters."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

Params = TypeVar("Params")


def ema_update(ema: Params, params: Params, decay: float, step: jax.Array | int) -> Params:
    """`ema <- d ema + (1 - d) params` with `d = min(decay, (1 + step) / (10 + step))`.

    The warm-up lets the average forget the initial parameters early on. Leaves that are not floating
    point are taken from `params`. Pure, and safe to trace.

    Args:
      ema: pytree of averages; keep it in float32, for in bfloat16 the small updates vanish.
      params: pytree of the same structure.
      decay: limit of `d` late in training, in [0, 1).
      step: updates done before this one.
    """
    count = jnp.asarray(step, jnp.float32)
    weight = 1.0 - jnp.minimum(decay, (1.0 + count) / (10.0 + count))

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(old.dtype, jnp.floating):
            return new
        mean = old.astype(jnp.float32)
        return (mean + weight * (new.astype(jnp.float32) - mean)).astype(old.dtype)

    return jax.tree.map(average, ema, params)
