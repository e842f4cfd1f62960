"""Losses of both stages."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from vdw_jax.diffusion import noise
from vdw_jax.model.cdvae import CDVAE, lattice_targets
from vdw_jax.model.stack import stack_loss
from vdw_jax.training.devices import on_each_device
from vdw_jax.types import Conditions, CrystalBatch


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights and noise of the first stage; defaults are the published ones."""

    num_atoms: float = 1.0
    lattice: float = 10.0
    composition: float = 1.0
    coordinates: float = 10.0
    species: float = 1.0
    kl: float = 0.01
    properties: float = 1.0
    stack: float = 1.0  # of models with a stack head
    sigma_max: float = 10.0
    sigma_min: float = 0.01
    species_sigma_max: float = 5.0
    species_sigma_min: float = 0.01
    num_levels: int = 50
    coupled_noise: bool = True  # species noise follows the coordinates' level, and only swaps sites
    free_species_share: float = 0.0  # of the examples with coupled noise: species shuffled at a rate of their own
    window_share: float = 0.0  # of the examples with coupled noise: noise drawn from a window
    window_max: float = 1.3  # Angstrom; registry is decided here
    window_min: float = 0.4
    free_translation: bool = False  # the target is averaged over where the crystal as a whole lies along its periods
    condition_dropout: float = 0.5
    free_share: float = 0.0  # of the examples: without any condition


@struct.dataclass
class Example:
    """A batch with what is known of it."""

    crystals: CrystalBatch
    scalars: jax.Array  # [B, S] standardised (`model.config.standardise`), NaN where absent


def noise_level(sigma: Any, weights: LossConfig) -> Any:
    """0 at the largest noise, 1 at the smallest, linear in the logarithm."""
    return jnp.log(sigma / weights.sigma_max) / math.log(weights.sigma_min / weights.sigma_max)


def species_rate(sigma: jax.Array, weights: LossConfig) -> jax.Array:
    """Share of the atoms whose species are shuffled at coordinate noise `sigma`; 0 for the paper's separate noise."""
    if not weights.coupled_noise:
        return jnp.zeros_like(sigma)
    ratio = weights.species_sigma_min / weights.species_sigma_max
    spread = weights.species_sigma_max * ratio ** noise_level(sigma, weights)
    return spread / (1 + spread)


def draw_conditions(example: Example, key: jax.Array, dropout: float, free_share: float = 0.0) -> Conditions:
    """Conditions of the batch, each dropped with probability `dropout` on its own, all of a share of the examples."""
    numbers = example.crystals.atomic_numbers
    counts = jax.nn.one_hot(numbers - 1, 100).sum(1)
    # Not `fold_in(key, 1)`: it is the second key of a split, so that formula and free share would be one draw.
    scalar_key, formula_key, bound_key = jax.random.split(key, 3)
    is_bound = jax.random.bernoulli(bound_key, 1 - free_share, numbers.shape[:1])
    keep = jax.random.bernoulli(scalar_key, 1 - dropout, example.scalars.shape)
    present = keep & is_bound[:, None] & jnp.isfinite(example.scalars)
    return Conditions(
        scalars=jnp.where(present, example.scalars, 0.0),
        scalar_mask=present,
        composition=counts / jnp.maximum(counts.sum(-1, keepdims=True), 1),
        composition_mask=is_bound & jax.random.bernoulli(formula_key, 1 - dropout, numbers.shape[:1]),
    )


