"""ConditionCDVAE+: encoder, latent, fusion, heads and denoiser in one module with a method for each."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from vdw_jax import geometry
from vdw_jax.diffusion import noise
from vdw_jax.equivariant.equiformer import EquiformerV2, ScalarHead, VectorHead
from vdw_jax.equivariant.layers import gaussian_basis
from vdw_jax.graphs.neighbours import find_neighbours, find_pairs
from vdw_jax.model.config import ModelConfig
from vdw_jax.model.fusion import LowRankFusion
from vdw_jax.model.stack import HEIGHT_SCALE, Stack, as_placed, as_vector, cell_side
from vdw_jax.types import NUM_ELEMENTS, SLAB, Conditions, CrystalBatch, Neighbours

STACK_BASIS = 32
"""Gaussians for the in-plane distances that a stack head expects, from 0 to `STACK_REACH` Angstrom."""

STACK_REACH = 6.0


@struct.dataclass
class CrystalHeads:
    """What is read from the fused latent before any atom has a place."""

    num_atoms: jax.Array  # [B, max_atoms + 1] logits
    lattice: jax.Array  # [B, 6] standardised lengths and angles, see `lattice_targets`
    composition: jax.Array  # [B, E] logits of the share of each element


@struct.dataclass
class DenoiserOutput:
    """Both outputs of the denoiser for every atom."""

    displacement: jax.Array  # [B, N, 3] Angstrom, expected clean minus noisy position: sigma^2 times the score
    raw: jax.Array  # [B, N, 3] network output before scaling, what the loss compares
    species: jax.Array  # [B, N, E] logits of the clean species


class Mlp(nn.Module):
    """Linear, ReLU, linear."""

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., n] -> [..., features]."""
        x = nn.relu(nn.Dense(self.hidden, precision="highest")(x))
        return nn.Dense(self.features, precision="highest")(x)


