"""Quality against network calls, for every sampler: test structures reconstructed, and structures from nothing.

    python -m benchmarks.calls generate --checkpoint=runs/j2dh8 --out=runs/calls   # on the accelerator
    python -m benchmarks.calls score runs/calls                                    # on CPU cores: docs/calls.md, .png

The first part needs no crystal library and goes on where it was stopped; the second needs no accelerator.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.stored import add_scoring, how_made, is_there, scored, stored_in
from vdw_jax.design.generate import generate, reconstruct
from vdw_jax.design.request import make_request
from vdw_jax.design.trained import PRETRAINED, Trained, load_trained
from vdw_jax.diffusion.samplers import GRIDS, SAMPLERS, Schedule
from vdw_jax.evaluate.reference import reference_of
from vdw_jax.structures.arrays import crystals_in, flat, read_arrays, write_arrays
from vdw_jax.structures.files import write_whole
from vdw_jax.training.progress import Progress
from vdw_jax.types import SLAB, CrystalBatch

CALLS = (20, 50, 100, 250, 1000, 5000)
"""Few first, so that a run that is stopped has most of the figure."""

MEASURES = {
    "match_rate": "match rate (stol 0.5)",
    "rmse": "RMSE of the matches",
    "tight_match_rate": "match rate (stol 0.1)",
    "registry_accuracy": "registry accuracy",
    "bilayer_rate": "bilayers, from nothing asked",
}
COLUMNS = {**MEASURES, "cov_precision": "COV-P, from nothing asked"}


def held_out_structures(trained: Trained, count: int, seed: int) -> tuple[CrystalBatch, bool]:
    """`count` random structures of the test part, and whether they are known to be held out."""
    reference = reference_of(trained.facts, allow_other=True)
    chosen = np.sort(np.random.default_rng(seed).permutation(reference.rows("test"))[:count])
    return reference.data.select(chosen).batch(), not reference.problem


def sampled(
    trained: Trained, truth: CrystalBatch, schedule: Schedule, given: argparse.Namespace, title: str
) -> dict[str, CrystalBatch]:
    """"truth", its "reconstruction", and as many crystals "free", with nothing asked, as the command line says."""
    with Progress(len(truth.cell), f"{title}, reconstruction", given.quiet) as progress:
        rebuilt = reconstruct(trained, truth, given.seed, schedule, on_progress=progress.update)
    with Progress(given.samples, f"{title}, free", given.quiet) as progress:
        request = make_request(trained)
        free = generate(trained, request, given.samples, given.seed, schedule, on_progress=progress.update)
    return {"truth": truth, "reconstruction": rebuilt.crystals, "free": free.crystals}


def run_generate(given: argparse.Namespace) -> None:
    """The part for the accelerator: one file of arrays for each sampler and number of calls."""
    trained, folder = load_trained(given.checkpoint), Path(given.out)
    if trained.model.config.periodicity != SLAB:
        raise SystemExit(f"{given.checkpoint} makes bulk crystals; layers and registry are those of slabs")
    truth, is_held_out = held_out_structures(trained, given.reconstructions, given.seed)
    if not is_held_out:
        print("note: the model was trained on other data: it may have seen the test part", file=sys.stderr)
    setting = {
        "checkpoint": "weights that ship" if Path(given.checkpoint) == PRETRAINED else given.checkpoint,
        "data_hash": trained.facts["data_hash"],
        "held_out": is_held_out,
        "grid": given.grid,
        "seed": given.seed,
        "reconstructions": len(truth.cell),
        "samples": given.samples,
    }
    jobs = [(sampler, calls) for calls in given.calls for sampler in given.samplers]
    for number, (sampler, calls) in enumerate(jobs, 1):
        path = folder / f"{sampler}-{calls}.npz"
        name = f"{sampler}, {calls} calls ({number} of {len(jobs)})"
        if is_there(path, setting, name):
            continue
        schedule, arrays = trained.schedule(calls, sampler, given.grid), {}
        for part, crystals in sampled(trained, truth, schedule, given, name).items():
            arrays |= flat(part, crystals)
        record = setting | {
            "sampler": sampler,
            "network_calls": schedule.num_calls,
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "date": datetime.date.today().isoformat(),
            "command": shlex.join(["python", "-m", "benchmarks.calls", *sys.argv[1:]]),
        }
        write_arrays(path, record, arrays)


def score(arrays: dict[str, np.ndarray], workers: int) -> dict[str, float]:
    """The measures of one file; RMSE is NaN without a match."""
    from vdw_jax.metrics.layers import find_layers
    from vdw_jax.metrics.matching import match_pairs
    from vdw_jax.metrics.stacking import same_registry
    from vdw_jax.report.samples import to_crystals

    def crystals(part: str):
        return to_crystals(crystals_in(arrays, part), SLAB)

    def slab(crystal):
        return crystal.atomic_numbers, crystal.positions, crystal.cell

    def is_bilayer(crystal) -> bool:
        try:
            return find_layers(*slab(crystal)).is_bilayer
        except ValueError:  # not finite, or a cell that spans nothing
            return False

    truths, rebuilt = crystals("truth"), crystals("reconstruction")
    found = match_pairs(
        [truth.to_pymatgen() for truth in truths],
        [crystal.to_pymatgen() if crystal.is_finite else None for crystal in rebuilt],
        workers=workers,
    )
    registry = [same_registry(slab(truth), slab(other)) for truth, other in zip(truths, rebuilt, strict=True)]
    return {
        "match_rate": found.match_rate,
        "rmse": found.rmse,
        "tight_match_rate": found.tight_match_rate,
        "registry_accuracy": float(np.mean(registry)),
        "bilayer_rate": float(np.mean([is_bilayer(crystal) for crystal in crystals("free")])),
    }


def fingerprints_to_cover(given: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Of the test part of what the model was trained on: structure [m, 61] and composition [m, 132].

    Raises:
      SystemExit: the arrays are of a model that was trained on other data.
    """
    from vdw_jax.evaluate.scoring import Settings, reference_fingerprints

    facts = load_trained(given.checkpoint).facts
    for path in stored_in(given.arrays):
        if read_arrays(path)[0]["data_hash"] != facts["data_hash"]:
            raise SystemExit(f"{path}: its model was trained on other data than {given.checkpoint}; name --checkpoint")
    reference = reference_of(facts, allow_other=True)
    return reference_fingerprints(reference.data.select(reference.rows("test")), Settings(given.workers))


