"""Conditions as vectors, and low-rank multimodal fusion of any subset of them with the latent."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdw_jax.model.config import ModelConfig
from vdw_jax.types import Conditions


def scalar_features(conditions: Conditions, config: ModelConfig) -> jax.Array:
    """Gaussian expansion (paper, Eq. 4) of the standardised scalars, -3 to 3 spreads; [B, S, num_basis]."""
    value = jnp.where(conditions.scalar_mask, conditions.scalars, 0.0)
    centres = jnp.linspace(-3.0, 3.0, config.num_basis)
    width = 6.0 / (config.num_basis - 1)
    return jnp.exp(-0.5 * ((jnp.clip(value, -3.5, 3.5)[..., None] - centres) / width) ** 2)


def condition_vector(conditions: Conditions, config: ModelConfig) -> jax.Array:
    """All conditions and which are present, concatenated; what generator and critic read. [B, D]."""
    mask = conditions.scalar_mask[..., None].astype(jnp.float32)
    scalars = jnp.concatenate([scalar_features(conditions, config) * mask, mask], -1)
    present = conditions.composition_mask[:, None].astype(jnp.float32)
    composition = jnp.where(present > 0, conditions.composition, 0.0)
    return jnp.concatenate([scalars.reshape(mask.shape[0], -1), composition, present], -1)


class LowRankFusion(nn.Module):
    """z_c = sum_r w_r prod_m [x_m, 1] W_m^r + b (paper, Eqs. 5 and 6; Liu et al., P18-1209).

    An absent condition enters as its padded unit alone, x_m = 0, so one model serves every subset.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, latent: jax.Array, conditions: Conditions) -> jax.Array:
        """[B, latent_dim] -> [B, latent_dim]."""
        config = self.config
        product = self._project("latent", latent)
        features = scalar_features(conditions, config)
        for place in range(len(config.scalars)):
            value = features[:, place] * conditions.scalar_mask[:, place, None]
            product = product * self._project(f"scalar_{place}", value)
        shares = jnp.where(conditions.composition_mask[:, None], conditions.composition, 0.0)
        formula = nn.Dense(config.formula_dim, use_bias=False, precision="highest", name="elements")(shares)
        product = product * self._project("formula", formula)
        weights = self.param("rank_weights", nn.initializers.constant(config.lmf_rank**-0.5), (config.lmf_rank,))
        bias = self.param("bias", nn.initializers.zeros, (config.latent_dim,))
        return jnp.einsum("brd,r->bd", product, weights, precision="highest") + bias

    def _project(self, name: str, value: jax.Array) -> jax.Array:
        shape = (self.config.lmf_rank, self.config.latent_dim)
        kernel = self.param(f"{name}_factor", nn.initializers.lecun_normal(), (value.shape[-1], *shape))
        # Around 1 for conditions: a fusion that starts near the latent itself.
        unit = self.param(f"{name}_unit", nn.initializers.constant(0.0 if name == "latent" else 1.0), shape)
        return jnp.einsum("bi,ird->brd", value, kernel, precision="highest") + unit
