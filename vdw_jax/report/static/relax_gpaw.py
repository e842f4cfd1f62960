"""Relaxes candidates by GPAW: PBE and D3 with zero damping, atoms free, the cell as it is.

    python relax_gpaw.py                    # every candidate here that has no result yet
    gpaw -P 8 python relax_gpaw.py s0003    # this one, on 8 cores

Needs GPAW 25 with its potentials and dftd3: pip install "gpaw>=25,<26" gpaw-data dftd3. Candidates are <id>.xyz; what
comes out is <id>.relaxed.xyz with energy and forces, and what GPAW and the relaxation say, <id>.txt and <id>.log. One
that fails is named, has no result, and the others go on (on one core); the exit status is then 1.
"""

import sys
from math import ceil, isfinite
from pathlib import Path

from ase.calculators.mixing import SumCalculator
from ase.io import iread, write
from ase.optimize import BFGS
from ase.parallel import world
from dftd3.ase import DFTD3
from gpaw import GPAW, PW, Mixer

CUTOFF_EV = 400.0
KPOINT_LENGTH_ANGSTROM = 24.0  # 6 along a lattice constant of 4 Angstrom
SMEARING_EV = 0.05
LARGEST_FORCE_EV_PER_ANGSTROM = 0.05
MOST_STEPS = 100
D3_ZERO_PBE = {"s6": 1.0, "s8": 0.722, "s9": 0.0, "rs6": 1.217, "rs8": 1.0, "alp": 14.0}


def calculator(atoms, log):
    """PBE and D3 of pairs alone; a slab has one k-point along its vacuum, and a dipole layer in it."""
    counts = [ceil(KPOINT_LENGTH_ANGSTROM / length - 1e-6) for length in atoms.cell.lengths()]
    slab = not atoms.pbc[2]
    pbe = GPAW(
        mode=PW(CUTOFF_EV),
        xc="PBE",
        kpts={"size": (*counts[:2], 1 if slab else counts[2]), "gamma": True},
        occupations={"name": "fermi-dirac", "width": SMEARING_EV},
        poissonsolver={"dipolelayer": "xy"} if slab else {},
        convergence={"energy": 1e-5, "density": 1e-4, "eigenstates": 1e-5, "bands": "occupied"},
        symmetry={"point_group": False},  # generated cells are symmetric to a hundredth of an Angstrom only
        nbands="110%",
        mixer=Mixer(0.05, 5, 100),
        maxiter=200,
        txt=log,
    )
    return SumCalculator([pbe, DFTD3(damping="d3zero", params_tweaks=D3_ZERO_PBE)])


def main():
    """Those that are named, or all."""
    here = Path(__file__).parent
    named = [Path(name).name.removesuffix(".xyz") for name in sys.argv[1:]]
    names = named or sorted(path.stem for path in here.glob("*.xyz") if not path.stem.endswith(".relaxed"))
    failed = []
    for name in names:
        if (here / f"{name}.relaxed.xyz").exists():
            continue
        try:
            relax(here, name)
        except Exception as error:  # such as a density that does not converge
            if world.size > 1:
                raise  # the other processes would wait for this one
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    if failed:
        raise SystemExit(1)


def relax(here, name):
    """One candidate; its result appears whole."""
    (atoms,) = iread(here / f"{name}.xyz")
    atoms.calc = calculator(atoms, str(here / f"{name}.txt"))
    relaxation = BFGS(atoms, logfile=str(here / f"{name}.log"))
    converged = relaxation.run(fmax=LARGEST_FORCE_EV_PER_ANGSTROM, steps=MOST_STEPS)
    energy = atoms.get_potential_energy()
    if not isfinite(energy):
        raise ValueError(f"the energy is {energy}")
    atoms.info.update(converged=bool(converged), steps=relaxation.get_number_of_steps())
    partial = here / f"{name}.relaxed.partial"
    write(partial, atoms, format="extxyz")
    if world.rank == 0:
        partial.replace(here / f"{name}.relaxed.xyz")
    world.barrier()
    print(f"{name}: {energy:.4f} eV after {relaxation.get_number_of_steps()} steps")


if __name__ == "__main__":
    main()
