"""The second stage: all crystals encoded once, then a generator of latents learnt from what the encoder says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.cwgan import Critic, Generator
from vdw_jax.model.fusion import condition_vector
from vdw_jax.model.generators import LatentGenerator
from vdw_jax.model.latent_diffusion import LatentDiffusion
from vdw_jax.training.checkpoint import Checkpoints
from vdw_jax.training.devices import data_mesh, in_any_process, is_main, on_each_device, shard_batch, whole
from vdw_jax.training.losses import Example, draw_conditions
from vdw_jax.training.metrics_log import MetricsLog
from vdw_jax.training.priors import (
    GanConfig,
    GanState,
    LatentDiffusionConfig,
    gan_steps,
    latent_diffusion_steps,
)
from vdw_jax.training.progress import Progress
from vdw_jax.training.steps import TrainState
from vdw_jax.types import CrystalBatch


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


def second_stage(
    config: Mapping[str, Any],
    workdir: Path,
    model: CDVAE,
    generator: LatentGenerator,
    params,
    data: Example,
    key: jax.Array,
    stop,
    quiet: bool,
) -> tuple[int, int, dict[str, Any]]:
    """Trains the config's generator, or goes on from its last checkpoint.

    Returns:
      Steps done, steps in all, and what the export holds of it: "generator" and "latent".
    """
    mean, spread = encode_all(params, data, model=model, batch_size=config["train"]["batch_size"], mesh=data_mesh())
    # Spread of the aggregate posterior: dimensions that the KL term switched off get 1, not their tiny std.
    centre, scale = mean.mean(0), jnp.sqrt(mean.var(0) + jnp.mean(spread**2, 0))
    latents = ((mean - centre) / scale, spread / scale)
    few = jax.tree.map(lambda x: x[:2], data)
    condition = condition_vector(draw_conditions(few, key, 0.0), model.config)
    start_key = jax.random.fold_in(key, 3)
    if isinstance(generator, LatentDiffusion):
        part = config["latent_diffusion"]
        state, train, exported = _diffusion(part, model, generator, condition, start_key)
    else:
        part = config["gan"]
        state, train, exported = _gan(part, model, generator, condition, start_key)
    total, base = part["num_steps"], config["train"]["num_steps"]
    with Checkpoints(workdir / "stage2") as checkpoints:
        restored = checkpoints.restore_latest(state)
        state, step = restored if restored else (state, 0)
        with (
            MetricsLog(workdir, resume_step=base + step, silent=not is_main()) as log,
            Progress(total, "stage 2", quiet) as progress,
        ):
            while step < total and not in_any_process(stop.requested):
                count = min(part["steps_per_call"], total - step)
                state, latest = train(state, data, latents, jax.random.fold_in(key, 4), num_steps=count)
                step += count
                latest = jax.device_get(latest)
                log.write(base + step, {f"{config['generator']}/{k}": v for k, v in latest.items()})
                progress.update(step, **latest)
            checkpoints.save(step, state)
    return step, total, {"generator": exported(state), "latent": {"mean": centre, "std": scale}}


Start = tuple[Any, Callable[..., Any], Callable[[Any], dict[str, Any]]]
"""State, steps, and the generator's variables."""


def _gan(
    part: Mapping[str, Any], model: CDVAE, generator: Generator, condition: jax.Array, key: jax.Array
) -> Start:
    config = GanConfig.from_part(part)
    critic = Critic(tuple(part["critic_hidden"]), config.critic_dropout)
    optimizer = config.optimizer()

    @functools.partial(jax.jit, out_shardings=whole(data_mesh()))
    def initial(key, condition):
        keys, blank = jax.random.split(key), jnp.zeros((2, model.config.latent_dim))
        made: Any = generator.init(keys[0], blank, condition)
        judged = critic.init(keys[1], blank, condition)["params"]
        return GanState(
            jnp.zeros((), jnp.int32), made["params"], made["batch_stats"], judged, made["params"],
            optimizer.init(made["params"]), optimizer.init(judged),
        )  # fmt: skip

    steps = functools.partial(gan_steps, model=model.config, generator=generator, critic=critic, config=config)
    return initial(key, condition), steps, lambda s: {"params": s.ema, "batch_stats": s.batch_stats}


def _diffusion(
    part: Mapping[str, Any], model: CDVAE, generator: LatentDiffusion, condition: jax.Array, key: jax.Array
) -> Start:
    config = LatentDiffusionConfig.from_part(part)
    optimizer = config.optimizer()

    @functools.partial(jax.jit, out_shardings=whole(data_mesh()))
    def initial(key, condition):
        made: Any = generator.init(key, jnp.zeros((2, model.config.latent_dim)), condition)
        return TrainState(jnp.zeros((), jnp.int32), made["params"], made["params"], optimizer.init(made["params"]))

    steps = functools.partial(latent_diffusion_steps, model=model.config, generator=generator, config=config)
    return initial(key, condition), steps, lambda state: {"params": state.ema}
