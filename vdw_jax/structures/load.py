"""Structures of one's own: one way in for every format.

| file | what is a structure in it | what is a property |
|---|---|---|
| `.csv` | a row, its CIF in column `cif` (CDVAE's format) | a column of numbers |
| folder of `.cif`, or one | a file | a column of numbers in `properties.csv` beside them |
| `.extxyz`, `.xyz` | a frame | a number in its comment line |
| `.db`, ASE's `.json` | a row | a key with a number |
| pymatgen's `.json` | an item | a number beside the structure, or in its `data` |
| `.npz` | a row of what `CrystalDataset.save` wrote | a scalar, or metadata of real numbers |

`.csv`, `.extxyz` and pymatgen's `.json` may be gzipped (`.gz`). A property that is absent, empty or NaN in a row is
unknown there.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vdw_jax.structures.ase_reader import read_ase_database, read_extxyz
from vdw_jax.structures.cif import PROPERTIES_FILE, cif_files, read_cifs
from vdw_jax.structures.csv_reader import read_csv
from vdw_jax.structures.dataset import CrystalDataset, with_properties
from vdw_jax.structures.entries import Entry, Reading
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.files import write_whole
from vdw_jax.structures.json_reader import is_ase_database, load_json, read_pymatgen
from vdw_jax.structures.names import resolve_names
from vdw_jax.structures.soundness import Crystal, choose_periodicity, find_problems, place, sound
from vdw_jax.types import BULK, SLAB, Periodicity

PERIODICITIES: dict[str, Periodicity | None] = {"auto": None, "slab": SLAB, "bulk": BULK}
"""How structures are read; "auto" is what most of them are."""

_CACHE_VERSION = 4
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LARGEST = float(np.finfo(np.float32).max)
_ABSENT = ("", "nan", "none", "null")


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

    Slabs lose their vacuum: c is the stacking axis and no period. Crystals keep the cell as it is written.

    Args:
        path: see above.
        properties: numbers to keep as scalars, as `names.resolve_names` takes them; empty keeps all of them. Texts
            become metadata.
        max_atoms: structures with more atoms are problems.
        periodicity: "slab", "bulk", or "auto" for what most structures are: slabs by their pbc flags, or by 7
            Angstrom of vacuum along c and none along a and b.
        on_error: "raise" stops if there is a problem; "skip" leaves such structures out and lists them.
        cache_dir: default `default_cache_dir()`; a cache that cannot be written is done without.
        quiet: no progress line.

    Returns:
        The data set, and what is wrong with each structure that is not in it.

    Raises:
        DataError: the file is unusable, or a structure is and `on_error` is "raise"; names file, row and field.
    """
    if on_error not in ("raise", "skip"):
        raise DataError(f"on_error is {on_error!r}; choose 'raise' or 'skip'")
    if periodicity not in PERIODICITIES:
        raise DataError(f"periodicity is {periodicity!r}; choose {', '.join(PERIODICITIES)}")
    path = Path(path)
    if path.suffix == ".npz":
        return _saved(CrystalDataset.load(path), path, properties, max_atoms, PERIODICITIES[periodicity]), []
    settings = [_CACHE_VERSION, os.fspath(path), list(properties), max_atoms, periodicity]
    stored = Path(cache_dir or default_cache_dir()) / f"{_content_hash(path, settings)}.npz"
    found = _from_cache(stored) if use_cache else None
    if found is None:
        found = _read(path, properties, max_atoms, PERIODICITIES[periodicity], quiet)
        if use_cache:
            _to_cache(stored, *found)
    dataset, problems = found
    if problems and on_error == "raise":
        where = f"problem 1 of {len(problems)}; python -m vdw_jax.structures.check {path} lists them"
        raise DataError(f"{problems[0]} ({where})")
    return dataset, problems


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/vdw_jax`, or `~/.cache/vdw_jax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vdw_jax"


def _content_hash(path: Path, settings: list) -> str:
    digest = hashlib.sha256(json.dumps(settings).encode())
    files = [*cif_files(path), path / PROPERTIES_FILE] if path.is_dir() else [path]
    try:
        for file in files:
            if file is path or file.exists():
                digest.update(f"\0{file.name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
                with open(file, "rb") as opened:
                    while block := opened.read(1 << 20):
                        digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:32]


def _from_cache(stored: Path) -> tuple[CrystalDataset, list[Problem]] | None:
    try:
        problems = [Problem(**entry) for entry in json.loads(stored.with_suffix(".json").read_text())]
        return CrystalDataset.load(stored), problems
    except (OSError, ValueError, TypeError):
        return None


def _to_cache(stored: Path, dataset: CrystalDataset, problems: list[Problem]) -> None:
    listed = json.dumps([asdict(problem) for problem in problems]).encode()
    try:
        dataset.save(stored)
        write_whole(stored.with_suffix(".json"), lambda file: file.write(listed))
    except OSError:
        pass


