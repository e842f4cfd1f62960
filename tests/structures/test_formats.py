"""The same slabs in every format are the same data set; slabs are told from crystals."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.db import connect
from ase.io import write
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from vdw_jax.structures.check import main
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.load import load_structures
from vdw_jax.structures.slabs import TURNED
from vdw_jax.structures.source import load_relaxed
from vdw_jax.types import BULK, SLAB

COUNT = 4
TEXTS = ("csv", "cif", "json", "json.gz", "entries.json", "extxyz", "db", "ase.json", "npz")


@pytest.fixture(scope="module")
def slabs() -> CrystalDataset:
    data, _ = load_relaxed("j2dh8")
    return data.select([7, 4711, 12000, 19000])


@pytest.fixture(scope="module")
def atoms(slabs) -> list[Atoms]:
    """Periodic in three directions, turned in space, the slab cut by the cell's faces along c."""
    made = []
    for row in range(COUNT):
        one = Atoms(slabs.atomic_numbers[row], slabs.positions[row], cell=slabs.cell[row], pbc=True)
        one.rotate(40.0 * row, (1, 2, 3), rotate_cell=True)
        one.wrap()
        one.info |= {"id": str(slabs.ids[row]), "gap": 0.5 * row, "note": "made"}
        made.append(one)
    del made[2].info["gap"]
    return made


def save(folder, kind: str, atoms: list[Atoms], slabs: CrystalDataset):
    """The slabs in one format; only `.db` and extended XYZ can say what no period is."""
    path = folder / f"slabs.{kind}"
    structures = [AseAtomsAdaptor.get_structure(one) for one in atoms]
    values = [{key: value for key, value in one.info.items() if key != "id"} for one in atoms]
    if kind == "cif":
        path.mkdir()
        rows = [f"{one.info['id']},{one.info.get('gap', '')},made" for one in atoms]
        (path / "properties.csv").write_text("\n".join(["material_id,gap,note", *rows]))
        for one, structure in zip(atoms, structures, strict=True):
            structure.to(str(path / f"{one.info['id']}.cif"))
    elif kind == "csv":
        rows = [
            f'{one.info["id"]},{one.info.get("gap", "")},made,"{structure.to(fmt="cif")}"'
            for one, structure in zip(atoms, structures, strict=True)
        ]
        path.write_text("\n".join(["material_id,gap,note,cif", *rows]))
    elif kind == "extxyz":
        write(path, atoms)
    elif kind in ("db", "ase.json"):
        with connect(path, type=kind.removeprefix("ase.")) as database:
            for one in atoms:
                pairs = {"uid" if key == "id" else key: value for key, value in one.info.items()}
                database.write(Atoms(one, info={}), **pairs)
    elif kind == "npz":
        gap = np.array([one.info.get("gap", np.nan) for one in atoms], np.float32)
        note = np.array(["made"] * COUNT)
        CrystalDataset(
            slabs.ids, slabs.atomic_numbers, slabs.positions, slabs.cell, SLAB, {"gap": gap}, {"note": note}
        ).save(path)
    elif kind == "entries.json":
        entries = [
            {"entry_id": one.info["id"], "structure": structure.as_dict(), "data": value}
            for one, structure, value in zip(atoms, structures, values, strict=True)
        ]
        path.write_text(json.dumps(entries))
    else:
        for structure, value in zip(structures, values, strict=True):
            structure.properties = value
        text = json.dumps({one.info["id"]: s.as_dict() for one, s in zip(atoms, structures, strict=True)})
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("kind", TEXTS)
def test_every_format_gives_the_same_slabs(tmp_path, kind, atoms, slabs):
    data, problems = load_structures(save(tmp_path, kind, atoms, slabs), use_cache=False)
    assert problems == [] and data.periodicity == SLAB
    order = np.argsort(data.ids)
    data, wanted = data.select(order), slabs.select(np.argsort(slabs.ids))
    assert data.ids.tolist() == wanted.ids.tolist()
    gaps = {one.info["id"]: one.info.get("gap", np.nan) for one in atoms}
    np.testing.assert_array_equal(data.scalars["gap"], [gaps[name] for name in data.ids])
    assert set(data.metadata["note"].tolist()) == {"made"}
    np.testing.assert_allclose(data.slab_height, wanted.slab_height, atol=2e-3)
    np.testing.assert_allclose(data.cell, wanted.cell, atol=2e-3)
    mean = (data.positions[..., 2]).mean(1)
    np.testing.assert_allclose(mean, 0, atol=1e-4)
    for row in range(COUNT):
        assert same_up_to_the_origin(data, wanted, row)


