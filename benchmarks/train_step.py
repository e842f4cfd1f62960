"""Structures a second of the compiled training step: encoder, denoiser, losses, gradients, Adam and averaging.

    python -m benchmarks.train_step --config=configs/paper.py --batch=256 --dtype=bfloat16

Times `vdw_jax.training.steps.train_steps`, `--steps` of them a call as training makes them, on data on the device.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import flops, measure
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.training.devices import data_mesh, replicate
from vdw_jax.training.loop import create_optimizer
from vdw_jax.training.losses import LossConfig
from vdw_jax.training.steps import TrainState, make_example, train_steps
from vdw_jax.types import CrystalBatch

DATA = 4096
"""Crystals that batches are drawn from."""


def gradient(model: CDVAE, params, crystals: CrystalBatch, fused: jax.Array, sigma: jax.Array):
    """Of the summed squares of both networks' outputs, without dropout and chance; like `params`."""

    def total(params):
        mean, _ = model.apply(params, crystals, method="encode")
        output = model.apply(params, fused, crystals, sigma, sigma / (1 + sigma), method="denoise")
        return jnp.mean(mean**2) + jnp.mean(output.raw**2) + jnp.mean(output.species**2)

    return jax.grad(total)(params)


def gradient_error(model: CDVAE, params, crystals: CrystalBatch, seed: int = 0) -> float:
    """||g - g64|| / ||g64|| over all parameters together."""
    rng = np.random.default_rng(seed)
    fused = rng.standard_normal((len(crystals.cell), model.config.latent_dim)).astype(np.float32)
    sigma = rng.uniform(0.1, 3.0, len(crystals.cell)).astype(np.float32)
    call = jax.jit(lambda *inputs: gradient(model, *inputs))
    out = measure.run_among_nans(call, params, crystals, fused, sigma)
    reference = measure.in_float64(gradient, model, params, crystals, fused, sigma)
    flat = [
        np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])
        for tree in (out, reference)
    ]
    return measure.relative_error(*flat)


def prepare(arguments: argparse.Namespace, config: ConfigDict, steps: int) -> tuple[Any, float, tuple, CDVAE]:
    """The compiled training step, the seconds that took, its arguments (state, data, key), and the model."""
    count = max(arguments.batch, min(DATA, 16 * arguments.batch))
    crystals = measure.make_crystals(count, arguments.atoms, arguments.slots)
    model = measure.make_model(config, crystals)
    params = measure.random_params(model, crystals)
    optimizer, mesh = create_optimizer(config), data_mesh()
    scalars = np.random.default_rng(0).standard_normal((len(crystals.cell), len(model.config.scalars)))
    data = make_example(crystals.atomic_numbers, crystals.positions, crystals.cell, scalars)
    state = TrainState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params))
    state = replicate(jax.tree.map(jnp.copy, state), mesh)
    key = jax.random.key(0)
    compiled, compile_s = measure.compile_timed(
        train_steps, state, data, key, model=model, weights=LossConfig(**config.loss.to_dict()), optimizer=optimizer,
        batch_size=arguments.batch, decay=config.train.ema_decay, mesh=mesh, num_steps=steps,
    )  # fmt: skip
    return compiled, compile_s, (state, data, key), model


def run(argv: list[str] | None = None) -> dict:
    """Measures, checks and returns the record."""
    options = measure.parser(__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=10, help="steps a call")
    options.add_argument("--checked", type=int, default=8, help="structures whose gradient is compared; 0: no check")
    arguments, config = measure.parse(options, argv)
    compiled, compile_s, (state, data, key), model = prepare(arguments, config, arguments.steps)
    params, metrics = state.params, None
    few = jax.tree.map(lambda x: x[: arguments.checked], data.crystals)
    error = gradient_error(model, params, few) if arguments.checked else None

    def call():
        nonlocal state, metrics
        state, metrics = compiled(state, data, key)
        return metrics

    timing = measure.time_calls(call, arguments.repeats)
    memory = measure.peak_memory_gb(compiled)
    losses = {name: float(value) for name, value in metrics.items()}
    ceilings = measure.measure_ceilings()
    rate = arguments.batch * arguments.steps / timing.median_s
    work = flops.training(model.config, arguments.atoms)
    record = measure.make_record(
        "train_step", arguments, ceilings, timing,
        structures_per_s=rate,
        steps_per_s=arguments.steps / timing.median_s,
        steps=arguments.steps,
        neighbours=flops.num_neighbours(model.config, arguments.slots),
        gflop_per_structure=work / 1e9,
        tflop_per_s=work * rate / 1e12,
        share_of_peak=work * rate / 1e12 / ceilings.matmul_tflops / jax.device_count(),
        peak_memory_gb=memory,
        compile_s=compile_s,
        loss=losses["loss"],
        gradient_error_against_float64=error,
        tolerance=2 * measure.TOLERANCE[arguments.dtype],
    )  # fmt: skip
    measure.report(record, arguments.out)
    assert np.isfinite(losses["loss"]), "the loss is not finite"
    assert error is None or error < record["tolerance"], "the gradient disagrees with float64"
    return record


if __name__ == "__main__":
    run()
