"""Dense neighbour lists, built on the device.

Either the nearest neighbours of every atom within a cutoff, images included (`find_neighbours`), or every pair of
atoms of a cell (`find_pairs`). Slots are dense so that sums over neighbours are plain sums: no scatter, one shape.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax import geometry
from vdw_jax.safe_ops import safe_divide, safe_norm
from vdw_jax.types import SLAB, CrystalBatch, Neighbours, Periodicity

ImageRange = tuple[int, int, int]

MAX_IMAGES = 8
"""A generated cell that needs more images than this each way has collapsed; it gets as many as allowed."""

PAIR_IMAGES = 3
"""Images of another atom that may take part: as many as are equally near over a hollow site."""

SELF_IMAGES = 6
"""Images of an atom itself that may take part: as many as are equally near in a hexagonal lattice."""

PAIR_RANGE = 3
"""Images searched for pairs, each way along a period."""


def image_range_for(cells: np.ndarray, periodicity: Periodicity, cutoff_angstrom: float) -> ImageRange:
    """The smallest image range that is enough for every one of [M, 3, 3] cells; runs on the host."""
    spacings = 1.0 / np.linalg.norm(np.linalg.inv(np.asarray(cells, np.float64)), axis=-2)
    # 1e-4: a cell at the border must not need one image more in float32 than in float64.
    needed = np.floor(cutoff_angstrom / spacings.min(axis=0) + 0.5 + 1e-4).astype(int)
    a, b, c = (int(n) if period else 0 for n, period in zip(needed, periodicity, strict=True))
    return a, b, c


def widened_image_range(
    own: ImageRange, cells: np.ndarray, periodicity: Periodicity, cutoff_angstrom: float
) -> ImageRange:
    """A model's image range, made enough for generated cells [M, 3, 3] too, up to `MAX_IMAGES`; runs on the host."""
    needed = image_range_for(cells, periodicity, cutoff_angstrom)
    a, b, c = (max(mine, min(more, MAX_IMAGES)) for mine, more in zip(own, needed, strict=True))
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
      `Neighbours`, nearest first; an envelope that vanishes at ratio 1, where the first neighbour left out is, makes
      the result independent of which of several equally far neighbours got the last slot.
    """
    num_slots, num_atoms = max_neighbours, batch.positions.shape[1]
    difference = nearest_differences(batch, periodicity)

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
    ratio = safe_divide(safe_norm(vector), jnp.broadcast_to(reach[..., None], mask.shape))
    return Neighbours(index=index, vector=vector, mask=mask, ratio=ratio, complete=complete)


def nearest_differences(batch: CrystalBatch, periodicity: Periodicity) -> jax.Array:
    """Vectors from each atom to an image near it of each atom; [B, N, N, 3], Angstrom."""
    difference = batch.positions[:, None, :, :] - batch.positions[:, :, None, :]
    flat = difference.reshape(difference.shape[0], -1, 3)
    return geometry.wrap(flat, batch.cell, periodicity, centre=0.0).reshape(difference.shape)


def find_pairs(batch: CrystalBatch, *, periodicity: Periodicity) -> Neighbours:
    """Every atom with every atom, by the images of each pair that are nearest along the periods.

    Whatever the distance across a slab, each pair of atoms has its one vertical edge (on top) or three slanted ones
    (hollow), so that an atom sees how a layer far away is placed. Which images of a pair take part follows from
    their distance along the periods alone; 3 of another atom, 6 of the atom itself, with ratio 1 at the next.

    Returns:
      `Neighbours` with 3 N + 3 slots: three for each atom of the cell in its order, and three more for the atom itself.
      `complete` is False where the cell is too skewed for the images searched.
    """
    num_atoms = batch.positions.shape[1]
    difference = nearest_differences(batch, periodicity)
    offsets = geometry.image_offsets(periodicity, (PAIR_RANGE,) * 3)
    shifts = geometry.to_cartesian(jnp.asarray(offsets, jnp.float32), batch.cell)
    vector = difference[:, :, :, None] + shifts[:, None, None]
    axes = 2 if periodicity == SLAB else 3

    own = np.eye(num_atoms, dtype=bool)[:, :, None]
    squared = jnp.sum(jax.lax.stop_gradient(vector[..., :axes]) ** 2, -1)
    squared = jnp.where(jnp.asarray(own & ~offsets.any(-1)), jnp.inf, squared)
    nearest, image = jax.lax.top_k(-squared, SELF_IMAGES + 1)
    reach = jnp.sqrt(jnp.where(own, -nearest[..., SELF_IMAGES:], -nearest[..., PAIR_IMAGES : PAIR_IMAGES + 1]))
    image = image[..., :SELF_IMAGES, None]
    vector = jnp.take_along_axis(vector, image, axis=3)
    along = vector[..., :axes]
    ratio = safe_divide(safe_norm(along), jnp.broadcast_to(reach, along.shape[:-1]))

    def slots(values: jax.Array) -> jax.Array:
        """[B, N, N, 6, ...] -> [B, N, 3 N + 3, ...]."""
        pairs = values[:, :, :, :PAIR_IMAGES].reshape(*values.shape[:2], num_atoms * PAIR_IMAGES, *values.shape[4:])
        itself = jnp.moveaxis(jnp.diagonal(values[:, :, :, PAIR_IMAGES:], axis1=1, axis2=2), -1, 1)
        return jnp.concatenate([pairs, itself], axis=2)

    index = jnp.broadcast_to(jnp.arange(num_atoms, dtype=jnp.int32)[:, None], ratio.shape)
    real = batch.atom_mask[:, :, None, None] & batch.atom_mask[:, None, :, None]
    mask = slots(jnp.broadcast_to(real, ratio.shape))
    needed = jnp.max(jnp.where(real[..., 0], reach[..., 0], 0.0), (1, 2))
    enough = (PAIR_RANGE + 0.5) * geometry.plane_spacings(batch.cell) >= needed[:, None]
    return Neighbours(
        index=jnp.where(mask, slots(index), 0),
        vector=jnp.where(mask[..., None], slots(vector), 0.0),
        mask=mask,
        ratio=slots(ratio),
        complete=jnp.all(enough | ~jnp.asarray(periodicity), axis=-1),
    )


def edge_length(neighbours: Neighbours) -> jax.Array:
    """Length of each edge, with a gradient of 0 at coincident atoms; [B, N, K], Angstrom."""
    return safe_norm(neighbours.vector)
