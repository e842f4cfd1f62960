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
from vdw_jax.equivariant.layers import LINEAR_INIT


class SO2Linear(nn.Module):
    """Linear map of m-major edge features that commutes with rotations about the edge, block by block.

    For each m > 0: y_m = W_r x_m - W_i x_-m and y_-m = W_i x_m + W_r x_-m. A mirror plane through the edge flips
    the sign of x_-m, so with `reflections` the W_i are left out, and the map commutes with O(2).
    """

    features: int
    order: EdgeOrder
    dtype: jnp.dtype
    num_extra_scalars: int = 0
    reflections: bool = True

    @nn.compact
    def __call__(self, blocks: list[jax.Array]) -> tuple[list[jax.Array], jax.Array]:
        """Blocks of each |m|, see `EdgeOrder.split`, and [..., num_extra_scalars] invariants beside them."""
        zero, *pairs = blocks
        lead, channels = zero.shape[:-2], zero.shape[-1]
        order = self.order
        count = order.num_degrees(0)
        flat = zero.reshape(*lead, count * channels)
        extra = self.num_extra_scalars
        scalars, values = TwoDense((extra, count * self.features), self.dtype, name="m0")(flat)
        out = [values.reshape(*lead, count, self.features)]
        out += [self._order_block(m, pair) for m, pair in enumerate(pairs, start=1)]
        return out, scalars

    def _order_block(self, m: int, pair: jax.Array) -> jax.Array:
        lead, channels = pair.shape[:-2], pair.shape[-1]
        count = self.order.num_degrees(m)
        # With both W_r and W_i two products add up, hence 1/sqrt(2) on their scale.
        bound = 1 / np.sqrt(count * channels * (1 if self.reflections else 2))

        def init(key, shape):
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        width = count * self.features

        def weight(name: str) -> jax.Array:
            return self.param(name, init, (count * channels, width)).astype(self.dtype)

        matrix, pair = weight(f"m{m}_real"), pair.reshape(*lead, 2, count * channels)
        if not self.reflections:
            imaginary, pair = weight(f"m{m}_imaginary"), pair.reshape(*lead, 2 * count * channels)
            matrix = jnp.block([[matrix, imaginary], [-imaginary, matrix]])
        result = jnp.matmul(pair.astype(self.dtype), matrix, precision=precision(self.dtype))
        return result.reshape(*lead, 2 * count, self.features)


class TwoDense(nn.Module):
    """A linear map whose output is wanted in two parts, by two products: as one, its gradient is put together again."""

    features: tuple[int, int]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """[..., n] -> [..., features[0]] and [..., features[1]]."""
        kernel = self.param("kernel", LINEAR_INIT, (x.shape[-1], sum(self.features))).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (sum(self.features),)).astype(self.dtype)
        first, x = self.features[0], x.astype(self.dtype)
        return tuple(
            jnp.matmul(x, kernel[:, part], precision=precision(self.dtype)) + bias[part]
            for part in (slice(None, first), slice(first, None))
        )


def num_radial_weights(order: EdgeOrder, channels: int) -> int:
    """Weights that scale the message of an edge: one a (l, |m|) and channel."""
    return channels * sum(order.num_degrees(m) for m in range(order.mmax + 1))
