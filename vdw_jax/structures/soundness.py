"""What has to be true of a structure before a model sees it; the same for every format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vdw_jax.structures.dataset import wrap_positions
from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.entries import Entry
from vdw_jax.structures.errors import Problem
from vdw_jax.structures.slabs import (
    SMALLEST_CUT_ANGSTROM,
    SMALLEST_VACUUM_ANGSTROM,
    TURNED,
    as_slab,
    empty_spaces,
    height_above,
    made_whole,
    spacings,
)
from vdw_jax.types import BULK, NUM_ELEMENTS, SLAB, Periodicity

CLOSEST_ANGSTROM = 0.5
"""Two atoms closer than this are no structure; H2 has 0.74."""

SMALLEST_SPACING_ANGSTROM, LONGEST_ANGSTROM = 1.0, 500.0
"""Of lattice planes, and of lattice vectors: what lies outside is taken for a slip of units or of the decimal point."""

TALLEST_SLAB_ANGSTROM = 100.0
_FARTHEST_PERIODS = 1000.0


@dataclass(frozen=True, eq=False)
class Crystal:
    """A structure that is sound; whether it is a slab depends on what the others are."""

    entry: Entry
    fractions: np.ndarray  # [n, 3] in `cell`
    cell: np.ndarray  # [3, 3], rows, Angstrom; of a slab by its file, c is a normal of 1 Angstrom
    empty: np.ndarray  # [3] bool, whether there is vacuum along a, b, c

    @property
    def is_layered(self) -> bool:
        """A slab, be its vacuum along the wrong axis."""
        return self.entry.periodicity == SLAB or int(self.empty.sum()) == 1


def find_problems(entry: Entry, max_atoms: int) -> list[Problem]:
    """What is wrong with a structure, whatever its properties are."""
    return list(_problems(entry, max_atoms))


def _problems(entry: Entry, max_atoms: int) -> Iterator[Problem]:
    def wrong(field: str, reason: str, advice: str) -> Problem:
        return entry.problem(entry.column or field, reason, advice)

    count = len(entry.atomic_numbers)
    if not 0 < count <= max_atoms:
        advice = f"Allow it with max_atoms={count} (a model that is slower), or leave the structure out"
        if count:
            yield wrong("atoms", f"{count} atoms; at most {max_atoms} are asked for", advice)
        else:
            yield wrong("atoms", "no atoms", "Leave the structure out")
        return
    unknown = np.flatnonzero((entry.atomic_numbers < 1) | (entry.atomic_numbers > NUM_ELEMENTS))
    if len(unknown):
        reason = f"atom {unknown[0] + 1} is none of {SYMBOLS[0]}..{SYMBOLS[-1]}"
        yield wrong("elements", reason, "Correct its element, or leave the structure out")
    for name, values in (("positions", entry.positions), ("cell", entry.cell)):
        if not np.isfinite(values).all():
            yield wrong(name, "a value that is no number", "Take it from the calculation again")
            return
    if entry.periodicity not in (SLAB, BULK):
        told = "".join("TF"[not period] for period in entry.periodicity)
        advice = "A slab is periodic along a and b (T T F) with c its normal, a crystal along all three (T T T)"
        yield wrong("pbc", f"periodic as {told}", advice)
        return
    cell, periods = _effective_cell(entry), np.array(entry.periodicity)
    lengths = np.linalg.norm(cell, axis=1)[periods]
    if lengths.max() > LONGEST_ANGSTROM or abs(np.linalg.det(cell)) < 1e-6:
        sizes = ", ".join(f"{length:.4g}" for length in lengths)
        yield wrong("cell", f"lattice vectors of {sizes} Angstrom span no cell", "Correct them; the unit is Angstrom")
        return
    if spacings(cell)[periods].min() < SMALLEST_SPACING_ANGSTROM:
        reason = f"lattice planes {spacings(cell)[periods].min():.3g} Angstrom apart"
        yield wrong("cell", reason, "Lengths are in Angstrom, angles in degrees: correct them, or reduce the cell")
        return
    fractions = entry.positions @ np.linalg.inv(cell)
    far = np.abs(fractions[:, periods]).max(1)
    if far.max() > _FARTHEST_PERIODS:
        reason = f"atom {far.argmax() + 1} lies {far.max():.3g} periods away"
        yield wrong("positions", reason, "Correct it, or wrap it into the cell")
        return
    # A distance below half the smallest spacing is within half a period along each axis: rounding finds its image.
    apart = fractions[:, None] - fractions[None]
    apart -= np.where(periods, np.round(apart), 0.0)
    distance = np.linalg.norm(apart @ cell, axis=-1) + 9.0 * np.eye(count)
    if distance.min() < CLOSEST_ANGSTROM:
        first, second = np.unravel_index(distance.argmin(), distance.shape)
        where = "at one place" if distance.min() < 1e-2 else f"{distance.min():.2f} Angstrom apart"
        yield wrong("positions", f"atoms {first + 1} and {second + 1} are {where}", "Remove one, or correct the cell")


def _effective_cell(entry: Entry) -> np.ndarray:
    """The cell; the c of a slab, which is no period and may be anything, becomes its unit normal."""
    if entry.periodicity != SLAB:
        return entry.cell
    normal = np.cross(entry.cell[0], entry.cell[1])
    return np.vstack([entry.cell[:2], normal / max(float(np.linalg.norm(normal)), 1e-12)])


def sound(entry: Entry) -> Crystal:
    """A structure in which `find_problems` found nothing."""
    cell = _effective_cell(entry)
    fractions = entry.positions @ np.linalg.inv(cell)
    empty = empty_spaces(fractions, cell) >= SMALLEST_VACUUM_ANGSTROM
    return Crystal(entry, fractions, cell, empty)


def choose_periodicity(crystals: list[Crystal]) -> Periodicity:
    """What most of them are."""
    return SLAB if crystals and 2 * sum(crystal.is_layered for crystal in crystals) > len(crystals) else BULK


def place(crystal: Crystal, periodicity: Periodicity, asked: bool) -> tuple[np.ndarray, np.ndarray] | Problem:
    """Positions [n, 3] and cell [3, 3] as a data set keeps them, or why the structure is not of this periodicity.

    Args:
        asked: slabs were asked for, not found: a narrow gap along c will do.
    """
    entry = crystal.entry
    positions, cell = crystal.fractions @ crystal.cell, crystal.cell
    if periodicity == SLAB:
        if entry.periodicity != SLAB:
            why = _why_no_slab(crystal, asked)
            if why is not None:
                return entry.problem(entry.column or "cell", *why)
            positions = made_whole(crystal.fractions) @ cell
        height = height_above(positions, cell)
        if height > TALLEST_SLAB_ANGSTROM:
            reason = f"a slab {height:.4g} Angstrom high"
            return entry.problem(entry.column or "positions", reason, "Correct its heights, or leave it out")
        positions, cell = as_slab(positions, cell)
    elif entry.periodicity != BULK:
        advice = "Say pbc=\"T T T\" if c is a period, or read them as slabs (periodicity=slab)"
        return entry.problem("pbc", "not periodic along c, where most structures are", advice)
    return wrap_positions(positions[None], cell[None], periodicity)[0], cell


def _why_no_slab(crystal: Crystal, asked: bool) -> tuple[str, str] | None:
    """Reason and advice; None for a slab."""
    spaces = empty_spaces(crystal.fractions, crystal.cell)
    found = [axis for axis, empty in zip("abc", crystal.empty, strict=True) if empty]
    said = ", ".join(f"{space:.1f} along {axis}" for axis, space in zip("abc", spaces, strict=True))
    if found in (["a"], ["b"]):
        turn = f"ase.build.make_supercell(atoms, {TURNED[found[0]]})"
        return f"its vacuum is along {found[0]}; the stacking axis is c", f"Turn the cell: {turn}"
    if len(found) > 1 and not (asked and "c" in found):
        advice = "Wires and molecules are no slabs: leave it out, or say periodicity=slab if it is one"
        return f"empty spaces of {said} Angstrom", advice
    if spaces[2] < (SMALLEST_CUT_ANGSTROM if asked else SMALLEST_VACUUM_ANGSTROM):
        advice = "Leave it out, give it vacuum along c, or read all as crystals (periodicity=bulk)"
        others = "" if asked else ", as most others are"
        return f"not a slab{others}: empty spaces of {said} Angstrom", advice
    return None
