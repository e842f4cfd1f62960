"""Relaxing candidates, with a toy calculator: what moved, what was gained, and nothing lost where it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.io import read

from vdw_jax.report import relaxing
from vdw_jax.report.candidates import HandoverError, read_samples
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.ranking import add_ranks
from vdw_jax.report.relaxation import INTERRUPTED, relax_crystal, relax_crystals, relax_samples, summary
from vdw_jax.report.writer import write_samples


def argon() -> LennardJones:
    """Two triangular sheets of it bind at 1.1 sigma or so."""
    return LennardJones(sigma=2.5, epsilon=0.3, rc=9.0, smooth=True)


def light() -> LennardJones:
    """The same, cut off earlier: faster."""
    return LennardJones(sigma=2.5, epsilon=0.3, rc=6.0, smooth=True)


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


class Scripted(Calculator):
    """Forces pull an atom up without end; from a step on, one of the results is another."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, name: str, value: float, step: int, stress: float = 0.0) -> None:
        super().__init__()
        self.name_, self.value, self.step, self.stress_, self.count = name, value, step, stress, 0

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        """As ASE wants it."""
        super().calculate(atoms, properties, system_changes)
        forces = np.zeros((len(atoms), 3))
        forces[-1, 2] = 1.0 + 0.1 * self.count  # a constant force has no curvature
        stress = np.array([self.stress_] * 2 + [0.0] * 4)
        self.results = {"energy": -float(self.count), "forces": forces, "stress": stress}
        if self.count >= self.step:
            result = self.results[self.name_]
            self.results[self.name_] = np.full_like(result, self.value) if np.ndim(result) else self.value
        self.count += 1


