"""What is in the cell of each candidate: latents, screening, then cell and content.

Every candidate has its own key, folded in from its number, so candidate 17 of a seed is the same whatever the number
of candidates, the chunk and the number of devices.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from vdw_jax.design.compositions import CompositionTable
from vdw_jax.design.request import Request
from vdw_jax.model.cdvae import CDVAE, cell_from_targets
from vdw_jax.model.config import ScalarCondition, standardise
from vdw_jax.model.cwgan import Generator
from vdw_jax.model.fusion import condition_vector
from vdw_jax.model.generators import LatentGenerator
from vdw_jax.model.latent_diffusion import LatentDiffusion
from vdw_jax.training.devices import on_each_device
from vdw_jax.types import NUM_ELEMENTS, Conditions, CrystalBatch

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


def as_conditions(request: Request, scalars: Sequence[ScalarCondition]) -> tuple[Conditions, jax.Array]:
    """A batch of one with the lower ends of ranges, and how far the upper ends are above; [S], standardised."""
    low, high = (standardise(ends, scalars) for ends in (request.scalar_low, request.scalar_high))
    conditions = Conditions(
        scalars=jnp.asarray(low)[None],
        scalar_mask=jnp.asarray(request.scalar_mask)[None],
        composition=jnp.asarray(request.composition)[None],
        composition_mask=jnp.asarray(request.composition.any())[None],
    )
    return conditions, jnp.asarray(high - low)


@functools.partial(jax.jit, static_argnames=("model", "generator", "atom_counts", "elements", "pool"))
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
        best = jnp.argmin(_mismatch(model, params, latents, wish, slots))
        return _decode(model, params, latents[best][None], wish, slots, atom_counts, elements)

    return jax.tree.map(lambda x: x[:, 0], jax.vmap(one)(ids))


@functools.partial(jax.jit, static_argnames=("model", "generator", "atom_counts", "elements", "pool"))
def propose_in_system(
    weights: dict[str, Any],
    conditions: Conditions,
    spread: jax.Array,
    table: CompositionTable,
    ids: jax.Array,
    key: jax.Array,
    *,
    model: CDVAE,
    generator: LatentGenerator,
    atom_counts: tuple[int, ...],
    elements: tuple[int, ...],
    pool: int,
) -> Proposal:
    """As `propose`, for a request that names elements and leaves their numbers open.

    Every latent is drawn for a composition of its own, and screened as if a person had asked for that formula: cell
    and content of the best are those of one composition. A latent decoded first and restricted to the elements
    afterwards has the cell of atoms that are not in it any more.

    Args:
      conditions: a batch of one; a composition in it, asked for without its counts, draws to the compositions near it.
      table: the compositions that the cell may have.
      others: as of `propose`.
    """
    params = {"params": weights["model"]}
    config = model.config

    def one(candidate: jax.Array) -> Proposal:
        own_key = jax.random.fold_in(key, candidate)
        draws = jax.random.normal(jax.random.fold_in(own_key, 0), (pool, config.latent_dim))
        aims = conditions.scalars + spread * jax.random.uniform(jax.random.fold_in(own_key, 2), spread.shape)
        drawn = jax.random.categorical(jax.random.fold_in(own_key, 3), table.log_weights, shape=(pool,))
        slots = table.slots[drawn]
        wishes = Conditions(
            scalars=jnp.broadcast_to(aims, (pool, aims.shape[-1])),
            scalar_mask=jnp.broadcast_to(conditions.scalar_mask, (pool, aims.shape[-1])),
            composition=table.composition[drawn],
            composition_mask=jnp.ones(pool, bool),
        )
        made: Any = generator.apply(weights["generator"], draws, condition_vector(wishes, config))
        latents = made * weights["latent"]["std"] + weights["latent"]["mean"]

        def mismatch(latent: jax.Array, wish: Conditions, slots: jax.Array) -> jax.Array:
            alone = jax.tree.map(lambda x: x[None], wish)
            return _mismatch(model, params, latent[None], alone, slots)[0]

        best = jnp.argmin(jax.vmap(mismatch)(latents, wishes, slots))
        wish = jax.tree.map(lambda x: x[best][None], wishes)
        return _decode(model, params, latents[best][None], wish, slots[best], atom_counts, elements)

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
    conditions = no_conditions(len(model.config.scalars))

    def one(latent):
        return _decode(model, params, latent[None], conditions, slots, atom_counts, elements)

    return jax.tree.map(lambda x: x[:, 0], jax.vmap(one)(mean))


def _condition_size(config) -> int:
    return len(config.scalars) * (config.num_basis + 1) + NUM_ELEMENTS + 1


def no_conditions(num_scalars: int, size: int = 1) -> Conditions:
    return Conditions(
        scalars=jnp.zeros((size, num_scalars)),
        scalar_mask=jnp.zeros((size, num_scalars), bool),
        composition=jnp.zeros((size, NUM_ELEMENTS)),
        composition_mask=jnp.zeros(size, bool),
    )


def _mismatch(model: CDVAE, params, latents: jax.Array, conditions: Conditions, slots: jax.Array) -> jax.Array:
    """How far latents are from what is asked, by themselves; [pool], in spreads, nats and atoms in doubt."""
    config = model.config
    error = jnp.zeros(len(latents))
    if config.scalars:
        predicted: Any = model.apply(params, latents, method="properties")
        missed = jnp.abs(predicted - conditions.scalars)
        error = error + jnp.sum(jnp.where(conditions.scalar_mask, missed, 0.0), -1)
    fused = model.apply(params, latents, no_conditions(len(config.scalars), len(latents)), method="fuse")
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
