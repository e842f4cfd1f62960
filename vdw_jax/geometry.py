"""Lattices, fractional and Cartesian coordinates, and what periodicity makes of them.

Cells are [..., 3, 3] with rows a, b, c in Angstrom, positions [..., N, 3] Cartesian in Angstrom.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.types import Periodicity


def cell_from_parameters(lengths: jax.Array, angles: jax.Array) -> jax.Array:
    """Cell of a lattice with a along x and b in the xy plane.

    Args:
      lengths: [..., 3], |a|, |b|, |c| in Angstrom.
      angles: [..., 3], alpha (b, c), beta (a, c), gamma (a, b) in degrees.
    Returns:
      [..., 3, 3], rows a, b, c, in Angstrom. Angles that close no cell give the flattest one that does.
    """
    a, b, c = jnp.moveaxis(lengths, -1, 0)
    cos_alpha, cos_beta, cos_gamma = jnp.moveaxis(jnp.cos(jnp.deg2rad(angles)), -1, 0)
    sin_gamma = jnp.sin(jnp.deg2rad(angles[..., 2]))
    c_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    c_z = jnp.sqrt(jnp.maximum(1.0 - cos_beta**2 - c_y**2, 1e-4))
    zero = jnp.zeros_like(a)
    rows = [
        jnp.stack([a, zero, zero], -1),
        jnp.stack([b * cos_gamma, b * sin_gamma, zero], -1),
        jnp.stack([c * cos_beta, c * c_y, c * c_z], -1),
    ]
    return jnp.stack(rows, -2)


def parameters_from_cell(cell: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lengths in Angstrom and angles (alpha, beta, gamma) in degrees of cells; each [..., 3]."""
    lengths = jnp.linalg.norm(cell, axis=-1)
    unit = cell / lengths[..., None]
    following, last = jnp.roll(unit, -1, axis=-2), jnp.roll(unit, -2, axis=-2)
    cosines = jnp.sum(following * last, axis=-1)
    return lengths, jnp.rad2deg(jnp.arccos(jnp.clip(cosines, -1.0, 1.0)))


def inverse_cell(cell: jax.Array) -> jax.Array:
    """Inverse of [..., 3, 3] cells by cross products, exact to fp32 on every backend."""
    a, b, c = cell[..., 0, :], cell[..., 1, :], cell[..., 2, :]
    columns = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=-1)
    return columns / jnp.sum(a * columns[..., 0], -1)[..., None, None]


def plane_spacings(cell: jax.Array) -> jax.Array:
    """Distance between neighbouring lattice planes along each axis; [..., 3], Angstrom."""
    return 1.0 / jnp.linalg.norm(inverse_cell(cell), axis=-2)


def to_fractional(vectors: jax.Array, cell: jax.Array) -> jax.Array:
    """Fractional coordinates of [..., N, 3] Cartesian vectors."""
    return jnp.einsum("...nx,...xl->...nl", vectors, inverse_cell(cell), precision="highest")


def to_cartesian(fractional: jax.Array, cell: jax.Array) -> jax.Array:
    """Cartesian vectors, in Angstrom, of [..., N, 3] fractional ones."""
    return jnp.einsum("...nl,...lx->...nx", fractional, cell, precision="highest")


def wrap(vectors: jax.Array, cell: jax.Array, periodicity: Periodicity, centre: float = 0.5) -> jax.Array:
    """Moves [..., N, 3] vectors by periods into the cell around fractional `centre`.

    `centre` 0.5 gives fractional coordinates in [0, 1); 0 gives the nearest image of a difference in
    fractional terms. Directions that are no periods stay as they are.
    """
    fractional = to_fractional(vectors, cell)
    periods = jnp.floor(fractional - centre + 0.5) * jnp.asarray(periodicity, vectors.dtype)
    return vectors - to_cartesian(periods, cell)


def image_offsets(periodicity: Periodicity, image_range: tuple[int, int, int]) -> np.ndarray:
    """Integer lattice translations within `image_range` of the origin along the periods; [M, 3]."""
    spans = [range(-r, r + 1) if p else (0,) for p, r in zip(periodicity, image_range, strict=True)]
    return np.array(list(itertools.product(*spans)), dtype=np.int32)


def images_needed(cell: jax.Array, periodicity: Periodicity, cutoff_angstrom: float) -> jax.Array:
    """Images needed along each axis to see every neighbour within the cutoff; [..., 3] int32.

    Holds for differences already wrapped to fractional [-0.5, 0.5].
    """
    needed = jnp.floor(cutoff_angstrom / plane_spacings(cell) + 0.5).astype(jnp.int32)
    return needed * jnp.asarray(periodicity, jnp.int32)
