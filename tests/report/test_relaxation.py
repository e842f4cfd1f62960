"""Relaxing candidates, with a toy calculator: what moved, what was gained, and nothing lost where it fails."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.io import read

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.ranking import add_ranks
from vdw_jax.report.relaxation import relax_crystal, relax_samples
from vdw_jax.report.writer import write_samples


def argon() -> LennardJones:
    """Two triangular sheets of it bind at 1.1 sigma or so."""
    return LennardJones(sigma=2.5, epsilon=0.3, rc=9.0, smooth=True)


class Broken(Calculator):
    """Fails on gallium."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        """As ASE wants it."""
        raise RuntimeError("no such element\nwith a second line")


class Still(Calculator):
    """No forces anywhere."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        """As ASE wants it."""
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 1.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def still() -> Still:
    """By its name."""
    return Still()


def broken() -> Broken:
    """By its name."""
    return Broken()


def sheets(a: float, gap: float, shift: float = 1 / 3) -> Crystal:
    """Two sheets of one atom a cell."""
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 20.0 + gap]])
    fractions = np.array([[0, 0], [shift, 2 * shift]])
    positions = np.column_stack([fractions @ cell[:2, :2], [0.0, gap]])
    return Crystal("s0000", np.array([18, 18]), positions, cell)


def test_it_goes_downhill_to_where_forces_vanish():
    calculator = argon()
    relaxed, row = relax_crystal(sheets(3.0, 2.9), calculator, largest_force=0.005)
    assert row["converged"] and row["steps"] > 2 and row["problem"] is None
    assert row["energy_gained_ev"] > 0.01
    assert row["largest_force"] < 0.005
    atoms = relaxed.to_ase()
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(row["energy_ev"])
    stress = atoms.get_stress()[[0, 1, 5]] * atoms.get_volume()
    assert np.abs(stress).max() < 0.02
    assert row["strain"] == pytest.approx(relaxed.cell[0, 0] / 3.0 - 1, abs=1e-6)


def test_the_vacuum_stays_and_displacements_are_beside_the_strain():
    start = sheets(2.6, 2.4)
    relaxed, row = relax_crystal(start, argon())
    np.testing.assert_allclose(relaxed.cell[2], start.cell[2], atol=1e-6)
    change = np.ptp(relaxed.positions[:, 2]) - 2.4
    assert abs(change) > 0.01
    assert row["moved"] == pytest.approx(abs(change) / 2, abs=1e-3)
    assert row["gap_after"] is None or row["gap_after"] == pytest.approx(np.ptp(relaxed.positions[:, 2]), abs=1e-6)


def test_too_few_steps_are_said():
    _, row = relax_crystal(sheets(3.0, 2.9), argon(), largest_force=1e-6, most_steps=1)
    assert row["converged"] is False
    assert row["problem"] is None


def test_what_fails_is_said_in_one_line_and_stays_as_it_is():
    start = sheets(3.0, 2.9)
    relaxed, row = relax_crystal(start, Broken())
    assert relaxed is start
    assert row["problem"] == "RuntimeError: no such element"
    assert row["converged"] is False
    assert row["energy_gained_ev"] is None


@pytest.fixture
def folder(tmp_path, make_slab):
    crystals = [make_slab("s0000"), make_slab("s0001", 3.3)]
    rows = add_ranks(sample_rows(crystals, [{"formula": "GaInSSe"}] * 2))
    return write_samples(tmp_path / "samples", crystals, rows)


def test_binding_energy_is_that_of_the_layers_as_they_are(make_slab):
    slab = make_slab("s0000")
    _, row = relax_crystal(slab, argon(), most_steps=0)
    energy = []
    for part in (slice(0, 8), slice(0, 4), slice(4, 8)):
        atoms = slab.to_ase()[part]
        atoms.calc = argon()
        energy.append(atoms.get_potential_energy())
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    assert row["binding_energy_ev_per_a2"] == pytest.approx((energy[0] - energy[1] - energy[2]) / area)
    assert (row["gap_before"], row["gap_after"]) == pytest.approx((3.1, 3.1))
    assert row["stacking_kept"] is True
    assert row["strain"] == pytest.approx(0.0, abs=1e-12)


def test_a_folder(folder, capsys):
    target, rows = relax_samples(folder, "tests.report.test_relaxation:argon", most_steps=3, quiet=False)
    assert "2/2" in capsys.readouterr().err
    assert target.name == "relaxed-tests.report.test_relaxation.argon"
    table = pd.read_csv(target / "samples.csv")
    assert list(table["id"]) == ["s0000", "s0001"]
    assert (table["relaxed_steps"] <= 3).all()
    assert [atoms.info["id"] for atoms in read(target / "samples.extxyz", ":")] == ["s0000", "s0001"]
    assert rows[0]["asked_formula"] == "GaInSSe"
    with pytest.raises(FileExistsError):
        relax_samples(folder, "tests.report.test_relaxation:argon", most_steps=1)


def test_the_command(folder):
    command = [sys.executable, "-m", "vdw_jax.report.relaxation", str(folder), "--quiet"]
    failing = [*command, "--potential=tests.report.test_relaxation:broken", "--best=1"]
    done = subprocess.run(failing, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 of 1 converged" in done.stdout
    done = subprocess.run([*command, "--potential=nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("relaxation: unknown potential 'nothing'")
    assert done.stderr.count("\n") == 1
