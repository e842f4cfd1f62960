"""Equivariant graph attention with SO(2) convolutions (EquiformerV2, arXiv:2306.12059, Fig. 1b)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdw_jax.equivariant.activations import gate, separable_s2
from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.edges import EdgeInputs, row_major
from vdw_jax.equivariant.grid import wide
from vdw_jax.equivariant.layers import DegreeLinear, RadialFunction, keep_each
from vdw_jax.equivariant.messages import collect, send
from vdw_jax.equivariant.so2 import SO2Linear, num_radial_weights
from vdw_jax.safe_ops import safe_divide


def smooth_leaky_relu(values: jax.Array, slope: float = 0.2) -> jax.Array:
    """Leaky ReLU with a rounded corner: (1+s)/2 x + (1-s)/2 x (2 sigmoid(x) - 1)."""
    return (1 + slope) / 2 * values + (1 - slope) / 2 * values * (2 * nn.sigmoid(values) - 1)


def neighbour_softmax(logits: jax.Array, envelope: jax.Array) -> jax.Array:
    """Softmax over the neighbour slots, each weighed by its envelope before normalisation.

    An edge whose envelope is 0 takes no part, so results are continuous where neighbours come and go; an
    atom without neighbours gets zeros. Float32.

    Args:
      logits: [B, N, K, H].
      envelope: [B, N, K], >= 0.
    """
    logits, envelope = row_major(logits.astype(wide(logits.dtype))), envelope[..., None]
    top = jnp.max(jnp.where(envelope > 0, logits, -jnp.inf), axis=-2, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0.0))
    weights = row_major(envelope * jnp.exp(jnp.where(envelope > 0, logits - top, 0.0)))
    return safe_divide(weights, jnp.sum(weights, axis=-2, keepdims=True))


class GraphAttention(nn.Module):
    """Attention block: rotate, SO(2) product, activation, SO(2) product, weigh, rotate back, sum."""

    config: EquiformerConfig
    features: int

    @nn.compact
    def __call__(
        self, nodes: jax.Array, edges: EdgeInputs, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """l-major [B, N, (lmax+1)^2, C] -> [B, N, (lmax+1)^2, features]; [B] keys for dropout, None for none."""
        config, order, dtype = self.config, self.config.order, self.config.dtype
        heads, hidden = config.num_heads, config.attention_channels

        num_weights = num_radial_weights(order, 2 * nodes.shape[-1])
        radial = RadialFunction(config.radial_hidden, num_weights, dtype, name="radial")(edges)
        message = send(edges.frames, nodes, edges.index, radial, edges.ends)

        num_gates = hidden * (1 if config.edge_activation == "s2" else order.lmax)
        num_alpha = heads * config.alpha_channels
        first = SO2Linear(hidden, order, dtype, num_alpha + num_gates, config.reflections, name="so2_in")
        message, scalars = first(message)
        alpha, gates = scalars[..., :num_alpha], scalars[..., num_alpha:]
        if config.edge_activation == "s2":
            message = separable_s2(message, gates, config.edge_grid, order, config.kernels)
        else:
            message = gate(message, gates, order)
        values, _ = SO2Linear(
            heads * config.value_channels, order, dtype, 0, config.reflections, name="so2_out"
        )(message)

        # Attention re-normalisation: a layer norm on what the logits are made of.
        alpha = alpha.reshape(*alpha.shape[:-1], heads, config.alpha_channels)
        alpha = smooth_leaky_relu(nn.LayerNorm(name="alpha_norm")(alpha.astype(wide(dtype))))
        vector = self.param("alpha", nn.initializers.lecun_uniform(), (heads, config.alpha_channels))
        weights = neighbour_softmax(jnp.sum(alpha * vector, axis=-1), edges.envelope)
        if dropout_keys is not None and config.alpha_dropout > 0:
            keep = keep_each(dropout_keys, config.alpha_dropout, weights.shape[1:])
            weights = jnp.where(keep, weights / (1 - config.alpha_dropout), 0.0)

        summed = collect(edges.frames, values, weights, config.kernels)
        return DegreeLinear(self.features, order.lmax, dtype, name="project")(summed)
