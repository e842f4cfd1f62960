"""What the figures of the paper show, from a trained model: candidates, energies and latents, stored as arrays.

The half for the device: nothing here, nor what it imports, needs a crystal library. `figure_drawing` draws.
"""

from __future__ import annotations

import datetime
import functools
import math
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from vdw_jax.design.generate import Candidates, default_chunk, generate
from vdw_jax.design.request import make_request
from vdw_jax.design.trained import Trained
from vdw_jax.evaluate.generating import Job, Wish
from vdw_jax.evaluate.reference import Reference
from vdw_jax.model.config import in_units, standardise
from vdw_jax.property_model.trained import PropertyModel
from vdw_jax.structures.arrays import crystals_in, flat, read_arrays, write_arrays
from vdw_jax.structures.formula import formula_string, parse_formula
from vdw_jax.training.devices import data_mesh, on_each_device
from vdw_jax.training.progress import Progress
from vdw_jax.training.seeds import NUM_SEEDS
from vdw_jax.types import Conditions, CrystalBatch

ARRAYS_NAME = "figures.npz"
NOTHING = "nothing"
"""Kind of a candidate of which nothing was asked; the other kinds are those of `generating.Wish`."""


class FigureError(ValueError):
    """The figures cannot be made; the message is one line that a person can act on."""


@dataclass(frozen=True)
class Asked:
    """How much of what is made for the figures."""

    samples: int  # with nothing asked
    each: int  # for every energy, and for every formula with its counts held and free
    energies_ev: tuple[float, ...]
    formulas: tuple[str, ...]  # reduced, as `formula_string` writes them
    latents: int  # structures of `part` whose latents are kept
    part: str = "test"


@dataclass(frozen=True, eq=False)
class FigureArrays:
    """n candidates, and m structures of one part of the data with their latents."""

    record: dict[str, Any]
    crystals: CrystalBatch  # of the candidates; [n, ...]
    asked_kind: NDArray  # [n] `NOTHING`, or the kind of a `Wish`
    asked_formula: NDArray  # [n], "" for none
    asked_energy_ev: NDArray  # [n], NaN for none
    formula: NDArray  # [n], what came
    head_ev: NDArray  # [n], the model's own property head, read from the finished structure
    independent_ev: NDArray | None  # [n], a property model that shares nothing with this one
    train_label_ev: NDArray  # [...], of the whole training part, finite ones
    test_label_ev: NDArray  # [...], of the whole test part, finite ones
    ids: NDArray  # [m]
    label_ev: NDArray  # [m], NaN where the data have none
    data_formula: NDArray  # [m]
    data_head_ev: NDArray  # [m]
    data_independent_ev: NDArray | None  # [m]
    latent: NDArray  # [m, latent_dim], z: the mean that the encoder gives
    fused_energy: NDArray  # [m, latent_dim], z_c: z fused with the structure's own energy
    fused_formula: NDArray  # [m, latent_dim], z_c: z fused with the structure's own composition

    @property
    def energies_asked(self) -> list[float]:
        """Every energy that was asked for, lowest first."""
        return np.unique(self.asked_energy_ev[np.isfinite(self.asked_energy_ev)]).tolist()

    @property
    def formulas_asked(self) -> list[str]:
        """Every formula that was asked for, in the order asked."""
        return list(dict.fromkeys(self.asked_formula[self.asked_formula != ""].tolist()))


