"""Both training stages from a config: data, model, optimiser, checkpoints, resuming, export."""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.graphs.neighbours import image_range_for
from vdw_jax.model.cdvae import CDVAE, lattice_targets
from vdw_jax.model.config import ModelConfig, ScalarCondition
from vdw_jax.model.generators import create_generator
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.formula import formula_string
from vdw_jax.structures.source import load_configured
from vdw_jax.structures.splits import split_dataset
from vdw_jax.training.checkpoint import Checkpoints, write_json_atomic
from vdw_jax.training.coverage import coverage_record
from vdw_jax.training.devices import data_mesh, in_any_process, is_main, replicate, whole
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.export import save_weights, weights_like
from vdw_jax.training.interrupt import GracefulExit
from vdw_jax.training.losses import Example, LossConfig, draw_conditions
from vdw_jax.training.metrics_log import FILE_NAME, MetricsLog
from vdw_jax.training.progress import Progress
from vdw_jax.training.second_stage import second_stage
from vdw_jax.training.steps import TrainState, evaluate, make_example, train_steps

LATTICE_STD_FLOOR = (0.02, 0.02, 0.02, 1.0, 1.0, 1.0)
"""Angstrom and degrees: a lattice parameter that never varies is not blown up."""


_HOW_TO_GO_ON = "stopped; stage {stage} is saved at step {step} of {total}, and the same command goes on from there"


def create_equiformer(config: ConfigDict) -> EquiformerConfig:
    """Network sizes from their part of the config; grids are (rings, points a ring)."""
    values = config.to_dict()
    for grid in ("edge_grid", "node_grid"):
        values[grid] = SphereGrid(*values[grid])
    return EquiformerConfig(**values)


def create_model(config: ConfigDict, data: CrystalDataset) -> CDVAE:
    """The model, with normalisation and image range from the training data."""
    known = {name: data.scalars[name][np.isfinite(data.scalars[name])] for name in config.data.scalars}
    scalars = tuple(
        ScalarCondition(name, float(values.mean()), float(max(values.std(), 1e-6))) for name, values in known.items()
    )
    denoiser = create_equiformer(config.model.denoiser)
    encoder = create_equiformer(config.model.encoder)
    cutoff = max(denoiser.cutoff_angstrom, encoder.cutoff_angstrom)
    blank = ModelConfig(
        encoder=encoder,
        denoiser=denoiser,
        scalars=scalars,
        periodicity=data.periodicity,
        max_atoms=config.data.max_atoms,
        image_range=image_range_for(data.cell, data.periodicity, cutoff),
        **config.model.cdvae.to_dict(),
    )
    example = create_example(data, ())
    targets = np.asarray(lattice_targets(example.crystals.cell, example.crystals, blank))
    mean, std = targets.mean(0), np.maximum(targets.std(0), LATTICE_STD_FLOOR)
    values = blank.to_dict() | {"lattice_mean": mean.tolist(), "lattice_std": std.tolist()}
    return CDVAE(ModelConfig.from_dict(values))


def create_example(data: CrystalDataset, scalars: tuple[str, ...]) -> Example:
    """A whole data set as one `Example` on the device."""
    columns = [data.scalars[name] for name in scalars]
    table = np.stack(columns, -1) if columns else np.zeros((len(data), 0), np.float32)
    return make_example(data.atomic_numbers, data.positions, data.cell, table)


