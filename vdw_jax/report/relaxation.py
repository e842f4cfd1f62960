"""Relaxes candidates with a potential.

    python -m vdw_jax.report.relaxation samples/GaInSSe2-seed0 --potential=chgnet+d3 --best=10

Atoms and the cell move, of a slab a and b alone (its vacuum stays). What comes out lies in `relaxed-<potential>` beside
the candidates, under the same ids: CIF, extended XYZ, and a table with what it took, what it gained and what changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from vdw_jax.metrics.layers import find_layers
from vdw_jax.metrics.stacking import same_registry
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import describe
from vdw_jax.report.handover import HandoverError, choose, read_samples
from vdw_jax.report.table import text_table
from vdw_jax.report.writer import refuse_existing, write_samples
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.potentials import CHOICE, create_calculator
from vdw_jax.training.progress import Progress

IN_PLANE = [1, 1, 0, 0, 0, 1]
"""Strains of a slab that may relax, in Voigt's order."""

LARGEST_FORCE_EV_PER_ANGSTROM = 0.05
MOST_STEPS = 200


def relax_crystal(
    crystal: Crystal,
    calculator: Any,
    largest_force: float = LARGEST_FORCE_EV_PER_ANGSTROM,
    most_steps: int = MOST_STEPS,
) -> tuple[Crystal, dict[str, Any]]:
    """A relaxed copy, and what is to be said of it. Never raises for what the calculator does: it is said.

    Keys: `converged`, `steps`, `energy_ev` (of the cell, relaxed), `energy_gained_ev` (above 0), `largest_force`
    (eV/A), `binding_energy_ev_per_a2` (E(bilayer) - E(layers as they are in it), over the area; below 0 where bound),
    `gap_before` and `gap_after` (A), `strain` (of the root of the area), `moved` (largest displacement of an atom
    beside the strain, A), `stacking_kept` (`stacking.same_registry`), `problem` (text where it failed). Those that do
    not apply are None.

    Args:
      crystal: a slab relaxes a and b, bulk its whole cell.
      calculator: of ASE, with energy, forces and stress.
      largest_force: eV/Angstrom, on atoms and cell, where it is done.
      most_steps: of BFGS.
    """
    row: dict[str, Any] = dict.fromkeys((
        "converged", "steps", "energy_ev", "energy_gained_ev", "largest_force", "binding_energy_ev_per_a2",
        "gap_before", "gap_after", "strain", "moved", "stacking_kept", "problem",
    ))  # fmt: skip
    atoms = crystal.to_ase()
    atoms.calc = calculator
    try:
        start_ev = float(atoms.get_potential_energy())
        cell: Any = FrechetCellFilter(atoms, mask=IN_PLANE if crystal.is_slab else None)
        optimiser = BFGS(cell, logfile=None)
        converged = bool(optimiser.run(fmax=largest_force, steps=most_steps))
        end_ev = float(atoms.get_potential_energy())
        force = float(np.linalg.norm(cell.get_forces(), axis=1).max())
    except Exception as error:  # calculators have no common error
        return crystal, row | {"converged": False, "problem": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    relaxed = replace(crystal, positions=atoms.positions, cell=atoms.cell.array)
    row |= {
        "converged": converged, "steps": optimiser.get_number_of_steps(), "energy_ev": end_ev,
        "energy_gained_ev": start_ev - end_ev, "largest_force": force, "strain": _side(relaxed) / _side(crystal) - 1,
        "moved": _moved(crystal, relaxed),
    }  # fmt: skip
    if crystal.is_slab:
        before, after = ((c.atomic_numbers, c.positions, c.cell) for c in (crystal, relaxed))
        row |= {
            "gap_before": describe(crystal)["gap_angstrom"], "gap_after": describe(relaxed)["gap_angstrom"],
            "binding_energy_ev_per_a2": _binding(relaxed, end_ev, calculator),
            "stacking_kept": same_registry(before, after),
        }  # fmt: skip
    return relaxed, row


def _side(crystal: Crystal) -> float:
    return float(np.sqrt(np.linalg.norm(np.cross(crystal.cell[0], crystal.cell[1]))))


def _moved(before: Crystal, after: Crystal) -> float:
    """Of fractions along periods, Cartesian across: what the strain does is no displacement."""
    axes = 2 if before.is_slab else 3
    size = slice(0, axes)
    old, new = (c.centred_positions()[:, size] @ np.linalg.inv(c.cell[size, size]) for c in (before, after))
    fraction = new - old
    fraction -= np.round(fraction)
    step = (fraction - fraction.mean(0)) @ after.cell[size, size]
    if before.is_slab:
        across = after.centred_positions()[:, 2] - before.centred_positions()[:, 2]
        step = np.column_stack([step, across - across.mean()])
    return float(np.linalg.norm(step, axis=1).max())


def _binding(crystal: Crystal, energy_ev: float, calculator: Any) -> float | None:
    """None unless it is two layers."""
    stack = find_layers(crystal.atomic_numbers, crystal.positions, crystal.cell)
    if stack.num_layers != 2:
        return None
    apart = 0.0
    for layer in stack.layers:
        alone: Atoms = crystal.to_ase()[list(layer.indices)]
        alone.calc = calculator
        apart += float(alone.get_potential_energy())
    return (energy_ev - apart) / _side(crystal) ** 2


def relax_crystals(
    crystals: Sequence[Crystal],
    rows: Sequence[Mapping[str, Any]],
    calculator: Any,
    *,
    most_steps: int = MOST_STEPS,
    quiet: bool = True,
) -> tuple[list[Crystal], list[dict[str, Any]]]:
    """Relaxed copies, and their rows: what they say of a crystal is of the relaxed one, `relaxed_...` is what it took.

    Args:
      crystals: candidates.
      rows: for each its row of the table.
      calculator: as for `relax_crystal`.
      most_steps: of each relaxation.
      quiet: shows no progress line.
    """
    relaxed, told = [], []
    with Progress(len(crystals), "relaxing", quiet) as progress:
        for count, (start, given) in enumerate(zip(crystals, rows, strict=True), 1):
            crystal, found = relax_crystal(start, calculator, most_steps=most_steps)
            row = {**given, **{f"relaxed_{key}": value for key, value in found.items()}}
            relaxed.append(crystal)
            again = describe(crystal).items()
            told.append(row | {key: value for key, value in again if key in row and key != "formula"})
            progress.update(count)
    return relaxed, told


def relax_samples(
    directory: str | Path,
    potential: str,
    ids: Sequence[str] | None = None,
    best: int | None = None,
    *,
    calculator: Any = None,
    most_steps: int = MOST_STEPS,
    overwrite: bool = False,
    quiet: bool = True,
) -> tuple[Path, list[dict[str, Any]]]:
    """Relaxes what sample.py wrote, as `relax_crystals` does.

    Args:
      directory: what sample.py wrote.
      potential: as for `potentials.create_calculator`; names the new folder.
      ids, best: as for `handover.choose`.
      calculator: that of the potential, if it is there already.
      most_steps: of each relaxation.
      overwrite: replaces an earlier output.
      quiet: shows no progress line.

    Returns:
      The new folder, and its rows.

    Raises:
      HandoverError: no samples there, or an unknown id.
      DataError: no such potential, or it is not installed.
      FileExistsError: there is one already.
    """
    crystals, rows = read_samples(directory)
    places = choose(rows, ids, best)
    target = Path(directory) / f"relaxed-{potential.replace(':', '.')}"
    refuse_existing(target, overwrite=overwrite)
    calculator = create_calculator(potential) if calculator is None else calculator
    chosen = [crystals[place] for place in places], [rows[place] for place in places]
    relaxed, told = relax_crystals(*chosen, calculator, most_steps=most_steps, quiet=quiet)
    write_samples(target, relaxed, told, overwrite=overwrite)
    return target, told


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Table of the candidates, and a line of means."""
    shown = {
        "id": "id", "formula": "formula", "relaxed_converged": "converged", "relaxed_steps": "steps",
        "relaxed_energy_gained_ev": "gained (eV)", "relaxed_gap_before": "gap before (A)",
        "relaxed_gap_after": "gap (A)", "relaxed_strain": "strain",
        "relaxed_binding_energy_ev_per_a2": "binding (eV/A2)", "relaxed_stacking_kept": "stacking kept",
    }  # fmt: skip
    table = text_table([{title: row[key] for key, title in shown.items()} for row in rows], max_rows=20)

    def mean(key: str) -> str:
        values = [float(row[f"relaxed_{key}"]) for row in rows if row[f"relaxed_{key}"] is not None]
        return f"{np.mean(values):.3g}" if values else "-"

    done = sum(bool(row["relaxed_converged"]) for row in rows)
    means = (
        f"{mean('steps')} steps, {mean('energy_gained_ev')} eV gained, gap {mean('gap_before')} to "
        f"{mean('gap_after')} A, atoms moved {mean('moved')} A at most"
    )
    return f"{table}\n{done} of {len(rows)} converged; on average {means}"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m vdw_jax.report.relaxation", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("directory", help="what sample.py wrote")
    parser.add_argument("--potential", required=True, help=CHOICE)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ids", metavar="ID,ID", help="these candidates; default: all")
    which.add_argument("--best", metavar="N", type=int, help="the N best by rank")
    parser.add_argument("--steps", metavar="N", type=int, default=MOST_STEPS, help="at most; default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    given = parser.parse_args()
    ids = None if given.ids is None else [name for name in given.ids.split(",") if name]
    try:
        target, told = relax_samples(
            given.directory, given.potential, ids, given.best, most_steps=given.steps, overwrite=given.overwrite,
            quiet=given.quiet,
        )  # fmt: skip
    except (HandoverError, DataError, FileExistsError, ValueError) as error:
        print(f"relaxation: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(summary(told))
    print(target)


if __name__ == "__main__":
    main()