def cov_precision(arrays: dict[str, np.ndarray], known: tuple[np.ndarray, np.ndarray], workers: int) -> float:
    """Share of the crystals "free" that lie near one of those with the `known` fingerprints."""
    from vdw_jax.evaluate.scoring import Settings, fingerprints_of
    from vdw_jax.metrics.coverage import coverage
    from vdw_jax.report.samples import to_crystals

    free = to_crystals(crystals_in(arrays, "free"), SLAB)
    return coverage(fingerprints_of(free, Settings(workers)), known).precision


def page(records: list[dict[str, Any]], figure: str) -> str:
    """Markdown: table, figure, and how they came about; of scored records."""
    lines = ["# Quality against network calls", "", f"![quality against calls]({figure})", ""]
    lines += ["| sampler | calls | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * (len(COLUMNS) + 1)]
    for record in records:
        values = [f"{record[key]:.4f}" if key == "rmse" else f"{100 * record[key]:.2f} %" for key in COLUMNS]
        lines.append(f"| {record['sampler']} | {record['network_calls']} | " + " | ".join(values) + " |")
    first = records[0]
    seen = "" if first["held_out"] else " The model was trained on other data: it may have seen the test part."
    lines += [
        "",
        f"{first['reconstructions']} structures of the test part reconstructed, {first['samples']} from nothing asked; "
        f"{first['checkpoint']}, {first['grid']} noise levels, seed {first['seed']}.{seen}",
        "",
        *how_made(records),
    ]
    return "\n".join(lines)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """One panel a measure, one line a sampler; the panel left over says which is which."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    calls: list[int] = []
    for number in sorted({record["network_calls"] for record in records}):
        if not calls or number >= 1.5 * calls[-1]:  # labels would lie on each other
            calls.append(number)
    shown = [key for key in COLUMNS if key != "tight_match_rate"]
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained", sharex=True)
    for axis, key in zip(axes.flat, shown, strict=False):
        for sampler in SAMPLERS:
            own = [record for record in records if record["sampler"] == sampler]
            factor = 1 if key == "rmse" else 100
            axis.plot(
                [record["network_calls"] for record in own], [factor * record[key] for record in own], "o-",
                markersize=4, linewidth=1.4, label=sampler.replace("_", " "),
            )  # fmt: skip
        axis.set(xscale="log", ylabel=COLUMNS[key] + ("" if key == "rmse" else " (%)"))
        lowest = min(record[key] for record in records)
        axis.set_ylim(*((0, None) if key == "rmse" else (min(90, 100 * lowest - 2), 100.5)))
        axis.set_xticks(calls, [f"{number:,}" for number in calls], minor=False)
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
    for axis in (axes[1, 0], axes[1, 1], axes[0, 2]):
        axis.set_xlabel("network calls a structure")
    axes[0, 2].tick_params(labelbottom=True)
    axes[1, 2].axis("off")
    axes[1, 2].legend(*axes[0, 0].get_legend_handles_labels(), loc="center", frameon=False)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))
    plt.close(figure)


def run_score(given: argparse.Namespace) -> None:
    """The part for CPU cores: table and figure."""
    known = fingerprints_to_cover(given)

    def measured(arrays: dict[str, np.ndarray]) -> dict[str, float]:
        return score(arrays, given.workers) | {"cov_precision": cov_precision(arrays, known, given.workers)}

    records = scored(given.arrays, measured, given.reconstructions)
    records.sort(key=lambda record: (SAMPLERS.index(record["sampler"]), record["network_calls"]))
    folder = Path(given.out)
    draw(records, folder / "calls.png")
    text = page(records, "calls.png")
    write_whole(folder / "calls.md", lambda file: file.write(text.encode()))
    print(text)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    first = parts.add_parser("generate", help="on the accelerator: arrays")
    first.add_argument("--checkpoint", default=str(PRETRAINED))
    first.add_argument("--out", default="runs/calls", help="folder of the arrays")
    first.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS, metavar="NAME")
    first.add_argument("--calls", nargs="+", type=int, default=CALLS, metavar="N")
    first.add_argument("--grid", choices=GRIDS, default="geometric", help="noise levels")
    first.add_argument("--seed", type=int, default=0)
    first.add_argument("--reconstructions", type=int, default=256)
    first.add_argument("--samples", type=int, default=256)
    first.add_argument("--quiet", action="store_true", help="no progress line")
    first.set_defaults(run=run_generate)
    second = add_scoring(parts, run_score, "table and figure", "calls.md and calls.png")
    second.add_argument("--checkpoint", default=str(PRETRAINED), help="the model; COV-P covers its test part")
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
