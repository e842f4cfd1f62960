"""Small parts of EquiformerV2: degree-wise linear maps, layer norm, radial functions, envelopes, drop path."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.equivariant.edges import EdgeInputs, gather_neighbours
from vdw_jax.equivariant.grid import precision, wide
from vdw_jax.equivariant.irreps import degree_index

LINEAR_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform to 1/sqrt(fan in), as the published network has it."""


def dense(features: int, dtype, *, name: str | None = None, use_bias: bool = True) -> nn.Dense:
    """`nn.Dense` that computes in `dtype`, with weights by `LINEAR_INIT`."""
    return nn.Dense(features, use_bias, dtype=dtype, precision=precision(dtype), kernel_init=LINEAR_INIT, name=name)


class DegreeLinear(nn.Module):
    """One linear map a degree over the channels of l-major features; a bias for l = 0 only."""

    features: int
    lmax: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """[..., (lmax+1)^2, C] -> [..., (lmax+1)^2, features]."""
        channels = features.shape[-1]
        bound = 1 / np.sqrt(channels)

        def init(key, shape):
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        weight = self.param("kernel", init, (self.lmax + 1, channels, self.features)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        parts = [
            jnp.matmul(
                features[..., d * d : (d + 1) ** 2, :].astype(self.dtype),
                weight[d],
                precision=precision(self.dtype),
            )
            for d in range(self.lmax + 1)
        ]
        parts[0] = parts[0] + bias
        return jnp.concatenate(parts, axis=-2)


class EquivariantLayerNorm(nn.Module):
    """Layer norm of l-major features: the usual one for l = 0, one common RMS for all of l > 0.

    Every degree weighs the same in the RMS, whatever its number of orders (EquiformerV2,
    arXiv:2306.12059, section 4.3). Computed in float32.
    """

    lmax: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """[..., (lmax+1)^2, C] -> same."""
        channels, dtype = features.shape[-1], features.dtype
        values = features.astype(wide(dtype))
        scalars = nn.LayerNorm(epsilon=self.epsilon, name="scalars")(values[..., :1, :])
        if self.lmax == 0:
            return scalars.astype(dtype)
        degrees = degree_index(self.lmax)[1:]
        balance = jnp.asarray(1.0 / ((2 * degrees + 1) * self.lmax * channels), values.dtype)
        power = jnp.sum(values[..., 1:, :] ** 2 * balance[:, None], axis=(-2, -1))
        scale = self.param("scale", nn.initializers.ones, (self.lmax, channels))[degrees - 1]
        vectors = values[..., 1:, :] * jax.lax.rsqrt(power + self.epsilon)[..., None, None] * scale
        return jnp.concatenate([scalars, vectors], axis=-2).astype(dtype)


class RadialFunction(nn.Module):
    """MLP from the invariants of an edge to weights: (linear, layer norm, SiLU) each hidden layer, then linear."""

    hidden: Sequence[int]
    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, edges: EdgeInputs) -> jax.Array:
        """[B, N, K, features]."""
        hidden = EdgeDense(self.hidden[0], self.dtype, name="Dense_0")(edges)
        for layer, width in enumerate(self.hidden):
            if layer > 0:
                hidden = dense(width, self.dtype, name=f"Dense_{layer}")(hidden)
            hidden = nn.silu(nn.LayerNorm(dtype=self.dtype, name=f"LayerNorm_{layer}")(hidden))
        return BiasInProduct(self.features, self.dtype, name=f"Dense_{len(self.hidden)}")(hidden)


