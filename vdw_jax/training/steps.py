"""Compiled training steps of the first stage, data parallel over every device there is."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh

from vdw_jax.model.cdvae import CDVAE
from vdw_jax.training.devices import shard_batch
from vdw_jax.training.ema import ema_update
from vdw_jax.training.losses import Example, LossConfig, cdvae_loss
from vdw_jax.types import CrystalBatch


@struct.dataclass
class TrainState:
    """Of what one optimiser trains: the first stage, and diffusion of latents in the second."""

    step: jax.Array  # [] int32
    params: Any
    ema: Any
    opt_state: Any


def take_batch(data: Example, key: jax.Array, batch_size: int, mesh: Mesh) -> Example:
    """A random batch, drawn with replacement, split over the devices."""
    rows = jax.random.randint(key, (batch_size,), 0, data.scalars.shape[0])
    return shard_batch(jax.tree.map(lambda x: x[rows], data), mesh)


def make_example(numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, scalars: np.ndarray) -> Example:
    """Arrays of the host as an `Example` on the device; `scalars` are standardised, [M, S]."""
    crystals = CrystalBatch(
        jnp.asarray(numbers, jnp.int32), jnp.asarray(positions, jnp.float32), jnp.asarray(cell, jnp.float32)
    )
    return Example(crystals, jnp.asarray(scalars, jnp.float32))


def descend(
    state: TrainState, gradient: Any, loss: jax.Array, optimizer: optax.GradientTransformationExtraArgs, decay: float
) -> TrainState:
    """The state after one step of the optimiser."""
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params, value=loss)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, ema_update(state.ema, params, decay, state.step), opt_state)


@functools.partial(
    jax.jit, static_argnames=("model", "weights", "optimizer", "batch_size", "decay", "mesh", "num_steps")
)
def train_steps(
    state: TrainState,
    data: Example,
    key: jax.Array,
    *,
    model: CDVAE,
    weights: LossConfig,
    optimizer: optax.GradientTransformationExtraArgs,
    batch_size: int,
    decay: float,
    mesh: Mesh,
    num_steps: int,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """`num_steps` steps of the first stage in one call; metrics are their means.

    Step s uses `fold_in(key, s)` alone: stopping and going on changes nothing.
    """

    def step(state: TrainState, _):
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        batch = take_batch(data, batch_key, batch_size, mesh)
        gradient, metrics = jax.grad(
            lambda params: cdvae_loss(model, weights, params, batch, loss_key, True, mesh), has_aux=True
        )(state.params)
        metrics["gradient_norm"] = optax.global_norm(gradient)
        return descend(state, gradient, metrics["loss"], optimizer, decay), metrics

    state, metrics = jax.lax.scan(step, state, length=num_steps)
    return state, jax.tree.map(jnp.mean, metrics)


@functools.partial(jax.jit, static_argnames=("model", "weights", "batch_size", "mesh", "num_batches"))
def evaluate(params, data: Example, key: jax.Array, *, model: CDVAE, weights: LossConfig, batch_size: int, mesh: Mesh,
             num_batches: int) -> dict[str, jax.Array]:
    """Mean metrics over `num_batches` random batches, without dropout."""

    def one(index):
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, index))
        batch = take_batch(data, batch_key, batch_size, mesh)
        return cdvae_loss(model, weights, params, batch, loss_key, False, mesh)[1]

    return jax.tree.map(jnp.mean, jax.lax.map(one, jnp.arange(num_batches)))
