"""From wishes to crystals, on the device: latents, screening, cell and content, then a sampler.

`propose` settles what is in the cell, `place` where it sits. Every candidate has its own key, folded in from its
number, so candidate 17 of a seed is the same whatever the number of candidates, the chunk and the number of devices.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from vdw_jax import geometry
from vdw_jax.design.request import Request
from vdw_jax.design.trained import Trained
from vdw_jax.diffusion import noise
from vdw_jax.diffusion.samplers import Schedule, sample
from vdw_jax.graphs.neighbours import widened_image_range
from vdw_jax.model.cdvae import CDVAE, DenoiserOutput, cell_from_targets
from vdw_jax.model.config import in_units, standardise
from vdw_jax.model.cwgan import Generator
from vdw_jax.model.fusion import condition_vector
from vdw_jax.model.generators import LatentGenerator
from vdw_jax.model.latent_diffusion import LatentDiffusion
from vdw_jax.training.devices import data_mesh, on_each_device, split_over
from vdw_jax.training.losses import LossConfig, species_rate
from vdw_jax.types import NUM_ELEMENTS, SLAB, Conditions, CrystalBatch

POOL = {Generator: 100, LatentDiffusion: 32}
"""Latents drawn for each that is kept, where something is asked for (paper: 100 to 1 from the WGAN)."""

FREE_POOL = 10
"""The same where nothing is asked for, of models with a stack head: the first is kept that is in no doubt."""

MOST_DOUBT = 0.05
"""Atoms whose species are in doubt, of a latent as good as any: choosing below it would choose what is easy."""


@struct.dataclass
class Proposal:
    """Everything but the positions."""

    latent: jax.Array  # [B, latent_dim]
    fused: jax.Array  # [B, latent_dim]
    slots: jax.Array  # [B, N] int32, atomic numbers to place, 0 on padding
    cell: jax.Array  # [B, 3, 3] Angstrom


@struct.dataclass
class Candidates:
    """Generated crystals and what the property head says of them, read from the finished structure."""

    crystals: CrystalBatch
    predicted: jax.Array  # [B, S], in the unit of each label and float64 on the host; standardised on the device


def default_chunk() -> int:
    """Candidates that run at once on one device."""
    return 512 if jax.default_backend() != "cpu" else 16


def generate(
    trained: Trained,
    request: Request,
    num_samples: int,
    seed: int,
    schedule: Schedule | None = None,
    *,
    chunk: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Candidates:
    """`num_samples` candidates for one request, as arrays of the host.

    Args:
      schedule: of the sampler; that of the training config by default.
      chunk: candidates a device and call, `default_chunk()` by default; fewer if fewer are wanted.
      on_progress: called with the number of finished candidates.
    """
    model, key = trained.model, jax.random.key(seed)
    screened = bool(request.scalar_mask.any() or request.composition.any() or request.system)
    low, high = (standardise(ends, model.config.scalars) for ends in (request.scalar_low, request.scalar_high))
    asked = _as_conditions(request, low), jnp.asarray(high - low), jnp.asarray(request.slots)

    def propose_chunk(ids):
        return propose(
            trained.weights, *asked, ids, key, model=model, generator=trained.generator,
            atom_counts=trained.atom_counts, elements=trained.elements, system=request.system,
            pool=POOL[type(trained.generator)] if screened else FREE_POOL if model.config.has_stack else 1,
        )  # fmt: skip

    return _in_chunks(trained, propose_chunk, num_samples, key, schedule, chunk, on_progress)


def reconstruct(
    trained: Trained,
    crystals: CrystalBatch,
    seed: int,
    schedule: Schedule | None = None,
    *,
    chunk: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Candidates:
    """Each crystal encoded and decoded again from its latent mean alone: no condition, nothing else is kept.

    Args: as for `generate`.
    """

    def propose_chunk(ids):
        batch = jax.tree.map(lambda x: jnp.asarray(x)[jnp.minimum(ids, len(x) - 1)], crystals)
        return propose_again(
            trained.weights, batch, model=trained.model, atom_counts=trained.atom_counts, elements=trained.elements,
            mesh=data_mesh(),
        )  # fmt: skip

    key, count = jax.random.key(seed), len(crystals.cell)
    return _in_chunks(trained, propose_chunk, count, key, schedule, chunk, on_progress)


def _in_chunks(trained, propose_chunk, count, key, schedule, chunk, on_progress) -> Candidates:
    model, schedule = trained.model, schedule or trained.schedule()
    mesh = data_mesh()
    each = min(chunk or default_chunk(), math.ceil(count / mesh.size))
    size = each * mesh.size
    id_chunks = [split_over(np.arange(start, start + size), mesh) for start in range(0, count, size)]
    proposals = [propose_chunk(ids) for ids in id_chunks]
    cutoff = max(model.config.encoder.cutoff_angstrom, model.config.denoiser.cutoff_angstrom)
    cells = np.concatenate([np.asarray(proposal.cell) for proposal in proposals])
    images = widened_image_range(model.config.image_range, cells, model.config.periodicity, cutoff)
    done = []
    for index, (ids, proposal) in enumerate(zip(id_chunks, proposals, strict=True)):
        result = place(
            trained.weights["model"], proposal, ids, key, schedule, model=model, weights=trained.noise, images=images,
            mesh=mesh,
        )  # fmt: skip
        done.append(jax.device_get(result))
        if on_progress is not None:
            on_progress(min((index + 1) * size, count))
    found: Candidates = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *done)
    if not model.config.scalars:
        return found
    predicted: Any = in_units(np.asarray(found.predicted), model.config.scalars)
    return dataclasses.replace(found, predicted=predicted)


def _as_conditions(request: Request, low: np.ndarray) -> Conditions:
    """A batch of one, with the lower ends of ranges, [S] standardised."""
    return Conditions(
        scalars=jnp.asarray(low)[None],
        scalar_mask=jnp.asarray(request.scalar_mask)[None],
        composition=jnp.asarray(request.composition)[None],
        composition_mask=jnp.asarray(request.composition.any())[None],
    )


@functools.partial(jax.jit, static_argnames=("model", "generator", "atom_counts", "elements", "system", "pool"))
def propose(
    weights: dict[str, Any],
    conditions: Conditions,
    spread: jax.Array,
    slots: jax.Array,
    ids: jax.Array,
    key: jax.Array,
    *,
    model: CDVAE,
    generator: LatentGenerator,
    atom_counts: tuple[int, ...],
    elements: tuple[int, ...],
    system: tuple[int, ...],
    pool: int,
) -> Proposal:
    """Latents from the generator, the best of `pool` for each candidate, and what they say of cell and content.

    The best is the one whose latent alone, before it is fused with the conditions, comes closest to what is asked: the
    property head reads it directly, number of atoms and composition from a fusion with nothing. A stack
    head has a say in the composition too, and species in doubt count against their latent.

    Args:
      conditions: a batch of one, the same for all candidates but for their aims.
      spread: [S] standardised, of the aims above the scalars of the conditions, each candidate's drawn evenly.
      slots: [N] atomic numbers to place, all 0 if the model is to choose them.
      ids: [B] numbers of the candidates.
      system: the only elements that may be in the cell, () for all of `elements`.
    """
    params = {"params": weights["model"]}
    config = model.config

    def one(candidate: jax.Array) -> Proposal:
        own_key = jax.random.fold_in(key, candidate)
        draws = jax.random.normal(jax.random.fold_in(own_key, 0), (pool, config.latent_dim))
        aims = conditions.scalars + spread * jax.random.uniform(jax.random.fold_in(own_key, 2), spread.shape)
        wish = dataclasses.replace(conditions, scalars=aims)
        vector = jnp.broadcast_to(condition_vector(wish, config), (pool, _condition_size(config)))
        made: Any = generator.apply(weights["generator"], draws, vector)
        latents = made * weights["latent"]["std"] + weights["latent"]["mean"]
        best = jnp.argmin(_mismatch(model, params, latents, wish, slots, system))
        return _decode(model, params, latents[best][None], wish, slots, atom_counts, system or elements)

    return jax.tree.map(lambda x: x[:, 0], jax.vmap(one)(ids))


@functools.partial(jax.jit, static_argnames=("model", "atom_counts", "elements", "mesh"))
def propose_again(
    weights: dict[str, Any],
    crystals: CrystalBatch,
    *,
    model: CDVAE,
    atom_counts: tuple[int, ...],
    elements: tuple[int, ...],
    mesh: Mesh,
) -> Proposal:
    """Cell and content of crystals from their latent means."""
    params = {"params": weights["model"]}
    mean, _ = on_each_device(functools.partial(model.apply, method="encode"), mesh)(params, crystals)
    slots = jnp.zeros(model.config.max_atoms, jnp.int32)
    conditions = _no_conditions(len(model.config.scalars))

    def one(latent):
        return _decode(model, params, latent[None], conditions, slots, atom_counts, elements)

    return jax.tree.map(lambda x: x[:, 0], jax.vmap(one)(mean))


def _condition_size(config) -> int:
    return len(config.scalars) * (config.num_basis + 1) + NUM_ELEMENTS + 1


def _no_conditions(num_scalars: int, size: int = 1) -> Conditions:
    return Conditions(
        scalars=jnp.zeros((size, num_scalars)),
        scalar_mask=jnp.zeros((size, num_scalars), bool),
        composition=jnp.zeros((size, NUM_ELEMENTS)),
        composition_mask=jnp.zeros(size, bool),
    )


def _mismatch(
    model: CDVAE, params, latents: jax.Array, conditions: Conditions, slots: jax.Array, system: tuple[int, ...]
) -> jax.Array:
    """How far latents are from what is asked, by themselves; [pool], in spreads, nats and atoms in doubt."""
    config = model.config
    error = jnp.zeros(len(latents))
    if config.scalars:
        predicted: Any = model.apply(params, latents, method="properties")
        missed = jnp.abs(predicted - conditions.scalars)
        error = error + jnp.sum(jnp.where(conditions.scalar_mask, missed, 0.0), -1)
    fused = model.apply(params, latents, _no_conditions(len(config.scalars), len(latents)), method="fuse")
    heads: Any = model.apply(params, fused, method="heads")
    composition = jax.nn.softmax(heads.composition)
    shares = jnp.abs(composition - conditions.composition).sum(-1)
    if config.has_stack:
        stack: Any = model.apply(params, fused, method="stack")
        num_atoms = jnp.argmax(heads.num_atoms, -1)[:, None]
        is_atom = jnp.arange(config.max_atoms) < num_atoms
        species = jax.nn.softmax(stack.species)
        composition = jnp.sum(species * is_atom[..., None], 1) / jnp.maximum(num_atoms, 1)
        shares = shares + num_atoms[:, 0] * jnp.abs(composition - conditions.composition).sum(-1)
        doubt = jnp.sum((1 - species.max(-1)) * is_atom, -1)
        error = error + jnp.where(doubt > MOST_DOUBT, doubt, 0.0)
    if system:
        own = composition[:, jnp.array(system) - 1]
        error = error + (1 - own.sum(-1)) + jnp.maximum(1 / config.max_atoms - own, 0).sum(-1)
    size = -jax.nn.log_softmax(heads.num_atoms)[:, jnp.sum(slots > 0)]
    size = jnp.where(jnp.any(slots > 0), size, 0.0)
    return error + jnp.where(conditions.composition_mask, shares + size, 0.0)


def _decode(model: CDVAE, params, latent, conditions, slots, atom_counts, elements) -> Proposal:
    """A batch of one: content and cell from the fused latent; each atom from its place in the stack, where known."""
    config = model.config
    fused: Any = model.apply(params, latent, conditions, method="fuse")
    heads: Any = model.apply(params, fused, method="heads")
    seen = jnp.zeros(config.max_atoms + 1, bool).at[jnp.array(atom_counts)].set(True)
    size = jnp.argmax(jnp.where(seen, heads.num_atoms[0], -jnp.inf))
    known = jnp.zeros(NUM_ELEMENTS, bool).at[jnp.array(elements) - 1].set(True)
    if config.has_stack:
        stack: Any = model.apply(params, fused, method="stack")
        species = jnp.argmax(jnp.where(known, stack.species[0], -jnp.inf), -1) + 1
        content = jnp.where(jnp.arange(config.max_atoms) < size, species, 0).astype(jnp.int32)
    else:
        shares = jax.nn.softmax(jnp.where(known, heads.composition[0], -jnp.inf))
        content = slots_from_shares(shares, size, config.max_atoms)
    slots = jnp.where(jnp.any(slots > 0), slots, content)
    cell = cell_from_targets(heads.lattice, jnp.sum(slots > 0)[None], config)
    return Proposal(latent, fused, slots[None], cell)


def slots_from_shares(shares: jax.Array, size: jax.Array, max_atoms: int) -> jax.Array:
    """Whole atoms by largest remainder: [E] shares and a number of atoms -> [max_atoms] atomic numbers, 0 behind."""
    exact = shares * size
    counts = jnp.floor(exact).astype(jnp.int32)
    rank = jnp.argsort(jnp.argsort(-(exact - counts)))
    counts = counts + (rank < size - counts.sum())
    numbers = jnp.repeat(jnp.arange(1, NUM_ELEMENTS + 1), counts, total_repeat_length=max_atoms)
    return jnp.where(jnp.arange(max_atoms) < size, numbers, 0).astype(jnp.int32)


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
