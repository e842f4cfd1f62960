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
from vdw_jax.types import SLAB, CrystalBatch

DISTANCE_WEIGHT = 10.0
"""Of the squared error of distances, in units of the cell's side, beside nats of the species and Angstrom^2."""


@struct.dataclass
class Stack:
    """Atoms in the order of their heights, or what is said of atoms by their place in it."""

    species: jax.Array  # [B, N, E] logits; of a crystal [B, N] int32, 0 on padding
    height: jax.Array  # [B, N] above the mean, Angstrom
    distance: jax.Array  # [B, N, N] in the plane, to the nearest image, over the square root of the cell's area


def cell_side(cell: jax.Array) -> jax.Array:
    """Square root of the area of a and b; [B], Angstrom."""
    return jnp.sqrt(jnp.linalg.norm(jnp.cross(cell[:, 0], cell[:, 1]), axis=-1))


def stack_of(batch: CrystalBatch, upside_down: bool = False) -> Stack:
    """Of a batch, from bottom to top or from top to bottom: the same however the slab is turned and shifted."""
    order = _order(batch, upside_down)
    sign = -1.0 if upside_down else 1.0
    numbers = jnp.take_along_axis(batch.atomic_numbers, order, axis=1)
    positions = jnp.take_along_axis(noise.centre(batch.positions, batch.atom_mask), order[..., None], axis=1)
    near = nearest_differences(CrystalBatch(numbers, positions, batch.cell), SLAB)
    offsets = jnp.asarray(geometry.image_offsets(SLAB, (1, 1, 0)), jnp.float32)
    images = near[:, :, :, None] + geometry.to_cartesian(offsets, batch.cell)[:, None, None]
    squared = jnp.sum(images[..., :2] ** 2, -1).min(-1)
    return Stack(numbers, sign * positions[..., 2], jnp.sqrt(squared) / cell_side(batch.cell)[:, None, None])


def stack_loss(predicted: Stack, batch: CrystalBatch) -> jax.Array:
    """Nats an atom and weighed squared errors, against the nearer of both directions; mean over the batch."""
    predicted = _with_places(predicted, batch.positions.shape[1])
    return jnp.minimum(*(_misfit(predicted, stack_of(batch, upside_down)) for upside_down in (False, True))).mean()


def as_placed(predicted: Stack, batch: CrystalBatch) -> Stack:
    """What is said of each atom of a batch, by its place in the order of heights as they are.

    Read from the side from which the batch looks more like it, so that it turns over with the batch.
    """

    num_atoms = batch.positions.shape[1]
    predicted = _with_places(predicted, num_atoms)

    def read(upside_down: bool) -> tuple[jax.Array, Stack]:
        misfit = _misfit(predicted, stack_of(batch, upside_down))
        place = jax.nn.one_hot(_order(batch, upside_down), num_atoms, axis=1)  # [B, atom, place]

        def given(values: jax.Array) -> jax.Array:
            return jnp.einsum("bip,bp...->bi...", place, values, precision="highest")

        distance = jnp.einsum("bjp,bip->bij", place, given(predicted.distance), precision="highest")
        height = given(predicted.height) * (-1.0 if upside_down else 1.0)
        return misfit, Stack(given(predicted.species), height, distance)

    (misfit, upward), (other, downward) = read(False), read(True)

    def choose(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.where((misfit <= other).reshape(-1, *[1] * (left.ndim - 1)), left, right)

    return jax.tree.map(choose, upward, downward)


def _order(batch: CrystalBatch, upside_down: bool) -> jax.Array:
    """Atoms by their heights, padding last; [B, N]."""
    height = -batch.positions[..., 2] if upside_down else batch.positions[..., 2]
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