def open_reading(path: Path) -> Reading:
    """The structures of a file by its kind.

    Raises:
        DataError: none of the known kinds, or not what its name says.
    """
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir() or name == path.name.lower() and name.endswith(".cif"):
        return read_cifs(path)
    if name.endswith(".db"):
        return read_ase_database(path)
    if name.endswith(".csv"):
        return read_csv(path, _unpacked(path))
    if name.endswith((".extxyz", ".xyz")):
        return read_extxyz(path, _unpacked(path))
    if name.endswith(".json"):
        document = load_json(path, _unpacked(path))
        return read_ase_database(path) if is_ase_database(document) else read_pymatgen(path, document)
    raise DataError(f"{path}: unknown kind of file; give .csv, .extxyz, .db, .json, .npz, or .cif and folders of it")


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}. Take the file again") from error


def _read(
    path: Path, properties: Sequence[str], max_atoms: int, asked: Periodicity | None, quiet: bool
) -> tuple[CrystalDataset, list[Problem]]:
    reading = open_reading(path)
    problems: list[Problem] = []
    crystals: list[Crystal] = []
    shown = {"desc": path.name, "delay": 2, "mininterval": 1, "leave": False, "disable": quiet}
    for entry in tqdm(reading.entries, total=reading.total, **shown):
        found = [entry] if isinstance(entry, Problem) else find_problems(entry, max_atoms)
        problems += found
        if isinstance(entry, Entry) and not found:
            crystals.append(sound(entry))
    names = list(properties) or _numeric([crystal.entry for crystal in crystals])
    known = {name for crystal in crystals for name in crystal.entry.values}
    if properties and crystals:
        names = resolve_names(properties, known, os.fspath(path))
    periodicity = choose_periodicity(crystals) if asked is None else asked
    good = []
    first_row: dict[str, str] = {}
    for crystal in crystals:
        entry = crystal.entry
        wrong, placed = _repeated(entry, first_row), place(crystal, periodicity, asked is not None)
        wrong += [placed] if isinstance(placed, Problem) else []
        scalars = [_number(entry, name) for name in names]
        wrong += [value for value in scalars if isinstance(value, Problem)]
        problems += wrong
        if not wrong and not isinstance(placed, Problem):
            first_row[entry.id] = f"row {entry.row}"
            good.append((entry, *placed, scalars))
    problems.sort(key=lambda problem: (problem.file, problem.row))
    return _assemble(good, names, periodicity), problems


def _repeated(entry: Entry, first_row: dict[str, str]) -> list[Problem]:
    if entry.id not in first_row:
        return []
    reason = f"{entry.id!r} occurs before, in {first_row[entry.id]}"
    return [entry.problem(entry.id_field, reason, "Give every structure a name of its own")]


def _is_absent(value: float | str | None) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _ABSENT
    return value is None or math.isnan(value)


def _is_number(value: float | str) -> bool:
    if isinstance(value, str):
        return _NUMBER.fullmatch(value.strip()) is not None and abs(float(value)) <= _LARGEST
    return abs(value) <= _LARGEST


def _numeric(entries: list[Entry]) -> list[str]:
    """Properties of which more than half of the values that say something are numbers."""
    said: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for entry in entries:
        for name, value in entry.values.items():
            if not _is_absent(value):
                said[name] += 1
                numbers[name] += _is_number(value)
            elif name not in said:
                said[name] = 0  # keeps the order of the file
    return [name for name in said if 2 * numbers[name] > said[name]]


def _number(entry: Entry, name: str) -> float | Problem:
    value = entry.values.get(name)
    if value is None or _is_absent(value):
        return math.nan
    if _is_number(value):
        return float(value)
    shown = value[:40] if isinstance(value, str) else value
    return entry.problem(name, f"{shown!r} is not a number", "Write a number, or leave it empty where it is unknown")


def _assemble(
    good: list[tuple[Entry, np.ndarray, np.ndarray, list]], names: list[str], periodicity: Periodicity
) -> CrystalDataset:
    width = max((len(entry.atomic_numbers) for entry, *_ in good), default=1)
    atomic_numbers = np.zeros((len(good), width), np.int16)
    positions = np.zeros((len(good), width, 3), np.float32)
    for row, (entry, placed, _, _) in enumerate(good):
        atomic_numbers[row, : len(placed)] = entry.atomic_numbers
        positions[row, : len(placed)] = placed
    numeric = set(names) | set(_numeric([entry for entry, *_ in good]))
    texts = dict.fromkeys(name for entry, *_ in good for name in entry.values if name not in numeric)
    return CrystalDataset(
        ids=np.array([entry.id for entry, *_ in good], dtype=np.str_),
        atomic_numbers=atomic_numbers,
        positions=positions,
        cell=np.array([cell for _, _, cell, _ in good], np.float32).reshape(-1, 3, 3),
        periodicity=periodicity,
        scalars={name: np.array([s[i] for *_, s in good], np.float64) for i, name in enumerate(names)},
        metadata={name: np.array([str(e.values.get(name, "")) for e, *_ in good], np.str_) for name in texts},
    )


def _saved(
    dataset: CrystalDataset, path: Path, properties: Sequence[str], max_atoms: int, asked: Periodicity | None
) -> CrystalDataset:
    largest = int(dataset.num_atoms.max(initial=0))
    if largest > max_atoms:
        raise DataError(f"{path}: structures of {largest} atoms; set max_atoms={largest}")
    if asked is not None and asked != dataset.periodicity:
        raise DataError(f"{path}: its periodicity is {dataset.periodicity}, not {asked}")
    return with_properties(dataset, properties) if properties else dataset
