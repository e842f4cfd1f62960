"""Relaxes one crystal with an ASE calculator, and says what it took, what it gained and what went wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from vdw_jax.metrics.layers import find_layers
from vdw_jax.metrics.stacking import same_registry
from vdw_jax.metrics.validity import MIN_DISTANCE_ANGSTROM, min_distance
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import describe

IN_PLANE = [1, 1, 0, 0, 0, 1]
"""Strains of a slab that may relax, in Voigt's order."""

LARGEST_FORCE_EV_PER_ANGSTROM = 0.05
MOST_STEPS = 200

LARGEST_STRETCH = 2.0
"""Of a cell's side while it relaxes, up or down. Beyond that the potential has lost the crystal."""

LARGEST_RISE_ANGSTROM = 10.0
"""Of a slab's height while it relaxes; it has 20 Angstrom of vacuum."""

KEYS = (
    "converged", "steps", "energy_ev", "energy_gained_ev", "largest_force", "formation_energy_ev",
    "binding_energy_ev_per_a2", "gap_before", "gap_after", "strain", "moved", "stacking_kept", "problem",
)  # fmt: skip


class UnsoundError(ValueError):
    """A relaxation that cannot go on: a value that is not finite, or a crystal that flies apart."""


@dataclass(frozen=True)
class _End:
    """Where a relaxation ended."""

    energy_ev: float
    largest_force: float
    steps: int
    converged: bool


def relax_crystal(
    crystal: Crystal,
    calculator: Any,
    largest_force: float = LARGEST_FORCE_EV_PER_ANGSTROM,
    most_steps: int = MOST_STEPS,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Crystal, dict[str, Any]]:
    """A relaxed copy, and what is to be said of it. Never raises for what the calculator does: it is said.

    Keys: `converged`, `steps`, `energy_ev` (of the cell, relaxed), `energy_gained_ev` (above 0), `largest_force`
    (eV/A), `formation_energy_ev` (E(bilayer) - E(free layers), each relaxed alone with the same calculator),
    `binding_energy_ev_per_a2` (E(bilayer) - E(layers as they are in it), over the area; below 0 where bound),
    `gap_before` and `gap_after` (A), `strain` (of the root of the area), `moved` (largest displacement of an atom
    beside the strain, A), `stacking_kept` (`stacking.same_registry`), `problem` (text where it failed: the crystal
    then is as it was). Those that do not apply are None.

    It fails where the calculator raises, where an energy, a force or the stress is not finite at any step, where the
    cell or the height of a slab grows or shrinks out of all bounds, and where atoms end on each other.

    Args:
      crystal: a slab relaxes a and b, bulk its whole cell.
      calculator: of ASE, with energy, forces and stress.
      largest_force: eV/Angstrom, on atoms and cell, where it is done.
      most_steps: of BFGS.
      on_step: called before each step; what it raises ends the relaxation.
    """
    row: dict[str, Any] = dict.fromkeys(KEYS)
    atoms = crystal.to_ase()
    try:
        atoms.calc = calculator
        start_ev = float(atoms.get_potential_energy())
        end = _optimise(atoms, crystal, largest_force, most_steps, on_step)
        relaxed = replace(crystal, positions=atoms.positions, cell=atoms.cell.array)
        _refuse_collapsed(relaxed)
    except UnsoundError as error:
        return crystal, row | {"converged": False, "problem": str(error)}
    except Exception as error:  # calculators have no common error
        reason = (f"{type(error).__name__}: {error}".splitlines() or ["unknown"])[0]
        return crystal, row | {"converged": False, "problem": reason[:200]}
    row |= {
        "converged": end.converged, "steps": end.steps, "energy_ev": end.energy_ev,
        "energy_gained_ev": start_ev - end.energy_ev, "largest_force": end.largest_force,
        "strain": _side(relaxed) / _side(crystal) - 1, "moved": _moved(crystal, relaxed),
    }  # fmt: skip
    if crystal.is_slab:
        before, after = ((c.atomic_numbers, c.positions, c.cell) for c in (crystal, relaxed))
        row |= {
            "gap_before": describe(crystal)["gap_angstrom"],
            "gap_after": describe(relaxed)["gap_angstrom"],
        }
        with contextlib.suppress(Exception):  # odd crystals have no registry
            row["stacking_kept"] = same_registry(before, after)
        # Layers alone may fail where the slab did not; the slab counts all the same.
        with contextlib.suppress(Exception):
            row["binding_energy_ev_per_a2"] = _binding(relaxed, end.energy_ev, calculator)
        with contextlib.suppress(Exception):
            row["formation_energy_ev"] = _formation(
                relaxed, end, calculator, largest_force, most_steps, on_step
            )
    return relaxed, row


