"""The half for CPU cores: a row for every structure, and from the rows the measures.

Definitions stand in docs/evaluation.md; a measure is its value and the ends of its 95 % bootstrap interval.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdw_jax.evaluate.reference import Reference
from vdw_jax.evaluate.samples import Samples, from_dataset
from vdw_jax.metrics import fingerprints
from vdw_jax.metrics.coverage import coverage
from vdw_jax.metrics.distributions import density_g_cm3, num_elements, wasserstein_distance
from vdw_jax.metrics.intervals import LEVEL, RESAMPLES, distance_interval, mean_interval
from vdw_jax.metrics.layers import same_sequence
from vdw_jax.metrics.matching import match_pairs
from vdw_jax.metrics.novelty import compare
from vdw_jax.metrics.parallel import parallel_map
from vdw_jax.metrics.stacking import same_registry
from vdw_jax.metrics.validity import composition_is_valid
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import describe
from vdw_jax.report.samples import as_dataset
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import FormulaError
from vdw_jax.structures.files import write_whole
from vdw_jax.structures.formula import parse_formula
from vdw_jax.structures.load import default_cache_dir
from vdw_jax.structures.stacking import VACUUM_ANGSTROM

Measure = tuple[float, float, float]
"""Value, low, high; NaN where there is nothing to measure."""


@dataclass(frozen=True)
class EnergyModel:
    """An independent property model: crystals to the energy that was asked for, eV; NaN where it has none."""

    name: str
    predict: Callable[[Sequence[Crystal]], Sequence[float] | NDArray]


DISTRIBUTION_SAMPLES = 1000
"""Valid samples, at most, whose density and number of elements are compared (CDVAE)."""


_ASKED = (
    ("formula_exact", "formula_exact", "formula held"),
    ("formula_exact_free", "formula_exact", "formula free"),
    ("energy_mae", "energy_error_ev", "energy"),
    ("energy_mae_held", "energy_error_ev", "energy and formula"),
)
"""Measure, column and kind of wish."""


@dataclass(frozen=True)
class Scored:
    """What scoring one part gives."""

    rows: list[dict[str, Any]]  # one a structure
    measures: dict[str, Measure]
    notes: dict[str, Any]  # counts and how things were done


@dataclass(frozen=True)
class Settings:
    """How to score."""

    workers: int = 1
    seed: int = 0  # of the bootstrap and of every draw
    progress: bool = True
    references: int | None = None  # structures of the test part to cover, drawn at random; all by default
    cache: Path | None = None  # where fingerprints of the reference are kept; the user's cache by default


def score_reconstruction(samples: Samples, settings: Settings) -> Scored:
    """Match rate, RMSE and registry of reconstructions against their true structures.

    Raises:
        ValueError: the samples hold no true structures.
    """
    if samples.truths is None:
        raise ValueError("reconstructions need their true structures")
    found, truths = samples.crystals, samples.truths
    rows = _described(found, settings)
    matched = match_pairs(
        [truth.to_pymatgen() for truth in truths], [_structure(crystal) for crystal in found],
        workers=settings.workers, progress=settings.progress,
    )  # fmt: skip
    pairs = list(zip(truths, found, strict=True))
    registry = parallel_map(
        _registry, pairs, workers=settings.workers, description="registry", progress=settings.progress
    )
    for row, truth, match, (sequence, same) in zip(rows, truths, matched.pairs, registry, strict=True):
        row |= {
            "true_formula": truth.formula, "match": match.matched, "tight_match": match.tight, "rmse": match.rmse,
            "reason": match.reason, "same_sequence": sequence, "same_registry": same,
        }  # fmt: skip
    slabs = bool(truths) and truths[0].is_slab
    columns = {"match_rate": "match", "rmse": "rmse", "tight_match_rate": "tight_match"}
    columns |= {"sequence_rate": "same_sequence", "registry_accuracy": "same_registry"} if slabs else {}
    measures = {name: _mean(rows, column, settings) for name, column in columns.items()}
    measures["reconstruction_valid"] = _mean(rows, "valid", settings)
    return Scored(rows, measures, {"reconstructions": len(rows)})


def score_generation(samples: Samples, reference: Reference, family: str, settings: Settings) -> Scored:
    """Validity, coverage, distributions, layers, novelty and uniqueness of samples with nothing asked for.

    Args:
        samples: the structures. Those with a number of atoms that the family has not are left out and counted.
        reference: its test part is covered, its training part is what is not novel.
        family: "all", or one whose rows alone count.
        settings: how.
    """
    known_rows = reference.rows("test", family)
    if settings.references is not None:
        known_rows = np.sort(np.random.default_rng(settings.seed).permutation(known_rows)[: settings.references])
    truth = reference.data.select(known_rows)
    sizes = set(reference.data.num_atoms[reference.rows("test", family)].tolist())
    crystals = [c for c in samples.crystals if family == "all" or len(c.atomic_numbers) in sizes]
    if not crystals:
        raise ValueError(f"none of {len(samples.crystals)} samples has the size of family {family!r}")
    rows = _described(crystals, settings)
    made = fingerprints_of(crystals, settings)
    covered = coverage(made, reference_fingerprints(truth, settings))
    for row, crystal, precise in zip(rows, crystals, covered.precise, strict=True):
        row |= {"covered": bool(precise), "elements": num_elements(crystal.atomic_numbers)}
        row["density_g_cm3"] = density_g_cm3(crystal.atomic_numbers, crystal.cell) if row["structure_valid"] else None
    _mark_novel(rows, crystals, reference, settings)

    columns = {"struct_valid": "structure_valid", "comp_valid": "composition_valid", "valid": "valid"}
    columns |= {"cov_precision": "covered", "novelty": "novel", "uniqueness": "unique"}
    if crystals[0].is_slab:
        columns |= {"bilayer_rate": "bilayer"}
    measures = {name: _mean(rows, column, settings) for name, column in columns.items()}
    measures["cov_recall"] = (covered.recall, *mean_interval(covered.recalled, settings.seed))
    if crystals[0].is_slab:
        measures["gap_angstrom"] = _mean([row for row in rows if row["bilayer"]], "gap_angstrom", settings)
    valid = [row for row in rows if row["valid"]]
    chosen = np.random.default_rng(settings.seed).permutation(len(valid))[:DISTRIBUTION_SAMPLES]
    known = from_dataset(truth)
    real = distributed(known)
    measures |= distances([valid[place] for place in chosen], real, settings)
    measures |= {f"{name}_all": value for name, value in distances(valid, real, settings).items()}
    measures |= of_reference(known, real, settings)
    notes = {
        "samples": len(rows), "samples_of_other_size": len(samples.crystals) - len(crystals),
        "distribution_samples": len(chosen), "reference_structures": len(truth), "family": family,
        "different_formulas": len({row["formula"] for row in rows}),
    }  # fmt: skip
    return Scored(rows, measures, notes)


_DISTRIBUTIONS = {"wdist_density": "density_g_cm3", "wdist_num_elems": "elements"}


def distributed(crystals: Sequence[Crystal]) -> dict[str, list[float]]:
    """Density and number of elements of the reference's crystals, under the names of the table's columns."""
    return {
        "density_g_cm3": [density_g_cm3(crystal.atomic_numbers, crystal.cell) for crystal in crystals],
        "elements": [float(num_elements(crystal.atomic_numbers)) for crystal in crystals],
    }


def distances(
    rows: Sequence[Mapping[str, Any]], real: Mapping[str, Sequence[float]], settings: Settings
) -> dict[str, Measure]:
    """Distances of density and number of elements between rows of the table and what is `distributed`."""
    return {name: _distance([row[key] for row in rows], real[key], settings) for name, key in _DISTRIBUTIONS.items()}


def of_reference(
    crystals: Sequence[Crystal], real: Mapping[str, Sequence[float]], settings: Settings
) -> dict[str, Measure]:
    """What the reference itself scores: its valid compositions, and the distances of samples drawn from it.

    The distances are medians over draws of `DISTRIBUTION_SAMPLES`, with the range that holds 95 % of the draws: no
    generator can be expected below.
    """
    verdicts = [composition_is_valid(crystal.atomic_numbers) for crystal in crystals]
    found = {"comp_valid_reference": (float(np.mean(verdicts)), *mean_interval(verdicts, settings.seed))}
    random = np.random.default_rng(settings.seed)
    for name, key in _DISTRIBUTIONS.items():
        values = np.array(real[key])
        drawn = [
            wasserstein_distance(values[random.integers(0, len(values), DISTRIBUTION_SAMPLES)], values)
            for _ in range(RESAMPLES)
        ]
        low, middle, high = np.quantile(drawn, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
        found[f"{name}_reference"] = (float(middle), float(low), float(high))
    return found


def score_conditional(samples: Samples, settings: Settings, energy_model: EnergyModel | None = None) -> Scored:
    """What was asked and what was got, candidate by candidate.

    Args:
        samples: with what was asked of each.
        settings: how.
        energy_model: an independent property model. Without one the generator's own property head stands in, and the
            notes say so: it is the one that the candidates were chosen by.

    Raises:
        ValueError: nothing was asked of the samples, or the model does not give an energy for each.
    """
    if len(samples.asked) != len(samples.crystals) or not samples.asked:
        raise ValueError("conditional scoring needs what was asked of each structure")
    rows = _described(samples.crystals, settings)
    source, energies = "", None
    if energy_model is not None:
        source = energy_model.name
        energies = np.asarray(energy_model.predict(samples.crystals), float)
        if energies.shape != (len(rows),):
            raise ValueError(f"{source} gives energies of shape {energies.shape} for {len(rows)} structures")
    elif samples.predicted is not None:
        source, energies = "property head of the generator", samples.predicted
    merged = []
    for place, (row, asked) in enumerate(zip(rows, samples.asked, strict=True)):
        energy = None if energies is None or not np.isfinite(energies[place]) else float(energies[place])
        wanted = asked["energy_ev"]
        head = {"id": row["id"], "asked": asked["kind"], "asked_formula": asked["formula"], "asked_energy_ev": wanted,
                "formula": row["formula"], "energy_ev": energy}  # fmt: skip
        head["formula_exact"] = None if asked["formula"] is None else _has_formula(samples.crystals[place], asked)
        head["energy_error_ev"] = None if wanted is None or energy is None else abs(energy - wanted)
        merged.append(head | row)
    measures: dict[str, Measure] = {}
    for name, column, kind in _ASKED:
        some = [row for row in merged if row["asked"] == kind]
        if some:
            measures[name] = _mean(some, column, settings)
    columns = {"struct_valid": "structure_valid", "comp_valid": "composition_valid"}
    columns |= {"bilayer_rate": "bilayer"} if samples.crystals[0].is_slab else {}
    for name, column in columns.items():
        measures[f"conditional_{name}"] = _mean(merged, column, settings)
    notes = {"candidates": len(merged), "energy_model": source or "none",
             "wishes": len({(a["kind"], a["formula"], a["energy_ev"]) for a in samples.asked})}  # fmt: skip
    return Scored(merged, measures, notes)


def _described(crystals: Sequence[Crystal], settings: Settings) -> list[dict[str, Any]]:
    return parallel_map(
        _describe, crystals, workers=settings.workers, description="validity and layers", progress=settings.progress
    )


def _describe(_: None, crystal: Crystal) -> dict[str, Any]:
    row = {"id": crystal.id} | describe(crystal)
    # Published measures mean CDVAE's two tests, whatever else a chemist objects to.
    row["valid"] = row["structure_valid"] and row["composition_valid"]
    return row


def _registry(_: None, pair: tuple[Crystal, Crystal]) -> tuple[bool, bool]:
    """Whether the species along c are right, and the stacking with them."""
    truth, found = pair
    if not (truth.is_slab and found.is_finite and len(found.atomic_numbers)):
        return False, False
    a, b = ((c.atomic_numbers, c.positions, c.cell) for c in pair)
    sequence = same_sequence(*a[:2], *b[:2])
    return sequence, sequence and same_registry(a, b)


def _structure(crystal: Crystal):
    """As pymatgen has it; None where it cannot."""
    if not crystal.is_finite or len(crystal.atomic_numbers) == 0:
        return None
    try:
        return crystal.to_pymatgen()
    except (ValueError, KeyError):
        return None


def fingerprints_of(
    crystals: Sequence[Crystal], settings: Settings, description: str = "fingerprints"
) -> tuple[NDArray, NDArray]:
    """Structure [n, 61] and composition [n, 132] of every crystal; rows of NaN where there is none."""
    found = parallel_map(
        _fingerprint, crystals, workers=settings.workers, description=description, progress=settings.progress
    )
    structure, composition = zip(*found, strict=True)
    return np.array(structure), np.array(composition)


def _fingerprint(_: None, crystal: Crystal) -> tuple[NDArray, NDArray]:
    """Structure [61] and composition [132]; NaN where there is none."""
    arrays = crystal.atomic_numbers, crystal.centred_positions(), crystal.cell
    try:
        return fingerprints.structure_fingerprint(*arrays), fingerprints.composition_fingerprint(arrays[0])
    except fingerprints.FingerprintError:
        return np.full(fingerprints.STRUCTURE_SIZE, np.nan), np.full(fingerprints.COMPOSITION_SIZE, np.nan)


def reference_fingerprints(data: CrystalDataset, settings: Settings) -> tuple[NDArray, NDArray]:
    """Fingerprints of a data set, kept in the cache under its content and the version of their definition."""
    key = json.dumps([data.content_hash(), fingerprints.VERSION, VACUUM_ANGSTROM])
    name = f"fingerprints-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    path = (settings.cache or default_cache_dir()) / name
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["structure"], stored["composition"]
    except (OSError, KeyError, ValueError, EOFError):
        pass
    structure, composition = fingerprints_of(from_dataset(data), settings, "fingerprints of the test part")
    with contextlib.suppress(OSError):  # a cache that cannot be written is done without
        write_whole(path, lambda file: np.savez(file, structure=structure, composition=composition))
    return structure, composition


def _mark_novel(
    rows: list[dict[str, Any]], crystals: Sequence[Crystal], reference: Reference, settings: Settings
) -> None:
    """Adds `novel`, `unique` and what a structure repeats; only valid structures can be either."""
    places = [place for place, row in enumerate(rows) if row["structure_valid"]]
    for row in rows:
        row |= {"novel": False, "unique": False, "matches": None, "repeats": None}
    if not places:
        return
    train = reference.data.select(reference.rows("train"))
    own = as_dataset([crystals[place] for place in places], "sample:")
    compared = compare(own, train, workers=settings.workers, progress=settings.progress)
    for place, (match, other) in zip(places, compared, strict=True):
        rows[place] |= {
            "novel": match is None, "unique": other is None, "matches": match,
            "repeats": None if other is None else rows[places[other]]["id"],
        }  # fmt: skip


def _has_formula(crystal: Crystal, asked: dict[str, Any]) -> bool:
    """The asked composition exactly, in any number of formula units."""
    try:
        wanted = parse_formula(asked["formula"])
    except FormulaError:
        return False
    values, counts = np.unique(crystal.atomic_numbers, return_counts=True)
    got = dict(zip(values.tolist(), counts.tolist(), strict=True))
    size, whole = sum(wanted.values()), sum(got.values())
    return got.keys() == wanted.keys() and all(got[z] * size == wanted[z] * whole for z in wanted)


def _mean(rows: Sequence[dict[str, Any]], column: str, settings: Settings) -> Measure:
    """Mean over the rows that have a value; a verdict that could not be given (None) of a slab counts as False."""
    values = [row[column] for row in rows]
    if column == "bilayer":
        values = [bool(value) for value in values]
    known = [float(value) for value in values if value is not None]
    if not known:
        return float("nan"), float("nan"), float("nan")
    return float(np.mean(known)), *mean_interval(known, settings.seed)


def _distance(values: Sequence[float], real: Sequence[float], settings: Settings) -> Measure:
    if not len(values):
        return float("nan"), float("nan"), float("nan")

    def statistic(sample: NDArray) -> float:
        return wasserstein_distance(sample, real)

    return statistic(np.array(values, float)), *distance_interval(statistic, values, settings.seed)
