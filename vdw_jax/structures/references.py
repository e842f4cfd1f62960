"""Energies of the elements: `python -m vdw_jax.structures.references` relaxes their stable crystals with a potential.

They are what `formation_energy_per_atom_ev` counts from, and belong to the potential that made them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.files import SHIPPED, write_whole
from vdw_jax.structures.potentials import create_calculator

if TYPE_CHECKING:
    from ase import Atoms

ENERGIES = SHIPPED / "reference_energies.json"

LARGEST_FORCE = 0.005
"""eV/Angstrom, over atoms and cell."""

SULPHUR_MOLECULES = (
    (0.8554, 0.9526, 0.9516), (0.7844, 0.0301, 0.0763), (0.7069, 0.9795, 0.0040), (0.7862, 0.9073, 0.1290),
)  # fmt: skip
"""Half of a ring of alpha-S8 in Fddd, origin choice 2; Rettig and Trotter, Acta Cryst. C 43, 2260 (1987)."""


def elemental_crystals() -> dict[str, Atoms]:
    """Starting points: fcc Al, alpha-Ga, body-centred tetragonal In, alpha-S8, trigonal Se and Te."""
    from ase.build import bulk
    from ase.spacegroup import crystal

    def chains(symbol: str, a: float, c: float, x: float) -> Atoms:
        return crystal(symbol, [(x, 0, 1 / 3)], spacegroup=152, cellpar=[a, a, c, 90, 90, 120])

    return {
        "Al": bulk("Al", "fcc", a=4.05),
        "Ga": crystal("Ga", [(0, 0.1549, 0.081)], spacegroup=64, cellpar=[4.523, 7.661, 4.524, 90, 90, 90]),
        "In": bulk("In", "bct", a=3.253, c=4.947),
        "S": crystal(["S"] * 4, SULPHUR_MOLECULES, spacegroup=70, setting=2,
                     cellpar=[10.4646, 12.8660, 24.4860, 90, 90, 90], primitive_cell=True),
        "Se": chains("Se", 4.366, 4.954, 0.2254),
        "Te": chains("Te", 4.457, 5.929, 0.2633),
    }  # fmt: skip


def reference_energies(potential: str, device: str = "cpu") -> dict[str, float]:
    """Energy an atom of each element's relaxed crystal, eV, with a potential named as for `create_calculator`.

    Raises:
        DataError: no such potential, or a crystal does not relax.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    calculator, found = create_calculator(potential, device), {}
    for symbol, atoms in elemental_crystals().items():
        atoms.calc = calculator
        cell: Any = FrechetCellFilter(atoms)  # BFGS takes filters, though its annotation says Atoms
        is_relaxed = BFGS(cell, logfile=None).run(fmax=LARGEST_FORCE, steps=500)
        energy_ev = float(atoms.get_potential_energy())
        if not is_relaxed or not math.isfinite(energy_ev):
            raise DataError(f"{symbol} does not relax with {potential}")
        found[symbol] = round(energy_ev / len(atoms), 6)
    return found


def load_references(potential: str, path: Path = ENERGIES) -> dict[str, float] | None:
    """Stored energies of a potential, by its name; None if there are none."""
    return json.loads(path.read_text(encoding="utf-8")).get(potential) if path.exists() else None


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--potential", default="sevennet", help="sevennet, chgnet, or module:function (ASE)")
    parser.add_argument("--device", default="cpu", help="of torch: cpu or cuda")
    parser.add_argument("--out", type=Path, default=ENERGIES, help="JSON file that the energies are added to")
    given = parser.parse_args()
    try:
        energies = reference_energies(given.potential, given.device)
    except DataError as error:
        print(f"references: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    known[given.potential] = energies
    write_whole(given.out, lambda file: file.write((json.dumps(known, indent=2) + "\n").encode()))
    print(json.dumps(energies, indent=2))


if __name__ == "__main__":
    main()
