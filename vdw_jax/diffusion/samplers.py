"""Samplers: one compiled scan over network calls, the same for all; they differ only in their tables.

They take a denoiser, never the model. D(x, sigma) - x is sigma^2 times the score, and every call does

    d = D(x, sigma_i) - x
    x_next = x + gain_i d + memory_i m + noise_i z        m_next = (x + d) - x_next

m is the estimate of the call before as seen from where x is now. That is all that Heun's method and a multistep
method need: a step of Heun's is two calls, the second of which takes half of the first back. Schedules of as many
calls are arrays of the same shapes: what is compiled for one runs all that look back, or all that do not.

Positions on a torus: x is never wrapped inside the scan, and d is a periodic function of it. So m is the difference
of two points of one unbroken path, never of two images, and moving the start by a period moves the path by it.

Everything else in the state, such as species, is the denoiser's: each call is given what the call before it returned,
the second call of a step of Heun's like any other. Where the denoiser draws it at random, positions still follow the
ODE between draws, but the order of a method holds only once the draws have settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vdw_jax.diffusion.noise import geometric_levels, karras_levels

Extra = TypeVar("Extra")
Denoise = Callable[[jax.Array, Extra, jax.Array, jax.Array], tuple[jax.Array, Extra]]
Levels = Callable[[float, float, int], np.ndarray]
"""Noise levels from (sigma_max, sigma_min, number of levels), falling."""

MIN_CALLS = 2
"""One call at each end of the noise."""


@struct.dataclass
class Schedule:
    """What every network call is told and how far its answer is followed; each [num_calls]."""

    sigma: jax.Array | np.ndarray  # Angstrom, noise level
    gain: jax.Array | np.ndarray  # 1, on the displacement
    memory: jax.Array | np.ndarray | None  # 1, on the displacement to the last call's estimate; None if never used
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
    return _schedule(sigma, size / sigma**2, np.zeros_like(sigma), np.sqrt(2 * size))


def few_step_langevin(
    sigma_max: float, sigma_min: float, num_calls: int, churn: float = 1.0, levels: Levels = geometric_levels
) -> Schedule:
    """One call a level, each step landing exactly on the variance of the next level; the last one on 0.

    `churn` 1 removes all noise that the next level lets it (ancestral); `churn` 0 adds none (the probability-flow
    ODE's Euler step).
    """
    return _schedule(*_down(levels(sigma_max, sigma_min, num_calls), churn))


def predictor_corrector(
    sigma_max: float,
    sigma_min: float,
    num_calls: int,
    corrector_gain: float = 0.32,
    levels: Levels = geometric_levels,
) -> Schedule:
    """An ancestral step to the next level, then a Langevin step that stays there (Song et al., arXiv:2011.13456).

    The corrector is a step of size e = corrector_gain sigma^2 along the score with noise sqrt(2 e), as in
    `annealed_langevin`; 0.32 is 2 r^2 for a signal-to-noise ratio r of 0.4. The last step, onto 0, has no corrector,
    nor has the first if `num_calls` is even.
    """
    sigma = levels(sigma_max, sigma_min, num_calls // 2 + 1)
    following, zero = sigma[1:], np.zeros_like(sigma[1:])
    noise = following * np.sqrt(2 * corrector_gain)
    return _interleaved(_down(sigma, 1.0), (following, zero + corrector_gain, zero, noise), num_calls)


def heun(sigma_max: float, sigma_min: float, num_calls: int, levels: Levels = geometric_levels) -> Schedule:
    """The probability-flow ODE dx / d sigma = -(D(x, sigma) - x) / sigma by Heun's method (arXiv:2206.00364, Alg. 1).

    Second order, two calls a step: Euler's step to the next level, then half the change of slope found there. The last
    step, onto 0, is Euler's, and so is the first if `num_calls` is even.
    """
    sigma = levels(sigma_max, sigma_min, num_calls // 2 + 1)
    # Euler's step left the estimate at m = (sigma_next / sigma) d, so the slope to take back is in m.
    half = 0.5 * (sigma[:-1] / sigma[1:] - 1)
    return _interleaved(_down(sigma, 0.0), (sigma[1:], half, -half, np.zeros_like(half)), num_calls)


def dpm_solver(sigma_max: float, sigma_min: float, num_calls: int, levels: Levels = geometric_levels) -> Schedule:
    """The probability-flow ODE by DPM-Solver++(2M) (Lu et al., arXiv:2211.01095, Alg. 2), one call a step.

    Second order: D is extrapolated in log sigma, from the last two calls, to the middle of the step. First order where
    there is one call only, and in the last step, onto 0.
    """
    sigma, gain, memory, noise = _down(levels(sigma_max, sigma_min, num_calls), 0.0)
    step = -np.diff(np.log(sigma.astype(np.float64)))
    ahead = np.zeros(num_calls)
    ahead[1:-1] = step[1:] / (2 * step[:-1])
    return _schedule(sigma, gain * (1 + ahead), memory - gain * ahead, noise)


SAMPLERS = ("annealed_langevin", "few_step_langevin", "predictor_corrector", "heun", "dpm_solver")
GRIDS: dict[str, Levels] = {"geometric": geometric_levels, "karras": karras_levels}


def make_schedule(
    sampler: str,
    sigma_max: float,
    sigma_min: float,
    num_calls: int,
    *,
    num_levels: int = 50,
    grid: str = "geometric",
) -> Schedule:
    """A schedule by name.

    Args:
      sampler: one of `SAMPLERS`.
      sigma_max, sigma_min: first and last noise level, Angstrom.
      num_calls: network calls a structure. `annealed_langevin` takes the largest multiple of its levels that fits, all
        others exactly as many.
      num_levels: most levels that `annealed_langevin` has; the others have as many as their calls allow.
      grid: one of `GRIDS`; `annealed_langevin` keeps the paper's geometric levels.

    Raises:
      ValueError: an unknown name, or too few calls.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"no sampler {sampler!r}; there are {', '.join(SAMPLERS)}")
    if grid not in GRIDS:
        raise ValueError(f"no grid of noise levels {grid!r}; there are {', '.join(GRIDS)}")
    if num_calls < MIN_CALLS:
        raise ValueError(f"{sampler} needs at least {MIN_CALLS} steps, not {num_calls}")
    if sampler == "annealed_langevin":
        num_levels = min(num_levels, num_calls)
        return annealed_langevin(sigma_max, sigma_min, num_levels, num_calls // num_levels)
    build: dict[str, Callable[..., Schedule]] = {
        "few_step_langevin": few_step_langevin,
        "predictor_corrector": predictor_corrector,
        "heun": heun,
        "dpm_solver": dpm_solver,
    }
    return build[sampler](sigma_max, sigma_min, num_calls, levels=GRIDS[grid])


def sample(
    denoise: Denoise, positions: jax.Array, extra: Extra, key: jax.Array, schedule: Schedule
) -> tuple[jax.Array, Extra]:
    """Runs one schedule as a single `lax.scan`.

    Args:
      denoise: (positions, extra, sigma, key) -> (displacement sigma^2 score, extra); `extra` is whatever
        else the state holds, such as species.
      positions: start, any shape, Angstrom; not wrapped on the way.
      key: the only randomness.
    """

    def step(carry, entry):
        positions, remembered, extra = carry
        index, sigma, gain, memory, noise = entry
        noise_key, denoise_key = jax.random.split(jax.random.fold_in(key, index))
        displacement, extra = denoise(positions, extra, sigma, denoise_key)
        moved = positions + gain * displacement
        if memory is not None:
            moved = moved + memory * remembered
        moved = moved + noise * jax.random.normal(noise_key, positions.shape)
        remembered = None if memory is None else positions + displacement - moved
        return (moved, remembered, extra), None

    columns = (schedule.sigma, schedule.gain, schedule.memory, schedule.noise)
    table = (jnp.arange(schedule.num_calls), *jax.tree.map(jnp.asarray, columns))
    remembered = None if schedule.memory is None else jnp.zeros_like(positions)
    positions, _, extra = jax.lax.scan(step, (positions, remembered, extra), table)[0]
    return positions, extra


Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _schedule(*columns: np.ndarray) -> Schedule:
    sigma, gain, memory, noise = (column.astype(np.float32) for column in columns)
    return Schedule(sigma, gain, memory if memory.any() else None, noise)


def _down(sigma: np.ndarray, churn: float) -> Columns:
    """From each level to the next, the last to 0: columns of a schedule."""
    following = np.append(sigma[1:], 0.0)
    noise = churn * following * np.sqrt(1 - (following / sigma) ** 2)
    gain = 1 - np.sqrt(np.maximum(following**2 - noise**2, 0.0)) / sigma
    return sigma, gain, np.zeros_like(gain), noise


def _interleaved(steps: Columns, corrections: Columns, num_calls: int) -> Schedule:
    """A correction after every step but the last, and but the first if the number of calls is even."""
    rows = np.stack(steps, axis=1)
    pairs = np.stack([rows[:-1], np.stack(corrections, axis=1)], axis=1).reshape(-1, 4)
    table = np.concatenate([pairs, rows[-1:]])
    return _schedule(*(np.delete(table, 1, axis=0) if num_calls % 2 == 0 else table).T)
