"""Where the atoms of each candidate sit: the sampler, one scan over its schedule.

As in `propose`, every candidate has its own key.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from vdw_jax import geometry
from vdw_jax.design.propose import Proposal
from vdw_jax.diffusion import noise
from vdw_jax.diffusion.samplers import Schedule, sample
from vdw_jax.model.cdvae import CDVAE, DenoiserOutput
from vdw_jax.training.devices import on_each_device
from vdw_jax.training.losses import LossConfig, species_rate
from vdw_jax.types import SLAB, CrystalBatch


@struct.dataclass
class Candidates:
    """Generated crystals and what the property head says of them, read from the finished structure."""

    crystals: CrystalBatch
    predicted: jax.Array  # [B, S], in the unit of each label and float64 on the host; standardised on the device


@functools.partial(jax.jit, static_argnames=("model", "weights", "images", "mesh"))
def place(
    params,
    proposal: Proposal,
    ids: jax.Array,
    key: jax.Array,
    schedule: Schedule,
    *,
    model: CDVAE,
    weights: LossConfig,
    images: tuple[int, int, int],
    mesh: Mesh,
) -> Candidates:
    """Runs the sampler: one scan over the schedule, mapped over the candidates.

    The species that each atom takes are settled with its position: at every call the current guess is shuffled as
    much as the noise level has it, and the denoiser's answer is turned into a new guess with the same counts.
    That is so whatever the schedule: in Heun's method the second call of a step starts from the guess of the first.

    Args:
      weights: the noise that the denoiser was trained on.
      images: images to search along a, b, c.
      mesh: devices, each of which runs its part of the candidates.
    """
    model = model.clone(config=model.config.with_images(images))
    placed = on_each_device(functools.partial(_place, model, weights), mesh, num_whole=3)
    crystals, predicted = placed(params, key, schedule, proposal, ids)
    return Candidates(crystals, predicted[:, : len(model.config.scalars)])


def _place(
    model: CDVAE, weights: LossConfig, params, key, schedule: Schedule, proposal: Proposal, ids
) -> tuple[CrystalBatch, jax.Array]:
    """Crystals, and what the property head says of them; a column of zeros where the model knows no property."""
    variables = {"params": params}
    network = _network(model)

    def one(fused, slots, cell, candidate):
        start_key, species_key, run_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, candidate), 1), 3)
        fused, slots, cell = fused[None], slots[None], cell[None]

        def denoise(positions, species, sigma, key):
            shuffle, tie = jax.random.split(key)
            rate = species_rate(sigma, weights)
            noisy = noise.permute_species(shuffle, species, rate[None])
            crystal = CrystalBatch(noisy, positions, cell)
            output = network(variables, (fused, crystal, sigma[None], rate[None]))
            logits = output.species + rate * jax.random.gumbel(tie, output.species.shape)
            return output.displacement, noise.assign_species(logits, slots)

        positions = start_positions(start_key, slots, cell, weights.sigma_max, model)
        species = noise.permute_species(species_key, slots, jnp.ones(1))
        positions, species = sample(denoise, positions, species, run_key, schedule)
        return finish(positions, species, cell, model)

    crystals: CrystalBatch = jax.vmap(one)(proposal.fused, proposal.slots, proposal.cell, ids)
    crystals = jax.tree.map(lambda x: x[:, 0], crystals)
    mean: Any = model.apply(variables, crystals, method="encode")
    predicted: Any = model.apply(variables, mean[0], method="properties")
    if not model.config.scalars:
        # An array of no size, split over several devices, ends JAX 0.11 on GPUs by a segmentation fault.
        return crystals, jnp.zeros((len(ids), 1))
    return crystals, predicted  # standardised; units come on the host, in double precision


def _network(model: CDVAE) -> Callable[..., DenoiserOutput]:
    """The denoiser for a batch of one; mapped over candidates, it takes them as one batch, as its kernels want them."""

    def denoise(variables, inputs) -> Any:
        return model.apply(variables, *inputs, method="denoise")

    network = jax.custom_batching.custom_vmap(denoise)

    @network.def_vmap
    def mapped(size: int, is_mapped, variables, inputs):
        def joined(x: jax.Array, is_mapped: bool) -> jax.Array:
            return x[:, 0] if is_mapped else jnp.broadcast_to(x, (size, *x.shape[1:]))

        output = denoise(variables, jax.tree.map(joined, inputs, is_mapped[1]))
        return jax.tree.map(lambda x: x[:, None], output), jax.tree.map(lambda _: True, output)

    return network


def start_positions(key: jax.Array, slots: jax.Array, cell: jax.Array, sigma_max: float, model: CDVAE) -> jax.Array:
    """Uniform along periods, Gaussian of the noised data's width along a slab's normal; [B, N, 3], Angstrom."""
    config, mask = model.config, slots > 0
    flat_key, normal_key = jax.random.split(key)
    positions = geometry.to_cartesian(jax.random.uniform(flat_key, (*slots.shape, 3)), cell)
    if config.periodicity == SLAB:
        width = math.hypot(sigma_max, config.sigma_data_normal)
        positions = positions.at[..., 2].set(width * jax.random.normal(normal_key, slots.shape))
    return noise.centre(positions, mask)


def finish(positions: jax.Array, species: jax.Array, cell: jax.Array, model: CDVAE) -> CrystalBatch:
    """Into the cell along periods, a slab's mean height at 0, padding at 0."""
    mask = (species > 0)[..., None]
    wrapped = geometry.wrap(positions, cell, model.config.periodicity)
    if model.config.periodicity == SLAB:
        wrapped = wrapped.at[..., 2].set(noise.centre(positions, species > 0)[..., 2])
    return CrystalBatch(species, jnp.where(mask, wrapped, 0.0), cell)
