"""Functions on the sphere: from coefficients to points and back, exactly for what fits the bandwidth."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.equivariant.irreps import EdgeOrder, spherical_harmonics


@dataclasses.dataclass(frozen=True)
class SphereGrid:
    """Gauss-Legendre points along the polar axis times equally spaced points around it.

    `num_polar` rings integrate degrees up to 2 num_polar - 1, `num_around` points a ring orders below
    num_around: so lmax + 1 rings of 2 mmax + 1 points transform there and back exactly, and
    ((p + 1) lmax + 1) / 2 rings of (p + 1) lmax + 1 points keep a polynomial of order p exactly equivariant. On edges,
    whose functions only turn about the polar axis, (p + 1) mmax + 1 points around do, whatever the rings. A
    nonlinearity that is no polynomial aliases, the less the finer the grid (benchmarks/NOTES.md, "Grids").
    """

    num_polar: int
    num_around: int

    @functools.cached_property
    def _points_and_weights(self) -> tuple[np.ndarray, np.ndarray]:
        height, weight = np.polynomial.legendre.leggauss(self.num_polar)
        angle = 2 * np.pi * (np.arange(self.num_around) + 0.5) / self.num_around
        radius = np.sqrt(1 - height**2)[:, None]
        x, z = radius * np.sin(angle), radius * np.cos(angle)
        points = np.stack([x, np.broadcast_to(height[:, None], x.shape), z], axis=-1).reshape(-1, 3)
        weights = np.repeat(weight / (2 * self.num_around), self.num_around)
        return points, weights

    def matrices(self, lmax: int, order: EdgeOrder | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(to_grid [P, n], from_grid [n, P]) for l-major coefficients, or m-major ones of `order`."""
        points, weights = self._points_and_weights
        harmonics = spherical_harmonics(points, lmax)
        if order is not None:
            harmonics = harmonics[:, order.l_major_index]
        return harmonics, (harmonics * weights[:, None]).T


ALIGNED = 8
"""Points are padded with zeros to a multiple of this: else the product that sums over them copies them all for it."""


def to_grid(matrix: np.ndarray, features: jax.Array) -> jax.Array:
    """Values [P, ..., C] at the grid's points, padded, of coefficients [..., n, C]; as the product gives them."""
    padded = np.pad(matrix, [(0, -len(matrix) % ALIGNED), (0, 0)])
    return jnp.tensordot(
        jnp.asarray(padded, features.dtype), features, axes=(1, -2), precision=precision(features.dtype)
    )


def from_grid(matrix: np.ndarray, values: jax.Array) -> jax.Array:
    """Coefficients [..., n, C] of values [P, ..., C] at the grid's points, padded."""
    padded = np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % ALIGNED)])
    product = jnp.tensordot(jnp.asarray(padded, values.dtype), values, axes=1, precision=precision(values.dtype))
    return jnp.moveaxis(product, 0, -2)


def wide(dtype) -> jnp.dtype:
    """Dtype of what is never computed in bfloat16: float32, or float64 where that was asked for."""
    return jnp.promote_types(dtype, jnp.float32)


def precision(dtype) -> jax.lax.Precision:
    """Matrix products: exact float32 where float32 was asked for, the native unit for bfloat16."""
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else jax.lax.Precision.DEFAULT
