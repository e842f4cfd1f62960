"""The second stage: all crystals encoded once, then a generator of latents learnt from what the encoder says."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vdw_jax.model.cdvae import CDVAE
from vdw_jax.model.cwgan import Critic, Generator
from vdw_jax.model.fusion import condition_vector
from vdw_jax.model.generators import LatentGenerator
from vdw_jax.model.latent_diffusion import LatentDiffusion
from vdw_jax.training.checkpoint import Checkpoints, write_json_atomic
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
from vdw_jax.training.workdir import recorded
from vdw_jax.types import NUM_ELEMENTS, CrystalBatch


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


STAGE_2 = "stage2"
OF_NAME = "first_stage.json"
"""Beside the checkpoints: which first stage their latents are of."""

_SAVES = 20
"""Checkpoints over the whole stage: a run that is killed loses a twentieth of it at most."""


def prepare_second_stage(
    config: Mapping[str, Any], workdir: Path, model: CDVAE, generator: LatentGenerator, of_first: Mapping[str, Any]
) -> None:
    """Looks at what there is of the second stage, before this run's config takes the place of the one on record.

    Args:
      of_first: "steps" and "data_hash" of the first stage that this one will follow.

    Raises:
      CheckpointError: its checkpoints are of another generator.
    """
    folder = workdir / STAGE_2
    if not has_steps(folder):
        return
    path = folder / OF_NAME
    if not path.exists() and is_main():  # from before it was written: what is on record then
        there = recorded(workdir) or {"config": {"train": {"num_steps": None}}}
        told = {"steps": there["config"].get("train", {}).get("num_steps"), "data_hash": there.get("data_hash")}
        write_json_atomic(path, told)
    in_any_process(False)  # all wait until it is there
    if not _is_of(folder, of_first):
        return
    key = jax.eval_shape(lambda: jax.random.key(0))
    width = len(model.config.scalars) * (model.config.num_basis + 1) + NUM_ELEMENTS + 1
    condition = jax.ShapeDtypeStruct((2, width), jnp.float32)
    with Checkpoints(folder, read_only=True) as checkpoints:
        checkpoints.check_fits(jax.eval_shape(_start(config, model, generator).initial, key, condition))


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
    of_first: Mapping[str, Any],
) -> tuple[int, int, dict[str, Any]]:
    """Trains the config's generator, or goes on from its last checkpoint.

    Checkpoints of latents of another first stage are set aside (`stage2.of-<steps>`): the generator is trained anew.

    Args:
      of_first: "steps" and "data_hash" of the first stage.

    Returns:
      Steps done, steps in all, and what the export holds of it: "generator" and "latent".
    """
    folder = workdir / STAGE_2
    if has_steps(folder) and not _is_of(folder, of_first) and is_main():
        print(f"note: {set_aside(folder)} holds the second stage of another first stage; it is trained anew")
    in_any_process(False)  # all wait until it is done
    mean, spread = encode_all(params, data, model=model, batch_size=config["train"]["batch_size"], mesh=data_mesh())
    # Spread of the aggregate posterior: dimensions that the KL term switched off get 1, not their tiny std.
    centre, scale = mean.mean(0), jnp.sqrt(mean.var(0) + jnp.mean(spread**2, 0))
    latents = ((mean - centre) / scale, spread / scale)
    few = jax.tree.map(lambda x: x[:2], data)
    condition = condition_vector(draw_conditions(few, key, 0.0), model.config)
    start = _start(config, model, generator)
    state = start.initial(jax.random.fold_in(key, 3), condition)
    total, base = start.part["num_steps"], of_first["steps"]
    save_every = max(total // _SAVES, 1)
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore_latest(state)
        if is_main():
            for line in checkpoints.notes:
                print(f"note: {line}", file=sys.stderr)
            write_json_atomic(folder / OF_NAME, dict(of_first))
        state, step = restored if restored else (state, 0)
        if step < total:
            with (
                MetricsLog(workdir, resume_step=base + step, silent=not is_main()) as log,
                Progress(total, "stage 2", quiet) as progress,
            ):
                while step < total and not in_any_process(stop.requested):
                    count = min(start.part["steps_per_call"], total - step)
                    state, latest = start.steps(state, data, latents, jax.random.fold_in(key, 4), num_steps=count)
                    step += count
                    latest = jax.device_get(latest)
                    if not all(np.isfinite(value) for value in latest.values()):
                        raise FloatingPointError(
                            f"the loss of the second stage is not finite at step {step}; nothing was saved since"
                        )
                    log.write(base + step, {f"{config['generator']}/{k}": v for k, v in latest.items()})
                    progress.update(step, **latest)
                    if step % save_every < count:
                        checkpoints.save(step, state)
                checkpoints.save(step, state)
    return step, total, {"generator": start.exported(state), "latent": {"mean": centre, "std": scale}}


def has_steps(folder: Path) -> bool:
    """Whether there are checkpoints in a folder."""
    return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())


def set_aside(folder: Path) -> Path:
    """Renames a folder to one that is not there, and returns it."""
    try:
        steps = json.loads((folder / OF_NAME).read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        steps = None
    stem = f"{folder.name}.of-{steps if isinstance(steps, int) else 'another'}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
    target = next(path for path in map(folder.with_name, names) if not path.exists())
    return folder.rename(target)


def _is_of(folder: Path, of_first: Mapping[str, Any]) -> bool:
    try:
        told = json.loads((folder / OF_NAME).read_text(encoding="utf-8"))
        return all(told[name] == value for name, value in of_first.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclasses.dataclass(frozen=True)
class _Start:
    """How a generator is trained."""

    part: Mapping[str, Any]  # its section of the config
    initial: Callable[..., Any]  # (key, condition) -> state
    steps: Callable[..., Any]
    exported: Callable[[Any], dict[str, Any]]  # state -> the generator's variables


def _start(config: Mapping[str, Any], model: CDVAE, generator: LatentGenerator) -> _Start:
    if isinstance(generator, LatentDiffusion):
        return _diffusion(config["latent_diffusion"], model, generator)
    return _gan(config["gan"], model, generator)


def _gan(part: Mapping[str, Any], model: CDVAE, generator: Generator) -> _Start:
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
    return _Start(part, initial, steps, lambda state: {"params": state.ema, "batch_stats": state.batch_stats})


def _diffusion(part: Mapping[str, Any], model: CDVAE, generator: LatentDiffusion) -> _Start:
    config = LatentDiffusionConfig.from_part(part)
    optimizer = config.optimizer()

    @functools.partial(jax.jit, out_shardings=whole(data_mesh()))
    def initial(key, condition):
        made: Any = generator.init(key, jnp.zeros((2, model.config.latent_dim)), condition)
        return TrainState(jnp.zeros((), jnp.int32), made["params"], made["params"], optimizer.init(made["params"]))

    steps = functools.partial(latent_diffusion_steps, model=model.config, generator=generator, config=config)
    return _Start(part, initial, steps, lambda state: {"params": state.ema})