def _optimise(
    atoms: Atoms, start: Crystal, largest_force: float, most_steps: int, on_step: Callable[[], None]
) -> _End:
    """Relaxes atoms in place; `start` is what they were."""
    cell: Any = FrechetCellFilter(atoms, mask=IN_PLANE if start.is_slab else None)
    optimiser = BFGS(cell, logfile=None)
    for step in range(most_steps + 1):
        on_step()
        energy_ev = float(atoms.get_potential_energy())
        if not np.isfinite(energy_ev):
            raise UnsoundError(f"the energy is {energy_ev} at step {step}")
        if not np.isfinite(atoms.get_forces()).all():
            raise UnsoundError(f"a force is not finite at step {step}")
        if not np.isfinite(atoms.get_stress()).all():
            raise UnsoundError(f"the stress is not finite at step {step}")
        force = float(np.linalg.norm(cell.get_forces(), axis=1).max())
        if force < largest_force or step == most_steps:
            break
        optimiser.step()
        _refuse_unbounded(atoms, start, step + 1)
    return _End(energy_ev, force, step, force < largest_force)


def _refuse_unbounded(atoms: Atoms, start: Crystal, step: int) -> None:
    """Before the calculator sees it: a cell of no size has endless neighbours."""
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise UnsoundError(f"a position is not finite at step {step}")
    moved = replace(start, positions=atoms.positions, cell=atoms.cell.array)
    ratio = _side(moved) / _side(start)
    if not 1 / LARGEST_STRETCH < ratio < LARGEST_STRETCH:
        what = "collapses" if ratio < 1 else "flies apart"
        raise UnsoundError(
            f"the cell {what}: its side is {ratio:.2g} times what it was at step {step}"
        )
    if start.is_slab and len(atoms):
        rise = float(np.ptp(atoms.positions[:, 2]) - np.ptp(start.positions[:, 2]))
        if rise > LARGEST_RISE_ANGSTROM:
            raise UnsoundError(
                f"the slab flies apart: its height grew by {rise:.1f} Angstrom at step {step}"
            )


def _refuse_collapsed(crystal: Crystal) -> None:
    shortest = min_distance(crystal.positions, crystal.cell, crystal.periodicity)
    if shortest < MIN_DISTANCE_ANGSTROM:
        raise UnsoundError(f"atoms lie on each other: two are {shortest:.2f} Angstrom apart")


def _side(crystal: Crystal) -> float:
    """Root of the area of a slab, cube root of the volume of bulk; Angstrom."""
    if crystal.is_slab:
        return float(np.sqrt(np.linalg.norm(np.cross(crystal.cell[0], crystal.cell[1]))))
    return float(np.cbrt(abs(np.linalg.det(crystal.cell))))


def _moved(before: Crystal, after: Crystal) -> float:
    """Of fractions along periods, Cartesian across: what the strain does is no displacement."""
    axes = 2 if before.is_slab else 3
    size = slice(0, axes)
    old, new = (
        c.centred_positions()[:, size] @ np.linalg.inv(c.cell[size, size]) for c in (before, after)
    )
    fraction = new - old
    fraction -= np.round(fraction)
    step = (fraction - fraction.mean(0)) @ after.cell[size, size]
    if before.is_slab:
        across = after.centred_positions()[:, 2] - before.centred_positions()[:, 2]
        step = np.column_stack([step, across - across.mean()])
    return float(np.linalg.norm(step, axis=1).max())


def _layers_alone(crystal: Crystal) -> list[Crystal]:
    """The layers of a bilayer as slabs of their own, in its cell; none of what is no bilayer."""
    stack = find_layers(crystal.atomic_numbers, crystal.positions, crystal.cell)
    if stack.num_layers != 2:
        return []
    chosen = [list(layer.indices) for layer in stack.layers]
    return [
        replace(
            crystal,
            atomic_numbers=crystal.atomic_numbers[atoms],
            positions=crystal.positions[atoms],
        )
        for atoms in chosen
    ]


def _binding(crystal: Crystal, energy_ev: float, calculator: Any) -> float | None:
    """None unless it is two layers."""
    layers = _layers_alone(crystal)
    if not layers:
        return None
    apart = 0.0
    for layer in layers:
        alone = layer.to_ase()
        alone.calc = calculator
        apart += float(alone.get_potential_energy())
    binding = (energy_ev - apart) / _side(crystal) ** 2
    return binding if np.isfinite(binding) else None


def _formation(
    crystal: Crystal,
    end: _End,
    calculator: Any,
    largest_force: float,
    most_steps: int,
    on_step: Callable[[], None],
) -> float | None:
    """None unless it is two layers, and they and the slab are relaxed."""
    layers = _layers_alone(crystal)
    if not layers or not end.converged:
        return None
    free = 0.0
    for layer in layers:
        alone = layer.to_ase()
        alone.calc = calculator
        found = _optimise(alone, layer, largest_force, most_steps, on_step)
        if not found.converged:
            return None
        free += found.energy_ev
    return end.energy_ev - free