class CDVAE(nn.Module):
    """The model of the first training stage."""

    config: ModelConfig

    def setup(self) -> None:
        """Parts, named as in Fig. 1 of the paper."""
        config = self.config
        self.encoder = EquiformerV2(config.encoder, NUM_ELEMENTS + 1)
        self.encoder_head = ScalarHead(config.encoder, config.latent_dim)
        self.latent = nn.Dense(2 * config.latent_dim, precision="highest")
        self.fusion = LowRankFusion(config)
        self.num_atoms_head = Mlp(config.hidden_dim, config.max_atoms + 1)
        self.lattice_head = Mlp(config.hidden_dim, 6)
        self.composition_head = Mlp(config.hidden_dim, NUM_ELEMENTS)
        self.property_head = Mlp(config.hidden_dim, max(len(config.scalars), 1))
        if config.has_stack:
            places = config.max_atoms
            self.stack_species = Mlp(config.hidden_dim, places * NUM_ELEMENTS)
            self.stack_height = Mlp(config.hidden_dim, places)
            self.stack_distance = Mlp(config.hidden_dim, places * places)
        self.denoiser = EquiformerV2(config.denoiser, NUM_ELEMENTS + 1)
        self.species_head = ScalarHead(config.denoiser, NUM_ELEMENTS)
        self.displacement_head = VectorHead(config.denoiser)

    def __call__(self, batch: CrystalBatch, conditions: Conditions, sigma: jax.Array):
        """Touches every parameter; for initialisation."""
        mean, _ = self.encode(batch)
        fused = self.fuse(mean, conditions)
        rate = jnp.ones_like(sigma)
        return self.heads(fused), self.properties(mean), self.denoise(fused, batch, sigma, rate)

    def encode(self, batch: CrystalBatch, dropout_keys: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance of the latent; each [B, latent_dim]. Keys as for `EquiformerV2`."""
        config = self.config
        edges = self._as_edges(self._neighbours(batch, config.encoder.cutoff_angstrom))
        nodes, _ = self.encoder(batch.atomic_numbers, *edges, None, self._heights(batch), dropout_keys)
        values = self.encoder_head(nodes) * batch.atom_mask[..., None]
        # A sum, scaled to order 1, so that the number of atoms can be read off.
        pooled = values.sum(1) / 10.0
        if config.has_stack:
            pooled = jnp.concatenate([pooled, as_vector(batch, config.max_atoms)], -1)
        mean, log_variance = jnp.split(self.latent(nn.silu(pooled)), 2, axis=-1)
        return mean, jnp.clip(log_variance, -12.0, 6.0)

    def fuse(self, latent: jax.Array, conditions: Conditions) -> jax.Array:
        """z_c of the paper; [B, latent_dim]."""
        return self.fusion(latent, conditions)

    def heads(self, fused: jax.Array) -> CrystalHeads:
        """Number of atoms, lattice and composition from z_c."""
        return CrystalHeads(self.num_atoms_head(fused), self.lattice_head(fused), self.composition_head(fused))

    def properties(self, latent: jax.Array) -> jax.Array:
        """Standardised scalars predicted from z, which has not seen the conditions; [B, S]."""
        return self.property_head(latent)[:, : len(self.config.scalars)]

    def stack(self, fused: jax.Array) -> Stack:
        """Species, heights and in-plane distances of the atoms in the order of their heights, from z_c."""
        size, places = len(fused), self.config.max_atoms
        distance = self.stack_distance(fused).reshape(size, places, places)
        return Stack(
            self.stack_species(fused).reshape(size, places, NUM_ELEMENTS),
            HEIGHT_SCALE * self.stack_height(fused),
            0.5 * (distance + jnp.swapaxes(distance, 1, 2)),
        )

    def denoise(
        self,
        fused: jax.Array,
        batch: CrystalBatch,
        sigma: jax.Array,
        rate: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> DenoiserOutput:
        """Predicts clean positions and species of a noisy batch.

        Args:
          fused: [B, latent_dim].
          batch: noisy positions and species, lattice as predicted or true.
          sigma: [B] noise on the coordinates, Angstrom.
          rate: [B] share of the atoms whose species were shuffled; seen if `species_noise_conditioned`.
          dropout_keys: as for `EquiformerV2`.
        """
        config, mask = self.config, batch.atom_mask
        skip, out, scale = self.coefficients(sigma)
        seen = dataclasses.replace(batch, positions=batch.positions * scale)
        found = self._neighbours(seen, config.denoiser.cutoff_angstrom)
        context = [fused]
        if config.noise_conditioned:
            context.append(noise_embedding(sigma))
        if config.species_noise_conditioned:
            context.append(noise_embedding(rate + 0.01))
        known = [jnp.broadcast_to(part[:, None], (*mask.shape, part.shape[-1])) for part in context]
        vectors, known_of_edges = self._heights(seen), None
        if vectors is not None and config.has_stack:
            # No gradient: the head answers for the crystal, not for what helps the denoiser.
            expected = jax.lax.stop_gradient(as_placed(self.stack(fused), batch))
            known.append(jax.nn.softmax(expected.species))
            height = noise.centre(batch.positions, mask)[..., 2]
            wanted = (expected.height - skip[..., 2] * height) / out[..., 2]  # of the network's output
            vectors = jnp.concatenate([vectors, _upward(jnp.clip(wanted, -3.0, 3.0) * mask)], axis=2)
            distance = expected.distance * cell_side(batch.cell)[:, None, None]
            basis = gaussian_basis(distance, STACK_REACH, STACK_BASIS)
            known_of_edges = jnp.take_along_axis(basis, found.index[..., None], axis=2)
        nodes, edges = self.denoiser(
            batch.atomic_numbers, *self._as_edges(found), jnp.concatenate(known, -1), vectors, dropout_keys,
            known_of_edges,
        )  # fmt: skip
        raw = noise.centre(self.displacement_head(nodes, edges)[:, :, 0], mask)
        displacement = (skip - 1.0) * noise.centre(batch.positions, mask) + out * raw
        return DenoiserOutput(displacement, raw, self.species_head(nodes))

    def coefficients(self, sigma: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(skip, out, in) for x, y, z; each [B, 1, 3].

        Along periods there is nothing to skip or to scale: the torus is bounded. Along the normal of a slab they
        are EDM's, so that the network sees heights of the same spread at every noise. Without noise
        conditioning the network is the paper's: its output is sigma times the score.
        """
        config, sigma = self.config, sigma[:, None, None]
        one = jnp.ones_like(sigma)
        if not config.noise_conditioned:
            return tuple(jnp.concatenate([x] * 3, -1) for x in (one, sigma, one))  # type: ignore[return-value]
        _, out, _ = noise.preconditioning(sigma, jnp.asarray(config.sigma_data_in_plane))
        skip_z, out_z, in_z = noise.preconditioning(sigma, jnp.asarray(config.sigma_data_normal))
        if config.periodicity != SLAB:
            skip_z, out_z, in_z = one, out, one
        return (
            jnp.concatenate([one, one, skip_z], -1),
            jnp.concatenate([out, out, out_z], -1),
            jnp.concatenate([one, one, in_z], -1),
        )

    def _neighbours(self, batch: CrystalBatch, cutoff_angstrom: float) -> Neighbours:
        config = self.config
        if config.graph == "pairs":
            return find_pairs(batch, periodicity=config.periodicity)
        return find_neighbours(
            batch,
            periodicity=config.periodicity,
            cutoff_angstrom=cutoff_angstrom,
            max_neighbours=config.max_neighbours,
            image_range=config.image_range,
        )

    def _as_edges(self, found: Neighbours) -> tuple[jax.Array | None, jax.Array, jax.Array, jax.Array]:
        """Index, vector, mask and ratio of the edges, as `EquiformerV2` takes them: pairs need no index."""
        index = None if self.config.graph == "pairs" else found.index
        return index, found.vector, found.mask, found.ratio

    def _heights(self, batch: CrystalBatch) -> jax.Array | None:
        """Height above the slab's centre, as a vector along the normal; [B, N, 1, 3]. None for bulk."""
        if self.config.periodicity != SLAB:
            return None
        return _upward(noise.centre(batch.positions, batch.atom_mask)[..., 2] / self.config.sigma_data_normal)


def _upward(height: jax.Array) -> jax.Array:
    """[B, N] -> [B, N, 1, 3], along the normal."""
    return jnp.stack([jnp.zeros_like(height), jnp.zeros_like(height), height], -1)[:, :, None]


def noise_embedding(sigma: jax.Array, num_frequencies: int = 16) -> jax.Array:
    """Sines and cosines of the logarithm of a noise; [B, 2 num_frequencies]."""
    phase = jnp.log(sigma)[:, None] * jnp.geomspace(0.1, 10.0, num_frequencies)
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1)


