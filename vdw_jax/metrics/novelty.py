"""Which structures are new against others, and which are new among themselves.

Two structures are the same where StructureMatcher matches them at the tight site tolerance, which no two relaxed
stackings do. It takes a fifth of a second a pair, so that of all pairs only those are tried that have the same
composition and whose heights and registries do not rule a match out.

Slabs are compared in their primitive cells (`primitive.primitive_slabs`), so that a supercell, another vacuum or a cut
by the cell's c face is nothing new; the bounds and the matcher take any origin, orientation, side up and choice of a
and b. The two of a pair stand in cells of one height: the matcher compares fractions of the cell, where a cell that
grows with the gap between its layers would take back a quarter of what the gap has grown. Bulk crystals are reduced by
the matcher itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from vdw_jax.metrics.matching import TIGHT_STOL, Tolerances
from vdw_jax.metrics.parallel import parallel_map
from vdw_jax.metrics.primitive import primitive_slabs
from vdw_jax.metrics.stacking import displacement_rms, registry_rms
from vdw_jax.structures.dataset import CrystalDataset, concatenate
from vdw_jax.types import SLAB

SLACK = 1.1
"""On the bounds: pymatgen measures on the mean of two lattices."""


def height_distances(data: CrystalDataset, row: int, others: NDArray) -> tuple[NDArray, NDArray]:
    """How far the heights of slabs of one composition keep them apart, and (volume / atoms)^(1/3) of the larger cell.

    A match moves no atom by less than its height changes, and a lattice within the matcher's tolerances keeps c up to
    in-plane vectors, so that heights in cells as high as each other stay comparable: the root mean square of their
    differences, at the best shift, either way up, is a lower bound of the displacement.

    Args:
        data: slabs.
        row: one of them.
        others: rows [m] of the same composition.

    Returns:
        [m] and [m], Angstrom.
    """
    numbers, num_atoms = data.atomic_numbers[row], data.num_atoms[row]

    def profile(rows: NDArray, sign: float) -> NDArray:
        z = sign * data.positions[rows, :, 2]
        order = np.lexsort((z, data.atomic_numbers[rows]), axis=-1)[:, -num_atoms:]
        found = np.take_along_axis(z, order, 1)
        return found - found.mean(1, keepdims=True)

    assert (np.sort(data.atomic_numbers[others], 1) == np.sort(numbers)).all()
    own = profile(np.array([row]), 1.0)
    apart = np.minimum(*(np.sqrt(((profile(others, s) - own) ** 2).mean(1)) for s in (1.0, -1.0)))
    cell = data.cell[[row, *others]].astype(float)
    area = np.abs(np.linalg.det(cell[:, :2, :2]))
    volume = np.maximum(area[1:], area[0]) * np.maximum(cell[1:, 2, 2], cell[0, 2, 2])
    return apart, np.cbrt(volume / num_atoms)


def close_in_height(data: CrystalDataset, row: int, others: NDArray, stol: float) -> NDArray:
    """Which of `others`, of the same composition, could match `row` at `stol` by their heights alone; [m] bool."""
    apart, unit = height_distances(data, row, others)
    return apart <= SLACK * stol * unit


def possible_matches(data: CrystalDataset, row: int, others: NDArray, stol: float) -> NDArray:
    """Those of `others`, of the same composition, that could match `row` at `stol`; the likeliest first.

    Slabs are judged by their heights and, where the species along z agree, by their registries; bulk crystals all
    could.
    """
    if data.periodicity != SLAB or len(others) == 0:
        return others
    apart, unit = height_distances(data, row, others)
    near = np.flatnonzero(apart <= SLACK * stol * unit)
    bounds = []
    for place in near:
        sideways = registry_rms(_slab(data, row), _slab(data, others[place]))
        bounds.append(float(np.hypot(apart[place], sideways or 0.0)) / unit[place])
    kept = np.array(bounds) <= SLACK * stol
    order = np.argsort(np.array(bounds)[kept], kind="stable")
    return others[near[kept][order]]


def _slab(data: CrystalDataset, row: int) -> tuple[NDArray, NDArray, NDArray]:
    real = data.atomic_numbers[row] > 0
    return data.atomic_numbers[row][real], data.positions[row][real], data.cell[row]


def contents(data: CrystalDataset) -> list[bytes]:
    """What structures that can match share: the atoms of a slab, the reduced composition of a bulk crystal; [M]."""
    if data.periodicity == SLAB:
        return [np.sort(numbers).tobytes() for numbers in data.atomic_numbers]
    return [data.formula(row).encode() for row in range(len(data))]


def compare(
    own: CrystalDataset, known: CrystalDataset | None, *, workers: int = 1, progress: bool = True
) -> list[tuple[str | None, int | None]]:
    """For each crystal the id of the first of `known` that it matches, and the place of the first earlier one.

    None where it matches none, or nothing is known. At a tolerance that tells stackings apart (`TIGHT_STOL`).

    Args:
        own: those asked about; no id of theirs is one of `known`.
        known: the training part, for instance.
        workers: processes.
        progress: shows a line on stderr.
    """
    data = own if known is None else concatenate([known, own])
    first = len(data) - len(own)
    rows = np.arange(first, len(data))
    matches = first_matches(data, rows, np.arange(first), workers=workers, progress=progress)
    earlier = repeats(data, rows, workers=workers, progress=progress)
    return [
        (None if match is None else str(data.ids[match[0]]), None if other is None else other - first)
        for match, other in zip(matches, earlier, strict=True)
    ]


@dataclass(frozen=True)
class Nearest:
    """What of the known structures is nearest to one."""

    id: str | None
    """None where no known structure has the atoms, or none could be laid on it."""
    rms_angstrom: float | None
    """`stacking.displacement_rms`; None with the id."""
    swaps: int
    """Atoms to exchange, add or remove until a known structure has the atoms; 0 where one has."""


def nearest(own: CrystalDataset, known: CrystalDataset) -> list[Nearest]:
    """For each slab the known one of the same atoms that is nearest to it, both in their primitive cells.

    Heights alone are compared first: they bound the displacement from below, so that few need be laid on each other.

    Args:
        own: slabs.
        known: slabs, at least one.
    """
    own, known = primitive_slabs(own), primitive_slabs(known)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, numbers in enumerate(known.atomic_numbers):
        groups[np.sort(numbers[numbers > 0]).tobytes()].append(row)
    counts = np.array([np.bincount(known.atomic_numbers[rows[0]], minlength=128)[1:] for rows in groups.values()])
    found = []
    for row in range(len(own)):
        slab = _slab(own, row)
        rows = groups.get(np.sort(slab[0].astype(known.atomic_numbers.dtype)).tobytes())
        if rows is None:
            change = counts - np.bincount(slab[0], minlength=128)[1:]
            swaps = np.maximum(np.maximum(change, 0).sum(1), np.maximum(-change, 0).sum(1)).min()
            found.append(Nearest(None, None, int(swaps)))
            continue
        best, least = None, np.inf
        bounds = _height_rms(slab, known, np.array(rows))
        for place in np.argsort(bounds, kind="stable"):
            if bounds[place] >= least:
                break
            rms = displacement_rms(slab, _slab(known, rows[place]))
            if rms is not None and rms < least:
                best, least = rows[place], rms
        found.append(Nearest(None, None, 0) if best is None else Nearest(str(known.ids[best]), least, 0))
    return found


def _height_rms(slab: tuple[NDArray, NDArray, NDArray], known: CrystalDataset, rows: NDArray) -> NDArray:
    """The part of `displacement_rms` across the slab, the better way up; [m] Angstrom, of known rows [m]."""
    size = len(slab[0])
    own = slab[1][np.lexsort((slab[1][:, 2], slab[0])), 2]
    apart = []
    for sign in (1.0, -1.0):
        z = sign * known.positions[rows, :, 2]
        order = np.lexsort((z, known.atomic_numbers[rows]), axis=-1)[:, -size:]
        apart.append((np.take_along_axis(z, order, 1).astype(float) - own).std(1))
    return np.minimum(*apart)


def first_matches(
    data: CrystalDataset,
    rows: Sequence[int] | NDArray,
    known: Sequence[int] | NDArray,
    *,
    stol: float = TIGHT_STOL,
    workers: int = 1,
    progress: bool = True,
) -> list[tuple[int, float] | None]:
    """For each of `rows` the first of `known` that it matches, and the RMSE (no unit); None for those that are novel.

    Args:
        data: holds both.
        rows: those asked about.
        known: what they may repeat, the training part for instance.
        stol: site tolerance.
        workers: processes, as in `parallel.parallel_map`.
        progress: shows a line on stderr.
    """
    data = primitive_slabs(data)
    keys = contents(data)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row in known:
        groups[keys[row]].append(int(row))
    tasks = [(int(row), np.array(groups.get(keys[row], []), int)) for row in rows]
    shared = data, stol
    return parallel_map(_first, tasks, shared=shared, workers=workers, description="novelty", progress=progress)


def repeats(
    data: CrystalDataset,
    rows: Sequence[int] | NDArray,
    *,
    stol: float = TIGHT_STOL,
    workers: int = 1,
    progress: bool = True,
) -> list[int | None]:
    """For each of `rows` the earlier one that it matches, itself no repeat; None for those that are unique.

    Args: as in `first_matches`.
    """
    data = primitive_slabs(data)
    keys = contents(data)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        groups[keys[row]].append(int(row))
    tasks = sorted(groups.values(), key=len, reverse=True)
    found = parallel_map(
        _repeats, tasks, shared=(data, stol), workers=workers, description="uniqueness", progress=progress
    )
    of = {row: earlier for group, answers in zip(tasks, found, strict=True) for row, earlier in
          zip(group, answers, strict=True)}  # fmt: skip
    return [of[int(row)] for row in rows]


def _first(shared: tuple[CrystalDataset, float], task: tuple[int, NDArray]) -> tuple[int, float] | None:
    data, stol = shared
    row, others = task
    matcher = Tolerances(stol=stol).matcher()
    for other in possible_matches(data, row, others, stol):
        try:
            distance = matcher.get_rms_dist(*_pair(data, row, int(other)))
        except Exception:  # noqa: BLE001  pymatgen raises many kinds on ugly structures: they match nothing
            continue
        if distance is not None:
            return int(other), float(distance[0])
    return None


def _pair(data: CrystalDataset, row: int, other: int) -> tuple[Structure, Structure]:
    """Two crystals for the matcher, slabs in cells as high as the higher of the two."""
    pair = data.select([row, other])
    if data.periodicity == SLAB:
        pair.cell[:, 2] = 0.0, 0.0, pair.cell[:, 2, 2].max()
    return pair.to_pymatgen(0), pair.to_pymatgen(1)


def _repeats(shared: tuple[CrystalDataset, float], group: list[int]) -> list[int | None]:
    found: list[int | None] = []
    firsts: list[int] = []
    for row in group:
        match = _first(shared, (row, np.array(firsts, int)))
        found.append(None if match is None else match[0])
        if match is None:
            firsts.append(row)
    return found
