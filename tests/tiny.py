"""The smallest model that has every part, with random weights, as `train.py` would export it."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.config import ModelConfig, ScalarCondition
from vdw_jax.model.generators import create_generator
from vdw_jax.training.export import save_weights
from vdw_jax.types import SLAB, Conditions, CrystalBatch, Periodicity

NETWORK = EquiformerConfig(
    num_layers=1,
    channels=8,
    attention_channels=4,
    num_heads=2,
    alpha_channels=4,
    value_channels=4,
    ffn_channels=8,
    lmax=1,
    mmax=1,
    edge_channels=8,
    num_basis=8,
    cutoff_angstrom=5.0,
    alpha_dropout=0.0,
    drop_path=0.0,
    edge_activation="gate",
    ffn_activation="product",
    node_grid=SphereGrid(2, 4),
    average_degree=8.0,
)


def tiny_config(periodicity: Periodicity = SLAB) -> ModelConfig:
    """Cells of about 4 Angstrom, up to 10 atoms, one scalar."""
    return ModelConfig(
        encoder=NETWORK,
        denoiser=NETWORK,
        scalars=(ScalarCondition("energy_ev", 0.1, 0.2),),
        lattice_mean=(4.0, 4.0, 9.0, 90.0, 90.0, 120.0),
        lattice_std=(0.2, 0.2, 1.0, 1.0, 1.0, 1.0),
        periodicity=periodicity,
        max_atoms=10,
        max_neighbours=8,
        image_range=(2, 2, 0) if periodicity == SLAB else (2, 2, 2),
        latent_dim=8,
        hidden_dim=16,
        lmf_rank=2,
        num_basis=6,
        formula_dim=8,
        species_noise_conditioned=True,
        stack_head=True,
    )


def tiny_batch(seed: int = 0, size: int = 2) -> CrystalBatch:
    """Random slabs of 5 and 8 atoms in turn, padded to 10."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice([13, 16, 31, 34, 49], (size, 10)).astype(np.int32)
    positions = rng.uniform(-4.0, 4.0, (size, 10, 3)).astype(np.float32)
    for row in range(size):
        numbers[row, 5 if row % 2 else 8 :] = 0
    positions[numbers == 0] = 0.0
    cell = np.tile(np.array([[4.0, 0, 0], [-2.0, 3.4641016, 0], [0, 0, 29.0]], np.float32), (size, 1, 1))
    return CrystalBatch(jnp.asarray(numbers), jnp.asarray(positions), jnp.asarray(cell))


def no_conditions(size: int, num_scalars: int = 1) -> Conditions:
    """Nothing asked."""
    scalars, composition = jnp.zeros((size, num_scalars)), jnp.zeros((size, 100))
    return Conditions(scalars, scalars > 0, composition, jnp.zeros(size, bool))


def shaken(weights, size: float):
    """Weights that are not those a network starts with, no leaf all zero."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: np.asarray(leaf) + size * rng.normal(size=leaf.shape).astype(np.float32), weights)


@functools.cache
def tiny_params(periodicity: Periodicity = SLAB):
    """Random weights, those that start at 0 as well."""
    model, batch = CDVAE(tiny_config(periodicity)), tiny_batch()
    start = jax.jit(lambda key: model.init(key, batch, no_conditions(2), jnp.ones(2)))(jax.random.key(0))
    return shaken(start, 0.3)


def tiny_facts(periodicity: Periodicity = SLAB) -> dict:
    """What stands in model.json."""
    from configs import j2dh8

    config = j2dh8.get_config()
    config.latent_diffusion.update(dict(width=8, num_blocks=1, num_calls=4))
    config.sample.num_calls = 3
    return {
        "config": config.to_dict(),
        "model": tiny_config(periodicity).to_dict(),
        "data_hash": "none",
        "atom_counts": [8, 9, 10],
        "elements": [13, 16, 31, 34, 49, 52],
        "formulas": ["Ga2S2", "InGaSe2S"],
        "scalar_range": {"energy_ev": [-0.3, 0.9]},
        "device": "cpu",
    }


def write_export(directory: Path, periodicity: Periodicity = SLAB) -> Path:
    """A directory that `load_trained` reads."""
    from vdw_jax.training.checkpoint import write_json_atomic

    config = tiny_config(periodicity)
    size = len(config.scalars) * (config.num_basis + 1) + 101
    generator = create_generator(tiny_facts(periodicity)["config"], config.latent_dim)
    made = generator.init(jax.random.key(1), jnp.zeros((2, config.latent_dim)), jnp.zeros((2, size)))
    latent = {"mean": np.zeros(config.latent_dim), "std": np.ones(config.latent_dim)}
    weights = {"model": tiny_params(periodicity)["params"], "generator": made, "latent": latent}
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(directory / "weights.npz", jax.device_get(weights))
    write_json_atomic(directory / "model.json", tiny_facts(periodicity))
    return directory
