"""The calculations: PBE by GPAW, and D3; each result on disk before the next begins."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dft.cells import Task, read_tasks
from vdw_jax.structures.layers import site_fractions
from vdw_jax.structures.potentials import (
    BOHR_ANGSTROM,
    COORDINATION_CUTOFF_BOHR,
    D3_CUTOFF_BOHR,
    D3_ZERO_PBE,
    HARTREE_EV,
)
from vdw_jax.training.progress import Progress
from vdw_jax.types import SLAB

SMEARING_EV = 0.05


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Results by the key of their task; a line that a kill has torn is as if it were not there."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            result = json.loads(line)
            found[result["task"]] = result
    return found


def dispersion_ev(task: Task) -> tuple[float, np.ndarray]:
    """D3(zero, PBE), pairs alone, as in the potential: eV a cell, and forces along z [N], eV/Angstrom."""
    from dftd3.interface import DispersionModel, ZeroDampingParam

    positions, cell = task.slab()
    model = DispersionModel(np.array(task.numbers), positions / BOHR_ANGSTROM, cell / BOHR_ANGSTROM, np.array(SLAB))
    model.set_realspace_cutoff(D3_CUTOFF_BOHR, D3_CUTOFF_BOHR, COORDINATION_CUTOFF_BOHR)
    found = model.get_dispersion(ZeroDampingParam(**D3_ZERO_PBE), grad=True)
    return float(found["energy"]) * HARTREE_EV, -found["gradient"][:, 2] * HARTREE_EV / BOHR_ANGSTROM


def gpaw_atoms(task: Task, mixer: tuple[float, int, float] = (0.1, 8, 100), maxiter: int = 40) -> Any:
    """ASE atoms with GPAW: plane waves, and a dipole layer in the vacuum."""
    from ase import Atoms
    from gpaw import GPAW, PW, Mixer

    positions, cell = task.slab()
    fractions = np.column_stack([site_fractions(np.array(task.sites)), positions[:, 2] / cell[2, 2]])
    atoms = Atoms(task.numbers, scaled_positions=fractions, cell=cell, pbc=SLAB)
    atoms.calc = GPAW(
        mode=PW(task.cutoff_ev), xc="PBE", kpts={"size": (task.kpoints, task.kpoints, 1), "gamma": True},
        occupations={"name": "fermi-dirac", "width": SMEARING_EV}, poissonsolver={"dipolelayer": "xy"},
        convergence={"energy": 1e-5, "density": 1e-3, "eigenstates": 1e-4, "bands": "occupied"},
        nbands="110%", mixer=Mixer(*mixer), maxiter=maxiter, txt=None,
    )  # fmt: skip
    return atoms


def single_point(task: Task) -> dict[str, Any]:
    """PBE (extrapolated to no smearing) and D3, eV a cell.

    Raises:
      ArithmeticError: the density does not converge.
    """
    from gpaw import KohnShamConvergenceError

    for mixer, maxiter in (((0.1, 8, 100), 40), ((0.03, 5, 100), 200)):
        atoms = gpaw_atoms(task, mixer, maxiter)
        with contextlib.suppress(KohnShamConvergenceError):
            energy = float(atoms.get_potential_energy())
            return {"pbe_ev": round(energy, 6), "d3_ev": round(dispersion_ev(task)[0], 6),
                    "scf_steps": int(atoms.calc.get_number_of_iterations())}  # fmt: skip
    raise ArithmeticError("the density does not converge")


def relaxed_heights(task: Task, largest_force: float = 0.03, max_steps: int = 15) -> dict[str, Any]:
    """As `single_point`, after the heights are relaxed by PBE + D3 at the given lattice constant; lowest point kept."""
    atoms = gpaw_atoms(task)
    atoms.calc.set(convergence={"energy": 1e-6, "density": 1e-4, "eigenstates": 1e-6, "bands": "occupied"})
    height, curvature, last = np.array(task.heights_angstrom), 15.0 * np.eye(len(task.numbers)), None
    best: dict[str, Any] = {}
    for step in range(max_steps):
        now = replace(task, heights_angstrom=height.tolist())
        atoms.positions[:, 2] = height - height.min() + task.vacuum_angstrom / 2
        pbe, (d3, d3_forces) = float(atoms.get_potential_energy()), dispersion_ev(now)
        slope = -(atoms.get_forces()[:, 2] + d3_forces)
        slope -= slope.mean()
        worst = float(np.abs(slope).max())
        if not best or pbe + d3 < best["pbe_ev"] + best["d3_ev"]:
            heights = [round(float(z - height.min()), 4) for z in height]
            best = {"pbe_ev": round(pbe, 6), "d3_ev": round(d3, 6), "heights_angstrom": heights,
                    "largest_force": round(worst, 3), "steps": step}  # fmt: skip
        if worst < largest_force:
            break
        if last is not None:
            moved, change = height - last[0], slope - last[1]
            if moved @ change > 1e-8:
                bent = curvature @ moved
                curvature += np.outer(change, change) / (moved @ change) - np.outer(bent, bent) / (moved @ bent)
        last = height, slope
        move = -np.linalg.solve(curvature, slope)
        height = height + move * min(1.0, 0.15 / np.abs(move).max())
    return best


def run_all(
    tasks: list[Task],
    path: Path,
    calculate: Callable[[Task], dict[str, Any]],
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Does the tasks, each a line that is on disk before the next begins; names of those that failed."""
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    failed = []
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" if torn else "")
        for done, task in enumerate(tasks, start=1):
            try:
                file.write(json.dumps({"name": task.name, **calculate(task), "task": task.key}) + "\n")
                file.flush()
            except ArithmeticError as error:
                failed.append(f"{task.name}: {error}")
            on_progress(done)
    return failed


def calculate_tasks(folder: Path, only: list[str] | None = None) -> None:
    """The calculations that are not in the file yet, of the given kinds or of all."""
    path = folder / "results.jsonl"
    tasks, known = read_tasks(folder), read_results(path)
    wanted = [task for task in tasks if not only or task.name.split("/")[0] in only]
    left = [task for task in wanted if task.key not in known]
    code = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("gpaw", "gpaw-data", "dftd3"))

    def calculate(task: Task) -> dict[str, Any]:
        started = time.process_time()
        found = relaxed_heights(task) if task.name.startswith("relaxed/") else single_point(task)
        return found | {"cpu_seconds": round(time.process_time() - started, 1), "code": code}

    with Progress(len(left), f"GPAW, {len(wanted) - len(left)} there already,", interval_s=0.0) as progress:
        failed = run_all(left, path, calculate, progress.update)
    if failed:
        raise SystemExit("\n".join(failed))
