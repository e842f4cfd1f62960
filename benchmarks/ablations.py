"""What matters: the shipped settings and one change at a time, each trained briefly and alike.

    python -m benchmarks.ablations generate --rows default nearest    # on the accelerator; all rows by default
    python -m benchmarks.ablations score runs/ablations               # on CPU cores: docs/ablations.md

Each row trains both stages, reconstructs structures of its test part and samples some with nothing asked. The first
part needs no crystal library but for `bulk`, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.calls import MEASURES, held_out_structures, sampled, score
from benchmarks.stored import add_scoring, how_made, is_there, scored
from configs import j2dh8
from vdw_jax.design.trained import load_trained
from vdw_jax.structures.arrays import flat, write_arrays
from vdw_jax.structures.files import write_whole
from vdw_jax.structures.source import load_source
from vdw_jax.training.loop import train
from vdw_jax.training.metrics_log import FILE_NAME
from vdw_jax.types import SLAB, CrystalBatch

VACUUM = 15.0
"""Angstrom between the slabs of the row that takes them for bulk crystals."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One training: what it is called in the table, and what it changes in `configs/j2dh8.py`."""

    title: str
    changes: dict[str, Any]
    is_bulk: bool = False


def _both(**changes: Any) -> dict[str, Any]:
    return {f"model.{part}.{key}": value for part in ("encoder", "denoiser") for key, value in changes.items()}


_NO_STACK = {"model.cdvae.stack_head": False}
_NEAREST = _both(cutoff_angstrom=7.0) | {"model.cdvae.graph": "nearest"}
_BONDS = {"model.encoder.cutoff_angstrom": 3.2}

ROWS = {
    "default": Row("as shipped", {}),
    "no_stack": Row("no stack in the latent", _NO_STACK),
    "nearest": Row("the 20 nearest neighbours, not all pairs", _NEAREST),
    "no_stack_nearest": Row("no stack, 20 nearest", _NO_STACK | _NEAREST),
    "no_stack_bonds": Row(
        "no stack, 20 nearest, encoder sees bonds only: no edge across the gap", _NO_STACK | _NEAREST | _BONDS
    ),
    "bulk": Row("no stack, 20 nearest, periodic in 3D", _NO_STACK | _NEAREST, is_bulk=True),
    "no_noise": Row(
        "denoiser not told the noise",
        {"model.cdvae.noise_conditioned": False, "model.cdvae.species_noise_conditioned": False},
    ),
    "tied_species": Row("noise of species tied to that of positions", {"loss.free_species_share": 0.0}),
    "latent_64": Row("latent of 64", {"model.cdvae.latent_dim": 64}),
    "kl_1e-2": Row("KL weight 1e-2", {"loss.kl": 1e-2}),
    "kl_1e-3": Row("KL weight 1e-3", {"loss.kl": 1e-3}),
    "kl_1e-4": Row("KL weight 1e-4", {"loss.kl": 1e-4}),
    "more_layers": Row("3 and 4 layers, not 2 each", {"model.encoder.num_layers": 3, "model.denoiser.num_layers": 4}),
    "lmax_3": Row("lmax 3, not 2", _both(lmax=3, node_grid=(5, 10))),
    "narrow": Row(
        "64 channels, not 96",
        _both(channels=64, attention_channels=32, value_channels=8, ffn_channels=64, edge_channels=64),
    ),
    "gan": Row("latents from the WGAN", {"generator": "gan"}),
}


