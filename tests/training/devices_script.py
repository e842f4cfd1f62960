"""Run by test_devices.py: one training step and a generation on all devices; writes what came out to argv[1]."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.tiny import tiny_batch, tiny_config, tiny_facts, tiny_params
from vdw_jax.design import generate as design
from vdw_jax.design.request import make_request
from vdw_jax.design.trained import Trained
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.generators import create_generator
from vdw_jax.training.devices import data_mesh, replicate
from vdw_jax.training.losses import Example, LossConfig
from vdw_jax.training.steps import TrainState, train_steps
from vdw_jax.types import SLAB

config, params, mesh = tiny_config(SLAB), jax.tree.map(jnp.asarray, tiny_params(SLAB)), data_mesh()
config = dataclasses.replace(
    config, **{part: dataclasses.replace(getattr(config, part), alpha_dropout=0.1, drop_path=0.1)
               for part in ("encoder", "denoiser")}
)  # fmt: skip
model, weights = CDVAE(config), LossConfig()
crystals = tiny_batch(size=16)
data = Example(crystals, jnp.linspace(-0.3, 0.5, 16)[:, None])
# Plain descent: after Adam's first step every parameter has moved by the learning rate, whatever its gradient.
optimizer = optax.with_extra_args_support(optax.sgd(1e-3))
state = replicate(TrainState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params)), mesh)
states, losses = [], []
for _ in range(3):
    state, metrics = train_steps(
        state, data, jax.random.key(0), model=model, weights=weights, optimizer=optimizer, batch_size=8, decay=0.9,
        mesh=mesh, num_steps=1,
    )  # fmt: skip
    states.append(jax.device_get(state))
    losses.append(float(metrics["loss"]))

size = len(config.scalars) * (config.num_basis + 1) + 101
generator = create_generator(tiny_facts()["config"], config.latent_dim)
made = generator.init(jax.random.key(1), jnp.zeros((2, config.latent_dim)), jnp.zeros((2, size)))
latent = {"mean": jnp.zeros(config.latent_dim), "std": jnp.ones(config.latent_dim)}
trained = Trained(model, generator, {"model": params["params"], "generator": made, "latent": latent}, weights,
                  tiny_facts())  # fmt: skip
found = design.generate(trained, make_request(trained, "GaInSSe2"), 8, 0, chunk=1)
design.generate(trained, make_request(trained, "Ga2S2", {"energy_ev": 0.2}), 8, 5, chunk=1)

leaves = {f"params/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(states[0].params))}
starts = {f"start/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(params))}
np.savez(
    sys.argv[1],
    devices=len(jax.devices()),
    losses=losses,
    step_programs=train_steps._cache_size(),
    place_programs=design.place._cache_size(),
    step=state.step,
    species=found.crystals.atomic_numbers,
    positions=found.crystals.positions,
    cell=found.crystals.cell,
    predicted=found.predicted,
    **leaves,
    **starts,
)
