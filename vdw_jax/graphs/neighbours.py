"""Dense nearest-neighbour lists, built on the device.

Every atom gets `max_neighbours` slots filled with its nearest neighbours within the cutoff, images
included. Slots are dense so that sums over neighbours are plain sums: no scatter, one shape.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax import geometry
from vdw_jax.safe_ops import safe_norm
from vdw_jax.types import CrystalBatch, Neighbours, Periodicity

ImageRange = tuple[int, int, int]


def image_range_for(cells: np.ndarray, periodicity: Periodicity, cutoff_angstrom: float) -> ImageRange:
    """The smallest image range that is enough for every one of [M, 3, 3] cells; runs on the host."""
    spacings = 1.0 / np.linalg.norm(np.linalg.inv(np.asarray(cells, np.float64)), axis=-2)
    # 1e-4: a cell at the border must not need one image more in float32 than in float64.
    needed = np.floor(cutoff_angstrom / spacings.min(axis=0) + 0.5 + 1e-4).astype(int)
    a, b, c = (int(n) if period else 0 for n, period in zip(needed, periodicity, strict=True))
    return a, b, c


def find_neighbours(
    batch: CrystalBatch,
    *,
    periodicity: Periodicity,
    cutoff_angstrom: float,
    max_neighbours: int,
    image_range: ImageRange,
) -> Neighbours:
    """The `max_neighbours` nearest neighbours of each atom within the cutoff.

    Args:
      batch: crystals; positions need not be wrapped.
      image_range: images searched along a, b, c. Static. `complete` says which cells it was enough for.
    Returns:
      `Neighbours`; `reach` is the distance at which a smooth envelope has to vanish for the
      result not to depend on which of several equally far neighbours got the last slot.
    """
    num_slots, num_atoms = max_neighbours, batch.positions.shape[1]
    difference = batch.positions[:, None, :, :] - batch.positions[:, :, None, :]
    flat = difference.reshape(difference.shape[0], num_atoms * num_atoms, 3)
    difference = geometry.wrap(flat, batch.cell, periodicity, centre=0.0).reshape(difference.shape)

    offsets = geometry.image_offsets(periodicity, image_range)
    num_images = len(offsets)
    shifts = geometry.to_cartesian(jnp.asarray(offsets, jnp.float32), batch.cell)
    squared = jnp.square(difference[..., None, 0] + shifts[:, None, None, :, 0])
    for x in (1, 2):
        squared = squared + jnp.square(difference[..., None, x] + shifts[:, None, None, :, x])

    is_self = np.eye(num_atoms, dtype=bool)[:, :, None] & ~offsets.any(-1)
    real = batch.atom_mask[:, :, None] & batch.atom_mask[:, None, :]
    excluded = jnp.asarray(is_self) | ~real[..., None] | (squared >= cutoff_angstrom**2)
    candidates = jnp.where(excluded, jnp.inf, squared).reshape(*squared.shape[:2], num_atoms * num_images)
    missing = num_slots + 1 - candidates.shape[-1]
    if missing > 0:
        candidates = jnp.pad(candidates, ((0, 0), (0, 0), (0, missing)), constant_values=jnp.inf)

    nearest, slot = jax.lax.top_k(-jax.lax.stop_gradient(candidates), num_slots + 1)
    mask = jnp.isfinite(nearest[..., :num_slots])
    slot = jnp.where(mask, slot[..., :num_slots], 0)
    index, image = slot // num_images, slot % num_images
    vector = jnp.take_along_axis(difference, index[..., None], axis=2)
    vector = vector + jax.vmap(lambda shift, i: shift[i])(shifts, image)
    vector = jnp.where(mask[..., None], vector, 0.0)

    reach = jnp.sqrt(jnp.minimum(-nearest[..., num_slots], cutoff_angstrom**2))
    needed = geometry.images_needed(batch.cell, periodicity, cutoff_angstrom)
    complete = jnp.all(needed <= jnp.asarray(image_range), axis=-1)
    return Neighbours(index=index, vector=vector, mask=mask, reach=reach, complete=complete)


def edge_length(neighbours: Neighbours) -> jax.Array:
    """Length of each edge, with a gradient of 0 at coincident atoms; [B, N, K], Angstrom."""
    return safe_norm(neighbours.vector)