def choose_formulas(reference: Reference, given: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """The formulas to ask for, reduced: those given, or else `count` at random from those of the test part.

    Raises:
        FormulaError: one that cannot be read.
    """
    if given:
        return tuple(dict.fromkeys(formula_string(parse_formula(formula)) for formula in given))
    known = sorted({reference.data.formula(row) for row in reference.rows("test")})
    return tuple(sorted(np.random.default_rng(seed).permutation(known)[:count].tolist()))


def make_arrays(job: Job, asked: Asked, independent: PropertyModel | None = None) -> Path:
    """Samples, candidates and latents for all figures; writes `figures.npz` into the directory of the job.

    Args:
        job: model, data, schedule, seed and where to.
        asked: how much of what.
        independent: predicts the energy of candidates and data too, in the unit of the model's first scalar.

    Raises:
        FigureError: the model has no energy to be asked for.
        RequestError: a formula that no cell can hold.
    """
    trained, reference = job.trained, job.reference
    if not trained.model.config.scalars:
        raise FigureError("this model was trained without an energy: the figures need one to ask for")
    energy_name = trained.model.config.scalars[0].name
    started = time.monotonic()
    wishes, found = _candidates(job, asked)
    seconds = {"sampling": time.monotonic() - started}
    rows = reference.rows(asked.part)
    rows = np.sort(np.random.default_rng(job.seed).permutation(rows)[: asked.latents])
    data = reference.data.select(rows)
    label = data.scalars.get(energy_name, np.full(len(rows), np.nan))
    started = time.monotonic()
    latents = encode(trained, data.batch(), label, data.composition(), quiet=job.quiet)
    seconds["encoding"] = time.monotonic() - started
    arrays: dict[str, Any] = {
        "asked_kind": np.array([NOTHING if wish is None else wish.kind for wish in wishes]),
        "asked_formula": np.array(["" if wish is None else wish.formula or "" for wish in wishes]),
        "asked_energy_ev": np.array(
            [np.nan if wish is None or wish.energy_ev is None else wish.energy_ev for wish in wishes]
        ),
        "formula": formulas_of(np.asarray(found.crystals.atomic_numbers)),
        "head_ev": np.asarray(found.predicted)[:, 0],
        "train_label_ev": _labels(reference, "train", energy_name),
        "test_label_ev": _labels(reference, "test", energy_name),
        "ids": data.ids,
        "label_ev": label,
        "data_formula": formulas_of(data.atomic_numbers),
    } | latents
    if independent is not None:
        arrays["independent_ev"] = independent.predict(found.crystals)
        arrays["data_independent_ev"] = independent.predict(data.batch())
    arrays |= flat("found", found.crystals)
    record = {
        "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "seed": job.seed,
        "network_calls": job.schedule.num_calls,
        "date": datetime.date.today().isoformat(),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "periodicity": list(trained.model.config.periodicity),
        "energy": energy_name,
        "part": asked.part,
        "data": reference.settings,
        "data_hash": reference.data_hash,
        "data_problem": reference.problem,
        "weights_sha256": trained.weights_sha256,
        **job.record,
    }
    path = job.directory / ARRAYS_NAME
    write_arrays(path, record, arrays)
    return path


def _candidates(job: Job, asked: Asked) -> tuple[list[Wish | None], Candidates]:
    """Every candidate with what was asked of it, in the order of the wishes."""
    wishes: list[Wish | None] = [None]
    wishes += [Wish(energy_ev=energy) for energy in asked.energies_ev]
    wishes += [Wish(formula, hold_counts=hold) for formula in asked.formulas for hold in (True, False)]
    # All are checked before the first is made.
    requests = [make_request(job.trained) if wish is None else wish.request(job.trained) for wish in wishes]
    counts = [asked.samples if wish is None else asked.each for wish in wishes]
    parts, done = [], 0
    with Progress(sum(counts), "designing", job.quiet) as progress:
        for place, (request, count) in enumerate(zip(requests, counts, strict=True)):

            def say(number: int, before: int = done) -> None:
                progress.update(before + number)

            seed = (job.seed + place) % NUM_SEEDS
            parts.append(generate(job.trained, request, count, seed, job.schedule, on_progress=say))
            done += count
            progress.update(done)
    found = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    return [wish for wish, count in zip(wishes, counts, strict=True) for _ in range(count)], found


def encode(
    trained: Trained, batch: CrystalBatch, label: NDArray, composition: NDArray, *, quiet: bool = False
) -> dict[str, NDArray]:
    """Latents before and after the fusion with a structure's own energy, and with its own composition (Eq. 3).

    Without a label nothing of the energy is told, as in training.

    Args:
        trained: the model; its first scalar is the energy.
        batch: m crystals.
        label: [m], the energy in its unit, NaN where absent.
        composition: [m, E] atomic fractions.
        quiet: no progress.

    Returns:
        `latent`, `fused_energy`, `fused_formula`, each [m, latent_dim], and `data_head_ev` [m].
    """
    mesh, config = data_mesh(), trained.model.config
    params = {"params": trained.weights["model"]}
    count, width = len(label), len(config.scalars)
    size = min(default_chunk(), math.ceil(count / mesh.size)) * mesh.size
    first_scalar = config.scalars[:1]

    @jax.jit
    def run(params, crystals: CrystalBatch, energies: jax.Array, shares: jax.Array) -> dict[str, jax.Array]:
        encoder = on_each_device(functools.partial(trained.model.apply, method="encode"), mesh)
        mean, _ = encoder(params, crystals)
        fuse = functools.partial(trained.model.apply, params, mean, method="fuse")
        known = jnp.isfinite(energies)
        first = jnp.arange(width) == 0
        scalars = jnp.where(first, jnp.where(known, energies, 0.0)[:, None], 0.0)
        no_scalar, none = jnp.zeros(scalars.shape, bool), jnp.zeros(len(energies), bool)
        properties: Any = trained.model.apply(params, mean, method="properties")
        return {
            "latent": mean,
            "fused_energy": fuse(Conditions(scalars, known[:, None] & first, jnp.zeros_like(shares), none)),
            "fused_formula": fuse(Conditions(jnp.zeros_like(scalars), no_scalar, shares, ~none)),
            "data_head_ev": properties[:, 0],
        }

    parts = []
    with Progress(count, "encoding", quiet) as progress:
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)  # one shape, one compilation
            crystals = jax.tree.map(lambda x, rows=rows: jnp.asarray(x[rows]), batch)
            energies = jnp.asarray(standardise(label[rows, None], first_scalar)[:, 0])
            parts.append(jax.device_get(run(params, crystals, energies, jnp.asarray(composition[rows]))))
            progress.update(min(start + size, count))
    found = {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
    return found | {"data_head_ev": in_units(found["data_head_ev"][:, None], first_scalar)[:, 0]}


def formulas_of(atomic_numbers: NDArray) -> NDArray:
    """Reduced formulas of padded crystals; [n, N] -> [n] str."""
    formulas = []
    for row in atomic_numbers:
        numbers, counts = np.unique(row[row > 0], return_counts=True)
        formulas.append(formula_string(dict(zip(numbers.tolist(), counts.tolist(), strict=True))))
    return np.array(formulas, dtype=np.str_)


def _labels(reference: Reference, part: str, name: str) -> NDArray:
    label = reference.data.scalars.get(name)
    if label is None:
        return np.zeros(0, np.float32)
    chosen = label[reference.parts[part]]
    return chosen[np.isfinite(chosen)]


def load_arrays(directory: Path) -> FigureArrays:
    """What `make_arrays` wrote.

    Raises:
        FigureError: no such file, or not one of those.
    """
    path = directory / ARRAYS_NAME if directory.is_dir() else directory
    if not path.is_file():
        raise FigureError(f"{directory} holds no {ARRAYS_NAME}: make it with `generate` first")
    try:
        record, stored = read_arrays(path)
        crystals = crystals_in(stored, "found")
        arrays = {name: values for name, values in stored.items() if not name.startswith("found/")}
        optional: dict[str, Any] = {name: arrays.pop(name, None) for name in ("independent_ev", "data_independent_ev")}
        return FigureArrays(record=record, crystals=crystals, **optional, **arrays)
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FigureError(f"{path}: not what `generate` writes: {error}") from error