def lattice_targets(cell: jax.Array, batch: CrystalBatch, config: ModelConfig) -> jax.Array:
    """Standardised lattice of crystals; [B, 6].

    Bulk: lengths over the cube root of the number of atoms, and angles. Slab: |a|, |b|, the height between lowest and
    highest atom, and angles; vacuum has no part in it.
    """
    lengths, angles = geometry.parameters_from_cell(cell)
    if config.periodicity == SLAB:
        z, mask = batch.positions[..., 2], batch.atom_mask
        height = jnp.where(mask, z, -jnp.inf).max(1) - jnp.where(mask, z, jnp.inf).min(1)
        lengths = lengths.at[:, 2].set(height)
    else:
        lengths = lengths / jnp.cbrt(batch.num_atoms.astype(jnp.float32))[:, None]
    raw = jnp.concatenate([lengths, angles], -1)
    return (raw - jnp.asarray(config.lattice_mean)) / jnp.asarray(config.lattice_std)


def cell_from_targets(targets: jax.Array, num_atoms: jax.Array, config: ModelConfig) -> jax.Array:
    """Inverse of `lattice_targets`; a slab's c is its height along z. [B, 3, 3]."""
    raw = targets * jnp.asarray(config.lattice_std) + jnp.asarray(config.lattice_mean)
    lengths, angles = jnp.maximum(raw[:, :3], 0.5), jnp.clip(raw[:, 3:], 20.0, 160.0)
    if config.periodicity != SLAB:
        lengths = lengths * jnp.cbrt(num_atoms.astype(jnp.float32))[:, None]
    else:
        angles = angles.at[:, :2].set(90.0)
    return geometry.cell_from_parameters(lengths, angles)
