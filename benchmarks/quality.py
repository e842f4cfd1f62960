"""Quality of a trained model: held-out structures reconstructed, structures from nothing, structures as asked for.

    python -m benchmarks.quality generate --checkpoint=runs/j2dh8 --out=quality.npz      # on the accelerator
    python -m benchmarks.quality score quality.npz --results=RESULTS.md                  # on CPU cores

The first part needs no crystal library, the second no accelerator.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
import time
from pathlib import Path

import jax
import numpy as np

from vdw_jax.design.generate import generate, reconstruct
from vdw_jax.design.request import make_request
from vdw_jax.design.trained import PRETRAINED, Trained, load_trained
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.source import load_source
from vdw_jax.structures.splits import split_dataset
from vdw_jax.training.progress import Progress
from vdw_jax.types import CrystalBatch

FORMULAS = ("GaInSSe2", "GaInSe2", "AlGaS2", "InSe", "Ga2SSe", "AlInSTe")
"""Asked for in the third part, all within the data."""

ENERGIES_EV = (-0.2, 0.0, 0.3)


def held_out(trained: Trained, count: int, seed: int) -> CrystalBatch:
    """`count` random 8-atom structures of the test part of the data that the model was trained on."""
    settings = trained.facts["config"]["data"]
    data = load_source(
        settings["source"], path=settings["path"] or None, properties=tuple(settings["scalars"]),
        max_atoms=settings["max_atoms"],
    )  # fmt: skip
    if data.content_hash() != trained.facts["data_hash"]:
        raise SystemExit("the data differs from what the model was trained on: its test part may have been seen")
    split = split_dataset(data, settings["split_seed"], by=settings["split"])
    rows = [row for row in split["test"] if str(data.ids[row]).startswith("j2dh8")]
    chosen = np.random.default_rng(seed).permutation(rows)[:count]
    return _batch(data.select(np.sort(chosen)))


def _batch(data: CrystalDataset) -> CrystalBatch:
    return CrystalBatch(data.atomic_numbers.astype(np.int32), data.positions, data.cell)


def run_generate(arguments: argparse.Namespace) -> None:
    """The part for the accelerator: writes arrays."""
    trained, seed = load_trained(arguments.checkpoint), arguments.seed
    schedule = trained.schedule(arguments.steps)
    truth = held_out(trained, arguments.reconstructions, seed)
    names = [scalar.name for scalar in trained.model.config.scalars]
    jobs = {"reconstruction": None, "free": make_request(trained)}
    jobs |= {f"formula {formula}": make_request(trained, formula) for formula in FORMULAS}
    jobs |= {f"energy {energy}": make_request(trained, scalars={names[0]: energy}) for energy in ENERGIES_EV}
    arrays = {f"truth/{name}": np.asarray(getattr(truth, name)) for name in _FIELDS}
    seconds = {}
    for name, request in jobs.items():
        started = time.monotonic()
        count = {"reconstruction": len(truth.cell), "free": arguments.samples}.get(name, arguments.asked)
        with Progress(count, name, False) as progress:
            if request is None:
                found = reconstruct(trained, truth, seed, schedule, on_progress=progress.update)
            else:
                found = generate(trained, request, count, seed, schedule, on_progress=progress.update)
        seconds[name] = time.monotonic() - started
        arrays |= {f"{name}/{field}": np.asarray(getattr(found.crystals, field)) for field in _FIELDS}
        arrays[f"{name}/predicted"] = np.asarray(found.predicted)
    record = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "seed": seed,
        "network_calls": schedule.num_calls,
        "seconds": seconds,
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.quality", *sys.argv[1:]]),
        "data_hash": trained.facts["data_hash"],
        "trained_on": trained.facts["device"],
        "train_steps": trained.facts["config"]["train"]["num_steps"],
    }
    np.savez_compressed(arguments.out, record=np.array(json.dumps(record)), **arrays)
    print(json.dumps(record, indent=2))


_FIELDS = ("atomic_numbers", "positions", "cell")


def run_score(arguments: argparse.Namespace) -> None:
    """The part for CPU cores: figures, and the page of results."""
    from vdw_jax.metrics.layers import same_sequence
    from vdw_jax.metrics.matching import match_pairs
    from vdw_jax.metrics.stacking import same_registry
    from vdw_jax.report.describe import describe
    from vdw_jax.report.results import results_markdown
    from vdw_jax.report.samples import to_crystals
    from vdw_jax.structures.formula import parse_formula
    from vdw_jax.types import SLAB

    with np.load(arguments.arrays, allow_pickle=False) as stored:
        record = json.loads(str(stored["record"]))
        arrays = {name: stored[name] for name in stored.files if name != "record"}

    def crystals(name: str):
        return to_crystals(CrystalBatch(*(arrays[f"{name}/{field}"] for field in _FIELDS)), SLAB)

    truths, rebuilt = crystals("truth"), crystals("reconstruction")
    pairs = [(a, b) for a, b in zip(truths, rebuilt, strict=True)]
    matched = match_pairs(
        [truth.to_pymatgen() for truth in truths],
        [found.to_pymatgen() if found.is_finite else None for found in rebuilt],
        workers=arguments.workers,
    )
    sequence = [b.is_finite and same_sequence(*_slab(a)[:2], *_slab(b)[:2]) for a, b in pairs]
    registry = [right and same_registry(_slab(a), _slab(b)) for right, (a, b) in zip(sequence, pairs, strict=True)]
    reconstruction = {
        "match_rate": matched.match_rate,
        "rmse": matched.rmse,
        "tight_match_rate": matched.tight_match_rate,
        "sequence_rate": float(np.mean(sequence)),
        "registry_accuracy": float(np.mean(registry)),
    }

    def looked_at(name: str) -> list[dict]:
        return [describe(crystal) for crystal in crystals(name)]

    free = looked_at("free")
    from_nothing = {
        "structure_validity": float(np.mean([row["structure_valid"] for row in free])),
        "composition_validity": float(np.mean([row["composition_valid"] for row in free])),
        "bilayer_rate": float(np.mean([bool(row["bilayer"]) for row in free])),
        "distances_share": _share_above(free, 1.5),
        "different formulas": len({row["formula"] for row in free}),
        "different stackings (species and sites)": len({row["stacking"] for row in free} - {"-"}),
    }
    asked = {}
    for name in (name.split("/")[0] for name in arrays if name.startswith("formula ") and name.endswith("/cell")):
        formula, found = name.removeprefix("formula "), crystals(name)
        rows = [describe(crystal) for crystal in found]
        wanted = _shares(parse_formula(formula))
        right = [_shares(_counts(crystal.atomic_numbers)) == wanted for crystal in found]
        asked[f"{formula}: asked_formula_share"] = float(np.mean(right))
        asked[f"{formula}: bilayer_rate"] = float(np.mean([bool(row["bilayer"]) for row in rows]))
        asked[f"{formula}: distances_share"] = _share_above(rows, 1.5)
    for name in (name.split("/")[0] for name in arrays if name.startswith("energy ") and name.endswith("/cell")):
        target = float(name.removeprefix("energy "))
        asked[f"{target} eV asked for: asked_energy_error_ev"] = float(
            np.mean(np.abs(arrays[f"{name}/predicted"][:, 0] - target))
        )
    context = {key: record[key] for key in ("device", "seed", "command", "date")}
    trained = (
        f"Trained on {record['trained_on']} for {record['train_steps']} steps; {record['network_calls']} network calls "
        f"a structure, {sum(record['seconds'].values()):.0f} s for everything here with compilation."
    )
    sizes = {name: str(len(arrays[f"{name}/cell"])) for name in ("reconstruction", "free")}
    page = {
        "title": "Results",
        "sections": [
            {"title": "Reconstruction of held-out J2DH-8", "note": trained, "measures": reconstruction,
             "sizes": f"{sizes['reconstruction']} structures of the test part", **context},
            {"title": "From nothing asked", "measures": from_nothing, "sizes": f"{sizes['free']} structures",
             **context},
            {"title": "As asked for", "measures": asked, "sizes": f"{len(arrays['formula InSe/cell'])} each",
             "note": "Predicted energies are those of the property head, read from the finished structure.",
             **context},
        ],
    }  # fmt: skip
    text = results_markdown(page)
    print(text)
    if arguments.results:
        Path(arguments.results).write_text(text, encoding="utf-8")


def _slab(crystal):
    return crystal.atomic_numbers, crystal.positions, crystal.cell


def _counts(numbers: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(numbers, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _shares(counts: dict[int, int]) -> dict[int, float]:
    return {number: round(count / sum(counts.values()), 6) for number, count in sorted(counts.items())}


def _share_above(rows: list[dict], limit: float) -> float:
    return float(np.mean([(row["min_distance_angstrom"] or 0.0) > limit for row in rows]))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    first = parts.add_parser("generate", help="on the accelerator: arrays")
    first.add_argument("--checkpoint", default=str(PRETRAINED))
    first.add_argument("--out", default="quality.npz")
    first.add_argument("--seed", type=int, default=0)
    first.add_argument("--steps", type=int)
    first.add_argument("--reconstructions", type=int, default=512)
    first.add_argument("--samples", type=int, default=1000)
    first.add_argument("--asked", type=int, default=64, help="structures for each formula and energy")
    first.set_defaults(run=run_generate)
    second = parts.add_parser("score", help="on CPU cores: figures")
    second.add_argument("arrays")
    second.add_argument("--results", help="page to write")
    second.add_argument("--workers", type=int, default=2)
    second.set_defaults(run=run_score)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
