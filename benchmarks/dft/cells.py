"""Which cells the spot check takes, their geometry, and the potential's energies of them.

Geometries are the potential's, so that what differs is the energy alone. Asked are the label of 24 stacks, with the
layers as they are in them, so that strain and binding can be told apart; rigid gap scans of six; lattice constants of
the nine MX layers with and without D3; what the settings of the calculation leave open; and for three layers what
relaxing the heights would change.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.elements import CHALCOGENS, METALS
from vdw_jax.structures.j2dh8 import STACKINGS, build_j2dh8, monolayers, oriented_layers
from vdw_jax.structures.layers import hexagonal_vectors, layer_name, make_layer, site_fractions
from vdw_jax.structures.potentials import Potential

LABEL = "formation_energy_ev"

NUM_STACKS = 24  # 8 of each tercile of the mismatch, 4 of each stacking
POOL = {"MX": 9, "MM'X2": 3, "M2XX'": 3, "MM'XX'": 5}
"""Monolayers of each class that the stacks are made of; few, since each is a calculation of its own."""

GAP_OFFSETS_ANGSTROM = (-0.2, -0.1, 0.0, 0.2, 0.5)
LATTICE_OFFSETS_ANGSTROM = (-0.04, 0.0, 0.04, 0.08, 0.12)
"""From the potential's own lattice constant, which lies below PBE's; for InTe it lies above, and they are negated."""

CHECKED = ("SAlGaS", "SeInInTe", 1)
"""Bottom, top and registry (unrotated) of the stack whose settings are checked: all six elements, strained, polar."""

CHECKED_LATTICE = "SAlAlS"

RELAXED_LAYERS = ("SGaInTe", "SInInTe", "TeAlInTe")
"""Two that err most and one that does not: DFT relaxes their heights, free and where they are pressed together most."""

SETTINGS = {"cutoff_ev": 400.0, "kpoints": 6, "vacuum_angstrom": 10.0}
BETTER: dict[str, dict[str, Any]] = {
    "500 eV": {"cutoff_ev": 500.0},
    "9x9x1": {"kpoints": 9},
    "16 A vacuum": {"vacuum_angstrom": 16.0},
}

SAME_ANGSTROM = 2e-3
"""A slab that has moved by less since it was chosen is taken as it was, with its result."""

SIDES = {"bottom": slice(0, 4), "top": slice(4, 8)}
"""Atoms of the two layers of a stack."""

Layer = tuple[int, ...]
"""Atomic numbers, bottom to top."""


@dataclass(frozen=True)
class Task:
    """One single point of a slab; all atoms on sites 0, 1, 2 of the hexagonal cell (see `structures.layers`)."""

    name: str  # kind/what/..., unique
    numbers: list[int]
    sites: list[int]
    heights_angstrom: list[float]
    lattice_constant_angstrom: float
    potential_ev: float = math.nan  # of the potential that relaxed it, D3 included
    cutoff_ev: float = SETTINGS["cutoff_ev"]
    kpoints: int = int(SETTINGS["kpoints"])
    vacuum_angstrom: float = SETTINGS["vacuum_angstrom"]

    @property
    def key(self) -> str:
        """What a result belongs to: a digest of everything that it depends on."""
        inputs = {name: value for name, value in asdict(self).items() if name != "potential_ev"}
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]

    def slab(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions [N, 3], amid the cell, and the cell [3, 3], exactly hexagonal; Angstrom, float64."""
        height = np.array(self.heights_angstrom) - min(self.heights_angstrom)
        cell = np.zeros((3, 3))
        cell[:2, :2] = hexagonal_vectors(self.lattice_constant_angstrom)
        cell[2, 2] = height.max() + self.vacuum_angstrom
        flat = site_fractions(np.array(self.sites)) @ cell[:2, :2]
        return np.column_stack([flat, height + self.vacuum_angstrom / 2]), cell


