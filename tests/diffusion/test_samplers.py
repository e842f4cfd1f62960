"""Samplers against data whose score is known: a Gaussian, two Gaussians, a point; and their tables."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.diffusion.noise import geometric_levels, karras_levels
from vdw_jax.diffusion.samplers import (
    GRIDS,
    SAMPLERS,
    Schedule,
    annealed_langevin,
    dpm_solver,
    few_step_langevin,
    heun,
    make_schedule,
    predictor_corrector,
    sample,
)

SIGMA_MAX, SIGMA_MIN, NUM_SAMPLES = 10.0, 0.01, 4000
MEANS, STDS = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.5, 1.0, 1.5])
MODES, SHARES, MODE_STD = jnp.array([-3.0, 2.0]), jnp.array([0.3, 0.7]), 0.4
SCHEDULES = {
    "ancestral": few_step_langevin(SIGMA_MAX, SIGMA_MIN, 50, churn=1.0),
    "some churn": few_step_langevin(SIGMA_MAX, SIGMA_MIN, 50, churn=0.5),
    "flow": few_step_langevin(SIGMA_MAX, SIGMA_MIN, 50, churn=0.0),
    "predictor corrector": predictor_corrector(SIGMA_MAX, SIGMA_MIN, 50),
    "heun": heun(SIGMA_MAX, SIGMA_MIN, 50),
    "heun, karras": heun(SIGMA_MAX, SIGMA_MIN, 50, levels=karras_levels),
    "dpm solver": dpm_solver(SIGMA_MAX, SIGMA_MIN, 50),
    # Steps of 0.09 sigma^2, so that 40 a level are enough to forget most of the level before.
    "annealed": annealed_langevin(SIGMA_MAX, SIGMA_MIN, 20, 40, step_size=0.09 * SIGMA_MIN**2),
}
ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def gaussian(positions, sigma):
    """Posterior mean of the data minus `positions`: sigma^2 times the score of N(MEANS, STDS^2 + sigma^2)."""
    return sigma**2 * (MEANS - positions) / (STDS**2 + sigma**2)


def two_modes(positions, sigma):
    """The same for a mixture of two Gaussians in every coordinate."""
    variance = MODE_STD**2 + sigma**2
    distance = MODES - positions[..., None]
    weights = jax.nn.softmax(jnp.log(SHARES) - 0.5 * distance**2 / variance, axis=-1)
    return sigma**2 / variance * jnp.sum(weights * distance, axis=-1)


@functools.partial(jax.jit, static_argnames="displacement")
def sample_from(start, key, schedule, factor, *, displacement):
    """Compiled once for all schedules of as many calls."""

    def denoise(positions, extra, sigma, key):
        return factor * displacement(positions, sigma), extra

    return sample(denoise, start, None, key, schedule)[0]


def run(displacement, schedule: Schedule, seed: int = 0, factor: float = 1.0) -> np.ndarray:
    """Samples [NUM_SAMPLES, 3] from a start as wide as the first level."""
    start_key, key = jax.random.split(jax.random.key(seed))
    start = SIGMA_MAX * jax.random.normal(start_key, (NUM_SAMPLES, 3))
    return np.asarray(sample_from(start, key, schedule, factor, displacement=displacement))


def moments_fit(samples: np.ndarray) -> bool:
    """Within what 50 steps cost: width -7 percent, and the flow remembers 0.2 widths of its start at 0."""
    offset = np.abs(samples.mean(0) - MEANS) / STDS
    return bool((offset < 0.25).all() and (np.abs(samples.std(0) / STDS - 1) < 0.12).all())


@ALL
def test_gaussian(schedule):
    assert moments_fit(run(gaussian, schedule))


@ALL
@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_wrong_score_is_seen(schedule, factor):
    assert not moments_fit(run(gaussian, schedule, factor=factor))


@ALL
def test_two_modes(schedule):
    samples = run(two_modes, schedule)
    upper = samples > -0.5
    np.testing.assert_allclose(upper.mean(0), SHARES[1], atol=0.05)
    for mode, members in zip(MODES, (samples[~upper], samples[upper]), strict=True):
        np.testing.assert_allclose(members.mean(), mode, atol=0.05)
        np.testing.assert_allclose(members.std(), MODE_STD, rtol=0.1)


@ALL
def test_the_key_is_the_only_randomness(schedule):
    first = run(gaussian, schedule, 1)
    np.testing.assert_array_equal(first, run(gaussian, schedule, 1))
    assert np.abs(first - run(gaussian, schedule, 2)).max() > 0.1


def test_noise_is_new_at_every_step_and_differs_from_the_denoisers():
    """With no displacement the noise adds up in variance; the denoiser's own draws are independent of it."""
    size = 20_000
    schedule = Schedule(np.ones(4, np.float32), np.zeros(4, np.float32), None, np.array([1, 2, 3, 4], np.float32))

    def denoise(positions, draws, sigma, key):
        return jnp.zeros_like(positions), draws + jax.random.normal(key, positions.shape)

    out, draws = sample(denoise, jnp.zeros(size), jnp.zeros(size), jax.random.key(0), schedule)
    np.testing.assert_allclose(out.std(), 30**0.5, rtol=0.03)
    np.testing.assert_allclose(draws.std(), 2.0, rtol=0.03)
    assert abs(np.corrcoef(out, draws)[0, 1]) < 0.03


