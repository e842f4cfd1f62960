"""Both training stages from a config: data, model, optimiser, checkpoints, resuming, export."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.graphs.neighbours import image_range_for
from vdw_jax.model.cdvae import CDVAE, lattice_targets
from vdw_jax.model.config import ModelConfig, ScalarCondition, standardise
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
from vdw_jax.training.export import old_fusion_names, weights_like, write_export
from vdw_jax.training.interrupt import GracefulExit
from vdw_jax.training.losses import Example, LossConfig, draw_conditions
from vdw_jax.training.memory import check_memory
from vdw_jax.training.metrics_log import FILE_NAME, MetricsLog
from vdw_jax.training.progress import Progress
from vdw_jax.training.second_stage import STAGE_2, has_steps, prepare_second_stage, second_stage
from vdw_jax.training.settings import check_config
from vdw_jax.training.steps import TrainState, evaluate, make_example, train_steps
from vdw_jax.training.workdir import CONFIG_NAME, check_same_run, locked

LATTICE_STD_FLOOR = (0.02, 0.02, 0.02, 1.0, 1.0, 1.0)
"""Angstrom and degrees: a lattice parameter that never varies is not blown up."""


STAGE_1 = "stage1"
"""Folder of the first stage's checkpoints in a workdir."""

_HOW_TO_GO_ON = "stopped; stage {stage} is saved at step {step} of {total}, and the same command goes on from there"


def create_equiformer(config: ConfigDict) -> EquiformerConfig:
    """Network sizes from their part of the config; grids are (rings, points a ring)."""
    values = config.to_dict()
    for grid in ("edge_grid", "node_grid"):
        values[grid] = SphereGrid(*values[grid])
    return EquiformerConfig(**values)


def create_model(config: ConfigDict, data: CrystalDataset) -> CDVAE:
    """The model, with normalisation and image range from the training data."""
    scalars = tuple(ScalarCondition.of(name, data.scalars[name]) for name in config.data.scalars)
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


def create_example(data: CrystalDataset, scalars: tuple[ScalarCondition, ...]) -> Example:
    """A whole data set as one `Example` on the device, its labels standardised."""
    columns = [data.scalars[scalar.name] for scalar in scalars]
    table = np.stack(columns, -1) if columns else np.zeros((len(data), 0))
    return make_example(data.atomic_numbers, data.positions, data.cell, standardise(table, scalars))


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
    for name in data.scalars if config.data.scalars else ():  # as the data have them
        if not np.isfinite(data.scalars[name][split["train"]]).any():
            raise DataError(f"{name} is unknown in all structures to learn from; leave it out of data.scalars")
    return data, split


def train(
    config: ConfigDict, workdir: str | Path, *, quiet: bool = False, allow_changes: bool = False
) -> dict[str, float]:
    """Trains both stages, or goes on from the last checkpoint in `workdir`.

    Writes checkpoints, `metrics.jsonl` and TensorBoard files, and at the end `export/`: what `sample.py` reads. Where
    `train.num_steps` was raised since, the first stage goes on and the second is trained anew for it.

    Args:
      allow_changes: go on from checkpoints of other settings or data.

    Returns:
      The last validation metrics. Empty if it stopped before the end (SIGTERM, Ctrl-C, or `train.max_minutes`
      of the first stage are over); everything is saved then.
    Raises:
      ConfigError: a setting cannot be, needs more memory than there is, or differs from that of the checkpoints; or
        another run works in `workdir`.
      DataError: if the data cannot be used.
      CheckpointError: if a stage's checkpoints are damaged, or of another network; they are left as they are.
    """
    config = config.copy_and_resolve_references()
    check_config(config.to_dict())
    workdir = Path(workdir)
    mesh, quiet = data_mesh(), quiet or not is_main()
    if config.train.batch_size % mesh.size:
        raise ConfigError(f"train.batch_size {config.train.batch_size} is no multiple of {mesh.size} devices")
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        return _train(config, workdir, mesh, quiet, allow_changes)


