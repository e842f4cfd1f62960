"""Samplers: one compiled scan over steps of x <- x + a_i (D(x, sigma_i) - x) + b_i noise.

They take a denoiser, never the model. D(x, sigma) - x is sigma^2 times the score, so annealed Langevin
dynamics and its few-step relatives differ only in their tables of (sigma_i, a_i, b_i).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vdw_jax.diffusion.noise import geometric_levels

Extra = TypeVar("Extra")
Denoise = Callable[[jax.Array, Extra, jax.Array, jax.Array], tuple[jax.Array, Extra]]


@struct.dataclass
class Schedule:
    """Noise level, gain on the displacement and noise of every network call; each [num_calls]."""

    sigma: jax.Array | np.ndarray  # Angstrom
    gain: jax.Array | np.ndarray  # 1
    noise: jax.Array | np.ndarray  # Angstrom

    @property
    def num_calls(self) -> int:
        """Network calls a structure."""
        return len(self.sigma)


def annealed_langevin(
    sigma_max: float = 10.0,
    sigma_min: float = 0.01,
    num_levels: int = 50,
    steps_per_level: int = 100,
    step_size: float = 1e-4,
) -> Schedule:
    """The paper's: at each level steps of size e = step_size (sigma / sigma_min)^2 along the score, noise sqrt(2 e)."""
    sigma = np.repeat(geometric_levels(sigma_max, sigma_min, num_levels), steps_per_level)
    size = step_size * (sigma / sigma_min) ** 2
    return Schedule(sigma, (size / sigma**2).astype(np.float32), np.sqrt(2 * size).astype(np.float32))


def few_step_langevin(sigma_max: float, sigma_min: float, num_calls: int, churn: float = 1.0) -> Schedule:
    """One call a level, each step landing exactly on the variance of the next level; the last one on 0.

    `churn` 1 removes all noise that the next level lets it (ancestral); `churn` 0 adds none (the probability-flow
    ODE's Euler step).
    """
    sigma = geometric_levels(sigma_max, sigma_min, num_calls)
    following = np.append(sigma[1:], 0.0)
    noise = churn * following * np.sqrt(1 - (following / sigma) ** 2)
    gain = 1 - np.sqrt(np.maximum(following**2 - noise**2, 0.0)) / sigma
    return Schedule(sigma, gain.astype(np.float32), noise.astype(np.float32))


def sample(
    denoise: Denoise, positions: jax.Array, extra: Extra, key: jax.Array, schedule: Schedule
) -> tuple[jax.Array, Extra]:
    """Runs one schedule as a single `lax.scan`.

    Args:
      denoise: (positions, extra, sigma, key) -> (displacement sigma^2 score, extra); `extra` is whatever
        else the state holds, such as species.
      positions: start, any shape, Angstrom.
      key: the only randomness.
    """

    def step(carry, entry):
        positions, extra = carry
        index, sigma, gain, noise = entry
        noise_key, denoise_key = jax.random.split(jax.random.fold_in(key, index))
        displacement, extra = denoise(positions, extra, sigma, denoise_key)
        positions = positions + gain * displacement
        positions = positions + noise * jax.random.normal(noise_key, positions.shape)
        return (positions, extra), None

    table = (jnp.arange(schedule.num_calls), *(jnp.asarray(x) for x in (schedule.sigma, schedule.gain, schedule.noise)))
    return jax.lax.scan(step, (positions, extra), table)[0]
