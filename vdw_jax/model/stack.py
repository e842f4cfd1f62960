"""What a slab is, atom by atom from one side to the other: a target that the latent must be able to answer for.

Left to the denoiser alone the latent never learns how layers are stacked. Knowing it lowers the denoiser's loss only
between 0.55 and 0.95 Angstrom of noise: below, the noisy positions show it, and above, they show nothing
(docs/decisions/0005-registry.md).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vdw_jax import geometry
from vdw_jax.graphs.neighbours import nearest_differences
from vdw_jax.types import SLAB, CrystalBatch

DISTANCE_WEIGHT = 10.0
"""Of the squared error of distances, in units of the cell's side, beside nats of the species."""


@struct.dataclass
class Stack:
    """Atoms in the order of their heights."""

    species: jax.Array  # [B, N, E] logits; of a target [B, N] int32, 0 on padding
    distance: jax.Array  # [B, N, N] in the plane, to the nearest image, over the square root of the cell's area


def stack_of(batch: CrystalBatch, upside_down: bool = False) -> Stack:
    """Of a batch, from bottom to top or from top to bottom: the same however the slab is turned and shifted."""
    mask = batch.atom_mask
    height = -batch.positions[..., 2] if upside_down else batch.positions[..., 2]
    order = jnp.argsort(jnp.where(mask, height, jnp.inf), axis=1)
    numbers = jnp.take_along_axis(batch.atomic_numbers, order, axis=1)
    positions = jnp.take_along_axis(batch.positions, order[..., None], axis=1)
    near = nearest_differences(CrystalBatch(numbers, positions, batch.cell), SLAB)
    offsets = jnp.asarray(geometry.image_offsets(SLAB, (1, 1, 0)), jnp.float32)
    images = near[:, :, :, None] + geometry.to_cartesian(offsets, batch.cell)[:, None, None]
    squared = jnp.sum(images[..., :2] ** 2, -1).min(-1)
    area = jnp.linalg.norm(jnp.cross(batch.cell[:, 0], batch.cell[:, 1]), axis=-1)
    return Stack(numbers, jnp.sqrt(squared / area[:, None, None]))


def stack_loss(predicted: Stack, batch: CrystalBatch) -> jax.Array:
    """Nats an atom and weighed squared error of distances, against the nearer of both directions; mean over batch."""

    def against(target: Stack) -> jax.Array:
        mask = target.species > 0
        count = jnp.maximum(mask.sum(1), 1)
        nats = optax.softmax_cross_entropy_with_integer_labels(predicted.species, jnp.maximum(target.species - 1, 0))
        pairs = mask[:, :, None] & mask[:, None, :]
        error = jnp.sum(jnp.where(pairs, (predicted.distance - target.distance) ** 2, 0.0), (1, 2)) / count**2
        return jnp.sum(nats * mask, 1) / count + DISTANCE_WEIGHT * error

    return jnp.minimum(against(stack_of(batch)), against(stack_of(batch, upside_down=True))).mean()
