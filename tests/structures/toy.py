"""A potential for tests of the builder: springs between neighbours along z, and a preferred lattice constant."""

import time

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

CHALCOGENS = (16, 34, 52)
CONTACT_EV = -0.15
"""Energy of two chalcogens that face each other across a gap."""

STIFFNESS, LATTICE_STIFFNESS = 30.0, 2000.0


class Springs(Calculator):
    """Heights rest 2.5 (M-M), 1.1 (M-X) and 3.2 Angstrom (X-X) apart; the lattice at 3.3 and more, by the elements."""

    implemented_properties = ["energy", "forces", "stress"]
    pause_s = 0.0
    fails_on = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """As ASE has it."""
        super().calculate(atoms, properties, system_changes)
        time.sleep(self.pause_s)
        z, numbers, size = atoms.positions[:, 2], atoms.numbers, len(atoms)
        if self.fails_on in numbers:
            raise RuntimeError(f"no parameters for element {self.fails_on}")
        order = np.argsort(z)
        chalcogen = np.isin(numbers[order], CHALCOGENS).astype(int)
        kinds = chalcogen[1:] + chalcogen[:-1]
        stretch = np.diff(z[order]) - np.array([2.5, 1.1, 3.2])[kinds]
        forces = np.zeros((size, 3))
        np.add.at(forces[:, 2], order[1:], -STIFFNESS * stretch)
        np.add.at(forces[:, 2], order[:-1], STIFFNESS * stretch)
        off = np.log(np.linalg.norm(atoms.cell[0]) / (3.3 + 0.02 * numbers.mean()))
        self.results = {
            "energy": 0.5 * STIFFNESS * (stretch**2).sum() + 0.5 * LATTICE_STIFFNESS * off**2
            + CONTACT_EV * (kinds == 2).sum() - 0.1 * numbers.sum(),
            "forces": forces,
            "stress": np.array([1, 1, 0, 0, 0, 0]) * LATTICE_STIFFNESS * off / 2 / atoms.get_volume(),
        }  # fmt: skip


def slow() -> Springs:
    """Slow enough to be killed on the way."""
    calculator = Springs()
    calculator.pause_s = 0.003
    return calculator


def without_gallium() -> Springs:
    """Fails on every cell with Ga."""
    calculator = Springs()
    calculator.fails_on = 31
    return calculator