def _train(config: ConfigDict, workdir: Path, mesh: Mesh, quiet: bool, allow_changes: bool) -> dict[str, float]:
    generator = create_generator(config, config.model.cdvae.latent_dim)
    data, split = create_data(config)
    if config.data.scalars:
        config.data.scalars = tuple(data.scalars)  # as the data have them
    train_part = data.select(split["train"])
    model = create_model(config, train_part)
    width = train_part.atomic_numbers.shape[1]
    check_memory(config.to_dict(), model.config.image_range, model.config.periodicity, width)
    facts = _facts(config, model, data, train_part)
    if not allow_changes and has_steps(workdir / STAGE_1):
        check_same_run(workdir, facts, has_second_stage=has_steps(workdir / STAGE_2))
    train_data, validation = replicate(
        tuple(create_example(part, model.config.scalars) for part in (train_part, data.select(split["validation"]))),
        mesh,
    )
    weights = LossConfig(**config.loss.to_dict())
    key = replicate(jax.random.key(config.seed), mesh)

    with GracefulExit() as stop:
        state, metrics = _first_stage(
            config, workdir, facts, model, generator, weights, train_data, validation, key, stop, quiet
        )
        step = int(state.step)
        if step < config.train.num_steps:
            _say(_HOW_TO_GO_ON.format(stage=1, step=step, total=config.train.num_steps))
            return {}
        of_first = {"steps": step, "data_hash": facts["data_hash"]}
        step, total, prior = second_stage(
            config.to_dict(), workdir, model, generator, state.ema, train_data, key, stop, quiet, of_first
        )
        if step < total:
            _say(_HOW_TO_GO_ON.format(stage=2, step=step, total=total))
            return {}
    if is_main():
        facts["coverage"] = coverage_record(facts, train_part)
        export(workdir / "export", facts, state.ema, prior)
        shutil.copyfile(workdir / FILE_NAME, workdir / "export" / FILE_NAME)
    return metrics or _validate(state.ema, validation, key, model, weights, config)


def _facts(config: ConfigDict, model: CDVAE, data: CrystalDataset, train_part: CrystalDataset) -> dict[str, Any]:
    """What `config.json` and `model.json` say of a run."""
    return {
        "config": config.to_dict(),
        "model": model.config.to_dict(),
        "data_hash": data.content_hash(),
        "num_structures": len(data),
        "command": shlex.join(["python", *sys.argv]),
        "atom_counts": sorted(int(n) for n in set(train_part.num_atoms)),
        "elements": sorted(int(n) for n in set(train_part.atomic_numbers.ravel()) - {0}),
        "formulas": sorted({_formula(numbers) for numbers in train_part.atomic_numbers}),
        "scalar_range": {name: _range(train_part.scalars[name]) for name in config.data.scalars},
    }


def _say(text: str) -> None:
    if is_main():
        print(text)


def _note(text: str) -> None:
    if is_main():
        print(f"note: {text}", file=sys.stderr)


def _old_leaf_name(scalars: list[str]) -> Callable[[str], str]:
    """Paths of the state's leaves as they were when properties named parameters."""
    old = old_fusion_names(scalars)

    def name(path: str) -> str:
        stem, _, last = path.rpartition(".fusion.")
        return f"{stem}.fusion.{old.get(last, last)}" if stem else path

    return name


def _formula(numbers: np.ndarray) -> str:
    return formula_string(Counter(int(number) for number in numbers if number))


def _range(values: np.ndarray) -> list[float]:
    return [float(np.nanmin(values)), float(np.nanmax(values))]


def _first_stage(config, workdir, facts, model, generator, weights, train_data, validation, key, stop, quiet):
    train, mesh = config.train, data_mesh()
    optimizer = create_optimizer(config)

    @functools.partial(jax.jit, out_shardings=whole(mesh))
    def initial(key, few):
        conditions = draw_conditions(few, key, 0.0)
        params = model.init(key, few.crystals, conditions, jnp.ones(2))
        return TrainState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params))

    state = initial(jax.random.fold_in(key, 0), jax.tree.map(lambda x: x[:2], train_data))
    names = [scalar.name for scalar in model.config.scalars]
    if train.start_from:
        params = weights_like(state.params, Path(train.start_from), names)
        params = replicate(params, mesh)
        state = dataclasses.replace(state, params=params, ema=params)
    metrics: dict[str, float] = {}
    with Checkpoints(workdir / STAGE_1, old_name=_old_leaf_name(names)) as checkpoints:
        restored = checkpoints.restore_latest(state)
        for line in checkpoints.notes:
            _note(line)
        state, step = restored if restored else (state, 0)
        # Before this run is the one on record: what the second stage has on disk must be of its network.
        of_first = {"steps": max(step, train.num_steps), "data_hash": facts["data_hash"]}
        prepare_second_stage(config.to_dict(), workdir, model, generator, of_first)
        if is_main():
            write_json_atomic(workdir / CONFIG_NAME, facts)
        if step >= train.num_steps:
            return state, metrics  # the curve stays as it is, with that of the second stage
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
    facts = facts | {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    write_export(directory, facts, jax.device_get({"model": params["params"]} | prior))
