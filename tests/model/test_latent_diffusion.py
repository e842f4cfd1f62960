"""Diffusion of latents: the sampler and the loss against a Gaussian whose best denoiser is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.tiny import shaken
from vdw_jax.model.latent_diffusion import SIGMA_MAX, LatentDenoiser, LatentDiffusion, latent_diffusion_loss

NOISE, CONDITION = jax.random.normal(jax.random.key(0), (6, 4)), jax.random.normal(jax.random.key(1), (6, 3))


@pytest.fixture(scope="module")
def made():
    """A small one, with weights that are not those it starts with."""
    network = LatentDiffusion(width=16, num_blocks=2, num_calls=10)
    return network, shaken(network.init(jax.random.key(2), NOISE, CONDITION), 0.1)


def test_untrained_it_knows_latents_of_spread_one():
    """The preconditioning alone is the best denoiser of a standard Gaussian: noise comes out as what it is."""
    network = LatentDiffusion(width=16, num_blocks=2, num_calls=40)
    variables = network.init(jax.random.key(2), NOISE, CONDITION)
    found = network.apply(variables, NOISE, CONDITION)
    # The exact flow takes x = 20 n to x / sqrt(1 + 20^2); the last step lands on the mean of a level of 0.02.
    exact = SIGMA_MAX * NOISE / np.sqrt(1 + SIGMA_MAX**2)
    np.testing.assert_allclose(found, exact, rtol=0.01, atol=1e-3)


def test_loss_starts_at_one_for_every_level_and_ends_at_its_floor():
    latent = jax.random.normal(jax.random.key(3), (20_000, 2))
    start = latent_diffusion_loss(lambda x, sigma: x / (1 + sigma[:, None] ** 2), latent, jax.random.key(4))
    assert float(start) == pytest.approx(1.0, rel=0.02)
    assert float(latent_diffusion_loss(lambda x, sigma: latent, latent, jax.random.key(4))) == 0.0


def test_every_latent_is_made_by_itself(made):
    network, variables = made
    whole = network.apply(variables, NOISE, CONDITION)
    alone = jnp.concatenate([network.apply(variables, NOISE[i : i + 1], CONDITION[i : i + 1]) for i in range(6)])
    assert whole.shape == NOISE.shape
    np.testing.assert_allclose(alone, whole, atol=1e-4)


def test_it_reads_condition_and_noise_level(made):
    network, variables = made
    first, second = (network.apply(variables, NOISE, condition) for condition in (CONDITION, CONDITION + 1))
    assert np.abs(first - second).max() > 1e-2
    sigma = jnp.ones(6)
    first, second = (
        network.apply(variables, NOISE, level, CONDITION, method="denoise") for level in (sigma, 2 * sigma)
    )
    assert np.abs(first - second).max() > 1e-2


def test_it_learns_two_points():
    """Latents at (1, -1) or (-1, 1), as the condition says: after training, samples lie there."""
    network = LatentDiffusion(width=32, num_blocks=1, num_calls=16)
    points = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    condition = jnp.eye(2)
    variables = network.init(jax.random.key(0), points, condition)
    optimizer = optax.adam(3e-3)

    def step(carry, key):
        variables, state = carry
        rows = jnp.arange(64) % 2

        def loss(variables):
            def denoise(x, sigma):
                return network.apply(variables, x, sigma, condition[rows], method="denoise")

            return latent_diffusion_loss(denoise, points[rows], key)

        updates, state = optimizer.update(jax.grad(loss)(variables), state)
        return (optax.apply_updates(variables, updates), state), None

    keys = jax.random.split(jax.random.key(1), 600)
    (variables, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((variables, optimizer.init(variables)))
    rows = jnp.arange(32) % 2
    found = network.apply(variables, jax.random.normal(jax.random.key(5), (32, 2)), condition[rows])
    assert np.abs(found - points[rows]).max() < 0.15


def test_gradients_are_finite_where_latents_are_all_the_same():
    network = LatentDenoiser(8, 1)
    flat = jnp.zeros((3, 4))
    variables = network.init(jax.random.key(0), flat, jnp.ones(3), jnp.zeros((3, 2)))

    def loss(variables):
        return latent_diffusion_loss(
            lambda x, sigma: network.apply(variables, x, sigma, jnp.zeros((3, 2))), flat, jax.random.key(1)
        )

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(loss)(variables)))