class BiasInProduct(nn.Module):
    """`dense` whose bias is a row of the matrix: what it makes is too large for a second pass."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., n] -> [..., features]."""
        kernel = self.param("kernel", LINEAR_INIT, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # Eight columns more, not one: the rows of a matrix stay aligned.
        one = jnp.broadcast_to(jnp.asarray([1.0] + [0.0] * 7, self.dtype), (*x.shape[:-1], 8))
        matrix = jnp.concatenate([kernel, jnp.pad(bias[None], ((0, 7), (0, 0)))]).astype(self.dtype)
        return jnp.matmul(jnp.concatenate([x.astype(self.dtype), one], -1), matrix, precision=precision(self.dtype))


class Embedding(nn.Module):
    """A vector for each of `num` things, by a product: the gradient of a look-up adds in no fixed order on a GPU."""

    num: int
    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, which: jax.Array) -> jax.Array:
        """[...] int32 in [0, num) -> [..., features]."""
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        table = self.param("embedding", init, (self.num, self.features)).astype(self.dtype)
        return jnp.matmul(jax.nn.one_hot(which, self.num, dtype=self.dtype), table, precision=precision(self.dtype))


class EdgeDense(nn.Module):
    """`dense` of the invariants of an edge, its source and its target, side by side.

    Linear in the concatenation, so what belongs to nodes is multiplied once a node instead of once an edge.
    """

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, edges: EdgeInputs) -> jax.Array:
        """[B, N, K, features]."""
        parts = [part.astype(self.dtype) for part in (edges.invariants, edges.source, edges.target) if part is not None]
        widths = [part.shape[-1] for part in parts]
        kernel = self.param("kernel", LINEAR_INIT, (sum(widths), self.features)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        kernels = jnp.split(kernel, np.cumsum(widths)[:-1].tolist())
        out, *of_nodes = (
            jnp.matmul(part, weight, precision=precision(self.dtype))
            for part, weight in zip(parts, kernels, strict=True)
        )
        out = out + bias
        if edges.source is not None:
            out = out + gather_neighbours(of_nodes.pop(0), edges.index, out.shape[2])
        if edges.target is not None:
            out = out + of_nodes.pop(0)[:, :, None]
        return out


def add_degree(nodes: jax.Array, features: jax.Array, degree: int) -> jax.Array:
    """l-major nodes [..., (lmax+1)^2, C] with [..., 2 degree + 1, C] added to one degree.

    A sum with zeros around: it fuses with what is near it; an update of a slice copies all nodes.
    """
    around = (degree**2, nodes.shape[-2] - (degree + 1) ** 2)
    return nodes + jnp.pad(features, [(0, 0)] * (features.ndim - 2) + [around, (0, 0)])


def gaussian_basis(
    lengths: jax.Array, cutoff: float, num_basis: int, width_in_spacings: float = 2.0
) -> jax.Array:
    """exp(-(d - mu_k)^2 / 2 s^2) with `num_basis` centres from 0 to `cutoff`; [..., num_basis]."""
    centres = jnp.linspace(0.0, cutoff, num_basis)
    width = width_in_spacings * cutoff / (num_basis - 1)
    return jnp.exp(-0.5 * ((lengths[..., None] - centres) / width) ** 2)


def polynomial_envelope(ratio: jax.Array, power: int = 5) -> jax.Array:
    """1 at 0 and, with two derivatives, 0 from 1 on (DimeNet, arXiv:2003.03123, Eq. 8, with p = `power`)."""
    p = float(power)
    inside = (
        1.0
        - (p + 1) * (p + 2) / 2 * ratio**power
        + p * (p + 2) * ratio ** (power + 1)
        - p * (p + 1) / 2 * ratio ** (power + 2)
    )
    return jnp.where(ratio < 1.0, inside, 0.0)


def split_each(keys: jax.Array, num: int) -> jax.Array:
    """`num` keys from each of [B]; [num, B]."""
    return jax.vmap(lambda key: jax.random.split(key, num), out_axes=1)(keys)


def keep_each(keys: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """False with probability `rate`, drawn for each of [B] keys on its own; [B, *shape]."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, shape))(keys)


def drop_path(branch: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Drops a residual branch for whole graphs (first axis), scaled to keep its mean; no keys, no drop."""
    if keys is None or rate == 0.0:
        return branch
    keep = keep_each(keys, rate, (1,) * (branch.ndim - 1))
    return jnp.where(keep, branch / (1.0 - rate), jnp.zeros((), branch.dtype))
