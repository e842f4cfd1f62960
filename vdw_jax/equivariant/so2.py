"""SO(2) convolution: in the frame of its edge a tensor product is a matrix product for each order m.

Passaro and Zitnick, arXiv:2302.03655 (eSCN); used as in EquiformerV2, arXiv:2306.12059, section 4.1.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.equivariant.grid import precision
from vdw_jax.equivariant.irreps import EdgeOrder


class SO2Linear(nn.Module):
    """Linear map of m-major edge features that commutes with rotations about the edge.

    For each m > 0: y_m = W_r x_m - W_i x_-m and y_-m = W_i x_m + W_r x_-m. A mirror plane through the edge flips
    the sign of x_-m, so with `reflections` the W_i are left out, and the map commutes with O(2).
    """

    features: int
    order: EdgeOrder
    dtype: jnp.dtype
    num_extra_scalars: int = 0
    reflections: bool = True

    @nn.compact
    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[..., size, C] -> ([..., size, features], [..., num_extra_scalars] invariants)."""
        lead, channels = features.shape[:-2], features.shape[-1]
        order = self.order
        count = order.num_degrees(0)
        flat = features[..., order.block(0), :].reshape(*lead, count * channels)
        extra = self.num_extra_scalars
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        scalars = nn.Dense(
            extra + count * self.features,
            dtype=self.dtype,
            precision=precision(self.dtype),
            kernel_init=init,
            name="m0",
        )(flat)
        blocks = [scalars[..., extra:].reshape(*lead, count, self.features)]
        for m in range(1, order.mmax + 1):
            blocks.append(self._order_block(m, features[..., order.block(m), :]))
        return jnp.concatenate(blocks, axis=-2), scalars[..., :extra]

    def _order_block(self, m: int, pair: jax.Array) -> jax.Array:
        lead, channels = pair.shape[:-2], pair.shape[-1]
        count = self.order.num_degrees(m)
        pair = pair.reshape(*lead, 2, count * channels).astype(self.dtype)
        # With both W_r and W_i two products add up, hence 1/sqrt(2) on their scale.
        bound = 1 / np.sqrt(count * channels * (1 if self.reflections else 2))

        def init(key, shape):
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        width = count * self.features

        def product(name: str) -> jax.Array:
            weight = self.param(name, init, (count * channels, width)).astype(self.dtype)
            return jnp.matmul(pair, weight, precision=precision(self.dtype))

        result = product(f"m{m}_real")
        if not self.reflections:
            turned = product(f"m{m}_imaginary")
            result = result + jnp.stack([-turned[..., 1, :], turned[..., 0, :]], axis=-2)
        return result.reshape(*lead, 2 * count, self.features)


def num_radial_weights(order: EdgeOrder, channels: int) -> int:
    """Weights an edge needs for `scale_by_radial`: one a (l, |m|) and channel."""
    return channels * sum(order.num_degrees(m) for m in range(order.mmax + 1))


def scale_by_radial(order: EdgeOrder, features: jax.Array, weights: jax.Array) -> jax.Array:
    """Multiplies m-major [..., size, C] by weights [..., num_radial_weights], equal for m and -m."""
    channels = features.shape[-1]
    index = []
    for m in range(order.mmax + 1):
        start = sum(order.num_degrees(k) for k in range(m))
        index += list(range(start, start + order.num_degrees(m))) * (1 if m == 0 else 2)
    weights = weights.reshape(*weights.shape[:-1], -1, channels)
    return features * weights[..., np.array(index), :]
