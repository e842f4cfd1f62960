"""Counted operations against what XLA counts."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import flops, measure
from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.config import ModelConfig
from vdw_jax.types import CrystalBatch

BATCH, ATOMS = 2, 3


def network(**changes) -> EquiformerConfig:
    """Wide enough for matrix products to be nearly all there is; one layer, since XLA counts a loop's body once."""
    return EquiformerConfig(
        **dict(
            num_layers=1, channels=64, attention_channels=32, num_heads=4, alpha_channels=16, value_channels=16,
            ffn_channels=64, lmax=2, edge_channels=64, num_basis=64, edge_activation="gate", ffn_activation="product",
            node_grid=SphereGrid(5, 10),
        ) | changes
    )  # fmt: skip


def counted_by_xla(model: CDVAE, method: str) -> float:
    crystals = CrystalBatch(jnp.ones((BATCH, ATOMS), jnp.int32), jnp.zeros((BATCH, ATOMS, 3)), jnp.ones((BATCH, 3, 3)))
    conditions = measure.no_conditions(BATCH, 0)
    params = jax.eval_shape(model.init, jax.random.key(0), crystals, conditions, jnp.ones(BATCH))

    def call(params, crystals):
        if method == "encode":
            return model.apply(params, crystals, method="encode")
        fused = jnp.zeros((BATCH, model.config.latent_dim))
        return model.apply(params, fused, crystals, jnp.ones(BATCH), jnp.ones(BATCH), method="denoise")

    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    compiled = jax.jit(call).lower(params, crystals).compile(options)
    return compiled.cost_analysis()["flops"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"edge_activation": "s2", "ffn_activation": "mlp", "reflections": False, "edge_grid": SphereGrid(3, 5)}],
    ids=["gate", "grid"],
)
@pytest.mark.parametrize("method", ["encode", "denoise"])
def test_counted_operations(changes, method):
    config = ModelConfig(
        encoder=network(**changes), denoiser=network(**changes), graph="pairs", latent_dim=16, hidden_dim=16,
        lmf_rank=2, formula_dim=16, max_atoms=ATOMS,
    )  # fmt: skip
    count = BATCH * (flops.encoder if method == "encode" else flops.denoiser)(config, ATOMS)
    assert count == pytest.approx(counted_by_xla(CDVAE(config), method), rel=0.15)


def test_the_papers_network_needs_what_the_design_says():
    paper = EquiformerConfig(reflections=False, condition_every_layer=False)
    config = ModelConfig(encoder=paper, denoiser=paper, noise_conditioned=False)
    assert flops.denoiser(config, 8) / 1e9 == pytest.approx(13.3, rel=0.1)


def test_training_is_three_times_forward():
    config = ModelConfig()
    assert flops.training(config, 8) == 3 * (flops.encoder(config, 8) + flops.denoiser(config, 8))
