"""The half for the device: a trained model's reconstructions, samples and candidates, stored as arrays.

Nothing here, nor what it imports, needs a crystal library. What it writes is read by `samples.load_samples`.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.design.generate import Candidates, generate, reconstruct
from vdw_jax.design.request import Request, make_request
from vdw_jax.design.trained import Trained
from vdw_jax.diffusion.samplers import Schedule
from vdw_jax.evaluate.reference import Reference
from vdw_jax.structures.arrays import flat, write_arrays
from vdw_jax.training.progress import Progress
from vdw_jax.training.seeds import NUM_SEEDS

PARTS = ("reconstruction", "generation", "conditional")
LOW, HIGH = 5, 95
"""Percentiles of the label between which energies are asked for."""


@dataclass(frozen=True)
class Wish:
    """One thing to ask for."""

    formula: str | None = None
    energy_ev: float | None = None
    hold_counts: bool = True
    """A formula's atoms are placed exactly; otherwise the model chooses how many of each."""

    @property
    def kind(self) -> str:
        """`formula held`, `formula free`, `energy` or `energy and formula`."""
        if self.formula is None:
            return "energy"
        if self.energy_ev is not None:
            return "energy and formula"
        return "formula held" if self.hold_counts else "formula free"

    def request(self, trained: Trained) -> Request:
        """Of a model whose first scalar is the energy; one without scalars is not asked for it.

        Raises:
            RequestError: a formula that no cell can hold.
        """
        scalars = trained.model.config.scalars
        energy = {} if self.energy_ev is None or not scalars else {scalars[0].name: self.energy_ev}
        return make_request(
            trained, self.formula, energy, hold_counts=self.hold_counts, allow_untrained=True
        )


@dataclass(frozen=True, eq=False)
class Job:
    """What every part needs."""

    trained: Trained
    reference: Reference
    schedule: Schedule
    seed: int
    directory: Path
    record: dict[str, Any]  # checkpoint, command
    quiet: bool = False


def generate_reconstruction(job: Job, count: int | None, family: str) -> Path:
    """Reconstructs `count` random structures of the test part, all by default; writes `reconstruction.npz`."""
    rows = job.reference.rows("test", family)
    if count is not None:
        rows = np.sort(np.random.default_rng(job.seed).permutation(rows)[:count])
    data = job.reference.data.select(rows)
    truth = jax.tree.map(jnp.asarray, data.batch())
    started = time.monotonic()
    with Progress(len(rows), "reconstructing", job.quiet) as progress:
        found = reconstruct(job.trained, truth, job.seed, job.schedule, on_progress=progress.update)
    known = {"ids": data.ids} | flat("truth", truth)
    return _write(job, "reconstruction", found, known, {"family": family}, time.monotonic() - started)


def generate_samples(job: Job, count: int, family: str) -> Path:
    """Samples with nothing asked for; writes `generation.npz`."""
    started = time.monotonic()
    with Progress(count, "sampling", job.quiet) as progress:
        found = generate(
            job.trained, make_request(job.trained), count, job.seed, job.schedule, on_progress=progress.update
        )
    return _write(job, "generation", found, {}, {"family": family}, time.monotonic() - started)


def generate_conditional(job: Job, each: int, num_energies: int, num_formulas: int) -> Path:
    """`each` candidates for every wish of `wishes`; writes `conditional.npz`."""
    asked, notes = wishes(job.trained, job.reference, num_energies, num_formulas, job.seed)
    parts, started = [], time.monotonic()
    with Progress(each * len(asked), "designing", job.quiet) as progress:
        for place, wish in enumerate(asked):
            seed = (job.seed + place) % NUM_SEEDS
            parts.append(generate(job.trained, wish.request(job.trained), each, seed, job.schedule))
            progress.update(each * (place + 1))
    found = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    repeated = [wish for wish in asked for _ in range(each)]
    arrays = {
        "asked_kind": np.array([wish.kind for wish in repeated]),
        "asked_formula": np.array([wish.formula or "" for wish in repeated]),
        "asked_energy_ev": np.array([np.nan if w.energy_ev is None else w.energy_ev for w in repeated]),
    }
    return _write(job, "conditional", found, arrays, notes, time.monotonic() - started)


def wishes(
    trained: Trained, reference: Reference, num_energies: int, num_formulas: int, seed: int
) -> tuple[list[Wish], dict[str, Any]]:
    """What is asked for: energies and formulas, each with the counts of atoms free and held.

    Energies lie evenly from the 5th to the 95th percentile of the label; with held counts each comes with the formula
    of the structure of the test part whose label is nearest. Formulas are drawn from those of the test part.

    Args:
        trained: its first scalar is the energy; a model without one is asked for formulas only.
        reference: gives label and formulas. Data without that label leave the spread that the model records: 1.64
            standard deviations about the mean.
        num_energies: how many energies.
        num_formulas: how many formulas.
        seed: of the draw.
    """
    data, rows = reference.data, reference.rows("test")
    asked: list[Wish] = []
    notes: dict[str, Any] = {}
    scalars = trained.model.config.scalars
    if scalars and num_energies:
        label = data.scalars.get(scalars[0].name)
        notes["energy_label"] = scalars[0].name
        if label is not None:
            known = label[np.isfinite(label)]
            low, high = np.percentile(known, [LOW, HIGH])
        else:
            low, high = scalars[0].mean - 1.645 * scalars[0].std, scalars[0].mean + 1.645 * scalars[0].std
        energies = np.round(np.linspace(low, high, num_energies), 4)
        asked += [Wish(energy_ev=float(energy)) for energy in energies]
        if label is not None:
            labelled = rows[np.isfinite(label[rows])]
            nearest = [labelled[np.abs(label[labelled] - energy).argmin()] for energy in energies]
            asked += [Wish(data.formula(row), float(energy)) for row, energy in zip(nearest, energies, strict=True)]
    formulas = sorted({data.formula(row) for row in rows})
    chosen = sorted(np.random.default_rng(seed).permutation(formulas)[:num_formulas].tolist())
    for hold in (True, False):
        asked += [Wish(formula, hold_counts=hold) for formula in chosen]
    return asked, notes


def _write(
    job: Job, part: str, found: Candidates, arrays: dict[str, np.ndarray], notes: dict[str, Any], seconds: float
) -> Path:
    facts, crystals = job.trained.facts, found.crystals
    is_finite = np.isfinite(np.concatenate([crystals.positions, crystals.cell], axis=1)).all((1, 2))
    count, lost = len(crystals.cell), int(np.sum(~is_finite))
    if lost:
        print(f"note: {part}: {lost} of {count} are not finite, and count as invalid", file=sys.stderr)
    names: Sequence[str] = [scalar.name for scalar in job.trained.model.config.scalars]
    record = {
        "part": part,
        "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "seed": job.seed,
        "network_calls": job.schedule.num_calls,
        "generate_seconds": round(seconds, 1),
        "date": datetime.date.today().isoformat(),
        "periodicity": list(job.trained.model.config.periodicity),
        "data": job.reference.settings,
        "data_hash": job.reference.data_hash,
        "data_problem": job.reference.problem,
        "trained_on_hash": facts["data_hash"],
        "trained_on": facts.get("device", ""),
        "train_steps": facts["config"]["train"]["num_steps"],
        "predicted": list(names),
        "not_finite": lost,
        **job.record,
        **notes,
    }
    path = job.directory / f"{part}.npz"
    content = arrays | flat("found", crystals) | {"predicted": np.asarray(found.predicted)}
    write_arrays(path, record, content)
    return path
