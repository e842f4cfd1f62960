"""Nonlinearities that commute with rotations: on the sphere's grid, or as gates."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdw_jax.equivariant import sphere_kernels
from vdw_jax.equivariant.grid import SphereGrid, from_grid, to_grid
from vdw_jax.equivariant.irreps import EdgeOrder
from vdw_jax.equivariant.kernels import has_kernels
from vdw_jax.equivariant.layers import DegreeLinear, dense


def separable_s2(
    blocks: list[jax.Array], gates: jax.Array, grid: SphereGrid, order: EdgeOrder, fused: bool = False
) -> list[jax.Array]:
    """Separable S2 activation (EquiformerV2, section 4.2) of m-major edge features.

    l = 0 becomes SiLU(gates); l > 0 come from SiLU applied to the function on the sphere at the grid's
    points. Equivariant up to the aliasing of the grid.

    Args:
      blocks: of each |m|, see `EdgeOrder.split`.
      gates: [..., C] invariants.
      fused: by a kernel, where `has_kernels`.
    """
    if fused and has_kernels():
        return sphere_kernels.separable_s2(grid, order, False, blocks, gates)
    forth, back = grid.matrices(order.lmax, order)
    on_sphere = from_grid(back, nn.silu(to_grid(forth, jnp.concatenate(blocks, axis=-2))))
    return order.split(jnp.concatenate([nn.silu(gates)[..., None, :], on_sphere[..., 1:, :]], axis=-2))


def gate(blocks: list[jax.Array], gates: jax.Array, order: EdgeOrder) -> list[jax.Array]:
    """Gate activation, exactly equivariant: SiLU on l = 0, a sigmoid a degree and channel on the rest.

    Args:
      blocks: of each |m|, see `EdgeOrder.split`.
      gates: [..., lmax * C] invariants.
    """
    factors = nn.sigmoid(gates).reshape(*gates.shape[:-1], order.lmax, blocks[0].shape[-1])
    scalars, zero = jnp.split(blocks[0], [1], axis=-2)
    rest = []
    for m, block in enumerate(blocks[1:], start=1):
        plus, minus = jnp.split(block, 2, axis=-2)
        rest.append(jnp.concatenate([plus * factors[..., m - 1 :, :], minus * factors[..., m - 1 :, :]], axis=-2))
    return [jnp.concatenate([nn.silu(scalars), zero * factors], axis=-2), *rest]


class GridFeedForward(nn.Module):
    """Feed-forward network of nodes with its nonlinearity on the sphere's grid, l = 0 kept separate.

    `product` False: the published one, an MLP at every point (linear, SiLU, linear, SiLU, linear), equivariant
    up to aliasing. `product` True: the product of two linear maps at every point, a polynomial of order 2 and
    so exactly equivariant on a grid that integrates degree 3 lmax.
    """

    hidden: int
    features: int
    lmax: int
    grid: SphereGrid
    dtype: jnp.dtype
    product: bool = False

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """[..., (lmax+1)^2, C] -> [..., (lmax+1)^2, features]."""
        scalars = nn.silu(dense(self.hidden, self.dtype, name="scalar_in")(features[..., 0, :]))
        forth, back = self.grid.matrices(self.lmax)
        mix = functools.partial(dense, self.hidden, self.dtype, use_bias=False)
        if self.product:
            both = DegreeLinear(2 * self.hidden, self.lmax, self.dtype, name="linear_in")(features)
            left, right = jnp.split(to_grid(forth, both), 2, axis=-1)
            coefficients = from_grid(back, left * right)
        else:
            # Linear maps of channels commute with those onto the grid and back, where there are twice as many numbers.
            hidden = DegreeLinear(self.hidden, self.lmax, self.dtype, name="linear_in")(features)
            values = nn.silu(to_grid(forth, mix(name="grid_0")(hidden)))
            values = nn.silu(mix(name="grid_1")(values))
            coefficients = mix(name="grid_2")(from_grid(back, values))
        coefficients = jnp.concatenate([scalars[..., None, :], coefficients[..., 1:, :]], axis=-2)
        return DegreeLinear(self.features, self.lmax, self.dtype, name="linear_out")(coefficients)
