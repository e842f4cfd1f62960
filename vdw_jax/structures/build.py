"""Relaxed, labelled slabs of a family: `python -m vdw_jax.structures.build --family=j2dh8 --out=j2dh8.npz`.

Every stack is relaxed from two gaps and the lower one is kept; its layers are relaxed alone. Finished blocks lie in
`<out>.parts`, so that the same command goes on after any interruption; the result is the same to the byte.
`--check=50` relaxes 50 random rows of the shipped data set again and says how far they are from it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.files import write_whole
from vdw_jax.structures.j2dh8 import build_j2dh8
from vdw_jax.structures.label import (
    LABEL,
    Arrays,
    Convergence,
    canonical,
    layer_dataset,
    layer_keys,
    relax_block_safely,
    relax_layers,
    stack_dataset,
)
from vdw_jax.structures.potentials import create_potential
from vdw_jax.structures.quintuple import DRAW_SEED, all_layers, build_iii_vi
from vdw_jax.structures.references import load_references
from vdw_jax.structures.source import load_relaxed

STACKS = {"j2dh8": build_j2dh8, "iii_vi": build_iii_vi}
FAMILIES = (*STACKS, "layers")

SAME_ANGSTROM, SAME_EV = 1e-3, 1e-3
"""Two relaxations of one cell that stop at 0.0005 eV/Angstrom are closer than this."""


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    family: str
    potential: str = "sevennet"
    largest_force: float = 0.0005  # eV/Angstrom
    max_steps: int = 300
    rows: tuple[int, ...] | None = None  # None for all; not for layers
    block: int = 256  # rows that are relaxed together

    @property
    def convergence(self) -> Convergence:
        """The part that a relaxation needs."""
        return Convergence(self.largest_force, self.max_steps)


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
      workers: processes; a few share an accelerator well.

    Raises:
      DataError: `<out>.parts` holds blocks of other settings, the family or the potential is unknown, or layers do
        not relax.
    """
    out = Path(out)
    data = _rows_of(settings)
    parts = Path(f"{out}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    _check_settings(parts / "settings.json", settings)
    names = ["layers"] + ([] if data is None else [f"{start:06d}" for start in range(0, len(data), settings.block)])
    left = [name for name in names if not (parts / f"{name}.npz").exists()]
    finished = len(names) - len(left)
    with tqdm(total=len(names), initial=finished, desc=settings.family, unit="block", disable=quiet) as bar:
        for _ in _run(left, parts, settings, data, device, workers):
            bar.update()
    stored = {name: _load(parts / f"{name}.npz") for name in names}
    layers = stored.pop("layers")
    provenance = json.loads(str(layers.pop("provenance")))
    references = load_references(settings.potential)
    if data is None:
        result = layer_dataset(layers, references)
    else:
        result = stack_dataset(data, layers, list(stored.values()), references)
    result.save(out)
    _write_json(out.with_suffix(".json"), _origin(result, settings, provenance, references))
    shutil.rmtree(parts)
    return result


def check(family: str, count: int, seed: int, *, device: str = "cpu", workers: int = 1, quiet: bool = False) -> Arrays:
    """Relaxes random rows of the shipped data set again, with the settings it was made with.

    Returns:
      For each row how far an atom or the lattice in the plane has moved at most (`angstrom`), and the label (`ev`).
    """
    shipped, origin = load_relaxed(family)
    chosen = np.sort(np.random.RandomState(seed).permutation(len(shipped))[:count])
    settings = Settings(**origin["settings"] | {"rows": tuple(chosen.tolist()), "block": 16})
    with tempfile.TemporaryDirectory() as folder:
        again = build(Path(folder) / "rows.npz", settings, device=device, workers=workers, quiet=quiet)
    before = shipped.select(chosen)
    moved = np.abs(again.positions - before.positions).max((1, 2))
    stretched = np.abs(again.cell - before.cell)[:, :2].max((1, 2))
    return {
        "ids": before.ids,
        "angstrom": np.maximum(moved, stretched),
        "ev": np.abs(again.scalars[LABEL] - before.scalars[LABEL]),
    }


def _rows_of(settings: Settings) -> CrystalDataset | None:
    if settings.family not in FAMILIES:
        raise DataError(f"unknown family {settings.family!r}; choose {', '.join(FAMILIES)}")
    if settings.family == "layers":
        if settings.rows is not None:
            raise DataError("layers are built all at once: no rows")
        return None
    data = STACKS[settings.family]()
    if settings.rows is None:
        return data
    rows = np.array(settings.rows, int)
    if not len(rows) or rows.min() < 0 or rows.max() >= len(data) or len(np.unique(rows)) < len(rows):
        raise DataError(f"rows are different numbers within 0:{len(data)}, at least one")
    return data.select(rows)


def _run(
    names: list[str], parts: Path, settings: Settings, data: CrystalDataset | None, device: str, workers: int
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


def _start_worker(parts: Path, settings: Settings, data: CrystalDataset | None, device: str) -> None:
    potential, provenance = create_potential(settings.potential, device)
    _worker.update(parts=parts, settings=settings, data=data, potential=potential, provenance=provenance)


def _start_one_of_many(*arguments: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    _start_worker(*arguments)


def _do_block(name: str) -> None:
    settings, data, potential = _worker["settings"], _worker["data"], _worker["potential"]
    if name == "layers":
        species, polarity, _ = all_layers()
        every = list(zip(species, polarity.tolist(), strict=True))
        needed = every if data is None else [key for side in layer_keys(data) for key in side]
        arrays = relax_layers(potential, sorted({canonical(key) for key in needed}), settings.convergence)
        arrays["provenance"] = np.array(json.dumps(_worker["provenance"]))
    else:
        start = int(name)
        rows = np.arange(start, min(start + settings.block, len(data)))
        arrays = relax_block_safely(potential, data.select(rows), settings.convergence)
    write_whole(_worker["parts"] / f"{name}.npz", lambda file: np.savez(file, allow_pickle=False, **arrays))


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, lambda file: file.write((json.dumps(value, indent=2) + "\n").encode()))


def _load(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _check_settings(path: Path, settings: Settings) -> None:
    now = json.loads(json.dumps(asdict(settings)))
    if not path.exists():
        _write_json(path, now)
    elif json.loads(path.read_text(encoding="utf-8")) != now:
        raise DataError(f"{path.parent} holds blocks made with other settings ({path.name}); remove it, or use those")


MEANING = {
    "positions": "Angstrom",
    "cell": "Angstrom; c is the slab's height and vacuum, no period",
    LABEL: "eV a cell; E(bilayer) - E(layer 1) - E(layer 2), each relaxed alone",
    "formation_energy_per_atom_ev": "eV an atom, against the elements (reference_energies_ev)",
    "binding_energy_ev_per_a2": "eV/Angstrom^2; E(bilayer) - E(layers as they are in it), over the area",
    "lattice_constant_angstrom": "Angstrom",
    "gap_angstrom": "Angstrom, height between the facing atoms",
    "mismatch": "|a1 - a2| / a of the layers relaxed alone",
    "energy_ev": "eV a cell",
    "largest_force_ev_per_angstrom": "eV/Angstrom, over atoms and cell",
    "layer_group": "1 to 80, spglib at 0.01 Angstrom, 0 where it finds none",
    "registry": "the top layer is shifted by this times (1/3, 2/3)",
    "rotation_degrees": "of the top layer, before it is shifted",
    "duplicate_of": "id of the row that is the same crystal by symmetry",
    "relaxation_start": "0 for the gap of the rule, 1 for the wider one",
    "status": "ok, or why there is no label",
}


def _origin(
    result: CrystalDataset, settings: Settings, provenance: dict[str, str], references: dict[str, float] | None
) -> dict[str, Any]:
    status = result.metadata.get("status", np.full(len(result), "ok"))
    values, counts = np.unique(status, return_counts=True)
    arrays = {"positions": result.positions, "cell": result.cell} | result.scalars | result.metadata
    return {
        "settings": asdict(settings),
        "seed_of_the_draw": DRAW_SEED if settings.family == "iii_vi" else None,
        "provenance": provenance,
        "reference_energies_ev": references,
        "content_hash": result.content_hash(),
        "status": dict(zip(values.tolist(), counts.tolist(), strict=True)),
        "columns": {n: " ".join(filter(None, (_kind(v), MEANING.get(n)))) for n, v in arrays.items()},
    }


def _kind(values: np.ndarray) -> str:
    return "text;" if values.dtype.kind == "U" else f"{values.dtype};"


def _rows(text: str) -> tuple[int, ...]:
    """`0:12,40` as 0 to 11 and 40."""
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        found += range(int(first), int(last)) if colon else [int(first)]
    return tuple(found)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", required=True, choices=FAMILIES)
    parser.add_argument("--out", help="data set to write, .npz; its origin goes beside it as .json")
    parser.add_argument("--check", type=int, metavar="N", help="relax N random rows of the shipped data set again")
    parser.add_argument("--seed", type=int, default=0, help="of the rows to check")
    parser.add_argument("--potential", default=Settings.potential, help="sevennet, chgnet, or module:function (ASE)")
    parser.add_argument("--device", default="auto", help="of torch: cpu, cuda, auto")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--rows", type=_rows, help="only these, as 0:12,40")
    parser.add_argument("--block", type=int, default=Settings.block, help="rows relaxed together; what a kill can lose")
    parser.add_argument("--largest_force", type=float, default=Settings.largest_force, help="eV/Angstrom, when done")
    parser.add_argument("--max_steps", type=int, default=Settings.max_steps)
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    if (given.out is None) == (given.check is None):
        parser.error("say either --out or --check")
    how = {"device": given.device, "workers": given.workers, "quiet": given.quiet}
    signal.signal(signal.SIGTERM, _stop)
    try:
        if given.check is not None:
            raise SystemExit(_report_check(check(given.family, given.check, given.seed, **how)))
        settings = Settings(
            given.family, given.potential, given.largest_force, given.max_steps, given.rows, given.block
        )
        result = build(given.out, settings, **how)
    except DataError as error:
        print(f"build: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        where = f"; the finished blocks are in {given.out}.parts, and the same command goes on" if given.out else ""
        print(f"stopped{where}", file=sys.stderr)
        raise SystemExit(130) from None
    values, counts = np.unique(result.metadata.get("status", np.full(len(result), "ok")), return_counts=True)
    print(f"{len(result)} rows in {given.out}: " + ", ".join(f"{n} {v}" for v, n in zip(values, counts, strict=True)))


def _report_check(found: Arrays) -> int:
    """Prints what `check` found; the exit code."""
    same = (found["angstrom"] <= SAME_ANGSTROM) & (found["ev"] <= SAME_EV)
    for row in np.flatnonzero(~same):
        print(f"{found['ids'][row]}: {found['angstrom'][row]:.5f} Angstrom, {found['ev'][row]:.5f} eV away")
    print(
        f"{same.sum()} of {len(same)} rows as shipped, to {SAME_ANGSTROM} Angstrom and {SAME_EV} eV; largest "
        f"differences {np.nanmax(found['angstrom']):.1e} Angstrom and {np.nanmax(found['ev']):.1e} eV"
    )
    return 0 if same.all() else 1


if __name__ == "__main__":
    main()
