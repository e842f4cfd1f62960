"""Conditional Wasserstein GAN with gradient penalty: from noise and conditions to latents (paper, Eq. 7)."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class Generator(nn.Module):
    """Five hidden layers with batch norm (the first without) and leaky ReLU, then one linear layer."""

    latent_dim: int
    hidden: tuple[int, ...] = (512, 512, 1024, 1024, 512)

    @nn.compact
    def __call__(self, noise: jax.Array, condition: jax.Array, train: bool = False) -> jax.Array:
        """[B, n] noise and [B, D] conditions -> [B, latent_dim]."""
        x = jnp.concatenate([noise, condition], -1)
        for layer, width in enumerate(self.hidden):
            x = nn.Dense(width, precision="highest")(x)
            if layer:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.99)(x)
            x = nn.leaky_relu(x, 0.2)
        return nn.Dense(self.latent_dim, precision="highest")(x)


class Critic(nn.Module):
    """Three hidden layers with leaky ReLU and dropout, then one linear layer."""

    hidden: tuple[int, ...] = (512, 512, 512)
    dropout: float = 0.5

    @nn.compact
    def __call__(self, latent: jax.Array, condition: jax.Array, train: bool = False) -> jax.Array:
        """[B, latent_dim] latents and [B, D] conditions -> [B] scores."""
        x = jnp.concatenate([latent, condition], -1)
        for width in self.hidden:
            x = nn.leaky_relu(nn.Dense(width, precision="highest")(x), 0.2)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(1, precision="highest")(x)[:, 0]


def gradient_penalty(score: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, key: jax.Array):
    """Mean (|grad| - 1)^2 at random points between real and generated latents."""
    share = jax.random.uniform(key, (real.shape[0], 1))
    gradient = jax.grad(lambda x: score(x).sum())(share * real + (1 - share) * fake)
    norm = jnp.sqrt(jnp.sum(gradient**2, -1) + 1e-12)
    return jnp.mean((norm - 1.0) ** 2)