def cdvae_loss(
    model: CDVAE, weights: LossConfig, params, example: Example, key: jax.Array, train: bool, mesh: Mesh | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Total loss of the first stage and its parts, as means over the batch.

    Coordinates: mean squared error of the network's output against what would give the exact displacement, so every
    noise level weighs the same (Karras et al., arXiv:2206.00364, Eq. 8; for the paper's network it is CDVAE's loss).

    Args:
      train: with dropout.
      mesh: devices that the batch is split over, where it is.
    """
    keys = jax.random.split(key, 6)
    batch, mask = example.crystals, example.crystals.atom_mask

    def call(method: str, *args) -> Any:
        return model.apply(params, *args, method=method)

    def call_split(method: str, *args) -> Any:
        def network(params, *args):
            return model.apply(params, *args, method=method)

        return network(params, *args) if mesh is None else on_each_device(network, mesh)(params, *args)

    def dropout_keys(network: int) -> jax.Array | None:
        return jax.random.split(jax.random.fold_in(keys[5], network), batch.cell.shape[0]) if train else None

    mean, log_variance = call_split("encode", batch, dropout_keys(0))
    latent = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(keys[0], mean.shape)
    conditions = draw_conditions(example, keys[1], weights.condition_dropout, weights.free_share)
    fused = call("fuse", latent, conditions)
    heads = call("heads", fused)
    predicted = call("properties", latent)

    counts = jax.nn.one_hot(batch.atomic_numbers - 1, heads.composition.shape[-1]).sum(1)
    shares = counts / counts.sum(-1, keepdims=True)
    lattice_error = heads.lattice - lattice_targets(batch.cell, batch, model.config)

    # Noise.
    level = jax.random.uniform(keys[2], mean.shape[:1])
    species_key, level_key = jax.random.split(keys[3])
    steps = weights.num_levels - 1
    if weights.coupled_noise:
        choose, where = jax.random.split(jax.random.fold_in(keys[2], 1))
        is_inside = jax.random.bernoulli(choose, weights.window_share, level.shape)
        first, last = (noise_level(edge, weights) for edge in (weights.window_max, weights.window_min))
        level = jnp.where(is_inside, jax.random.uniform(where, level.shape, minval=first, maxval=last), level)
    else:
        level = jnp.round(level * steps) / steps
    sigma = weights.sigma_max * (weights.sigma_min / weights.sigma_max) ** level
    if weights.coupled_noise:
        share_key, rate_key = jax.random.split(level_key)
        is_free = jax.random.bernoulli(share_key, weights.free_species_share, level.shape)
        free = jnp.clip(jax.random.uniform(rate_key, level.shape, minval=-0.1, maxval=1.1), 0.0, 1.0)
        rate = jnp.where(is_free, free, species_rate(sigma, weights))
        noisy_species = noise.permute_species(species_key, batch.atomic_numbers, rate)
    else:
        species_level = jnp.round(jax.random.uniform(level_key, level.shape) * steps) / steps
        ratio = weights.species_sigma_min / weights.species_sigma_max
        species_sigma = weights.species_sigma_max * ratio**species_level
        rate = species_sigma / (1 + species_sigma)
        composition = jax.lax.stop_gradient(jax.nn.softmax(heads.composition))
        noisy_species = noise.resample_species(species_key, batch.atomic_numbers, species_sigma, composition)
    clean = batch.positions * mask[..., None]
    noisy = clean + sigma[:, None, None] * noise.centre(jax.random.normal(keys[4], clean.shape), mask)
    displacement = noise.free_displacement if weights.free_translation else noise.wrapped_displacement
    target = noise.centre(displacement(noisy, clean, mask, batch.cell, sigma, model.config.periodicity), mask)

    corrupted = dataclasses.replace(batch, positions=noisy, atomic_numbers=noisy_species)
    output = call_split("denoise", fused, corrupted, sigma, rate, dropout_keys(1))
    skip, out, _ = call("coefficients", sigma)
    wanted = (target - (skip - 1.0) * noise.centre(noisy, mask)) / out
    per_atom = jnp.sum((output.raw - wanted) ** 2, -1) * mask
    species_loss = optax.softmax_cross_entropy_with_integer_labels(
        output.species, jnp.maximum(batch.atomic_numbers - 1, 0)
    )
    num_real = jnp.maximum(mask.sum(), 1)
    right = (jnp.argmax(output.species, -1) + 1 == batch.atomic_numbers) & mask

    parts = {
        "num_atoms": optax.softmax_cross_entropy_with_integer_labels(heads.num_atoms, batch.num_atoms).mean(),
        "lattice": jnp.mean(lattice_error**2),
        "composition": optax.softmax_cross_entropy(heads.composition, shares).mean(),
        "coordinates": per_atom.sum() / num_real / 3.0,
        "species": (species_loss * mask).sum() / num_real,
        "kl": -0.5 * jnp.sum(1 + log_variance - mean**2 - jnp.exp(log_variance), -1).mean(),
    }
    known = jnp.isfinite(example.scalars)
    if model.config.scalars:
        error = jnp.where(known, predicted - jnp.where(known, example.scalars, 0.0), 0.0)
        parts["properties"] = jnp.sum(error**2) / jnp.maximum(known.sum(), 1)
    if model.config.has_stack:
        parts["stack"] = stack_loss(call("stack", fused), batch)
    total = sum((getattr(weights, name) * value for name, value in parts.items()), jnp.zeros(()))
    extra = {
        "loss": total,
        "lattice_error_angstrom": jnp.mean(
            jnp.abs(lattice_error[:, :3]) * jnp.asarray(model.config.lattice_std[:3], jnp.float32)
        ),
        "num_atoms_accuracy": jnp.mean(jnp.argmax(heads.num_atoms, -1) == batch.num_atoms),
        "composition_error": jnp.mean(jnp.sum(jnp.abs(jax.nn.softmax(heads.composition) - shares), -1)),
        "species_accuracy": right.sum() / num_real,
    }
    return total, {**parts, **extra}
