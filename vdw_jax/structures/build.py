"""Relaxed, labelled slabs of a family: `python -m vdw_jax.structures.build --family=j2dh8 --out=j2dh8.npz`.

Every stack is relaxed from two gaps and the lower one is kept; its layers are relaxed alone. Finished blocks lie in
`<out>.parts`, so that the same command goes on after any interruption; the result is the same to the byte.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vdw_jax.structures.dataset import CrystalDataset, slab_dataset
from vdw_jax.structures.elements import ATOMIC_NUMBERS
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.files import write_whole
from vdw_jax.structures.layers import hexagonal_vectors, make_layer
from vdw_jax.structures.potentials import Potential, create_potential
from vdw_jax.structures.relax import Relaxed, relax
from vdw_jax.structures.source import load_source
from vdw_jax.structures.stacking import VACUUM_ANGSTROM

FAMILIES = ("j2dh8", "iii_vi")
LABEL = "formation_energy_ev"
"""E(bilayer) - E(layer 1) - E(layer 2), each layer relaxed alone; eV a cell."""

SECOND_GAP_ANGSTROM = 0.5
"""The second start is this much wider than the first, which is the surrogate's gap."""

BOUND_GAP_ANGSTROM = (2.0, 5.0)

OK, NOT_CONVERGED, OUT_OF_ORDER = "ok", "not converged", "layers out of order or apart"

LayerKey = tuple[tuple[int, ...], int]
"""Species bottom to top, and polarity: +1 or -1 for quintuples, 0 for quadruples."""


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    family: str
    potential: str = "sevennet"
    largest_force: float = 0.002  # eV/Angstrom
    max_steps: int = 300
    rows: tuple[int, int] | None = None  # first and last + 1; None for all
    block: int = 256  # rows that are relaxed together


def layer_keys(data: CrystalDataset) -> tuple[list[LayerKey], list[LayerKey]]:
    """Bottom and top layer of each row."""
    found = []
    for side in ("bottom", "top"):
        names = data.metadata[f"{side}_layer"]
        polarity = data.metadata.get(f"{side}_polarity", np.zeros(len(data), int))
        species = [tuple(ATOMIC_NUMBERS[s] for s in re.findall("[A-Z][a-z]?", str(name))) for name in names]
        found.append([(layer, int(p)) for layer, p in zip(species, polarity, strict=True)])
    return found[0], found[1]


def canonical(key: LayerKey) -> LayerKey:
    """One of a layer and its flipped self, which have the same energy."""
    return min(key, (key[0][::-1], -key[1]))