def make_task(name: str, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, **settings: Any) -> Task:
    """A task from a slab: numbers [N], positions [N, 3] and cell [3, 3], Angstrom; lengths kept to 1e-4 Angstrom.

    Raises:
      ValueError: an atom is off the three sites.
    """
    thirds = 3.0 * np.asarray(positions, float)[:, :2] @ np.linalg.inv(np.asarray(cell, float)[:2, :2])
    sites = np.rint(thirds[:, 0]).astype(int) % 3
    off = thirds - np.column_stack([sites, 2 * sites])
    if np.abs(off - 3 * np.rint(off / 3)).max() > 0.01:
        raise ValueError(f"{name}: atoms off the high-symmetry sites")
    heights = positions[:, 2] - positions[:, 2].min()
    rounded = [round(float(height), 4) for height in heights]
    return Task(name, [int(z) for z in numbers], sites.tolist(), rounded, round(float(cell[0, 0]), 4), **settings)


def read_tasks(folder: Path) -> list[Task]:
    """The tasks that `choose_tasks` wrote."""
    lines = (folder / "tasks.jsonl").read_text(encoding="utf-8").splitlines()
    return [Task(**json.loads(line)) for line in lines]


# Which cells -----------------------------------------------------------------------------------------------------


def canonical(layer: Iterable[int]) -> Layer:
    """One of a layer and its flipped self."""
    species = tuple(int(z) for z in layer)
    return min(species, species[::-1])


def layer_class(layer: Layer) -> str:
    """One of the keys of `POOL`."""
    x1, m1, m2, x2 = layer
    return ("M2" if m1 == m2 else "MM'") + ("X2" if x1 == x2 else "XX'") if (m1, x1) != (m2, x2) else "MX"


def layer_pool(random: np.random.RandomState) -> set[Layer]:
    """The monolayers that stacks are chosen from."""
    layers = [canonical(species) for species in oriented_layers()[monolayers()]]
    of_class = {name: [layer for layer in layers if layer_class(layer) == name] for name in POOL}
    return {of_class[name][i] for name, count in POOL.items() for i in random.permutation(len(of_class[name]))[:count]}