def same_up_to_the_origin(data: CrystalDataset, wanted: CrystalDataset, row: int) -> bool:
    """Whether some shift in the plane puts every atom on one of its kind."""
    cell = wanted.cell[row].astype(float)
    mine, theirs = data.positions[row].astype(float), wanted.positions[row].astype(float)
    for first in np.flatnonzero(wanted.atomic_numbers[row] == data.atomic_numbers[row, 0]):
        apart = (mine - mine[0])[:, None] - (theirs - theirs[first])[None]
        fractions = apart @ np.linalg.inv(cell)
        fractions[..., :2] -= np.round(fractions[..., :2])
        near = np.linalg.norm(fractions @ cell, axis=-1) < 0.01
        same = data.atomic_numbers[row][:, None] == wanted.atomic_numbers[row]
        if (near & same).any(1).all():
            return True
    return False


def test_a_slab_need_not_have_a_c_or_a_vacuum_if_it_says_so(tmp_path, atoms):
    flat = atoms[0].copy()
    flat.pbc = (True, True, False)
    flat.cell[2] = 0.0
    write(tmp_path / "a.extxyz", flat)
    data, _ = load_structures(tmp_path / "a.extxyz", use_cache=False)
    assert data.periodicity == SLAB and data.cell[0, 2, 2] == pytest.approx(data.slab_height[0] + 20.0)


@pytest.mark.parametrize("axis", ["a", "b"])
def test_vacuum_along_another_axis_is_named_and_the_advice_works(tmp_path, atoms, axis):
    others = {"a": [[0, 0, 1], [1, 0, 0], [0, 1, 0]], "b": [[0, 1, 0], [0, 0, 1], [1, 0, 0]]}
    turned = make_supercell(atoms[0], others[axis])
    write(tmp_path / "a.extxyz", [turned, atoms[1], atoms[2]])
    data, problems = load_structures(tmp_path / "a.extxyz", on_error="skip", use_cache=False)
    assert (len(data), data.periodicity) == (2, SLAB)
    assert problems[0].row == 1 and f"its vacuum is along {axis}" in problems[0].reason
    assert TURNED[axis] in problems[0].advice
    write(tmp_path / "b.extxyz", make_supercell(turned, json.loads(TURNED[axis])))
    again, _ = load_structures(tmp_path / "b.extxyz", use_cache=False)
    assert again.periodicity == SLAB
    assert again.slab_height[0] == pytest.approx(load_one_height(tmp_path, atoms[0]), abs=1e-3)


def load_one_height(folder, one: Atoms) -> float:
    write(folder / "one.extxyz", one)
    return float(load_structures(folder / "one.extxyz", use_cache=False)[0].slab_height[0])


def test_what_is_no_slab_among_slabs_is_named(tmp_path, atoms):
    wire = make_supercell(atoms[3], np.eye(3))
    wire.set_cell(wire.cell.array * np.array([[1.0], [4.0], [1.0]]))
    molecule = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    salt = bulk("NaCl", "rocksalt", a=5.64)
    odd = atoms[0].copy()
    odd.pbc = (True, False, False)
    write(tmp_path / "a.extxyz", [salt, *atoms, wire, odd, *atoms])
    with open(tmp_path / "a.extxyz", "a") as file:
        write(file, molecule, format="extxyz")
    data, problems = load_structures(tmp_path / "a.extxyz", on_error="skip", use_cache=False)
    found = [(problem.row, problem.reason.split(":")[0].split(" of ")[0]) for problem in problems]
    assert found[0] == (1, "not a slab, as most others are") and "periodicity=bulk" in problems[0].advice
    assert found[1] == (6, "empty spaces") and found[2] == (7, "periodic as TFF")
    assert [row for row, _ in found[3:]] == [8, 9, 10, 11, 12]  # ids occur before, and the molecule has no cell
    assert len(data) == 4


def test_crystals_stay_crystals_unless_told(tmp_path, atoms):
    salt = bulk("NaCl", "rocksalt", a=5.64)
    write(tmp_path / "a.extxyz", [salt, bulk("Si"), atoms[0]])
    data, problems = load_structures(tmp_path / "a.extxyz", use_cache=False)
    assert (data.periodicity, len(data), problems) == (BULK, 3, [])
    assert data.ids.tolist()[:2] == ["a-1", "a-2"]
    np.testing.assert_allclose(data.cell[0], salt.cell.array, atol=1e-6)
    with pytest.raises(DataError, match=r"a\.extxyz: row 1: cell: not a slab.* \(problem 1 of 2; python -m"):
        load_structures(tmp_path / "a.extxyz", periodicity="slab", use_cache=False)
    write(tmp_path / "b.extxyz", [atoms[0]])
    assert load_structures(tmp_path / "b.extxyz", periodicity="bulk", use_cache=False)[0].periodicity == BULK


def test_a_frame_with_a_wrong_count_costs_itself_only(tmp_path, atoms):
    write(tmp_path / "a.extxyz", atoms)
    lines = (tmp_path / "a.extxyz").read_text().splitlines()
    lines[0], lines[10] = "80", "eight"
    del lines[25]
    (tmp_path / "a.extxyz").write_text("\n".join(lines))
    data, problems = load_structures(tmp_path / "a.extxyz", on_error="skip", use_cache=False)
    assert [(problem.row, problem.field) for problem in problems] == [(row, "number of atoms") for row in (1, 2, 3)]
    assert data.ids.tolist() == [atoms[3].info["id"]] and "(line 11)" in problems[1].reason


