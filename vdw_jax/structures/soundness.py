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
    joined,
    made_whole,
    reduced,
    spacings,
)
from vdw_jax.types import BULK, NUM_ELEMENTS, SLAB, Periodicity

CLOSEST_ANGSTROM = 0.5
"""Two atoms closer than this are no structure; H2 has 0.74."""

SMALLEST_SPACING_ANGSTROM, LONGEST_ANGSTROM = 1.0, 500.0
"""Of lattice planes, and of lattice vectors: what lies outside is taken for a slip of units or of the decimal point."""

_LONGEST_ACROSS_ANGSTROM = 1e6
"""Of c where there is vacuum along it, which is dropped, however much it is."""

TALLEST_SLAB_ANGSTROM = 100.0
_FARTHEST_PERIODS = 1000.0


@dataclass(frozen=True, eq=False)
class Crystal:
    """A structure that is sound; whether it is a slab depends on what the others are."""

    entry: Entry
    fractions: np.ndarray  # [n, 3] in `cell`
    cell: np.ndarray  # [3, 3], rows, Angstrom, reduced if it was skewed; of a slab by its file, c is its unit normal
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
    periods = np.array(entry.periodicity)
    lengths = np.linalg.norm(entry.cell, axis=1)[periods]
    sizes = ", ".join(f"{length:.4g}" for length in lengths)
    if lengths.max() > _LONGEST_ACROSS_ANGSTROM or _volume(entry) < 1e-6:
        yield wrong("cell", f"lattice vectors of {sizes} Angstrom span no cell", "Correct them; the unit is Angstrom")
        return
    crystal = sound(entry)
    cell, fractions = crystal.cell, crystal.fractions
    # Nobody reads how long c is where there is vacuum along it.
    judged = periods & ~(crystal.empty & [False, False, True])
    longest = np.linalg.norm(cell, axis=1)[judged].max()
    if longest > LONGEST_ANGSTROM:
        reason = f"a lattice vector of {longest:.4g} Angstrom; the limit is {LONGEST_ANGSTROM:g}"
        yield wrong("cell", reason, "Correct it; the unit is Angstrom")
        return
    spacing = spacings(cell)[periods].min()
    if spacing < SMALLEST_SPACING_ANGSTROM:
        reason = f"lattice planes {spacing:.3g} Angstrom apart; the limit is {SMALLEST_SPACING_ANGSTROM:g}"
        yield wrong("cell", reason, "Lengths are in Angstrom, angles in degrees: correct them")
        return
    far = np.abs(fractions[:, periods]).max(1)
    if far.max() > _FARTHEST_PERIODS:
        reason = f"atom {far.argmax() + 1} lies {far.max():.3g} periods away"
        yield wrong("positions", reason, "Correct it, or wrap it into the cell")
        return
    first, second, distance = _closest(fractions, cell, periods)
    if distance < CLOSEST_ANGSTROM:
        where = "at one place" if distance < 1e-2 else f"{distance:.2f} Angstrom apart"
        yield wrong("positions", f"atoms {first + 1} and {second + 1} are {where}", "Remove one, or correct the cell")


def _closest(fractions: np.ndarray, cell: np.ndarray, periods: np.ndarray) -> tuple[int, int, float]:
    """The two atoms that are closest, and their distance in Angstrom, if that is below half the smallest spacing.

    Such a distance is within half a period along each axis: rounding finds its image.
    """
    closest = (0, 0, np.inf)
    for first in range(len(fractions) - 1):
        apart = fractions[first + 1 :] - fractions[first]
        apart -= np.where(periods, np.round(apart), 0.0)
        distance = np.linalg.norm(apart @ cell, axis=-1)
        nearest = int(distance.argmin())
        if distance[nearest] < closest[2]:
            closest = (first, first + 1 + nearest, float(distance[nearest]))
    return closest


def _volume(entry: Entry) -> float:
    """Of the cell, Angstrom^3; of a x b, Angstrom^2, where c is no period."""
    if entry.periodicity == SLAB:
        return float(np.linalg.norm(np.cross(entry.cell[0], entry.cell[1])))
    return abs(float(np.linalg.det(entry.cell)))


def _slab_cell(cell: np.ndarray) -> np.ndarray:
    """a and b reduced in their plane; c, which is no period and may be anything, becomes its unit normal."""
    normal = np.cross(cell[0], cell[1])
    return np.vstack([reduced(cell, (0, 1))[:2], normal / np.linalg.norm(normal)])


def sound(entry: Entry) -> Crystal:
    """A structure in which `find_problems` found nothing, in the cell that it is judged and kept in."""
    positions = entry.positions
    if entry.periodicity == SLAB:
        cell = _slab_cell(entry.cell)
        if abs(entry.cell[2] @ cell[2]) > SMALLEST_VACUUM_ANGSTROM:  # a cell that may have cut the slab
            positions = joined(positions @ np.linalg.inv(entry.cell), entry.cell) @ entry.cell
    else:
        cell = reduced(entry.cell, (0, 1))
        spaces = empty_spaces(positions @ np.linalg.inv(cell), cell)
        if not (spaces >= SMALLEST_VACUUM_ANGSTROM).any():
            cell = reduced(cell)  # which keeps no plane: only where no plane is that of a slab
    fractions = positions @ np.linalg.inv(cell)
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