@pytest.mark.parametrize("churn", [0.0, 0.5, 1.0])
def test_few_steps_land_on_the_variance_of_the_next_level(churn):
    """A clean point known exactly: (1 - gain)^2 sigma^2 + noise^2 is the next sigma^2, to the last step onto 0."""
    schedule = few_step_langevin(SIGMA_MAX, SIGMA_MIN, 12, churn)
    assert schedule.num_calls == 12
    sigma = schedule.sigma.astype(np.float64)
    following = np.append(sigma[1:], 0.0)
    left = (1 - schedule.gain.astype(np.float64)) * sigma
    np.testing.assert_allclose(left**2 + schedule.noise**2, following**2, rtol=1e-4, atol=1e-9)
    assert schedule.gain[-1] == 1 and schedule.noise[-1] == 0
    # Of the noise that the posterior of the next level has, `churn` is new.
    posterior = following * np.sqrt(1 - (following / sigma) ** 2)
    np.testing.assert_allclose(schedule.noise, churn * posterior, rtol=1e-5)
    if churn == 1.0:  # the mean of that posterior
        np.testing.assert_allclose(schedule.gain, 1 - (following / sigma) ** 2, rtol=1e-5)


@pytest.mark.parametrize("churn", [0.0, 1.0])
def test_few_steps_to_a_point(churn):
    """Every call sees exactly the noise it is told of, and the last leaves none."""
    schedule, clean = few_step_langevin(SIGMA_MAX, SIGMA_MIN, 8, churn), 0.7

    def denoise(positions, widths, sigma, key):
        return clean - positions, jnp.append(widths[1:], jnp.std(positions - clean) / sigma)

    start = clean + SIGMA_MAX * jax.random.normal(jax.random.key(1), (20_000,))
    out, widths = sample(denoise, start, jnp.zeros(8), jax.random.key(2), schedule)
    np.testing.assert_allclose(widths, 1.0, rtol=0.03)
    np.testing.assert_allclose(out, clean, atol=1e-6)


def test_annealed_langevin_is_the_papers_table():
    schedule = annealed_langevin()
    assert schedule.num_calls == 50 * 100
    levels = 10.0 * (0.01 / 10.0) ** (np.arange(50) / 49)
    sigma = np.repeat(levels, 100)
    step = 1e-4 * (sigma / 0.01) ** 2
    np.testing.assert_allclose(schedule.sigma, sigma, rtol=1e-5)
    np.testing.assert_allclose(schedule.gain * sigma**2, step * np.ones_like(sigma), rtol=1e-5)
    np.testing.assert_allclose(schedule.noise, np.sqrt(2 * step), rtol=1e-5)


def test_the_state_is_carried_through():
    schedule = few_step_langevin(SIGMA_MAX, SIGMA_MIN, 6)

    def denoise(positions, extra, sigma, key):
        seen = jnp.append(extra["sigma"][1:], sigma)
        return -positions, {"sigma": seen, "calls": extra["calls"] + 1}

    start = {"sigma": jnp.zeros(6), "calls": jnp.int32(0)}
    _, extra = sample(denoise, jnp.ones(2), start, jax.random.key(0), schedule)
    assert int(extra["calls"]) == 6
    np.testing.assert_array_equal(extra["sigma"], schedule.sigma)


def rows(schedule: Schedule) -> np.ndarray:
    """sigma, gain, memory, noise of every call; [num_calls, 4]."""
    memory = np.zeros_like(schedule.gain) if schedule.memory is None else schedule.memory
    return np.stack([schedule.sigma, schedule.gain, memory, schedule.noise], axis=1)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_calls", [2, 3, 4, 5, 20, 51])
@pytest.mark.parametrize("grid", GRIDS)
def test_as_many_calls_as_asked_for(sampler, num_calls, grid):
    schedule = make_schedule(sampler, SIGMA_MAX, SIGMA_MIN, num_calls, num_levels=num_calls, grid=grid)
    assert rows(schedule).shape == (num_calls, 4)
    assert rows(schedule).dtype == np.float32
    assert np.isfinite(rows(schedule)).all()
    np.testing.assert_allclose(schedule.sigma[[0, -1]], [SIGMA_MAX, SIGMA_MIN], rtol=1e-5)
    assert (np.diff(schedule.sigma) <= 0).all()


@pytest.mark.parametrize("num_calls, expected", [(5000, 5000), (1000, 1000), (70, 50), (20, 20)])
def test_annealed_langevin_has_whole_levels(num_calls, expected):
    assert make_schedule("annealed_langevin", SIGMA_MAX, SIGMA_MIN, num_calls, num_levels=50).num_calls == expected