def test_a_promise_of_endless_columns_is_not_believed(tmp_path, atoms):
    write(tmp_path / "a.extxyz", atoms)
    text = (tmp_path / "a.extxyz").read_text().replace("pos:R:3", "pos:R:3" + "9" * 30, 1)
    (tmp_path / "a.extxyz").write_text(text)
    data, problems = load_structures(tmp_path / "a.extxyz", on_error="skip", use_cache=False)
    assert len(data) == COUNT - 1 and [(p.row, p.field) for p in problems] == [(1, "Properties")]


def test_folder_of_cifs(tmp_path, atoms):
    folder = save(tmp_path, "cif", atoms, None)
    (folder / "broken.cif").write_text("data_x\n_cell_length_a 3\n")
    (folder / "notes.txt").write_text("not read")
    with open(folder / "properties.csv", "a") as file:
        file.write("\nm7,1.0,made\n")
    data, problems = load_structures(folder, on_error="skip", use_cache=False)
    assert len(data) == COUNT
    assert [problem.file.rsplit("/", 1)[1] for problem in problems] == ["broken.cif", "properties.csv"]
    assert problems[1].row == 5 and "no structure file 'm7'" in problems[1].reason
    single, _ = load_structures(folder / f"{atoms[1].info['id']}.cif", use_cache=False)
    assert single.ids.tolist() == [atoms[1].info["id"]]


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("a.txt", b"x", "unknown kind of file"),
        ("a.extxyz", b"", "the file is empty"),
        ("a.extxyz", b"2\nno comment\nH 0 0 0\n", "not extended XYZ"),
        ("a.db", b"not SQL", "not an ASE database"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"3", "no list or dictionary"),
        ("a.json", b"[" * 100_000, "not JSON"),
        ("a.npz", b"x", "not a saved data set"),
    ],
)
def test_unusable_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_structures(path, use_cache=False)
    assert str(path) in str(caught.value)
    assert not (tmp_path / f"{name}.lock").exists()


def test_an_empty_folder_and_none(tmp_path):
    with pytest.raises(DataError, match="no .cif or POSCAR file"):
        load_structures(tmp_path, use_cache=False)
    with pytest.raises(DataError, match="none.db: cannot be read"):
        load_structures(tmp_path / "none.db", use_cache=False)


def check(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["check", *arguments, "--quiet"])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    return int(caught.value.code), said.out + said.err


def test_check_says_what_is_there(tmp_path, atoms, monkeypatch, capsys):
    write(tmp_path / "a.extxyz", atoms)
    code, said = check(monkeypatch, capsys, str(tmp_path / "a.extxyz"))
    assert code == 0
    assert f"{COUNT} structures of" in said and "slabs" in said and "a cell: 8 (4)" in said
    assert "gap: 3 of 4, 0 to 1.5" in said and "--config.data.scalars=gap --config.data.max_atoms=8" in said

    write(tmp_path / "b.extxyz", [atoms[0], *atoms])
    code, said = check(monkeypatch, capsys, str(tmp_path / "b.extxyz"))
    assert code == 1
    assert "b.extxyz: row 2: id:" in said and "1 can not" in said and "skip_problems=True" in said
    code, said = check(monkeypatch, capsys, str(tmp_path / "b.extxyz"), "--max_atoms=7")
    assert code == 2 and "5 structures have more than 7 atoms, 8 at most; --max_atoms=8 takes all" in said
    code, said = check(monkeypatch, capsys, str(tmp_path / "b.extxyz"), "--max_atoms=7", "--each")
    assert code == 2 and said.count("8 atoms; at most 7") == 5
    code, said = check(monkeypatch, capsys, str(tmp_path / "b.extxyz"), "--scalars=colour")
    assert code == 2 and "no property 'colour'; there are gap, note" in said


def test_check_is_a_command():
    command = [sys.executable, "-m", "vdw_jax.structures.check", "none.csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "check: none.csv: cannot be read: No such file or directory\n"


def test_partly_occupied_and_strange_species(tmp_path, atoms):
    mixed = Structure.from_dict(AseAtomsAdaptor.get_structure(atoms[0]).as_dict())
    mixed.replace(0, {"Ga": 0.5, "In": 0.5})
    strange = Structure.from_dict(AseAtomsAdaptor.get_structure(atoms[0]).as_dict())
    strange.replace(0, "Lr")
    path = tmp_path / "a.json"
    path.write_text(json.dumps([mixed.as_dict(), strange.as_dict(), {"no": "structure"}]))
    data, problems = load_structures(path, on_error="skip", use_cache=False)
    assert len(data) == 0
    assert ["partly occupied" in problems[0].reason, "'Lr'" in problems[1].reason] == [True, True]
    assert problems[2].reason.startswith("no structure: neither of pymatgen")
