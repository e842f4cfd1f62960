"""Trains the property model: `python -m vdw_jax.property_model.train --out=runs/property_model`.

A few minutes on a GPU. The same data and parts as the model's, weights of its own; the error on the test part goes
on record.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import json
import shlex
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vdw_jax.graphs.neighbours import image_range_for
from vdw_jax.property_model.cgcnn import CGCNN, CGCNNConfig
from vdw_jax.property_model.trained import PropertyModel, save_property_model
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.source import SOURCES, load_source
from vdw_jax.structures.splits import PARTS, split_dataset
from vdw_jax.structures.spread import mean_and_spread
from vdw_jax.training.ema import ema_update
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.labels import standardise
from vdw_jax.training.progress import Progress
from vdw_jax.training.seeds import checked_seed
from vdw_jax.types import CrystalBatch

STEPS_PER_CALL = 50


@dataclasses.dataclass(frozen=True)
class Fit:
    """How to train."""

    num_steps: int = 12_000
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    ema_decay: float = 0.999
    seed: int = 0

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW, cosine schedule, norm clipped at 1."""
        warmup = min(500, self.num_steps // 10)
        schedule = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, warmup, self.num_steps)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=self.weight_decay))


@functools.partial(jax.jit, static_argnames=("model", "fit", "num_steps"), donate_argnums=(0,))
def train_steps(state, crystals: CrystalBatch, labels: jax.Array, *, model: CGCNN, fit: Fit, num_steps: int):
    """`num_steps` steps on the mean absolute error; state is (step, params, average, optimiser)."""
    optimizer = fit.optimizer()

    def one(state, _):
        step, params, average, opt_state = state
        rows = jax.random.randint(jax.random.fold_in(jax.random.key(fit.seed), step), (fit.batch_size,), 0, len(labels))
        batch = jax.tree.map(lambda x: x[rows], crystals)

        def loss(params):
            out: Any = model.apply(params, batch)
            return jnp.mean(jnp.abs(out - labels[rows]))

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        return (step + 1, params, ema_update(average, params, fit.ema_decay, step), opt_state), value

    state, losses = jax.lax.scan(one, state, length=num_steps)
    return state, losses.mean()


def fit_property_model(
    data: CrystalDataset, label: str, fit: Fit, *, split: str = "structure", sizes: dict[str, Any] | None = None,
    quiet: bool = False,
) -> PropertyModel:  # fmt: skip
    """Trains on the training part and puts the mean absolute errors of all parts on record, in the label's unit.

    Args:
      label: a scalar of the data; rows without it are left out.
      split: as for `split_dataset`.
      sizes: fields of `CGCNNConfig` that differ from its defaults.

    Raises:
      DataError: no such label, or no row of the training part has it.
    """
    started = time.monotonic()
    if label not in data.scalars:
        raise DataError(f"no property {label!r}; there are {', '.join(sorted(data.scalars)) or 'none'}")
    known = np.isfinite(data.scalars[label])
    parts = {name: rows[known[rows]] for name, rows in split_dataset(data, fit.seed, by=split).items()}
    if not len(parts["train"]):
        raise DataError(f"no row of the training part has a {label}")
    values = data.scalars[label]
    mean, std = mean_and_spread(values[parts["train"]])
    config = CGCNNConfig(label=label, mean=mean, std=std, periodicity=data.periodicity)
    config = dataclasses.replace(config, **(sizes or {}))
    images = image_range_for(data.cell, data.periodicity, config.cutoff_angstrom)
    model = CGCNN(dataclasses.replace(config, image_range=images))

    crystals = _batch(data, parts["train"])
    labels = jnp.asarray(standardise(values[parts["train"], None], (config,))[:, 0])
    params = jax.jit(model.init)(jax.random.key(fit.seed), jax.tree.map(lambda x: x[:2], crystals))
    state = (jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), fit.optimizer().init(params))
    done = 0
    with Progress(fit.num_steps, "property model", quiet) as progress:
        while done < fit.num_steps:
            count = min(STEPS_PER_CALL, fit.num_steps - done)
            state, loss = train_steps(state, crystals, labels, model=model, fit=fit, num_steps=count)
            done += count
            progress.update(done, error=float(loss) * config.std)
    trained = PropertyModel(model, state[2], {})
    errors = {
        name: float(np.abs(trained.predict(_batch(data, parts[name])) - values[parts[name]]).mean()) for name in PARTS
    }
    facts = {
        "label": label,
        "errors": errors,
        "sizes": {name: len(rows) for name, rows in parts.items()},
        "fit": dataclasses.asdict(fit),
        "split": split,
        "data_hash": data.content_hash(),
        "elements": sorted(map(int, set(data.atomic_numbers[data.atomic_numbers > 0].tolist()))),
        "atom_counts": sorted(map(int, set(data.num_atoms.tolist()))),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "seconds": round(time.monotonic() - started, 1),
        "date": datetime.date.today().isoformat(),
    }
    return dataclasses.replace(trained, facts=facts)


def _batch(data: CrystalDataset, rows: np.ndarray) -> CrystalBatch:
    return jax.tree.map(jnp.asarray, data.select(rows).batch())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="j2dh8+iii_vi", choices=SOURCES)
    parser.add_argument("--path", help="the file, for a source that needs one")
    parser.add_argument("--label", default="formation_energy_ev")
    parser.add_argument("--split", default="structure", choices=("structure", "pair"))
    parser.add_argument("--steps", type=int, default=Fit.num_steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="directory for weights.npz and model.json")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    try:
        # As a list, for the label is one name, whatever it holds.
        data = load_source(given.source, path=given.path, properties=(json.dumps([given.label]),))
        fit = Fit(given.steps, seed=checked_seed(given.seed, "--seed"))
        trained = fit_property_model(data, given.label, fit, split=given.split, quiet=given.quiet)
    except (DataError, ConfigError) as error:
        print(f"property_model: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    command = shlex.join(["python", "-m", "vdw_jax.property_model.train", *sys.argv[1:]])
    save_property_model(given.out, dataclasses.replace(trained, facts=trained.facts | {"command": command}))
    errors = ", ".join(f"{name} {error:.4f}" for name, error in trained.facts["errors"].items())
    print(f"mean absolute error of {given.label}: {errors}")
    print(f"property model in {given.out} after {trained.facts['seconds']:.0f} s")


if __name__ == "__main__":
    main()
