"""Rotations, mirrors and random features that the tests of this room share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from vdw_jax.equivariant.irreps import EdgeOrder, apply_wigner, wigner_blocks

TOLERANCE = 1e-5


def rotation(seed: int = 0) -> np.ndarray:
    return Rotation.random(random_state=seed).as_matrix().astype(np.float32)


def about_y(angle: float) -> np.ndarray:
    return Rotation.from_euler("y", angle).as_matrix().astype(np.float32)


def mirror(normal: tuple[float, float, float]) -> np.ndarray:
    unit = np.array(normal) / np.linalg.norm(normal)
    return (np.eye(3) - 2 * np.outer(unit, unit)).astype(np.float32)


def improper(seed: int = 0) -> np.ndarray:
    return rotation(seed) @ mirror((0.3, -0.5, 0.8))


def turn(matrix: np.ndarray, features: jax.Array, lmax: int) -> jax.Array:
    """l-major features turned by a rotation or a reflection."""
    return apply_wigner(wigner_blocks(jnp.asarray(matrix), lmax), features)


def turn_edge(matrix: np.ndarray, features: jax.Array, order: EdgeOrder) -> jax.Array:
    """m-major features turned by an operation that keeps the polar axis."""
    full = jnp.zeros((*features.shape[:-2], (order.lmax + 1) ** 2, features.shape[-1]))
    full = full.at[..., order.l_major_index, :].set(features)
    return turn(matrix, full, order.lmax)[..., order.l_major_index, :]


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def randomised(params, seed: int = 9):
    """Parameters with noise on them, so that zero biases and unit scales do not hide mistakes."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def error(left: jax.Array, right: jax.Array) -> float:
    return float(jnp.max(jnp.abs(left - right)))
