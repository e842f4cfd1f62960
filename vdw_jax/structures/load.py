"""Structures of one's own: one way in for every format.

| file | what is a structure in it | what is a property |
|---|---|---|
| `.csv` | a row, its CIF in column `cif` (CDVAE's format) | a column of numbers |
| `.cif`, POSCAR, or a folder of them | a file | a column of numbers in `properties.csv` or `id_prop.csv` beside them |
| `.extxyz`, `.xyz` | a frame | a number in its comment line |
| `.db`, ASE's `.json` | a row | a key with a number, a calculated number, a number in `data` |
| `.json` of pymatgen, JARVIS, OPTIMADE, pandas | an item | a number beside the structure, or in its `data` |
| `.npz` | a row of what `CrystalDataset.save` wrote | a scalar, or metadata of real numbers |

POSCAR files are called `POSCAR*`, `CONTCAR*`, `*.vasp` or `*.poscar`. All but `.npz` may be gzipped
(`.gz`); suffixes may be in capitals. A property that is absent, empty, NaN or one of the marks in
`values.ABSENT` is unknown there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vdw_jax.structures.cache import content_hash, default_cache_dir, from_cache, to_cache
from vdw_jax.structures.dataset import CrystalDataset, with_properties
from vdw_jax.structures.entries import Entry
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.names import resolve_names
from vdw_jax.structures.scan import scan_file, undecided
from vdw_jax.structures.soundness import choose_periodicity
from vdw_jax.structures.values import as_number, numeric_names
from vdw_jax.types import BULK, SLAB, Periodicity

PERIODICITIES: dict[str, Periodicity | None] = {"auto": None, "slab": SLAB, "bulk": BULK}
"""How structures are read; "auto" is what most of them are."""

MOST_ATOMS = 1_000
"""Of one structure, where no model sets a bound: the distances of all pairs are measured, 24 MB."""


@dataclass(frozen=True, eq=False)
class FileStructures:
    """All structures of a file, in its order."""

    rows: list[Entry | Problem]
    """A structure ready to use, or the first thing that is wrong with it.

    Ready: of a slab, the normal a x b is along z, its mean height is 0, c = (0, 0, height +
    vacuum); `positions` and `cell` are float64 and wrapped along the periods, and `periodicity` is
    that of all.
    """
    problems: list[Problem]  # all, by file and row
    periodicity: Periodicity
    notes: tuple[str, ...] = ()  # what was found and is not read

    @property
    def entries(self) -> list[Entry]:
        """The structures that are ready to use."""
        return [row for row in self.rows if isinstance(row, Entry)]


def read_crystals(
    path: str | os.PathLike[str],
    *,
    periodicity: str | Periodicity = "auto",
    max_atoms: int = MOST_ATOMS,
    quiet: bool = True,
) -> FileStructures:
    """Reads the structures of a file or folder one by one, for scoring, relaxing and handing over.

    Args:
        path: as for `load_structures`.
        periodicity: "slab" or "bulk": so they are asked to be. "auto": what the file says, by its
            pbc flags and by vacuum; refused where that is undecided. `SLAB` or `BULK`: what they
            should be, by a data set that they belong to; a structure whose file says otherwise is a
            problem, and a crystal never becomes a slab.
        max_atoms: structures with more atoms are problems.
        quiet: no progress line.

    Raises:
        DataError: the file is unusable, or does not say whether it holds slabs or crystals.
    """
    path = Path(path)
    if isinstance(periodicity, str):
        _require_known(periodicity)
        target, asked = PERIODICITIES[periodicity], True
    else:
        target, asked = periodicity, False
    if is_saved_dataset(path):
        return _entries_of(_saved(path, (), max_atoms, target), path)
    scan = scan_file(path, max_atoms, quiet)
    if target is None:
        if reason := undecided(scan.crystals):
            raise DataError(f"{path}: {reason}")
        target, asked = choose_periodicity(scan.crystals), False
    scan.place(target, asked)
    rows = [row.ready if row.ready and not row.problems else row.problems[0] for row in scan.rows]
    return FileStructures(rows, scan.problems, target, scan.notes)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A file as a data set."""

    dataset: CrystalDataset
    problems: list[Problem]
    notes: tuple[str, ...] = ()  # what was found and is not read