def create_config(row: Row, given: argparse.Namespace) -> ConfigDict:
    """The config of a row: short, and smaller batches than the shipped training."""
    config = j2dh8.get_config()
    config.update_from_flattened_dict(row.changes)
    config.seed = given.seed
    config.train.update(dict(num_steps=given.steps, batch_size=given.batch, warmup_steps=given.steps // 10))
    config.latent_diffusion.update(dict(num_steps=5_000, batch_size=512))
    return config


def train_row(name: str, given: argparse.Namespace) -> Path:
    """Trains a row, or goes on with it; its workdir.

    Raises:
      SystemExit: the training was stopped.
    """
    row, workdir = ROWS[name], Path(given.out) / name
    config = create_config(row, given)
    if row.is_bulk:
        config.data.update(dict(source="file", path=str(_write_bulk(config, workdir)), periodicity="bulk"))
    if not (workdir / "export").is_dir() and not train(config, workdir, quiet=given.quiet):
        raise SystemExit(f"{name}: stopped; the same command goes on")
    return workdir


def _write_bulk(config: ConfigDict, workdir: Path) -> Path:
    """The data set as crystals with vacuum and a period along c, for the reader of files."""
    from ase import Atoms
    from ase.io import write

    path = workdir / "bulk.extxyz"
    if path.exists():
        return path
    data, frames = load_source(config.data.source, properties=tuple(config.data.scalars)), []
    for row, height in enumerate(data.slab_height):
        real, cell = data.atomic_numbers[row] > 0, data.cell[row].astype(float)
        cell[2] = [0.0, 0.0, height + VACUUM]
        atoms = Atoms(data.atomic_numbers[row][real], data.positions[row][real], cell=cell, pbc=True)
        atoms.info = {"id": str(data.ids[row])} | {k: float(values[row]) for k, values in data.scalars.items()}
        frames.append(atoms)
    text = io.StringIO()
    write(text, frames, format="extxyz")
    write_whole(path, lambda file: file.write(text.getvalue().encode()))
    return path


def as_slabs(crystals: CrystalBatch) -> CrystalBatch:
    """Crystals with vacuum and a period along c as slabs."""
    from vdw_jax.structures.slabs import as_slab, made_whole

    positions, cells = np.array(crystals.positions), np.array(crystals.cell)
    for row, numbers in enumerate(np.asarray(crystals.atomic_numbers)):
        real = numbers > 0
        cell = cells[row].astype(float)
        whole = made_whole(positions[row, real].astype(float) @ np.linalg.inv(cell)) @ cell
        positions[row, real], cells[row] = as_slab(whole, cell)
    return CrystalBatch(crystals.atomic_numbers, positions, cells)


def run_generate(given: argparse.Namespace) -> None:
    """The part for the accelerator: one file of arrays a row."""
    folder = Path(given.out)
    setting = {name: getattr(given, name) for name in ("steps", "batch", "seed", "reconstructions", "samples")}
    for number, name in enumerate(given.rows, 1):
        title = f"{name} ({number} of {len(given.rows)})"
        if is_there(folder / f"{name}.npz", setting, title):
            continue
        workdir = train_row(name, given)
        trained = load_trained(workdir)
        truth, _ = held_out_structures(trained, given.reconstructions, given.seed)
        schedule = trained.schedule()
        arrays: dict[str, np.ndarray] = {}
        for part, crystals in sampled(trained, truth, schedule, given, title).items():
            arrays |= flat(part, crystals if trained.model.config.periodicity == SLAB else as_slabs(crystals))
        log = [json.loads(line) for line in (workdir / FILE_NAME).read_text().splitlines()]
        first = [line for line in log if "train/loss" in line]
        record = setting | {
            "row": name,
            "title": ROWS[name].title,
            "changes": ROWS[name].changes,
            "training_minutes": (first[-1]["time_s"] - first[0]["time_s"]) / 60,
            "kl": [line["validation/kl"] for line in log if "validation/kl" in line][-1],
            "network_calls": schedule.num_calls,
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "date": datetime.date.today().isoformat(),
            "command": shlex.join(["python", "-m", "benchmarks.ablations", *sys.argv[1:]]),
        }
        write_arrays(folder / f"{name}.npz", record, arrays)


COLUMNS = {**MEASURES, "kl": "KL (nats)", "training_minutes": "minutes"}


def page(records: list[dict[str, Any]]) -> str:
    """Markdown: the table, and how it came about; of scored records."""
    first = records[0]
    lines = [
        "# What matters", "",
        "`configs/j2dh8.py` and one change at a time, each trained briefly and alike: "
        f"{first['steps']:,} steps of {first['batch']}, latents 5,000 steps of 512 (the WGAN: its own 12,000).", "",
        "| change | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * len(COLUMNS),
    ]  # fmt: skip
    for record in records:
        values = []
        for key in COLUMNS:
            is_share = key in MEASURES and key != "rmse"
            digits = 4 if key == "rmse" else 1
            values.append(f"{100 * record[key]:.1f} %" if is_share else f"{record[key]:.{digits}f}")
        lines.append(f"| {record['title']} | " + " | ".join(values) + " |")
    lines += [
        "",
        f"{first['reconstructions']} structures of the test part reconstructed, {first['samples']} from nothing asked; "
        f"{first['network_calls']} network calls, seed {first['seed']}. Minutes: the steps of stage 1, compilation "
        "apart, on a card that several trainings shared.",
        "",
        *how_made(records),
    ]
    return "\n".join(lines)


def run_score(given: argparse.Namespace) -> None:
    """The part for CPU cores: the table."""
    records = scored(given.arrays, lambda arrays: score(arrays, given.workers), given.reconstructions)
    records.sort(key=lambda record: list(ROWS).index(record["row"]))
    text = page(records)
    write_whole(Path(given.out) / "ablations.md", lambda file: file.write(text.encode()))
    print(text)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    first = parts.add_parser("generate", help="on the accelerator: trainings and arrays")
    first.add_argument("--out", default="runs/ablations", help="folder of the workdirs and arrays")
    first.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    first.add_argument("--steps", type=int, default=2000, help="of stage 1")
    first.add_argument("--batch", type=int, default=128)
    first.add_argument("--seed", type=int, default=0)
    first.add_argument("--reconstructions", type=int, default=512)
    first.add_argument("--samples", type=int, default=512)
    first.add_argument("--quiet", action="store_true", help="no progress line")
    first.set_defaults(run=run_generate)
    add_scoring(parts, run_score, "the table", "ablations.md")
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
