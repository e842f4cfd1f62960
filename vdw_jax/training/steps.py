"""Compiled training steps of both stages, data parallel over every device there is."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh

from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.cwgan import Critic, Generator, gradient_penalty
from vdw_jax.model.fusion import condition_vector
from vdw_jax.training.devices import on_each_device, shard_batch
from vdw_jax.training.ema import ema_update
from vdw_jax.training.losses import Example, LossConfig, cdvae_loss, draw_conditions
from vdw_jax.types import CrystalBatch


@struct.dataclass
class TrainState:
    """State of the first stage."""

    step: jax.Array  # [] int32
    params: Any
    ema: Any
    opt_state: Any


@struct.dataclass
class GanState:
    """State of the second stage."""

    step: jax.Array  # [] int32
    generator: Any
    batch_stats: Any
    critic: Any
    ema: Any  # of the generator
    generator_opt: Any
    critic_opt: Any


def take_batch(data: Example, key: jax.Array, batch_size: int, mesh: Mesh) -> Example:
    """A random batch, drawn with replacement, split over the devices."""
    rows = jax.random.randint(key, (batch_size,), 0, data.scalars.shape[0])
    return shard_batch(jax.tree.map(lambda x: x[rows], data), mesh)


def make_example(numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, scalars: np.ndarray) -> Example:
    """Arrays of the host as an `Example` on the device."""
    crystals = CrystalBatch(
        jnp.asarray(numbers, jnp.int32), jnp.asarray(positions, jnp.float32), jnp.asarray(cell, jnp.float32)
    )
    return Example(crystals, jnp.asarray(scalars, jnp.float32))


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
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params, value=metrics["loss"])
        params = optax.apply_updates(state.params, updates)
        ema = ema_update(state.ema, params, decay, state.step)
        metrics["gradient_norm"] = optax.global_norm(gradient)
        return TrainState(state.step + 1, params, ema, opt_state), metrics

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


@dataclasses.dataclass(frozen=True)
class GanConfig:
    """Choices of the second stage; defaults are the paper's."""

    critic_steps: int = 5
    penalty: float = 10.0
    batch_size: int = 512
    learning_rate: float = 2e-4
    condition_dropout: float = 0.5
    free_share: float = 0.0
    critic_dropout: float = 0.5
    ema_decay: float = 0.999

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with the paper's betas."""
        return optax.adam(self.learning_rate, b1=0.5, b2=0.999)


@functools.partial(jax.jit, static_argnames=("model", "batch_size", "mesh"))
def encode_all(
    params, data: Example, *, model: CDVAE, batch_size: int, mesh: Mesh
) -> tuple[jax.Array, jax.Array]:
    """Latent mean and spread of every crystal; each [M, latent_dim]."""

    def encode(params, crystals: CrystalBatch) -> Any:
        def one(crystal: CrystalBatch) -> Any:
            latent: Any = model.apply(params, jax.tree.map(lambda x: x[None], crystal), method="encode")
            return jax.tree.map(lambda x: x[0], latent)

        return jax.lax.map(one, crystals, batch_size=batch_size // mesh.size)

    count = data.scalars.shape[0]
    rows = jnp.minimum(jnp.arange(count + -count % mesh.size), count - 1)
    crystals = shard_batch(jax.tree.map(lambda x: x[rows], data.crystals), mesh)
    mean, log_variance = on_each_device(encode, mesh)(params, crystals)
    return mean[:count], jnp.exp(0.5 * log_variance[:count])


@functools.partial(jax.jit, static_argnames=("model", "generator", "critic", "config", "num_steps"))
def gan_steps(
    state: GanState,
    data: Example,
    latents: tuple[jax.Array, jax.Array],
    key: jax.Array,
    *,
    model: CDVAE,
    generator: Generator,
    critic: Critic,
    config: GanConfig,
    num_steps: int,
) -> tuple[GanState, dict[str, jax.Array]]:
    """`num_steps` generator updates, each after `critic_steps` of the critic."""
    optimizer = config.optimizer()
    mean, spread = latents

    def draw(key):
        row_key, noise_key, condition_key, z_key = jax.random.split(key, 4)
        rows = jax.random.randint(row_key, (config.batch_size,), 0, mean.shape[0])
        real = mean[rows] + spread[rows] * jax.random.normal(z_key, (config.batch_size, mean.shape[1]))
        batch = jax.tree.map(lambda x: x[rows], data)
        conditions = draw_conditions(batch, condition_key, config.condition_dropout, config.free_share)
        return real, condition_vector(conditions, model.config), jax.random.normal(noise_key, real.shape)

    def generate(params, stats, noise, condition):
        variables = {"params": params, "batch_stats": stats}
        return generator.apply(variables, noise, condition, True, mutable=["batch_stats"])

    def step(state: GanState, _):
        step_key = jax.random.fold_in(key, state.step)

        def critic_step(carry, index):
            params, opt_state = carry
            keys = jax.random.split(jax.random.fold_in(step_key, index), 3)
            real, condition, noise = draw(keys[0])
            fake, _ = generate(state.generator, state.batch_stats, noise, condition)

            def loss(params):
                def score(latent):
                    rngs = {"dropout": keys[1]}
                    return critic.apply({"params": params}, latent, condition, True, rngs=rngs)

                distance = score(real).mean() - score(fake).mean()
                penalty = gradient_penalty(score, real, fake, keys[2])
                return -distance + config.penalty * penalty, (distance, penalty)

            gradient, metrics = jax.grad(loss, has_aux=True)(params)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(params, updates), opt_state), metrics

        (critic_params, critic_opt), (distance, penalty) = jax.lax.scan(
            critic_step, (state.critic, state.critic_opt), jnp.arange(config.critic_steps)
        )
        keys = jax.random.split(jax.random.fold_in(step_key, config.critic_steps), 2)
        _, condition, noise = draw(keys[0])

        def generator_loss(params):
            fake, mutated = generate(params, state.batch_stats, noise, condition)
            score: Any = critic.apply({"params": critic_params}, fake, condition, True, rngs={"dropout": keys[1]})
            return -score.mean(), mutated["batch_stats"]

        gradient, batch_stats = jax.grad(generator_loss, has_aux=True)(state.generator)
        updates, generator_opt = optimizer.update(gradient, state.generator_opt)
        params = optax.apply_updates(state.generator, updates)
        ema = ema_update(state.ema, params, config.ema_decay, state.step)
        metrics = {"distance": distance.mean(), "penalty": penalty.mean()}
        return GanState(state.step + 1, params, batch_stats, critic_params, ema, generator_opt, critic_opt), metrics

    state, metrics = jax.lax.scan(step, state, length=num_steps)
    return state, jax.tree.map(jnp.mean, metrics)