def load_file(
    path: str | os.PathLike[str],
    properties: Sequence[str] = (),
    *,
    max_atoms: int = 20,
    periodicity: str = "auto",
    quiet: bool = True,
) -> Loaded:
    """`load_structures` without a cache, with problems listed and with notes.

    Raises:
        DataError: the file is unusable.
    """
    _require_known(periodicity)
    path, target = Path(path), PERIODICITIES[periodicity]
    if is_saved_dataset(path):
        return Loaded(_saved(path, properties, max_atoms, target), [])
    scan = scan_file(path, max_atoms, quiet)
    good = [row.crystal.entry for row in scan.rows if row.crystal]
    names = numeric_names([entry.values for entry in good])
    if properties:
        known = {name for entry in good for name in entry.values}
        names = resolve_names(properties, known, os.fspath(path)) if good else []
    asked = target is not None
    if target is None:
        target = choose_periodicity(scan.crystals)
        if reason := undecided(scan.crystals):
            scan.notes = (*scan.notes, reason)
    scan.place(target, asked)
    scalars = []
    for row in scan.rows:
        found = [] if row.crystal is None else [_number(row.crystal.entry, name) for name in names]
        row.problems += [value for value in found if isinstance(value, Problem)]
        values = [value for value in found if not isinstance(value, Problem)]
        if row.ready and not row.problems:
            scalars.append(values)
    entries = [row.ready for row in scan.rows if row.ready and not row.problems]
    return Loaded(_assemble(entries, scalars, names, target), scan.problems, scan.notes)


def load_structures(
    path: str | os.PathLike[str],
    properties: Sequence[str] = (),
    *,
    max_atoms: int = 20,
    periodicity: str = "auto",
    on_error: str = "raise",
    cache_dir: str | os.PathLike[str] | None = None,
    use_cache: bool = True,
    quiet: bool = True,
) -> tuple[CrystalDataset, list[Problem]]:
    """Reads the structures of a file or folder, and keeps the result in a cache.

    Slabs lose their vacuum: c is the stacking axis and no period. Crystals keep the cell as it is
    written.

    Args:
        path: see above.
        properties: numbers to keep as scalars, in float64, as `names.resolve_names` takes them;
            empty keeps all of them. Texts become metadata.
        max_atoms: structures with more atoms are problems.
        periodicity: "slab", "bulk", or "auto" for what most structures are: slabs by their pbc
            flags, or by 7 Angstrom of vacuum along c and none along a and b.
        on_error: "raise" stops if there is a problem; "skip" leaves such structures out and lists
            them.
        cache_dir: default `default_cache_dir()`; a cache that cannot be written is done without.
        quiet: no progress line.

    Returns:
        The data set, and what is wrong with each structure that is not in it.

    Raises:
        DataError: the file is unusable, or a structure is and `on_error` is "raise"; names file,
            row and field.
    """
    if on_error not in ("raise", "skip"):
        raise DataError(f"on_error is {on_error!r}; choose 'raise' or 'skip'")
    _require_known(periodicity)
    path = Path(path)
    stored, found = None, None
    if use_cache and not is_saved_dataset(path):
        settings = [list(properties), max_atoms, periodicity]
        stored = Path(cache_dir or default_cache_dir()) / f"{content_hash(path, settings)}.npz"
        found = from_cache(stored)
    if found is None:
        loaded = load_file(
            path, properties, max_atoms=max_atoms, periodicity=periodicity, quiet=quiet
        )
        found = loaded.dataset, loaded.problems
        if stored is not None:
            to_cache(stored, *found)
    dataset, problems = found
    if problems and on_error == "raise":
        where = (
            f"problem 1 of {len(problems)}; python -m vdw_jax.structures.check {path} lists them"
        )
        large = too_large(problems, max_atoms)
        raise DataError(f"{problems[0]} ({where}){f'. {large}' if large else ''}")
    return dataset, problems


