"""Diffusion of latents: from noise and conditions to latents, in the place of the WGAN's generator.

Latents are standardised, so their spread is 1 wherever it is asked for (Karras et al., arXiv:2206.00364).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdw_jax.diffusion.noise import karras_levels
from vdw_jax.diffusion.samplers import dpm_solver, sample

SIGMA_MAX, SIGMA_MIN = 20.0, 0.02
"""First and last noise level of the sampler, in spreads of the latents."""

NUM_FREQUENCIES = 16


class LatentDenoiser(nn.Module):
    """Residual blocks of two layers, told noise level and conditions."""

    width: int
    num_blocks: int

    @nn.compact
    def __call__(self, latent: jax.Array, sigma: jax.Array, condition: jax.Array) -> jax.Array:
        """[B, latent_dim] noisy latents, [B] noise levels, [B, D] conditions -> [B, latent_dim], what they come from.

        Preconditioned as in Karras et al., Table 1, with a spread of the data of 1.
        """
        scale = 1 / jnp.sqrt(1 + sigma[:, None] ** 2)
        phase = jnp.log(sigma[:, None]) / 4 * jnp.arange(1, NUM_FREQUENCIES + 1)
        told = jnp.concatenate([jnp.cos(phase), jnp.sin(phase), condition], -1)
        told = nn.silu(nn.Dense(self.width, precision="highest")(told))
        x = nn.Dense(self.width, precision="highest")(latent * scale)
        for _ in range(self.num_blocks):
            y = nn.Dense(self.width, precision="highest")(nn.LayerNorm()(x))
            y = nn.silu(y + nn.Dense(self.width, use_bias=False, precision="highest")(told))
            x = x + nn.Dense(self.width, kernel_init=nn.initializers.zeros, precision="highest")(y)
        output = nn.Dense(latent.shape[-1], kernel_init=nn.initializers.zeros, precision="highest")(nn.LayerNorm()(x))
        return latent * scale**2 + output * sigma[:, None] * scale


class LatentDiffusion(nn.Module):
    """A deterministic map from noise to latents: the denoiser's probability-flow ODE, by DPM-Solver++."""

    width: int = 512
    num_blocks: int = 4
    num_calls: int = 24

    def setup(self) -> None:
        """One network for training and sampling."""
        self.denoiser = LatentDenoiser(self.width, self.num_blocks)

    def denoise(self, latent: jax.Array, sigma: jax.Array, condition: jax.Array) -> jax.Array:
        """As `LatentDenoiser`."""
        return self.denoiser(latent, sigma, condition)

    def __call__(self, noise: jax.Array, condition: jax.Array) -> jax.Array:
        """[B, latent_dim] noise and [B, D] conditions -> [B, latent_dim]."""
        if self.is_initializing():
            return self.denoise(noise, jnp.ones(len(noise)), condition)
        network, variables = self.denoiser.unbind()
        schedule = dpm_solver(SIGMA_MAX, SIGMA_MIN, self.num_calls, karras_levels)

        def displacement(latent, extra, sigma, key):
            del key
            found = network.apply(variables, latent, jnp.full(len(latent), sigma), condition)
            return found - latent, extra

        return sample(displacement, SIGMA_MAX * noise, (), jax.random.key(0), schedule)[0]


def latent_diffusion_loss(denoise, latent: jax.Array, key: jax.Array) -> jax.Array:
    """Mean squared error of what was denoised, weighed so that every noise level starts at 1 (Karras et al., Eq. 8).

    Args:
      denoise: ([B, latent_dim], [B]) -> [B, latent_dim].
      latent: [B, latent_dim], real ones.
      key: for noise, whose level is log-normal about 0.4 spreads: below it latents are told apart, above it they
        are all one.
    """
    level_key, noise_key = jax.random.split(key)
    sigma = jnp.exp(1.4 * jax.random.normal(level_key, latent.shape[:1]) - 1.0)
    noisy = latent + sigma[:, None] * jax.random.normal(noise_key, latent.shape)
    error = jnp.mean((denoise(noisy, sigma) - latent) ** 2, -1)
    return jnp.mean(error * (1 + sigma**2) / sigma**2)
