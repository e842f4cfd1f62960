"""Compiled training steps of the second stage: a conditional WGAN-GP (the paper's), or diffusion, of latents."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vdw_jax.model.config import ModelConfig
from vdw_jax.model.cwgan import Critic, Generator, gradient_penalty
from vdw_jax.model.fusion import condition_vector
from vdw_jax.model.latent_diffusion import LatentDiffusion, latent_diffusion_loss
from vdw_jax.training.ema import ema_update
from vdw_jax.training.losses import Example, draw_conditions
from vdw_jax.training.steps import TrainState, descend

Latents = tuple[jax.Array, jax.Array]
"""Mean and spread of every crystal's, standardised; each [M, latent_dim]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """What both have: the batches they are shown, and the average that is kept."""

    batch_size: int = 512
    condition_dropout: float = 0.5
    free_share: float = 0.0
    ema_decay: float = 0.999

    @classmethod
    def from_part(cls, part: Mapping[str, Any]) -> Self:
        """From the part of a config that has it, among other fields."""
        return cls(**{field.name: part[field.name] for field in dataclasses.fields(cls)})


def draw_latents(
    data: Example, latents: Latents, key: jax.Array, config: PriorConfig, model: ModelConfig
) -> tuple[jax.Array, jax.Array]:
    """Latents drawn with replacement, and as many of their conditions as are left; [B, latent_dim] and [B, D]."""
    row_key, condition_key, z_key = jax.random.split(key, 3)
    mean, spread = latents
    rows = jax.random.randint(row_key, (config.batch_size,), 0, mean.shape[0])
    real = mean[rows] + spread[rows] * jax.random.normal(z_key, (config.batch_size, mean.shape[1]))
    batch = jax.tree.map(lambda x: x[rows], data)
    conditions = draw_conditions(batch, condition_key, config.condition_dropout, config.free_share)
    return real, condition_vector(conditions, model)


@struct.dataclass
class GanState:
    """Of the WGAN."""

    step: jax.Array  # [] int32
    generator: Any
    batch_stats: Any
    critic: Any
    ema: Any  # of the generator
    generator_opt: Any
    critic_opt: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class GanConfig(PriorConfig):
    """Of the WGAN; defaults are the paper's."""

    critic_steps: int = 5
    penalty: float = 10.0
    learning_rate: float = 2e-4
    critic_dropout: float = 0.5

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with the paper's betas."""
        return optax.adam(self.learning_rate, b1=0.5, b2=0.999)


@functools.partial(jax.jit, static_argnames=("model", "generator", "critic", "config", "num_steps"))
def gan_steps(
    state: GanState,
    data: Example,
    latents: Latents,
    key: jax.Array,
    *,
    model: ModelConfig,
    generator: Generator,
    critic: Critic,
    config: GanConfig,
    num_steps: int,
) -> tuple[GanState, dict[str, jax.Array]]:
    """`num_steps` generator updates, each after `critic_steps` of the critic."""
    optimizer = config.optimizer()

    def draw(key):
        real_key, noise_key = jax.random.split(key)
        real, condition = draw_latents(data, latents, real_key, config, model)
        return real, condition, jax.random.normal(noise_key, real.shape)

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentDiffusionConfig(PriorConfig):
    """Of diffusion."""

    num_steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 200

    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """Adam, down a cosine."""
        warmup = min(self.warmup_steps, self.num_steps // 2)
        schedule = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, warmup, self.num_steps)
        return optax.with_extra_args_support(optax.adam(schedule))


@functools.partial(jax.jit, static_argnames=("model", "generator", "config", "num_steps"))
def latent_diffusion_steps(
    state: TrainState,
    data: Example,
    latents: Latents,
    key: jax.Array,
    *,
    model: ModelConfig,
    generator: LatentDiffusion,
    config: LatentDiffusionConfig,
    num_steps: int,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """`num_steps` steps; metrics are their means."""
    optimizer = config.optimizer()

    def step(state: TrainState, _):
        draw_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        real, condition = draw_latents(data, latents, draw_key, config, model)

        def loss(params):
            def denoise(latent, sigma) -> Any:
                return generator.apply({"params": params}, latent, sigma, condition, method="denoise")

            return latent_diffusion_loss(denoise, real, loss_key)

        value, gradient = jax.value_and_grad(loss)(state.params)
        return descend(state, gradient, value, optimizer, config.ema_decay), {"loss": value}

    state, metrics = jax.lax.scan(step, state, length=num_steps)
    return state, jax.tree.map(jnp.mean, metrics)