def choose_rows(data: CrystalDataset, seed: int = 0) -> np.ndarray:
    """Rows of J2DH-8: `NUM_STACKS`, a third of each tercile of the mismatch, as many of each stacking, sorted.

    Layers of `layer_pool` alone, each about as often as any other and no pair twice; rows with a label, and none that
    repeats another.
    """
    random = np.random.RandomState(seed)
    pool = layer_pool(random)
    mismatch, label = data.scalars["mismatch"], data.scalars[LABEL]
    usable = np.isfinite(label) & (data.metadata["duplicate_of"] == "")
    tercile = np.digitize(mismatch, np.quantile(mismatch[usable], [1 / 3, 2 / 3]))
    stacking = list(zip(data.metadata["registry"].tolist(), data.metadata["rotation_degrees"].tolist(), strict=True))
    pairs = [(canonical(row[:4]), canonical(row[4:8])) for row in data.atomic_numbers]
    candidates = [int(row) for row in random.permutation(np.flatnonzero(usable)) if pool.issuperset(pairs[row])]
    used: Counter[Layer] = Counter()
    seen: set[frozenset[Layer]] = set()
    chosen: list[int] = []
    for place in range(NUM_STACKS):
        kind = STACKINGS[place % len(STACKINGS)], (place + place // len(STACKINGS)) % 3
        fitting = [row for row in candidates
                   if (stacking[row], tercile[row]) == kind and frozenset(pairs[row]) not in seen]  # fmt: skip
        best = min(fitting, key=lambda row: sorted((used[layer] for layer in pairs[row]), reverse=True))
        chosen.append(best)
        used.update(pairs[best])
        seen.add(frozenset(pairs[best]))
    return np.sort(chosen)


def choose_scans(data: CrystalDataset, rows: np.ndarray) -> np.ndarray:
    """Six of `rows`, one of each stacking, two of each third by mismatch."""
    mismatch = data.scalars["mismatch"][rows]
    third = np.argsort(np.argsort(mismatch)) * 3 // len(rows)
    stacking = list(zip(data.metadata["registry"][rows], data.metadata["rotation_degrees"][rows], strict=True))
    found = []
    for place, kind in enumerate(STACKINGS):
        found.append(next(row for row, k, t in zip(rows, stacking, third, strict=True) if k == kind and t == place % 3))
    return np.sort(found)


# Their geometry and the potential's energy -----------------------------------------------------------------------


def _relaxed(potential: Potential, slabs: list[tuple[np.ndarray, np.ndarray, np.ndarray]], held: bool = False):
    """Relaxes slabs of one size; with `held` the lattice constant stays."""
    from vdw_jax.structures.relax import relax

    def without_stress(*slab: np.ndarray):
        found = potential(*slab)
        return replace(found, virial=np.zeros_like(found.virial))

    numbers, positions, cell = (np.stack(arrays) for arrays in zip(*slabs, strict=True))
    found = relax(without_stress if held else potential, numbers, positions, cell, max_steps=300)
    if not found.converged.all():
        raise SystemExit("a slab does not relax")
    return [(n, p, c) for n, p, c in zip(numbers, found.positions, found.cell, strict=True)]


def layer_tasks(potential: Potential, layers: Iterable[Layer]) -> list[Task]:
    """Free layers, and the nine MX at other lattice constants, with relaxed heights."""
    layers = sorted(set(layers) | {(x, m, m, x) for m in METALS for x in CHALCOGENS})
    start = [make_layer(layer) for layer in layers]
    cells = [np.diag([1.0, 1.0, one.thickness_angstrom + 20.0]) for one in start]
    for cell, one in zip(cells, start, strict=True):
        cell[:2, :2] = hexagonal_vectors(one.lattice_constant_angstrom)
    slabs = [(np.array(one.species), one.positions, cell) for one, cell in zip(start, cells, strict=True)]
    free = _relaxed(potential, slabs)
    tasks = [make_task(f"layer/{layer_name(layer)}", *slab) for layer, slab in zip(layers, free, strict=True)]
    names, stretched = [], []
    for layer, (numbers, positions, cell) in zip(layers, free, strict=True):
        for name, offset in lattice_names(layer_name(layer)).items() if layer_class(layer) == "MX" else ():
            factor = np.array([1.0 + offset / cell[0, 0]] * 2 + [1.0])
            if offset:
                names.append(name)
                stretched.append((numbers, positions * factor, cell * factor))
    held = _relaxed(potential, stretched, held=True)
    tasks += [make_task(name, *slab) for name, slab in zip(names, held, strict=True)]
    return tasks


def lattice_names(name: str, prefix: str = "", suffix: str = "") -> dict[str, float]:
    """Tasks of the lattice constant of a layer, each with its offset; the free layer is one of them."""
    sign = -1.0 if name == "TeInInTe" else 1.0
    return {f"{prefix}lattice/{name}/{sign * offset:+.2f}{suffix}" if offset else f"{prefix}layer/{name}{suffix}":
            sign * offset for offset in LATTICE_OFFSETS_ANGSTROM}  # fmt: skip


def check_tasks(potential: Potential, layers: list[Task]) -> list[Task]:
    """One strained stack and its layers, and the lattice constants of one layer, with better settings."""
    data = build_j2dh8()
    bottom, top, registry = CHECKED
    names = [data.metadata[key] for key in ("bottom_layer", "top_layer", "registry", "rotation_degrees")]
    row = int(np.flatnonzero((names[0] == bottom) & (names[1] == top) & (names[2] == registry) & (names[3] == 0))[0])
    slab = (data.atomic_numbers[row].astype(int), data.positions[row].astype(float), data.cell[row].astype(float))
    stack = make_task("check/stack", *_relaxed(potential, [slab])[0])
    checked = [stack]
    for name, side in SIDES.items():
        checked.append(replace(_free(layers, layer_name(canonical(stack.numbers[side]))), name=f"check/{name}"))
    found = list(checked)
    for better, settings in BETTER.items():
        found += [replace(task, name=f"{task.name}/{better}", **settings) for task in checked]
    lattice = [task for task in layers if CHECKED_LATTICE in task.name]
    return found + [replace(task, name=f"check/{task.name}/500 eV", cutoff_ev=500.0) for task in lattice]


def _free(layers: list[Task], name: str) -> Task:
    return next(task for task in layers if task.name == f"layer/{name}")


def stack_tasks(data: CrystalDataset, rows: np.ndarray, scans: np.ndarray) -> list[Task]:
    """The stacks, those of the gap scans first, the scans, and the layers as they are in the stacks."""
    stacks, gaps, held = [], [], []
    for row in sorted(rows, key=lambda row: row not in scans):
        numbers, positions, cell = data.atomic_numbers[row, :8], data.positions[row, :8], data.cell[row]
        stacks.append(make_task(f"stack/{data.ids[row]}", numbers, positions, cell))
        for offset in GAP_OFFSETS_ANGSTROM if row in scans else ():
            lifted = positions + np.outer(np.arange(8) >= 4, [0.0, 0.0, offset])
            if offset:
                gaps.append(make_task(f"gap/{data.ids[row]}/{offset:+.1f}", numbers, lifted, cell))
        for name, side in SIDES.items():
            held.append(make_task(f"held/{data.ids[row]}/{name}", numbers[side], positions[side], cell))
    return stacks + gaps + held


def relaxed_tasks(layers: list[Task], stacks: list[Task]) -> list[Task]:
    """Layers whose heights DFT relaxes: free, and as they are in the stack with the smallest lattice constant."""
    found = []
    for name in RELAXED_LAYERS:
        held = [task for task in stacks
                if task.name.startswith("held/") and layer_name(canonical(task.numbers)) == name]  # fmt: skip
        pressed = min(held, key=lambda task: task.lattice_constant_angstrom)
        found += [replace(task, name=f"relaxed/{task.name}") for task in (_free(layers, name), pressed)]
    return found


def with_energies(potential: Potential, tasks: list[Task]) -> list[Task]:
    """The tasks with the potential's energies."""
    width = max(len(task.numbers) for task in tasks)
    numbers, positions = np.zeros((len(tasks), width), int), np.zeros((len(tasks), width, 3))
    cell = np.zeros((len(tasks), 3, 3))
    for row, task in enumerate(tasks):
        size = len(task.numbers)
        numbers[row, :size] = task.numbers
        positions[row, :size], cell[row] = task.slab()
    energy = potential(numbers, positions, cell).energy
    return [replace(task, potential_ev=round(float(value), 6)) for task, value in zip(tasks, energy, strict=True)]


def settled(task: Task, earlier: Task | None) -> Task:
    """`earlier` where the same slab was there before, but for what another relaxation of it leaves; else `task`."""
    if earlier is None:
        return task
    lengths = ("heights_angstrom", "lattice_constant_angstrom", "potential_ev")
    fixed = [{name: value for name, value in asdict(one).items() if name not in lengths} for one in (task, earlier)]
    moved = np.subtract(task.heights_angstrom, earlier.heights_angstrom) if fixed[0] == fixed[1] else np.inf
    stretched = task.lattice_constant_angstrom - earlier.lattice_constant_angstrom
    return earlier if np.abs(moved).max() < SAME_ANGSTROM and abs(stretched) < SAME_ANGSTROM else task


def choose_tasks(folder: Path, data_path: str, seed: int) -> None:
    """Writes the tasks; those that are there stay."""
    from vdw_jax.structures.potentials import create_potential

    potential, _ = create_potential("sevennet")
    data = CrystalDataset.load(data_path)
    rows = choose_rows(data, seed)
    scans = choose_scans(data, rows)
    needed = [canonical(data.atomic_numbers[row, side]) for row in rows for side in SIDES.values()]
    checked = [canonical(layer) for layer in oriented_layers() if layer_name(layer) in CHECKED]
    layers = layer_tasks(potential, needed + checked)
    stacks = stack_tasks(data, rows, scans)
    checks, relaxed = check_tasks(potential, layers), relaxed_tasks(layers, stacks)
    tasks = with_energies(potential, checks + layers + stacks + relaxed)
    path = folder / "tasks.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    earlier = {task.name: task for task in read_tasks(folder)} if path.exists() else {}
    tasks = [settled(task, earlier.get(task.name)) for task in tasks]
    path.write_text("".join(json.dumps(asdict(task)) + "\n" for task in tasks), encoding="utf-8")
    kinds = Counter(task.name.split("/")[0] for task in tasks)
    print(f"{len(tasks)} tasks in {path}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