@pytest.mark.parametrize("name", ["energy", "forces", "stress"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("step", [0, 3])
def test_what_is_not_finite_is_not_converged(name, value, step):
    start = sheets(3.0, 2.9)
    relaxed, row = relax_crystal(start, Scripted(name, value, step))
    assert relaxed is start
    assert row["converged"] is False and row["energy_ev"] is None and row["energy_gained_ev"] is None
    said = {"energy": f"the energy is {value}", "forces": "a force is not finite", "stress": "the stress is not finite"}
    assert row["problem"] == f"{said[name]} at step {step}"


@pytest.mark.parametrize(
    ("stress", "problem"),
    [(-0.5, "the cell flies apart"), (0.5, "the cell collapses"), (0.0, "the slab flies apart: its height grew by 1")],
)
def test_cells_out_of_all_bounds_are_problems(stress, problem, monkeypatch):
    monkeypatch.setattr(relaxing, "LARGEST_RISE_ANGSTROM", 1.0)  # 10 would take 50 steps
    start = sheets(3.0, 2.9)
    relaxed, row = relax_crystal(start, Scripted("energy", 0.0, 10**6, stress), most_steps=500)
    assert relaxed is start and row["converged"] is False
    assert row["problem"].startswith(problem) and " at step " in row["problem"]


class Pressed(Still):
    """No forces, whatever the distances."""


def test_atoms_on_each_other_are_a_problem():
    start = sheets(3.0, 0.1, shift=0.0)
    relaxed, row = relax_crystal(start, Pressed())
    assert relaxed is start and row["converged"] is False
    assert row["problem"] == "atoms lie on each other: two are 0.10 Angstrom apart"


class FailsAlone(Still):
    """Raises for what has fewer than eight atoms."""

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        """As ASE wants it."""
        if len(atoms) < 8:
            raise RuntimeError("too few")
        super().calculate(atoms, properties, system_changes)


def test_layers_on_which_it_fails_cost_their_energies_alone(make_slab):
    _, row = relax_crystal(make_slab("s0"), FailsAlone())
    assert row["converged"] is True and row["problem"] is None
    assert row["binding_energy_ev_per_a2"] is None and row["formation_energy_ev"] is None


class Elastic(Calculator):
    """Only the area counts: eight atoms like one larger than four do; eight gain 1 eV."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, area: float) -> None:
        super().__init__()
        self.area = area

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        """As ASE wants it."""
        super().calculate(atoms, properties, system_changes)
        area = np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1]))
        stretch = area - self.area * (1.02 if len(atoms) == 8 else 0.98)
        stress = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]) * stretch * area / atoms.get_volume()
        energy = 0.5 * stretch**2 - (1.0 if len(atoms) == 8 else 0.0)
        self.results = {"energy": energy, "forces": np.zeros((len(atoms), 3)), "stress": stress}


def test_formation_energy_is_against_layers_that_are_relaxed_alone(make_slab):
    slab = make_slab("s0")
    area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
    _, row = relax_crystal(slab, Elastic(area), largest_force=1e-4)
    assert row["converged"] and row["formation_energy_ev"] == pytest.approx(-1.0, abs=1e-4)
    strained = 2 * 0.5 * (0.04 * area) ** 2  # both layers in the area of the slab
    assert row["binding_energy_ev_per_a2"] == pytest.approx((-1.0 - strained) / (1.02 * area), rel=1e-3)


class FailsOn(Still):
    """Raises where the third axis is as long as that of the second candidate."""

    def __init__(self, length: float) -> None:
        super().__init__()
        self.length = length

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        """As ASE wants it."""
        if abs(atoms.cell[2, 2] - self.length) < 1e-6:
            raise RuntimeError("this one")
        super().calculate(atoms, properties, system_changes)


def rows_for(crystals, energies=None):
    predicted = [{"formation_energy_ev": energy} for energy in energies] if energies else None
    asked = [{"formation_energy_ev": -0.2}] * len(crystals) if energies else None
    return add_ranks(sample_rows(crystals, asked, predicted))


def test_one_that_fails_is_named_and_the_others_go_on(make_slab):
    crystals = [make_slab(f"s{place}", 3.0 + 0.1 * place) for place in range(3)]
    _, rows = relax_crystals(crystals, rows_for(crystals), FailsOn(crystals[1].cell[2, 2]))
    assert [row["relaxed_converged"] for row in rows] == [True, False, True]
    assert [row["relaxed_problem"] for row in rows] == [None, "RuntimeError: this one", None]
    said = summary(rows)
    assert "s1 stays as it was: RuntimeError: this one" in said and "2 of 3 converged" in said


def test_means_leave_out_what_failed(make_slab):
    crystals = [make_slab("s0"), make_slab("s1")]
    _, rows = relax_crystals(crystals, rows_for(crystals), Scripted("energy", np.nan, 0))
    assert "nan" not in summary(rows).splitlines()[-3]
    assert summary([]) == "no candidates to relax"


def test_the_table_is_of_the_relaxed_and_says_what_was():
    crystals = [sheets(2.6, 2.4)]
    given = rows_for(crystals)
    relaxed, (row,) = relax_crystals(crystals, given, light(), potential="toy")
    assert row["relaxed_converged"] and row["relaxed_by"] == "toy"
    for key in ("lattice_constant_angstrom", "min_distance_angstrom", "valid", "spacegroup", "layers", "rank"):
        assert row[f"unrelaxed_{key}"] == given[0][key]
    assert row["lattice_constant_angstrom"] == pytest.approx(relaxed[0].cell[0, 0])
    assert row["unrelaxed_lattice_constant_angstrom"] == pytest.approx(2.6)
    assert abs(row["lattice_constant_angstrom"] - 2.6) > 0.01


def test_the_rank_is_of_the_relaxed(make_slab, monkeypatch):
    from vdw_jax.report import relaxation

    crystals = [make_slab("s0"), make_slab("s1"), make_slab("s2")]
    given = rows_for(crystals, [-0.2, -0.1, 0.0])  # as the model has it, s0 is best
    energies = iter([0.3, -0.1, -0.21])
    real = relaxation.relax_crystal

    def computed(crystal, calculator, **settings):
        relaxed, found = real(crystal, calculator, **settings)
        return relaxed, found | {"formation_energy_ev": next(energies)}

    monkeypatch.setattr(relaxation, "relax_crystal", computed)
    _, rows = relax_crystals(crystals, given, Still())
    assert [row["unrelaxed_rank"] for row in rows] == [1, 2, 3]
    assert [row["rank"] for row in rows] == [3, 2, 1]
    assert rows[2]["miss_formation_energy_ev"] == pytest.approx(0.01)
    assert rows[2]["relaxed_formation_energy_ev"] == -0.21
    assert rows[2]["predicted_formation_energy_ev"] == 0.0  # what the model said stays its own


class Interrupting(Still):
    """Ctrl-C comes while the second crystal is relaxed."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.cells: set[float] = set()
        self.at = at

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        """As ASE wants it."""
        self.cells.add(round(atoms.cell[2, 2], 6))
        if len(self.cells) == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        super().calculate(atoms, properties, system_changes)


def four(make_slab, tmp_path):
    crystals = [make_slab(f"s{place}", 3.0 + 0.1 * place) for place in range(4)]
    return write_samples(tmp_path / "samples", crystals, rows_for(crystals))


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(make_slab, tmp_path):
    folder = four(make_slab, tmp_path)
    target, rows = relax_samples(folder, "toy", calculator=Interrupting(3))
    assert [row["relaxed_problem"] for row in rows] == [None, None, INTERRUPTED, INTERRUPTED]
    assert summary(rows).endswith("interrupted: 2 of 4 are not relaxed")
    assert (target / "report.html").is_file()
    assert [crystal.id for crystal in read_samples(target)[0]] == ["s0", "s1", "s2", "s3"]

    again = Interrupting(99)
    _, rows = relax_samples(folder, "toy", calculator=again)
    assert len(again.cells) == 2  # the two that were left
    assert [row["relaxed_converged"] for row in rows] == [True] * 4
    assert [row["relaxed_problem"] for row in rows] == [None] * 4
    assert sorted(row["rank"] for row in rows) == [1, 2, 3, 4]
    with pytest.raises(FileExistsError, match="has content"):
        relax_samples(folder, "toy", calculator=Still())


def test_what_was_interrupted_for_other_candidates_is_no_beginning(make_slab, tmp_path):
    folder = four(make_slab, tmp_path)
    relax_samples(folder, "toy", ["s0", "s1"], calculator=Interrupting(2))
    with pytest.raises(FileExistsError, match="has content"):
        relax_samples(folder, "toy", calculator=Still())


def test_the_command_says_that_it_was_interrupted(make_slab, tmp_path, monkeypatch, capsys):
    from vdw_jax.commands import relax
    from vdw_jax.report import relaxation

    folder = four(make_slab, tmp_path)
    monkeypatch.setattr(relaxation, "create_calculator", lambda name: Interrupting(2))
    monkeypatch.setattr(sys, "argv", ["relaxation", str(folder), "--potential=toy", "--quiet"])
    with pytest.raises(SystemExit) as stopped:
        relax.main()
    assert stopped.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_the_page_and_the_request_are_those_of_the_relaxed(make_slab, tmp_path):
    folder = four(make_slab, tmp_path)
    (folder / "request.json").write_text('{"settings": {"seed": 3}, "relaxed": "os:abort", "not_finite": NaN}')
    target, rows = relax_samples(folder, "toy", ["s0"], calculator=light(), most_steps=1)
    assert json.loads((target / "request.json").read_text()) == {
        "settings": {"seed": 3}, "relaxed": "toy", "not_finite": None,
    }  # fmt: skip
    page = (target / "report.html").read_text()
    assert f"{rows[0]['lattice_constant_angstrom']:.6g}"[:7] in page and "unrelaxed_lattice_constant_angstrom" in page


def test_no_candidates(tmp_path):
    folder = write_samples(tmp_path / "none", [], [])
    target, rows = relax_samples(folder, "toy", calculator=Still())
    assert rows == [] and (target / "samples.csv").is_file()


def test_a_file_of_structures(make_slab, tmp_path):
    from ase.io import write

    images = []
    for place in range(2):
        atoms = make_slab(f"s{place}").to_ase()
        atoms.info = {"id": f"00{place}", "gap (eV)": 1.5 + place, "formula": "mine"}
        images.append(atoms)
    images[1].positions[:] = 0.0
    write(tmp_path / "own.extxyz", images, format="extxyz")
    notes: list[str] = []
    target, rows = relax_samples(tmp_path / "own.extxyz", "toy", calculator=Still(), on_note=notes.append)
    assert target == (tmp_path / "own-relaxed-toy").resolve()
    assert len(notes) == 1 and "own.extxyz" in notes[0] and notes[0].endswith("left out")
    assert [row["gap (eV)"] for row in rows] == [1.5] and rows[0]["layers"] == 2
    assert rows[0]["formula"] == "GaInSSe" and rows[0]["formula_in_file"] == "mine"
    with pytest.raises(HandoverError, match="no candidate s0"):
        relax_samples(tmp_path / "own.extxyz", "toy", ["s0"], calculator=Still())


def test_a_link_is_not_followed(make_slab, tmp_path):
    folder = four(make_slab, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (folder / "relaxed-toy").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="is a link"):
        relax_samples(folder, "toy", calculator=Still())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_was_said_of_the_structure_before_is_not_said_of_the_relaxed(make_slab):
    crystal = make_slab("s0")
    given = rows_for([crystal])[0] | {"evaluated_formation_energy_ev": -0.3, "reference_model": "CGCNN"}
    _, (row,) = relax_crystals([crystal], [given], Still())
    assert row["unrelaxed_evaluated_formation_energy_ev"] == -0.3 and row["unrelaxed_reference_model"] == "CGCNN"
    assert not {"evaluated_formation_energy_ev", "reference_model"} & row.keys()
    _, (row,) = relax_crystals([crystal], [given], Broken())  # stays as it was, and so does what is said of it
    assert row["evaluated_formation_energy_ev"] == -0.3


def test_marks_of_what_the_model_does_not_cover_stay(make_slab):
    crystal = make_slab("s0")
    given = rows_for([crystal])[0] | {"untrained": "elements never seen: Mo", "valid": None}
    _, (row,) = relax_crystals([crystal], [given], Still())
    assert row["untrained"] == "elements never seen: Mo" and row["valid"] is None