def layer_slabs(keys: list[LayerKey]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Free layers, padded to five atoms: numbers, positions and cells."""
    numbers, positions, cell = np.zeros((len(keys), 5), int), np.zeros((len(keys), 5, 3)), np.zeros((len(keys), 3, 3))
    for row, (species, polarity) in enumerate(keys):
        layer = make_layer(species, polarity or 1)
        numbers[row, : len(species)], positions[row, : len(species)] = species, layer.positions
        cell[row, :2, :2] = hexagonal_vectors(layer.lattice_constant_angstrom)
        cell[row, 2, 2] = layer.thickness_angstrom + VACUUM_ANGSTROM
    return numbers, positions, cell


def relax_layers(potential: Potential, data: CrystalDataset, settings: Settings) -> dict[str, np.ndarray]:
    """Energies and lattice constants of every layer that `data` needs, alone."""
    keys = sorted({canonical(key) for side in layer_keys(data) for key in side})
    found = relax(potential, *layer_slabs(keys), largest_force=settings.largest_force, max_steps=settings.max_steps)
    if not found.converged.all():
        wrong = [keys[row] for row in np.flatnonzero(~found.converged)]
        raise DataError(f"layers that do not relax with {settings.potential}: {wrong}")
    width = max(len(species) for species, _ in keys)
    species = np.array([layer + (0,) * (width - len(layer)) for layer, _ in keys])
    return {
        "species": species,
        "polarity": np.array([polarity for _, polarity in keys]),
        "energy": found.energy,
        "lattice_constant": found.cell[:, 0, 0],
    }


def relax_block(potential: Potential, data: CrystalDataset, settings: Settings) -> dict[str, np.ndarray]:
    """Relaxed stacks of a few rows, with the energies of their layers as they are in the stack."""
    numbers = data.atomic_numbers.astype(int)
    is_top = _is_top(data)
    starts = [data.positions.astype(float) + np.where(is_top, wider, 0.0)[..., None] * [0, 0, 1]
              for wider in (0.0, SECOND_GAP_ANGSTROM)]  # fmt: skip
    tries = [
        relax(potential, numbers, start, data.cell, largest_force=settings.largest_force, max_steps=settings.max_steps)
        for start in starts
    ]
    energy = np.stack([np.where(one.converged, one.energy, np.inf) for one in tries])
    start = energy.argmin(0)
    chosen = Relaxed(*(np.where(_like(start == 0, a), a, b) for a, b in zip(*map(_fields, tries), strict=True)))
    gap = _gap(chosen.positions, is_top, numbers > 0)
    ordered = (np.diff(np.where(numbers > 0, chosen.positions[..., 2], np.inf), axis=1)[numbers[:, 1:] > 0] > 0)
    in_order = np.ones(len(data), bool)
    np.logical_and.at(in_order, np.nonzero(numbers[:, 1:] > 0)[0], ordered)
    in_order &= (gap > BOUND_GAP_ANGSTROM[0]) & (gap < BOUND_GAP_ANGSTROM[1])
    alone = [potential(*_only(numbers, chosen.positions, side & (numbers > 0)), chosen.cell).energy
             for side in (~is_top, is_top)]  # fmt: skip
    return {
        "positions": chosen.positions,
        "cell": chosen.cell,
        "energy": chosen.energy,
        "energy_of_layers": alone[0] + alone[1],
        "gap": gap,
        "largest_force": chosen.largest_force,
        "steps": chosen.steps,
        "start": start,
        "status": np.where(~chosen.converged, NOT_CONVERGED, np.where(in_order, OK, OUT_OF_ORDER)).astype("U80"),
    }


def _fields(found: Relaxed) -> list[np.ndarray]:
    return [found.positions, found.cell, found.energy, found.largest_force, found.steps, found.converged]


def _like(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *[1] * (values.ndim - 1))


def _is_top(data: CrystalDataset) -> np.ndarray:
    """Atoms of the top layer, padding too; [R, N]."""
    below = np.array([len(species) for species, _ in layer_keys(data)[0]])
    return np.arange(data.atomic_numbers.shape[1]) >= below[:, None]


def _gap(positions: np.ndarray, is_top: np.ndarray, real: np.ndarray) -> np.ndarray:
    z = positions[..., 2]
    return np.where(is_top & real, z, np.inf).min(1) - np.where(~is_top, z, -np.inf).max(1)


def _only(numbers: np.ndarray, positions: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chosen atoms first, the rest as padding."""
    order = np.argsort(~chosen, axis=1, kind="stable")
    kept = np.take_along_axis(np.where(chosen, numbers, 0), order, 1)
    return kept, np.take_along_axis(np.where(chosen[..., None], positions, 0.0), order[..., None], 1)


def relax_block_safely(potential: Potential, data: CrystalDataset, settings: Settings) -> dict[str, np.ndarray]:
    """`relax_block`; where it fails, row by row, and a row that fails keeps its start and says why."""
    try:
        return relax_block(potential, data, settings)
    except (ValueError, RuntimeError, ArithmeticError, np.linalg.LinAlgError) as error:
        if len(data) > 1:
            parts = [relax_block_safely(potential, data.select([row]), settings) for row in range(len(data))]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        nan = np.full(1, np.nan)
        return {
            "positions": data.positions.astype(float), "cell": data.cell.astype(float), "energy": nan,
            "energy_of_layers": nan, "gap": nan, "largest_force": nan, "steps": np.zeros(1, int),
            "start": np.zeros(1, int), "status": np.array([f"failed: {error}".splitlines()[0][:80]], "U80"),
        }  # fmt: skip


def assemble(
    data: CrystalDataset, layers: dict[str, np.ndarray], blocks: list[dict[str, np.ndarray]]
) -> CrystalDataset:
    """The data set with relaxed cells and labels; labels are NaN where the status is not "ok"."""
    found = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    table = {
        (tuple(int(z) for z in species if z), int(polarity)): (energy, constant)
        for species, polarity, energy, constant in zip(
            layers["species"], layers["polarity"], layers["energy"], layers["lattice_constant"], strict=True
        )
    }
    bottom, top = (np.array([table[canonical(key)] for key in side]) for side in layer_keys(data))
    is_ok = found["status"] == OK
    constant = found["cell"][:, 0, 0]
    area = np.sqrt(3) / 2 * constant**2

    def labelled(values: np.ndarray) -> np.ndarray:
        return np.where(is_ok, values, np.nan)

    real = (data.atomic_numbers > 0)[..., None]
    positions = found["positions"] - _mean_height(found["positions"], real)
    cell = found["cell"].copy()
    cell[:, 2, 2] = replace(data, positions=positions).slab_height + VACUUM_ANGSTROM
    kept = {
        name: values for name, values in data.metadata.items()
        if name not in ("gap_angstrom", "lattice_constant_angstrom", "mismatch")
    }  # fmt: skip
    return slab_dataset(
        data.ids,
        data.atomic_numbers,
        np.where(real, positions, 0.0),
        cell,
        scalars={
            LABEL: labelled(found["energy"] - bottom[:, 0] - top[:, 0]),
            "binding_energy_ev_per_a2": labelled((found["energy"] - found["energy_of_layers"]) / area),
            "lattice_constant_angstrom": labelled(constant),
            "gap_angstrom": labelled(found["gap"]),
            "mismatch": labelled(np.abs(bottom[:, 1] - top[:, 1]) / constant),
        },
        metadata=kept | {
            "status": found["status"],
            "energy_ev": found["energy"],
            "largest_force_ev_per_angstrom": found["largest_force"].astype(np.float32),
            "relaxation_steps": found["steps"].astype(np.int16),
            "relaxation_start": found["start"].astype(np.int8),
        },
    )  # fmt: skip


def _mean_height(positions: np.ndarray, real: np.ndarray) -> np.ndarray:
    mean = (positions[..., 2:] * real).sum(1, keepdims=True) / real.sum(1, keepdims=True)
    return mean * np.array([0.0, 0.0, 1.0])


def build(
    out: str | os.PathLike[str],
    settings: Settings,
    *,
    device: str = "cpu",
    workers: int = 1,
    quiet: bool = False,
) -> CrystalDataset:
    """Relaxes a family, or goes on with it; writes the data set to `out` and its origin beside it, as JSON.

    Args:
      device: of the potential.
      workers: processes; one for an accelerator.

    Raises:
      DataError: `<out>.parts` holds blocks of other settings, the family or the potential is unknown, or layers do
        not relax.
    """
    out = Path(out)
    data = _rows_of(settings)
    parts = Path(f"{out}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    _check_settings(parts / "settings.json", settings)
    names = ["layers", *(f"{start:06d}" for start in range(0, len(data), settings.block))]
    left = [name for name in names if not (parts / f"{name}.npz").exists()]
    finished = len(names) - len(left)
    with tqdm(total=len(names), initial=finished, desc=settings.family, unit="block", disable=quiet) as bar:
        for _ in _run(left, parts, settings, data, device, workers):
            bar.update()
    stored = {name: _load(parts / f"{name}.npz") for name in names}
    layers = stored.pop("layers")
    provenance = json.loads(str(layers.pop("provenance")))
    result = assemble(data, layers, list(stored.values()))
    result.save(out)
    _write_json(out.with_suffix(".json"), _origin(result, settings, provenance))
    shutil.rmtree(parts)
    return result


def _rows_of(settings: Settings) -> CrystalDataset:
    if settings.family not in FAMILIES:
        raise DataError(f"unknown family {settings.family!r}; choose {' or '.join(FAMILIES)}")
    data = load_source(settings.family)
    if settings.rows is None:
        return data
    first, last = settings.rows
    if not 0 <= first < last <= len(data):
        raise DataError(f"rows {first}:{last} are not within 0:{len(data)}, or none")
    return data.select(np.arange(first, last))


def _run(
    names: list[str], parts: Path, settings: Settings, data: CrystalDataset, device: str, workers: int
) -> Iterable[str]:
    """Does the blocks, in this process or in several; yields each when it is on disk."""
    if not names:
        return
    if workers == 1:
        _start_worker(parts, settings, data, device)
        for name in names:
            _do_block(name)
            yield name
        return
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_start_one_of_many, initargs=(parts, settings, data, device)
    )
    try:
        waiting = {pool.submit(_do_block, name): name for name in names}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                yield waiting.pop(future)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_worker: dict[str, Any] = {}


def _start_worker(parts: Path, settings: Settings, data: CrystalDataset, device: str) -> None:
    potential, provenance = create_potential(settings.potential, device)
    _worker.update(parts=parts, settings=settings, data=data, potential=potential, provenance=provenance)


def _start_one_of_many(*arguments: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    _start_worker(*arguments)


def _do_block(name: str) -> None:
    settings, data, potential = _worker["settings"], _worker["data"], _worker["potential"]
    if name == "layers":
        arrays = relax_layers(potential, data, settings)
        arrays["provenance"] = np.array(json.dumps(_worker["provenance"]))
    else:
        start = int(name)
        rows = np.arange(start, min(start + settings.block, len(data)))
        arrays = relax_block_safely(potential, data.select(rows), settings)
    write_whole(_worker["parts"] / f"{name}.npz", lambda file: np.savez(file, allow_pickle=False, **arrays))


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, lambda file: file.write((json.dumps(value, indent=2) + "\n").encode()))


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _check_settings(path: Path, settings: Settings) -> None:
    now = json.loads(json.dumps(asdict(settings)))
    if not path.exists():
        _write_json(path, now)
    elif json.loads(path.read_text(encoding="utf-8")) != now:
        raise DataError(f"{path.parent} holds blocks made with other settings ({path.name}); remove it, or use those")


def _origin(result: CrystalDataset, settings: Settings, provenance: dict[str, str]) -> dict[str, Any]:
    values, counts = np.unique(result.metadata["status"], return_counts=True)
    return {
        "settings": asdict(settings),
        "provenance": provenance,
        "content_hash": result.content_hash(),
        "status": dict(zip(values.tolist(), counts.tolist(), strict=True)),
        "units": {
            LABEL: "eV a cell; E(bilayer) - E(layer 1) - E(layer 2), each relaxed alone",
            "binding_energy_ev_per_a2": "eV/Angstrom^2; E(bilayer) - E(layers as they are in it), over the area",
            "lattice_constant_angstrom": "Angstrom", "gap_angstrom": "Angstrom, between the facing atoms",
            "mismatch": "|a1 - a2| / a of the layers relaxed alone", "energy_ev": "eV a cell",
            "positions": "Angstrom", "cell": "Angstrom; c is the slab's height and vacuum, no period",
        },
    }  # fmt: skip


def _rows(text: str) -> tuple[int, int]:
    first, last = text.split(":")
    return int(first), int(last)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", required=True, choices=FAMILIES)
    parser.add_argument("--out", required=True, help="data set to write, .npz; its origin goes beside it as .json")
    parser.add_argument("--potential", default=Settings.potential, help="sevennet, chgnet, or module:function (ASE)")
    parser.add_argument("--device", default="auto", help="of torch: cpu, cuda, auto")
    parser.add_argument("--workers", type=int, default=1, help="processes; 1 for an accelerator")
    parser.add_argument("--rows", type=_rows, help="only these, as first:last+1")
    parser.add_argument("--block", type=int, default=Settings.block, help="rows relaxed together; what a kill can lose")
    parser.add_argument("--largest_force", type=float, default=Settings.largest_force, help="eV/Angstrom, when done")
    parser.add_argument("--max_steps", type=int, default=Settings.max_steps)
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    settings = Settings(given.family, given.potential, given.largest_force, given.max_steps, given.rows, given.block)
    try:
        result = build(given.out, settings, device=given.device, workers=given.workers, quiet=given.quiet)
    except DataError as error:
        print(f"build: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"stopped; the finished blocks are in {given.out}.parts, and the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    values, counts = np.unique(result.metadata["status"], return_counts=True)
    print(f"{len(result)} rows in {given.out}: " + ", ".join(f"{n} {v}" for v, n in zip(values, counts, strict=True)))


if __name__ == "__main__":
    main()
