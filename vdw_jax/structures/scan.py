"""Everything that stands in a file of structures, before it is known whether they are slabs or
crystals.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from vdw_jax.structures.entries import MOST_STRUCTURES, Entry
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.reading import open_reading
from vdw_jax.structures.slabs import SMALLEST_VACUUM_ANGSTROM, empty_spaces
from vdw_jax.structures.soundness import Crystal, find_problems, place, sound
from vdw_jax.types import Periodicity

MOST_VALUES = 10_000_000
"""Properties and notes of all structures of one file together; each takes about 100 bytes."""

_DOUBTFUL_ANGSTROM = 5.0
"""Empty space along one axis from here to `SMALLEST_VACUUM_ANGSTROM` may be vacuum: layered
crystals have up to 4.5.
"""

_UNDECIDED = (0.25, 0.75)
"""Shares of slabs in a file between which nothing says what it is."""


@dataclass(eq=False)
class Row:
    """One structure on its way."""

    crystal: Crystal | None
    problems: list[Problem]
    ready: Entry | None = None  # once it is placed


@dataclass(eq=False)
class Scan:
    """What stands in a file, before it is known whether it holds slabs or crystals."""

    rows: list[Row] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    @property
    def crystals(self) -> list[Crystal]:
        """Those that are sound."""
        return [row.crystal for row in self.rows if row.crystal]

    @property
    def problems(self) -> list[Problem]:
        """Everything that is wrong, by file and row."""
        found = [problem for row in self.rows for problem in row.problems]
        return sorted(found, key=lambda problem: (problem.file, problem.row))

    def place(self, periodicity: Periodicity, asked: bool) -> None:
        """Turns and moves every structure into the convention of data sets.

        Args:
            periodicity: of all.
            asked: by a person, not found: a narrow gap along c will do for a slab.
        """
        first: dict[str, str] = {}
        for row in self.rows:
            if row.crystal is None:
                continue
            entry = row.crystal.entry
            if entry.id in first:
                reason = f"{entry.id!r} occurs before, in {first[entry.id]}"
                row.problems.append(
                    entry.problem(entry.id_field, reason, "Give every structure a name of its own")
                )
            placed = place(row.crystal, periodicity, asked)
            if isinstance(placed, Problem):
                row.problems.append(placed)
                continue
            positions, cell = placed
            row.ready = replace(entry, positions=positions, cell=cell, periodicity=periodicity)
            if not row.problems:
                first[entry.id] = f"row {entry.row}" if entry.row else entry.file


def scan_file(path: Path, max_atoms: int, quiet: bool) -> Scan:
    """Reads every structure, and finds what is wrong with each by itself.

    Raises:
        DataError: the file is unusable, or holds too much.
    """
    reading = open_reading(path)
    scan, num_values, not_taken = Scan(), 0, Counter[str]()
    shown = {"desc": path.name, "delay": 2, "mininterval": 1, "leave": False, "disable": quiet}
    for entry in tqdm(reading.entries, total=reading.total, **shown):
        if len(scan.rows) == MOST_STRUCTURES:
            raise DataError(
                f"{path}: more than {MOST_STRUCTURES} structures. Split it into smaller files"
            )
        if isinstance(entry, Problem):
            scan.rows.append(Row(None, [entry]))
            continue
        num_values += len(entry.values)
        if num_values > MOST_VALUES:
            raise DataError(
                f"{path}: more than {MOST_VALUES} values beside the structures. Remove some columns"
            )
        not_taken.update(entry.not_taken)
        is_large = len(entry.atomic_numbers) > max_atoms
        found = [_too_many(entry, max_atoms)] if is_large else find_problems(entry, max_atoms)
        scan.rows.append(Row(None if found else sound(entry), found))
    scan.notes = (*reading.notes, *_notes(not_taken))
    return scan


def _too_many(entry: Entry, max_atoms: int) -> Problem:
    count = len(entry.atomic_numbers)
    advice = f"Allow it with max_atoms={count} (a model that is slower), or leave the structure out"
    found = entry.problem(
        entry.column or "atoms", f"{count} atoms; at most {max_atoms} are asked for", advice
    )
    return replace(found, num_atoms=count)


def _notes(not_taken: Counter[str], most: int = 12) -> list[str]:
    if not not_taken:
        return []
    named = [name if len(name) <= 40 else f"{name[:37]}..." for name in list(not_taken)[:most]]
    more = f" and {len(not_taken) - most} more" if len(not_taken) > most else ""
    return [f"not single numbers or texts, and not read: {', '.join(named)}{more}"]


def undecided(crystals: list[Crystal]) -> str | None:
    """Why a file does not say whether it holds slabs or crystals; None where it does."""
    count = len(crystals)
    slabs = sum(crystal.is_layered for crystal in crystals)
    doubtful = sum(map(_is_doubtful, crystals))
    low, high = _UNDECIDED
    flag = "Say --periodicity=slab or --periodicity=bulk"
    if low * count < slabs < high * count:
        return f"{slabs} of {count} structures are slabs by their vacuum or pbc, the others are not. {flag}"
    if slabs <= low * count < doubtful:
        space = f"{_DOUBTFUL_ANGSTROM:g} to {SMALLEST_VACUUM_ANGSTROM:g} Angstrom"
        return f"empty space of {space} in {doubtful} of {count} structures may be vacuum. {flag}"
    return None


def _is_doubtful(crystal: Crystal) -> bool:
    if crystal.is_layered:
        return False
    spaces = empty_spaces(crystal.fractions, crystal.cell)
    return bool(((spaces >= _DOUBTFUL_ANGSTROM) & (spaces < SMALLEST_VACUUM_ANGSTROM)).any())
