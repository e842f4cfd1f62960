"""Other programs read what is handed over, and every file says whose it is."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from ase.db import connect
from ase.io import read as ase_read
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar

from tests.report.conftest import gas_on_inse, rocksalt
from vdw_jax.commands import handover
from vdw_jax.report import handover as handing
from vdw_jax.report.candidates import HandoverError, read_samples
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.handover import hand_over
from vdw_jax.report.ranking import add_ranks
from vdw_jax.report.vasp import write_vasp
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


def test_one_that_fails_in_gpaw_is_named_and_the_others_go_on(samples, tmp_path):
    hand_over(samples, ["gpaw"], ids=["s0000", "s0001"], out=tmp_path)
    folder = tmp_path / "gpaw"
    fails = "    if 's0000' in settings['txt']: raise KeyError('no setup')\n"
    failing = STAND_IN.replace("    return LennardJones", f"{fails}    return LennardJones")
    (folder / "gpaw.py").write_text(failing)
    (folder / "dftd3").mkdir()
    (folder / "dftd3" / "__init__.py").touch()
    (folder / "dftd3" / "ase.py").write_text(D3_STAND_IN)
    done = subprocess.run([sys.executable, folder / "relax_gpaw.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.strip() == "s0000: KeyError: 'no setup'"
    assert (folder / "s0001.relaxed.xyz").is_file() and not (folder / "s0000.relaxed.xyz").exists()


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
    monkeypatch.setitem(handing.FORMATS, "db", ("samples.db", lambda *args: 1 / 0))
    with pytest.raises(HandoverError, match="^db: ZeroDivisionError: division by zero; nothing was written$"):
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


def test_what_was_written_before_the_disk_was_full_is_said(samples, tmp_path, monkeypatch):
    real, calls = handing.move_into_place, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(handing, "move_into_place", second_fails)
    with pytest.raises(HandoverError) as full:
        hand_over(samples, ["poscar", "db"], out=tmp_path / "to")
    assert "db: [Errno 28] No space left on device" in str(full.value)
    assert str(full.value).endswith(f"; written: {tmp_path}/to/poscar")
    assert entries(tmp_path / "to") == ["poscar"]


def test_a_failure_leaves_no_empty_folder(samples, tmp_path, monkeypatch):
    monkeypatch.setitem(handing.FORMATS, "db", ("samples.db", lambda *args: 1 / 0))
    with pytest.raises(HandoverError):
        hand_over(samples, ["db"], out=tmp_path / "to")
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    "result", ["vasp/s0000/OUTCAR", "gpaw/s0000.relaxed.xyz", "gpaw/s0000.txt", "poscar/mine.vasp"]
)
def test_overwriting_keeps_results(samples, tmp_path, result):
    formats = ["poscar", "vasp", "gpaw"]
    hand_over(samples, formats, out=tmp_path)
    (tmp_path / result).write_text("hours of DFT")
    with pytest.raises(HandoverError, match="did not write"):
        hand_over(samples, formats, out=tmp_path, overwrite=True)
    assert (tmp_path / result).read_text() == "hours of DFT"
    (tmp_path / result).unlink()
    hand_over(samples, [*formats, "db", "parquet"], out=tmp_path, overwrite=True)
    hand_over(samples, [*formats, "db", "parquet"], out=tmp_path, overwrite=True)


@pytest.mark.parametrize("name", ["samples.db", "samples.parquet", "flow.json", "poscar"])
def test_files_of_the_same_name_are_not_ours(samples, tmp_path, name):
    (tmp_path / name).write_text("mine")
    form = {"samples.db": "db", "samples.parquet": "parquet", "flow.json": "flow"}.get(name, name)
    with pytest.raises(HandoverError, match=f"did not write.*{name}"):
        hand_over(samples, [form], out=tmp_path, overwrite=True)
    assert (tmp_path / name).read_text() == "mine"


def test_links_are_not_followed_out_of_the_folder(samples, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.tex").write_text("years")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "poscar").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "to" / "samples.db").symlink_to(tmp_path / "nowhere.db")
    for form in ("poscar", "db"):
        for overwrite in (False, True):
            with pytest.raises(HandoverError):
                hand_over(samples, [form], out=tmp_path / "to", overwrite=overwrite)
    assert entries(tmp_path / "elsewhere") == ["thesis.tex"] and not (tmp_path / "nowhere.db").exists()


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a/b", "x" * 300, "CON", "a:b", "end.", "é"])
def test_ids_never_leave_the_folder(samples, tmp_path, name):
    folder = tmp_path / "samples"
    shutil.copytree(samples, folder)
    table = pyarrow.parquet.read_table(folder / "samples.parquet").to_pylist()
    table[0]["id"] = name
    pyarrow.parquet.write_table(pa.Table.from_pylist(table), folder / "samples.parquet")
    text = (folder / "samples.extxyz").read_text()
    (folder / "samples.extxyz").write_text(text.replace("id=s0000", f'id="{name}"'))
    before = sorted(tmp_path.rglob("*"))
    for form in ("poscar", "vasp", "gpaw", "db"):
        with pytest.raises(ValueError, match="id ") as refused:
            hand_over(folder, [form])
        assert name[:50] in str(refused.value) and "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_vasp_folders_check_their_ids_themselves(tmp_path):
    crystal = gas_on_inse("s0")
    with pytest.raises(ValueError, match="id '../x'"):
        write_vasp(tmp_path / "in", [Crystal("../x", crystal.atomic_numbers, crystal.positions, crystal.cell)])
    assert entries(tmp_path) == []


def test_an_id_that_looks_like_a_result_of_gpaw(tmp_path):
    folder = write_samples(tmp_path / "out", [gas_on_inse("s0.relaxed")], [{}])
    with pytest.raises(HandoverError, match="gpaw: id 's0.relaxed' ends as the results"):
        hand_over(folder, ["gpaw"])


def test_changed_names_are_said_once(tmp_path):
    folder = write_samples(tmp_path / "out", [gas_on_inse("s0")], [{"gap (eV)": 1.5, "energy": -1.0, "rank": 1}])
    notes: list[str] = []
    hand_over(folder, ["db", "poscar", "gpaw"], on_note=notes.append)
    (said,) = notes
    assert said.endswith("are changed there: 'gap (eV)' is gap_eV, 'energy' is column_energy")


def test_no_candidates(tmp_path):
    folder = write_samples(tmp_path / "none", [], [])
    hand_over(folder, ["poscar", "vasp", "gpaw", "db", "parquet"])
    assert entries(folder / "handover" / "poscar") == []


def test_files_of_structures_are_handed_over(tmp_path):
    (tmp_path / "own").mkdir()
    for name in ("s1", "1000041"):
        CifWriter(gas_on_inse(name).to_pymatgen()).write_file(tmp_path / "own" / f"{name}.cif")
    (tmp_path / "own" / "broken.cif").write_text("data_x\n_cell_length_a 3\n")
    notes: list[str] = []
    written = hand_over(tmp_path / "own", ["poscar", "db"], on_note=notes.append)
    assert written[0] == (tmp_path / "own-handover" / "poscar").resolve()
    assert entries(written[0]) == ["1000041.vasp", "s1.vasp"]
    assert len(notes) == 1 and "broken.cif" in notes[0]
    assert entries(tmp_path / "own") == ["1000041.cif", "broken.cif", "s1.cif"]
    (tmp_path / "odd").mkdir()
    CifWriter(gas_on_inse().to_pymatgen()).write_file(tmp_path / "odd" / "GaS on InSe.cif")
    with pytest.raises(ValueError, match="odd: id 'GaS on InSe' cannot be the name of a file"):
        hand_over(tmp_path / "odd", ["poscar"])
