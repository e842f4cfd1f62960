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
from vdw_jax.diffusion import noise
from vdw_jax.graphs.neighbours import nearest_differences
from vdw_jax.types import NUM_ELEMENTS, SLAB, CrystalBatch

DISTANCE_WEIGHT = 10.0
"""Of the squared error of distances, in units of the cell's side, beside nats of the species and Angstrom^2."""

HEIGHT_SCALE = 4.0
"""Angstrom; heights come out of a head and go into a latent in units of this."""


@struct.dataclass
class Stack:
    """Atoms in the order of their heights, or what is said of atoms by their place in it."""

    species: jax.Array  # [B, N, E] logits; of a crystal [B, N] int32, 0 on padding
    height: jax.Array  # [B, N] above the mean, Angstrom
    distance: jax.Array  # [B, N, N] in the plane, to the nearest image, over the square root of the cell's area


def cell_side(cell: jax.Array) -> jax.Array:
    """Square root of the area of a and b; [B], Angstrom."""
    return jnp.sqrt(jnp.linalg.norm(jnp.cross(cell[:, 0], cell[:, 1]), axis=-1))


def turned_over(batch: CrystalBatch) -> jax.Array:
    """Whether a slab lies with its heavier side down, so that one and the same is read from the same side; [B] bool."""
    return jnp.sum(batch.atomic_numbers * noise.centre(batch.positions, batch.atom_mask)[..., 2], 1) < 0


def stack_of(batch: CrystalBatch, upside_down: jax.Array) -> Stack:
    """Of a batch, from bottom to top, or from top to bottom where `upside_down`, [B]."""
    centred = noise.centre(batch.positions, batch.atom_mask)
    near = nearest_differences(CrystalBatch(batch.atomic_numbers, centred, batch.cell), SLAB)
    offsets = jnp.asarray(geometry.image_offsets(SLAB, (1, 1, 0)), jnp.float32)
    images = near[:, :, :, None] + geometry.to_cartesian(offsets, batch.cell)[:, None, None]
    squared = jnp.sum(images[..., :2] ** 2, -1).min(-1)
    distance = jnp.sqrt(squared) / cell_side(batch.cell)[:, None, None]
    # Ordered last: what is above is the same for both directions, and computed once where both are asked for.
    order = _order(batch, upside_down)
    distance = jnp.take_along_axis(jnp.take_along_axis(distance, order[:, :, None], axis=1), order[:, None], axis=2)
    height = jnp.where(upside_down, -1.0, 1.0)[:, None] * jnp.take_along_axis(centred[..., 2], order, axis=1)
    return Stack(jnp.take_along_axis(batch.atomic_numbers, order, axis=1), height, distance)


def as_vector(batch: CrystalBatch, num_places: int) -> jax.Array:
    """All of a batch's stack, with the heavier side up; [B, num_places (E + 1 + num_places)], of order 1."""
    own = stack_of(batch, turned_over(batch))
    mask = own.species > 0
    pairs = mask[:, :, None] & mask[:, None, :]
    distance = jnp.where(pairs, own.distance, 0.0)
    stack = _with_places(Stack(jax.nn.one_hot(own.species - 1, NUM_ELEMENTS), own.height, distance), num_places)
    parts = (stack.species, stack.height / HEIGHT_SCALE, stack.distance)
    return jnp.concatenate([part.reshape(len(mask), -1) for part in parts], -1)


def stack_loss(predicted: Stack, batch: CrystalBatch) -> jax.Array:
    """Nats an atom and weighed squared errors, with the heavier side up; mean over the batch."""
    predicted = _with_places(predicted, batch.positions.shape[1])
    return _misfit(predicted, stack_of(batch, turned_over(batch))).mean()


def as_placed(predicted: Stack, batch: CrystalBatch) -> Stack:
    """What is said of each atom of a batch, by its place in the order of heights as they are.

    Read from the side from which the batch looks more like it, so that it turns over with the batch.
    """
    num_atoms = batch.positions.shape[1]
    predicted = _with_places(predicted, num_atoms)
    either = jnp.zeros(len(batch.cell), bool), jnp.ones(len(batch.cell), bool)
    upward, downward = (_misfit(predicted, stack_of(batch, upside_down)) for upside_down in either)
    upside_down = downward < upward
    place = jax.nn.one_hot(_order(batch, upside_down), num_atoms, axis=1)  # [B, atom, place]

    def given(values: jax.Array) -> jax.Array:
        return jnp.einsum("bip,bp...->bi...", place, values, precision="highest")

    distance = jnp.einsum("bjp,bip->bij", place, given(predicted.distance), precision="highest")
    height = given(predicted.height) * jnp.where(upside_down, -1.0, 1.0)[:, None]
    return Stack(given(predicted.species), height, distance)


def _order(batch: CrystalBatch, upside_down: jax.Array) -> jax.Array:
    """Atoms by their heights, padding last; [B, N]."""
    height = jnp.where(upside_down[:, None], -batch.positions[..., 2], batch.positions[..., 2])
    return jnp.argsort(jnp.where(batch.atom_mask, height, jnp.inf), axis=1)


def _with_places(stack: Stack, size: int) -> Stack:
    """Cut, or filled up with zeros, to the places of a batch."""
    more = max(size - stack.height.shape[1], 0)

    def resized(values: jax.Array, axes: int) -> jax.Array:
        padded = jnp.pad(values, [(0, more if 0 < axis <= axes else 0) for axis in range(values.ndim)])
        return padded[:, :size, :size] if axes == 2 else padded[:, :size]

    return Stack(resized(stack.species, 1), resized(stack.height, 1), resized(stack.distance, 2))


def _misfit(predicted: Stack, target: Stack) -> jax.Array:
    """[B]."""
    mask = target.species > 0
    count = jnp.maximum(mask.sum(1), 1)
    nats = optax.softmax_cross_entropy_with_integer_labels(predicted.species, jnp.maximum(target.species - 1, 0))
    height = (predicted.height - target.height) ** 2
    pairs = mask[:, :, None] & mask[:, None, :]
    distance = jnp.sum(jnp.where(pairs, (predicted.distance - target.distance) ** 2, 0.0), (1, 2)) / count**2
    return jnp.sum((nats + height) * mask, 1) / count + DISTANCE_WEIGHT * distance
