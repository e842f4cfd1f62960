"""Moments and end points of the noise, against values worked out by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdw_jax.diffusion import noise
from vdw_jax.types import BULK, SLAB

CUBE = jnp.diag(jnp.array([4.0, 4.0, 4.0]))[None]
ONE = jnp.ones((1, 1), bool)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 3.0, 40.0])
def test_preconditioning_makes_gaussian_data_uncorrelated_and_of_unit_variance(sigma):
    """Karras et al., Appendix B.6: of data of spread 3, the input and what is wanted of the network."""
    skip, out, scale = (float(x) for x in noise.preconditioning(jnp.array(sigma), jnp.array(3.0)))
    spread, total = 3.0**2, 3.0**2 + sigma**2  # <clean noisy> = spread, <noisy noisy> = total
    assert spread - skip * total == pytest.approx(0.0, abs=2e-5 * total)
    assert spread - 2 * skip * spread + skip**2 * total == pytest.approx(out**2, rel=1e-4)
    assert scale**2 * total == pytest.approx(spread, rel=1e-5)  # as wide as the data at every noise


def test_karras_levels_by_default():
    """The middle one of three is ((max^(1/7) + min^(1/7)) / 2)^7."""
    levels = noise.karras_levels(80.0, 0.002, 3)
    np.testing.assert_allclose(levels, [80.0, 2.5152, 0.002], rtol=1e-3)


@pytest.mark.parametrize("periodicity", [SLAB, BULK], ids=["slab", "bulk"])
def test_halfway_between_two_images_nothing_pulls(periodicity):
    """Along a period by symmetry; a bit off, to the nearer one."""
    clean = jnp.zeros((1, 1, 3))
    for noisy, pulls in (
        ([2.0, 2.0, 0.0], [0, 0]),
        ([1.9, 0.0, 0.0], [-1, 0]),
        ([2.1, 0.0, 0.0], [1, 0]),
    ):
        out = noise.wrapped_displacement(
            jnp.array([[noisy]]), clean, ONE, CUBE, jnp.array([0.3]), periodicity
        )
        np.testing.assert_array_equal(np.sign(np.round(out[0, 0, :2], 3)), pulls)


def test_uniform_from_the_noise_where_nothing_is_left_of_the_lattice():
    """2 exp(-2 pi^2 0.8^2) = 7e-6 of a period of 4: below the noise it is shown, from it on exactly 0."""
    clean, noisy = jnp.zeros((1, 1, 3)), jnp.array([[[1.0, 0, 0]]])

    def along(sigma):
        return float(
            noise.wrapped_displacement(noisy, clean, ONE, CUBE, jnp.array([sigma]), SLAB)[0, 0, 0]
        )

    # The slope of log(1 + 2 q cos(2 pi x / a)), q = exp(-2 pi^2 sigma^2 / a^2), at a quarter of the period.
    for sigma in (1.6, 2.0):
        q = np.exp(-2 * np.pi**2 * sigma**2 / 16)
        assert along(sigma) == pytest.approx(-(sigma**2) * 4 * np.pi * q / 4, rel=0.05)
    assert along(3.3) == 0.0
    assert along(7.0) == 0.0


def test_where_one_period_is_short_only_that_one_is_uniform():
    """At a noise of 3 nothing is left of a period of 4 Angstrom, and all of one of 40; two crystals at once."""
    clean = jnp.zeros((2, 1, 3))
    noisy = jnp.tile(jnp.array([1.0, 1.5, 0.5]), (2, 1, 1))
    sides = jnp.array([[4.0, 40.0, 20.0], [40.0, 4.0, 20.0]])
    out = noise.wrapped_displacement(
        noisy, clean, jnp.ones((2, 1), bool), jax.vmap(jnp.diag)(sides), jnp.full(2, 3.5), SLAB
    )
    np.testing.assert_allclose(out[:, 0], [[0.0, -1.5, -0.5], [-1.0, 0.0, -0.5]], atol=1e-3)


@pytest.mark.parametrize("periodicity, places", [(SLAB, 8), (BULK, 4)], ids=["slab", "bulk"])
def test_a_crystal_is_looked_for_on_a_grid_of_places(periodicity, places):
    """Moved by a step of it along any period, the clean crystal is the same; by half a step it is not.

    One atom of three is half a period off along every axis: it may be moved on or back. The best places for the two
    are a third of a period apart, which is no whole number of steps, so that the grid decides between them.
    """
    clean = jnp.zeros((1, 3, 3))
    noisy = clean.at[0, 2].set(1.97) + 0.1
    mask, sigma = jnp.ones((1, 3), bool), jnp.array([0.12])
    free = jax.jit(
        lambda clean: noise.free_displacement(noisy, clean, mask, CUBE, sigma, periodicity)
    )
    expected = free(clean)
    for axis in range(2 + (periodicity == BULK)):
        step = 4.0 / places * jnp.eye(3)[axis]
        np.testing.assert_allclose(free(clean + step), expected, atol=1e-3)
        assert jnp.abs(free(clean + step / 2) - expected).max() > 0.01


def test_noise_is_removed_of_the_mean_over_atoms_alone():
    vectors = jnp.array([[[1.0, 0, 0], [3.0, 0, 0], [100.0, 0, 0]]])
    out = noise.centre(vectors, jnp.array([[True, True, False]]))
    np.testing.assert_allclose(out[0, :, 0], [-1.0, 1.0, 0.0])


def test_species_drawn_keep_what_is_not_replaced():
    """At a noise of 3 three quarters are drawn anew, here all as boron; of hydrogen a quarter is left."""
    numbers = jnp.ones((1, 20_000), jnp.int32)
    shares = jax.nn.one_hot(jnp.array([4]), 100)
    out = np.asarray(noise.resample_species(jax.random.key(1), numbers, jnp.array([3.0]), shares))
    assert set(np.unique(out)) == {1, 5}
    np.testing.assert_allclose((out == 5).mean(), 0.75, atol=0.01)