def test_names_and_calls_that_cannot_be():
    with pytest.raises(ValueError, match=r"no sampler 'euler'; there are annealed_langevin, .*, dpm_solver"):
        make_schedule("euler", SIGMA_MAX, SIGMA_MIN, 10)
    with pytest.raises(ValueError, match="no grid of noise levels 'flat'; there are geometric, karras"):
        make_schedule("heun", SIGMA_MAX, SIGMA_MIN, 10, grid="flat")
    with pytest.raises(ValueError, match="dpm_solver needs at least 2 steps, not 1"):
        make_schedule("dpm_solver", SIGMA_MAX, SIGMA_MIN, 1)


@pytest.mark.parametrize("build", [heun, predictor_corrector])
def test_an_even_number_of_calls_leaves_the_first_step_uncorrected(build):
    odd, even = rows(build(SIGMA_MAX, SIGMA_MIN, 9)), rows(build(SIGMA_MAX, SIGMA_MIN, 8))
    np.testing.assert_array_equal(even, np.delete(odd, 1, axis=0))
    levels = geometric_levels(SIGMA_MAX, SIGMA_MIN, 5)
    np.testing.assert_array_equal(odd[:, 0], levels[[0, 1, 1, 2, 2, 3, 3, 4, 4]])
    np.testing.assert_array_equal(odd[-1, 1:], [1, 0, 0])


def test_the_corrector_is_a_langevin_step():
    """At the level that the predictor, a row of the ancestral sampler, has come to."""
    table = rows(predictor_corrector(SIGMA_MAX, SIGMA_MIN, 9, corrector_gain=0.3))
    sigma, gain, memory, noise = table[1::2].T
    np.testing.assert_array_equal(sigma, table[2::2, 0])
    np.testing.assert_allclose(gain, 0.3, rtol=1e-6)
    np.testing.assert_allclose(noise**2, 2 * gain * sigma**2, rtol=1e-5)
    assert not memory.any()
    np.testing.assert_array_equal(table[::2], rows(few_step_langevin(SIGMA_MAX, SIGMA_MIN, 5)))


def test_karras_levels():
    """Equal steps of the seventh root; with a large rho, of the logarithm."""
    levels = karras_levels(10.0, 0.01, 9).astype(np.float64)
    step = (0.01 ** (1 / 7) - 10.0 ** (1 / 7)) / 8
    np.testing.assert_allclose(np.diff(levels ** (1 / 7)), step, rtol=1e-5)
    np.testing.assert_allclose(karras_levels(10.0, 0.01, 9, rho=1e4), geometric_levels(10.0, 0.01, 9), rtol=1e-2)


def test_the_papers_levels_are_fifty():
    """From 10 to 0.01, unless told otherwise."""
    for schedule in (annealed_langevin(), make_schedule("annealed_langevin", 10.0, 0.01, 5000)):
        np.testing.assert_allclose(np.unique(schedule.sigma)[::-1], np.geomspace(10.0, 0.01, 50), rtol=1e-5)
    assert len(np.unique(make_schedule("annealed_langevin", 10.0, 0.01, 30).sigma)) == 30


def test_a_step_of_heun_on_the_flow_of_a_point():
    """D is the point itself: the slope (x - D) / sigma never changes, so that the correction changes nothing."""
    schedule, clean = heun(SIGMA_MAX, SIGMA_MIN, 9), 0.7

    def denoise(positions, extra, sigma, key):
        return clean - positions, extra

    start = jnp.array([clean + 2 * SIGMA_MAX])
    for rows_run in (2, 4, 6):  # whole steps: at each level the distance is twice the level's noise
        part = jax.tree.map(lambda column, end=rows_run: column[:end], schedule)
        out = sample(denoise, start, None, jax.random.key(0), part)[0]
        np.testing.assert_allclose(out - clean, 2 * schedule.sigma[rows_run], rtol=1e-4)
    out = sample(denoise, start, None, jax.random.key(0), schedule)[0]
    np.testing.assert_allclose(out, clean, atol=1e-5)


@pytest.mark.parametrize("churn, expected", [(1.0, 0.75), (0.0, 0.5)])
def test_one_step_by_hand(churn, expected):
    """From 2 to 1: the posterior of the next level keeps a quarter of the way, and sqrt(3) / 2 of noise."""
    schedule = few_step_langevin(2.0, 1.0, 2, churn)
    np.testing.assert_allclose(schedule.gain, [expected, 1.0], rtol=1e-6)
    np.testing.assert_allclose(schedule.noise, [churn * 3**0.5 / 2, 0.0], rtol=1e-6)
    np.testing.assert_allclose(schedule.sigma, [2.0, 1.0])


def test_the_usual_corrector_has_a_signal_to_noise_ratio_of_0_4():
    """Song et al.: a step e = 2 (r |z| / |score|)^2, where the score of noise sigma is about |z| / sigma."""
    table = rows(predictor_corrector(SIGMA_MAX, SIGMA_MIN, 9))
    sigma, gain, _, width = table[1::2].T
    np.testing.assert_allclose(gain, 2 * 0.4**2, rtol=1e-6)
    np.testing.assert_allclose(width, np.sqrt(2 * 2 * 0.4**2) * sigma, rtol=1e-6)