def create_optimizer(config: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Adam with the configured clipping and schedule: "cosine", or the paper's "plateau"."""
    train = config.train
    clip = optax.clip(train.clip) if train.clip_by == "value" else optax.clip_by_global_norm(train.clip)
    if train.schedule == "plateau":
        plateau = optax.contrib.reduce_on_plateau(
            factor=0.6, patience=30, accumulation_size=train.steps_per_epoch, min_scale=1e-5 / train.learning_rate
        )
        return optax.chain(clip, optax.adam(train.learning_rate), plateau)
    warmup = min(train.warmup_steps, train.num_steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(0.0, train.learning_rate, warmup, train.num_steps)
    return optax.with_extra_args_support(optax.chain(clip, optax.adam(schedule)))


def create_data(config: ConfigDict) -> tuple[CrystalDataset, dict[str, np.ndarray]]:
    """The configured data set and its split.

    Raises:
      DataError: it cannot be used, a part has fewer than two structures, or a condition is unknown in all of them.
    """
    data = load_configured(config.data, quiet=False)
    split = split_dataset(data, config.data.split_seed, by=config.data.split)
    if min(len(split[part]) for part in ("train", "validation")) < 2:
        raise DataError(f"{len(data)} structures are too few to learn from: at least 10 are needed, 200 are a start")
    for name in config.data.scalars:
        if not np.isfinite(data.scalars[name][split["train"]]).any():
            raise DataError(f"{name} is unknown in all structures to learn from; leave it out of data.scalars")
    return data, split


def _condition_names(scalars: tuple[str, ...]) -> tuple[str, ...]:
    """`("a,b",)`, which is what `--config.data.scalars=a,b` gives, as `("a", "b")`."""
    return tuple(name.strip() for text in scalars for name in text.split(",") if name.strip())


def train(config: ConfigDict, workdir: str | Path, *, quiet: bool = False) -> dict[str, float]:
    """Trains both stages, or goes on from the last checkpoint in `workdir`.

    Writes checkpoints, `metrics.jsonl` and TensorBoard files, and at the end `export/`: what `sample.py` reads.

    Returns:
      The last validation metrics. Empty if it stopped before the end (SIGTERM, Ctrl-C, or `train.max_minutes`
      of the first stage are over); everything is saved then.
    Raises:
      ConfigError: if the batch size is no multiple of the number of devices, or there is no such generator.
      DataError: if the data cannot be used.
      CheckpointError: if a stage's checkpoints are damaged, or of another network; they are left as they are.
    """
    config = config.copy_and_resolve_references()
    config.data.scalars = _condition_names(config.data.scalars)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    mesh, quiet = data_mesh(), quiet or not is_main()
    if config.train.batch_size % mesh.size:
        raise ConfigError(f"train.batch_size {config.train.batch_size} is no multiple of {mesh.size} devices")
    try:
        generator = create_generator(config, config.model.cdvae.latent_dim)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    data, split = create_data(config)
    train_part = data.select(split["train"])
    model = create_model(config, train_part)
    names = tuple(config.data.scalars)
    train_data, validation = replicate(
        (create_example(train_part, names), create_example(data.select(split["validation"]), names)), mesh
    )
    weights = LossConfig(**config.loss.to_dict())
    key = replicate(jax.random.key(config.seed), mesh)
    facts = {
        "config": config.to_dict(),
        "model": model.config.to_dict(),
        "data_hash": data.content_hash(),
        "command": shlex.join(["python", *sys.argv]),
        "atom_counts": sorted(int(n) for n in set(train_part.num_atoms)),
        "elements": sorted(int(n) for n in set(train_part.atomic_numbers.ravel()) - {0}),
        "formulas": sorted({_formula(numbers) for numbers in train_part.atomic_numbers}),
        "scalar_range": {name: _range(train_part.scalars[name]) for name in names},
    }

    with GracefulExit() as stop:
        state, metrics = _first_stage(
            config, workdir, facts, model, weights, train_data, validation, key, stop, quiet
        )
        if state.step < config.train.num_steps:
            _say(_HOW_TO_GO_ON.format(stage=1, step=int(state.step), total=config.train.num_steps))
            return {}
        step, total, prior = second_stage(
            config.to_dict(), workdir, model, generator, state.ema, train_data, key, stop, quiet
        )
        if step < total:
            _say(_HOW_TO_GO_ON.format(stage=2, step=step, total=total))
            return {}
    if is_main():
        facts["coverage"] = coverage_record(facts, train_part)
        export(workdir / "export", facts, state.ema, prior)
        shutil.copyfile(workdir / FILE_NAME, workdir / "export" / FILE_NAME)
    return metrics or _validate(state.ema, validation, key, model, weights, config)


def _say(text: str) -> None:
    if is_main():
        print(text)


def _formula(numbers: np.ndarray) -> str:
    return formula_string(Counter(int(number) for number in numbers if number))


def _range(values: np.ndarray) -> list[float]:
    return [float(np.nanmin(values)), float(np.nanmax(values))]


def _first_stage(config, workdir, facts, model, weights, train_data, validation, key, stop, quiet):
    train, mesh = config.train, data_mesh()
    optimizer = create_optimizer(config)

    @functools.partial(jax.jit, out_shardings=whole(mesh))
    def initial(key, few):
        conditions = draw_conditions(few, key, 0.0)
        params = model.init(key, few.crystals, conditions, jnp.ones(2))
        return TrainState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params))

    state = initial(jax.random.fold_in(key, 0), jax.tree.map(lambda x: x[:2], train_data))
    if train.start_from:
        params = weights_like(state.params, Path(train.start_from) / "weights.npz")
        params = replicate(params, mesh)
        state = dataclasses.replace(state, params=params, ema=params)
    metrics: dict[str, float] = {}
    with Checkpoints(workdir / "stage1") as checkpoints:
        restored = checkpoints.restore_latest(state)
        state, step = restored if restored else (state, 0)
        if is_main():
            write_json_atomic(workdir / "config.json", facts)
        deadline = time.monotonic() + train.max_minutes * 60
        with (
            MetricsLog(workdir, resume_step=step if restored else -1, silent=not is_main()) as log,
            Progress(train.num_steps, "stage 1", quiet) as progress,
        ):
            while step < train.num_steps and not in_any_process(stop.requested or time.monotonic() > deadline):
                count = min(train.steps_per_call, train.num_steps - step)
                state, latest = train_steps(
                    state, train_data, jax.random.fold_in(key, 1), model=model, weights=weights, optimizer=optimizer,
                    batch_size=train.batch_size, decay=train.ema_decay, mesh=mesh, num_steps=count,
                )  # fmt: skip
                step += count
                latest = jax.device_get(latest)
                if not np.isfinite(latest["loss"]):
                    raise FloatingPointError(f"the loss is {latest['loss']} at step {step}; nothing was saved since")
                log.write(step, {f"train/{k}": v for k, v in latest.items()})
                progress.update(step, loss=latest["loss"])
                if step % train.steps_per_evaluation < count or step >= train.num_steps:
                    metrics = _validate(state.ema, validation, key, model, weights, config)
                    log.write(step, {f"validation/{k}": v for k, v in metrics.items()})
                    checkpoints.save(step, state, metrics["loss"])
            checkpoints.save(step, state, metrics.get("loss"))
    return state, metrics


def _validate(params, validation, key, model, weights, config) -> dict[str, float]:
    metrics = evaluate(
        params, validation, jax.random.fold_in(key, 2), model=model, weights=weights,
        batch_size=config.train.batch_size, mesh=data_mesh(), num_batches=config.train.evaluation_batches,
    )  # fmt: skip
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


def export(directory: Path, facts: dict[str, Any], params, prior: dict[str, Any]) -> None:
    """Writes weights without pickle, and what is needed to read them, for `sample.py`."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {"model": params["params"]} | prior
    save_weights(directory / "weights.npz", jax.device_get(weights), dtype="float16")
    facts = facts | {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    write_json_atomic(directory / "model.json", json.loads(json.dumps(facts)))
