"""Other programs read what is handed over, and every file says whose it is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from ase.db import connect
from ase.io import read as ase_read
from pymatgen.core import Structure
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar

from tests.report.conftest import gas_on_inse, rocksalt
from vdw_jax.report import handover
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.handover import HandoverError, hand_over, read_samples
from vdw_jax.report.ranking import add_ranks
from vdw_jax.report.writer import write_samples

STAND_IN = """
from ase.calculators.lj import LennardJones

def Mixer(*settings): pass
def PW(cutoff): return cutoff
def GPAW(**settings):
    assert settings["kpts"] == {"size": (7, 7, 1), "gamma": True} and settings["poissonsolver"] == {"dipolelayer": "xy"}
    return LennardJones(sigma=2.2, epsilon=0.1, rc=6.0)
"""

D3_STAND_IN = """
from ase.calculators.lj import LennardJones

def DFTD3(damping, params_tweaks):
    assert damping == "d3zero" and params_tweaks["s8"] == 0.722
    return LennardJones(epsilon=1e-3)
"""


@pytest.fixture(scope="module")
def crystals():
    return [gas_on_inse("s0000"), gas_on_inse("s0001", 3.6), rocksalt("s0002")]


@pytest.fixture(scope="module")
def samples(crystals, tmp_path_factory):
    predicted = [{"energy_ev": value} for value in (0.3, np.float32(-0.1), -0.2)]
    rows = add_ranks(sample_rows(crystals, [{"energy_ev": -0.1}] * 3, predicted))
    return write_samples(tmp_path_factory.mktemp("samples") / "out", crystals, rows)


def entries(path):
    return sorted(item.name for item in path.iterdir())


def test_samples_come_back(samples, crystals):
    found, rows = read_samples(samples)
    for crystal, again in zip(crystals, found, strict=True):
        assert again.id == crystal.id and again.periodicity == crystal.periodicity
        np.testing.assert_allclose(again.positions, crystal.centred_positions(), atol=1e-7)
    assert [row["id"] for row in rows] == ["s0000", "s0001", "s0002"]
    assert rows[1]["valid"] is True and rows[2]["layers"] is None and isinstance(rows[0]["layers"], int)
    assert rows[0]["predicted_energy_ev"] == pytest.approx(0.3)


def test_every_format(samples, crystals, tmp_path):
    formats = ["poscar", "vasp", "gpaw", "db", "parquet"]
    hand_over(samples, formats, out=tmp_path / "to")
    assert entries(tmp_path / "to") == ["gpaw", "poscar", "samples.db", "samples.parquet", "vasp"]
    with connect(tmp_path / "to" / "samples.db") as database:
        kept = {row.name: row for row in database.select()}
        assert [row.name for row in database.select("predicted_energy_ev<0,valid=True")] == ["s0001", "s0002"]
    for crystal in crystals:
        structure = crystal.to_pymatgen()
        for path in (f"poscar/{crystal.id}.vasp", f"vasp/{crystal.id}/POSCAR"):
            read = Poscar.from_file(tmp_path / "to" / path)
            assert read.comment.split()[0] == crystal.id
            assert read.structure.matches(structure, stol=0.01, ltol=0.01, attempt_supercell=False)
            np.testing.assert_allclose(read.structure.lattice.matrix, crystal.cell, atol=1e-9)
        atoms = ase_read(tmp_path / "to" / "gpaw" / f"{crystal.id}.xyz")
        assert atoms.info["id"] == crystal.id and tuple(atoms.pbc) == crystal.periodicity
        assert kept[crystal.id].reduced_formula == crystal.formula
        np.testing.assert_allclose(kept[crystal.id].toatoms().positions, crystal.centred_positions(), atol=1e-7)
    table = pyarrow.parquet.read_table(tmp_path / "to" / "samples.parquet").to_pylist()
    assert table == read_samples(samples)[1]


def test_what_ase_does_not_take_as_a_key_gets_into_the_database(tmp_path, crystals):
    fluoride = Crystal("s0", np.array([49, 9]), crystals[2].positions, crystals[2].cell, crystals[2].periodicity)
    row = {"formula": fluoride.formula, "rank": 1, "asked_gap": [3, 4]}
    folder = write_samples(tmp_path / "out", [fluoride], [row])
    hand_over(folder, ["db", "db"], ids=["s0", "s0"])
    with connect(folder / "handover" / "samples.db") as database:
        (row,) = database.select("rank=1")
    assert row.name == "s0" and row.data == {"reduced_formula": "InF", "asked_gap": [3, 4]}


def test_vasp_settings_are_those_of_the_paper(samples, tmp_path):
    hand_over(samples, ["vasp"], out=tmp_path)
    slab, bulk = (Incar.from_file(tmp_path / "vasp" / name / "INCAR") for name in ("s0000", "s0002"))
    for incar in (slab, bulk):
        told = {key: incar[key] for key in ("ENCUT", "EDIFF", "EDIFFG", "IVDW", "GGA")}
        assert told == {"ENCUT": 550, "EDIFF": 1e-6, "EDIFFG": -0.05, "IVDW": 11, "GGA": "Pe"}
    assert slab["LDIPOL"] and slab["IDIPOL"] == 3 and slab["DIPOL"] == pytest.approx([0.5] * 3)
    assert slab["LATTICE_CONSTRAINTS"] == [True, True, False] and "LDIPOL" not in bulk
    folder = tmp_path / "vasp" / "s0000"
    assert Kpoints.from_file(folder / "KPOINTS").kpts[0] == (10, 10, 1)
    assert Kpoints.from_file(folder.parent / "s0002" / "KPOINTS").kpts[0] == (10, 10, 10)
    assert entries(folder) == ["INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"]  # no POTCAR
    symbols = (folder / "POTCAR.spec").read_text().split()
    assert [symbol.split("_")[0] for symbol in symbols] == Poscar.from_file(folder / "POSCAR").site_symbols
    assert "licence" in (tmp_path / "vasp" / "README.txt").read_text()


def test_the_gpaw_script_relaxes(samples, tmp_path):
    hand_over(samples, ["gpaw"], ids=["s0001"], out=tmp_path)
    folder = tmp_path / "gpaw"
    assert entries(folder) == ["relax_gpaw.py", "s0001.xyz"]
    (folder / "gpaw.py").write_text(STAND_IN)
    if importlib.util.find_spec("dftd3") is None:  # of the extra `dft`
        (folder / "dftd3").mkdir()
        (folder / "dftd3" / "__init__.py").touch()
        (folder / "dftd3" / "ase.py").write_text(D3_STAND_IN)
    for said in ("s0001: ", ""):  # the second time there is nothing left to do
        done = subprocess.run([sys.executable, folder / "relax_gpaw.py"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(said) and bool(done.stdout) == bool(said)
    relaxed = ase_read(folder / "s0001.relaxed.xyz")
    assert relaxed.info["steps"] > 0 and np.isfinite(relaxed.get_potential_energy())
    assert np.abs(relaxed.get_forces()).max() < 0.05 or not relaxed.info["converged"]


def test_which_candidates(samples, tmp_path):
    hand_over(samples, ["poscar"], best=2, out=tmp_path / "best")
    assert entries(tmp_path / "best" / "poscar") == ["s0000.vasp", "s0001.vasp"]  # slabs before bulk
    with pytest.raises(HandoverError, match="no candidate s0009; there are 3"):
        hand_over(samples, ["poscar"], ids=["s0009"], out=tmp_path / "ids")
    with pytest.raises(HandoverError, match="at least 1"):
        hand_over(samples, ["poscar"], best=0, out=tmp_path / "ids")
    with pytest.raises(HandoverError, match="no format cif; there are poscar, vasp"):
        hand_over(samples, ["cif"], out=tmp_path / "ids")
    with pytest.raises(HandoverError, match="samples.extxyz is missing"):
        read_samples(tmp_path)
    assert entries(tmp_path) == ["best"]


def test_whole_or_not_at_all(samples, tmp_path, monkeypatch):
    hand_over(samples, ["poscar"], out=tmp_path)
    with pytest.raises(HandoverError, match="poscar is there already"):
        hand_over(samples, ["db", "poscar"], out=tmp_path)
    monkeypatch.setitem(handover.FORMATS, "db", ("samples.db", lambda *args: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        hand_over(samples, ["poscar", "db"], ids=["s0001"], out=tmp_path, overwrite=True)
    assert entries(tmp_path) == ["poscar"] and len(entries(tmp_path / "poscar")) == 3
    hand_over(samples, ["poscar"], ids=["s0001"], out=tmp_path, overwrite=True)
    assert entries(tmp_path / "poscar") == ["s0001.vasp"]


def test_flow(samples, tmp_path):
    pytest.importorskip("atomate2")
    from monty.serialization import loadfn

    hand_over(samples, ["flow"], ids=["s0001"], out=tmp_path)
    (job,) = loadfn(tmp_path / "flow.json").jobs
    assert job.name == "s0001" and isinstance(job.function_args[0], Structure)
    inputs = job.maker.input_set_generator.get_input_set(job.function_args[0], potcar_spec=True)
    assert inputs.incar["IVDW"] == 11 and inputs.incar["IDIPOL"] == 3


def test_flow_without_atomate2(samples, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "atomate2", None)
    with pytest.raises(HandoverError, match="pip install atomate2"):
        hand_over(samples, ["flow"], out=tmp_path)
    assert entries(tmp_path) == []


def test_command_line(samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["handover", str(samples), "--formats=poscar", f"--out={tmp_path}", "--ids=s0001"])
    handover.main()
    assert capsys.readouterr().out == f"{tmp_path}/poscar\n" and entries(tmp_path / "poscar") == ["s0001.vasp"]
    with pytest.raises(SystemExit) as stopped:
        handover.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said == f"handover: {tmp_path}/poscar is there already; choose another --out, or --overwrite\n"