def too_large(problems: Sequence[Problem], max_atoms: int, flag: str = "max_atoms") -> str | None:
    """One line on all structures that have more atoms than are asked for, and what a higher limit
    would take.
    """
    sizes = sorted(problem.num_atoms for problem in problems if problem.num_atoms)
    if not sizes:
        return None
    steps = sorted(
        {sizes[len(sizes) * part // 4 - 1] for part in (1, 2, 3) if len(sizes) >= 4} - {sizes[-1]}
    )
    counts = [f"{size} takes {sum(other <= size for other in sizes)} of them" for size in steps]
    takes = ", ".join([*counts, f"{sizes[-1]} takes all"])
    verb = "structure has" if len(sizes) == 1 else "structures have"
    return f"{len(sizes)} {verb} more than {max_atoms} atoms, {sizes[-1]} at most; {flag}={takes}"


def is_saved_dataset(path: Path) -> bool:
    """Whether the name is that of what `CrystalDataset.save` writes."""
    return path.suffix.lower() == ".npz"


def _require_known(periodicity: str) -> None:
    if periodicity not in PERIODICITIES:
        raise DataError(f"periodicity is {periodicity!r}; choose {', '.join(PERIODICITIES)}")


def _number(entry: Entry, name: str) -> float | Problem:
    value = entry.values.get(name)
    number = as_number(value)
    if number is not None:
        return number
    shown = value[:40] if isinstance(value, str) else value
    return entry.problem(
        name, f"{shown!r} is not a number", "Write a number, or leave it empty where it is unknown"
    )


def _assemble(
    entries: list[Entry], scalars: list[list[float]], names: list[str], periodicity: Periodicity
) -> CrystalDataset:
    width = max((len(entry.atomic_numbers) for entry in entries), default=1)
    atomic_numbers = np.zeros((len(entries), width), np.int16)
    positions = np.zeros((len(entries), width, 3), np.float32)
    for row, entry in enumerate(entries):
        atomic_numbers[row, : len(entry.positions)] = entry.atomic_numbers
        positions[row, : len(entry.positions)] = entry.positions
    numeric = set(names) | set(numeric_names([entry.values for entry in entries]))
    texts = dict.fromkeys(name for entry in entries for name in entry.values if name not in numeric)
    columns = np.array(scalars, float).reshape(len(entries), len(names))
    return CrystalDataset(
        ids=np.array([entry.id for entry in entries], dtype=np.str_),
        atomic_numbers=atomic_numbers,
        positions=positions,
        cell=np.array([entry.cell for entry in entries], np.float32).reshape(-1, 3, 3),
        periodicity=periodicity,
        scalars={name: columns[:, place].copy() for place, name in enumerate(names)},
        metadata={
            name: np.array([str(e.values.get(name, "")) for e in entries], np.str_)
            for name in texts
        },
    )


def _saved(
    path: Path, properties: Sequence[str], max_atoms: int, target: Periodicity | None
) -> CrystalDataset:
    dataset = CrystalDataset.load(path)
    largest = int(dataset.num_atoms.max(initial=0))
    if largest > max_atoms:
        raise DataError(f"{path}: structures of {largest} atoms; set max_atoms={largest}")
    if target is not None and target != dataset.periodicity:
        raise DataError(f"{path}: its periodicity is {dataset.periodicity}, not {target}")
    return with_properties(dataset, properties) if properties else dataset


def _entries_of(dataset: CrystalDataset, path: Path) -> FileStructures:
    """The rows of a saved data set, one by one."""
    columns = dataset.metadata | dataset.scalars
    rows: list[Entry | Problem] = []
    for row, name in enumerate(dataset.ids):
        count = int(dataset.num_atoms[row])
        values = {key: column[row].item() for key, column in columns.items()}
        rows.append(
            Entry(
                str(path),
                row + 1,
                str(name),
                dataset.atomic_numbers[row, :count].astype(int),
                dataset.positions[row, :count].astype(float),
                dataset.cell[row].astype(float),
                values,
                dataset.periodicity,
                id_field="ids",
            )
        )
    return FileStructures(rows, [], dataset.periodicity)
