"""The probability flow: orders of convergence on a line and on a torus; calls and compilations of all samplers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from vdw_jax.diffusion.samplers import (
    SAMPLERS,
    Schedule,
    dpm_solver,
    few_step_langevin,
    heun,
    make_schedule,
    sample,
)

SIGMA_MAX, SIGMA_MIN = 10.0, 0.001
PERIOD = 4.0
MEAN = jnp.array([0.1, -2.0])  # along the period, so that paths cross its border at 0; along the line
STD = jnp.array([0.3, 1.5])
CALLS = (81, 161, 321)  # each halves the step in log sigma, be it of one call or of Heun's two
EULER = functools.partial(few_step_langevin, churn=0.0)
ORDERS = pytest.mark.parametrize("build, order", [(EULER, 1), (heun, 2), (dpm_solver, 2)], ids=["euler", "heun", "2m"])


def on_a_line(positions, sigma):
    """sigma^2 times the score of N(MEAN, STD^2 + sigma^2)."""
    return sigma**2 * (MEAN - positions) / (STD**2 + sigma**2)


def on_a_torus(positions, sigma):
    """The same wrapped along the first coordinate: what the denoiser of a slab knows, for one atom."""
    distance = (MEAN - positions)[..., :1]
    distance = distance - PERIOD * jnp.round(distance / PERIOD) + PERIOD * jnp.arange(-25, 26)
    variance = STD[0] ** 2 + sigma**2
    weights = jax.nn.softmax(-0.5 * distance**2 / variance, axis=-1)
    along = sigma**2 / variance * jnp.sum(weights * distance, -1)
    return jnp.stack([along, on_a_line(positions, sigma)[..., 1]], -1)


def mass(offset, sigma: float) -> np.ndarray:
    """Of the wrapped Gaussian, between its mean and `offset`."""
    images, width = PERIOD * np.arange(-25, 26), np.hypot(STD[0], sigma)
    offset = np.asarray(offset, np.float64)[..., None]
    return (ndtr((offset - images) / width) - ndtr(-images / width)).sum(-1)


def exact(start: np.ndarray, periodic: bool) -> np.ndarray:
    """Where the flow takes each start: quantile to quantile, for the mean does not move."""
    mean, std, start = np.asarray(MEAN, np.float64), np.asarray(STD, np.float64), start.astype(np.float64)
    end = mean + (start - mean) * std / np.hypot(std, SIGMA_MAX)
    if periodic:
        offset = start[:, 0] - mean[0]
        cell = np.round(offset / PERIOD)
        fine = np.linspace(-PERIOD / 2, PERIOD / 2, 200_001)
        landed = np.interp(mass(offset - cell * PERIOD, SIGMA_MAX), mass(fine, 0.0), fine)
        end[:, 0] = mean[0] + cell * PERIOD + landed
    return end


@functools.partial(jax.jit, static_argnames="displacement")
def run(start, key, schedule, *, displacement):
    """Where a schedule takes `start`."""
    return sample(lambda x, extra, sigma, _: (displacement(x, sigma), extra), start, None, key, schedule)[0]


def padded(schedule: Schedule) -> Schedule:
    """As long as the longest, with rows behind that move nothing: one compilation for all."""
    return jax.tree.map(lambda column: np.pad(column, (0, max(CALLS) - len(column))), schedule)


def starts() -> np.ndarray:
    """[7, 2]: in several periods, none near half a period off, where the flow parts; and two widths of the line."""
    offset = np.array([-1.9, -1.2, -0.4, 0.3, 0.8, 1.5, 1.85])
    cells = np.array([-3, 0, 1, 2, -1, 4, 0])
    return np.stack([MEAN[0] + offset + PERIOD * cells, np.linspace(-20, 20, 7)], -1).astype(np.float32)


@ORDERS
@pytest.mark.parametrize("displacement", [on_a_line, on_a_torus])
def test_order_of_convergence(build, order, displacement):
    start, key = starts(), jax.random.key(0)
    expected = exact(start, displacement is on_a_torus)
    errors = []
    for num_calls in CALLS:
        out = run(start, key, padded(build(SIGMA_MAX, SIGMA_MIN, num_calls)), displacement=displacement)
        errors.append(np.sqrt(np.mean((np.asarray(out) - expected) ** 2, axis=0)))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    np.testing.assert_allclose(ratios, 2.0**order, rtol=0.2)
    assert (errors[-1] < (0.05 if order == 1 else 0.002)).all()


@pytest.mark.parametrize("build", [heun, dpm_solver], ids=["heun", "2m"])
def test_moved_by_periods_at_the_start_moved_by_periods_at_the_end(build):
    start, key, schedule = starts(), jax.random.key(0), padded(build(SIGMA_MAX, SIGMA_MIN, CALLS[0]))
    shift = np.stack([PERIOD * np.array([5, -2, 1, 0, -7, 3, 1]), np.zeros(7)], -1).astype(np.float32)
    here = run(start, key, schedule, displacement=on_a_torus)
    there = run(start + shift, key, schedule, displacement=on_a_torus)
    np.testing.assert_allclose(there - shift, here, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_uniform_becomes_the_wrapped_gaussian(sampler):
    """On the torus, and the Gaussian on the line."""
    size, num_calls = 4000, max(CALLS)
    keys = jax.random.split(jax.random.key(0), 3)
    along = PERIOD * jax.random.uniform(keys[0], (size,))
    start = jnp.stack([along, SIGMA_MAX * jax.random.normal(keys[1], (size,))], -1)
    schedule = make_schedule(sampler, SIGMA_MAX, 0.01, num_calls, num_levels=num_calls // 3)
    out = np.asarray(run(start, keys[2], padded(schedule), displacement=on_a_torus))
    offset = out - np.asarray(MEAN)
    offset[:, 0] -= PERIOD * np.round(offset[:, 0] / PERIOD)
    np.testing.assert_allclose(offset.mean(0) / STD, [0.0, 0.0], atol=0.25)
    np.testing.assert_allclose(offset.std(0) / STD, [1.0, 1.0], atol=0.08)


@pytest.mark.parametrize("sampler, is_flow", [(name, name in ("heun", "dpm_solver")) for name in SAMPLERS])
def test_the_flow_has_no_randomness(sampler, is_flow):
    schedule = padded(make_schedule(sampler, SIGMA_MAX, SIGMA_MIN, 40))
    outs = [run(starts(), jax.random.key(seed), schedule, displacement=on_a_torus) for seed in (0, 1)]
    assert np.array_equal(*outs) == is_flow


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_calls", [6, 7])
def test_the_denoiser_is_called_as_often_as_the_schedule_says(sampler, num_calls):
    """At the levels of its rows, with the state of the call before."""
    schedule, seen = make_schedule(sampler, SIGMA_MAX, SIGMA_MIN, num_calls), []

    def denoise(positions, calls, sigma, key):
        jax.debug.callback(lambda *call: seen.append(tuple(map(float, call))), calls, sigma, ordered=True)
        return on_a_line(positions, sigma), calls + 1

    _, calls = jax.jit(lambda *inputs: sample(denoise, *inputs))(starts(), jnp.int32(0), jax.random.key(0), schedule)
    jax.effects_barrier()
    assert int(calls) == schedule.num_calls == num_calls
    assert seen == [(index, float(sigma)) for index, sigma in enumerate(schedule.sigma)]


def test_one_compilation_for_all_schedules_of_as_many_calls():
    """One for those that look back, one for those that do not."""
    compiled = jax.jit(lambda *inputs: sample(lambda x, extra, sigma, _: (-x, extra), *inputs))
    for names in (("annealed_langevin", "few_step_langevin", "predictor_corrector"), ("heun", "dpm_solver")):
        before = compiled._cache_size()
        for name in names:
            compiled(jnp.ones(3), None, jax.random.key(0), make_schedule(name, SIGMA_MAX, SIGMA_MIN, 9))
        assert compiled._cache_size() == before + 1
