"""Extended XYZ: what the frames say, and what is wrong with one of them; ASE reads the same from good ones."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from vdw_jax.structures.extxyz_reader import read_extxyz

LATTICE = 'Lattice="9 0 0 0 9 0 0 0 9"'


def entries(tmp_path, text: str) -> list:
    (tmp_path / "a.extxyz").write_text(text)
    return list(read_extxyz(tmp_path / "a.extxyz").entries)


def one(tmp_path, comment: str, atoms: str = "H 0 0 0"):
    (entry,) = entries(tmp_path, f"{len(atoms.splitlines())}\n{comment}\n{atoms}\n")
    return entry


def test_what_ase_writes_is_read_as_ase_reads_it(tmp_path):
    random = np.random.default_rng(0)
    frames = []
    for place in range(4):
        atoms = bulk("NaCl", "rocksalt", a=5.64).repeat((1, 1, place + 1))
        atoms.rattle(0.1, seed=place)
        atoms.info = {
            "note": 'two words, "quoted"',
            "gap": 0.1 * place,
            "list": [1, 2],
            "flag": True,
            "empty": "",
        }
        atoms.new_array("charge", random.normal(size=len(atoms)))
        atoms.pbc = [True, True, bool(place % 2)]
        forces = random.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=forces, stress=np.arange(6.0))
        frames.append(atoms)
    ase.io.write(tmp_path / "a.extxyz", frames)
    found = list(read_extxyz(tmp_path / "a.extxyz").entries)
    for mine, theirs in zip(found, ase.io.read(tmp_path / "a.extxyz", ":"), strict=True):
        np.testing.assert_array_equal(mine.atomic_numbers, theirs.numbers)
        np.testing.assert_array_equal(mine.positions, theirs.positions)
        np.testing.assert_array_equal(mine.cell, theirs.cell.array)
        assert mine.periodicity == tuple(theirs.pbc)
        assert mine.values["gap"] == theirs.info["gap"] and mine.values["energy"] == -1.5
        assert (mine.values["note"], mine.values["flag"]) == ('two words, "quoted"', 1.0)
        assert set(mine.not_taken) == {"list", "stress"}


@pytest.mark.parametrize("name", ["100", "007", "1e3", "true", "0x10", "- 5"])
def test_ids_stay_as_they_are_written(tmp_path, name):
    entry = one(tmp_path, f'{LATTICE} id="{name}" gap=1')
    assert (entry.id, entry.id_field, dict(entry.values)) == (name, "id", {"gap": 1.0})


def test_pairs(tmp_path):
    comment = f"{LATTICE} a=b=c d = 5 'e f'=g h={{1 2}} i=[1,2] j k=\"\" l=say\\ this m=1_0 n=N/A"
    entry = one(tmp_path, comment)
    assert dict(entry.values) == {
        "a": "b=c",
        "d": 5.0,
        "e f": "g",
        "j": 1.0,
        "k": "",
        "l": "say this",
        "m": "1_0",
        "n": "N/A",
    }
    assert entry.not_taken == ("h", "i")


def test_deuterium_and_tritium_are_hydrogen(tmp_path):
    entry = one(tmp_path, LATTICE, "D 0 0 0\nT 0 0 2\nO 0 0 1")
    assert entry.atomic_numbers.tolist() == [1, 1, 8]


@pytest.mark.parametrize(
    "symbol", ["OH", "Va", "Du", "Cg", "X", "CO", "ga", "GA", "Lr", "Ga1", "31"]
)
def test_what_is_no_element_is_named_with_its_atom(tmp_path, symbol):
    problem = one(tmp_path, f"{LATTICE} id=m1", f"H 0 0 0\n{symbol} 0 0 2")
    assert problem.reason == f"atom 2: '{symbol}' is no element from H to Fm (line 1)"
    assert (problem.field, problem.id) == ("species", "m1")


@pytest.mark.parametrize(
    "comment,atoms,field,reason",
    [
        (f"{LATTICE} gap=1 gap=2", "H 0 0 0", "gap", "the key 'gap' occurs twice"),
        (f"{LATTICE} lattice=5", "H 0 0 0", "Lattice", "occurs twice"),
        (f'{LATTICE} note="open', "H 0 0 0", "comment", "not closed"),
        ('Lattice="9 0 0 0 9 0 0 0"', "H 0 0 0", "Lattice", "not nine numbers"),
        ('Lattice="9 0 0 0 9 0 0 0 x"', "H 0 0 0", "Lattice", "'x' is not a number"),
        ("Properties=species:S:1:pos:R:3", "H 0 0 0", "Lattice", "no cell"),
        (f'{LATTICE} pbc="T F"', "H 0 0 0", "pbc", "not three periods"),
        (
            f"{LATTICE} Properties=species:S:1:pos:R:2",
            "H 0 0",
            "Properties",
            "no species and positions",
        ),
        (
            f"{LATTICE} Properties=species:S:1:pos:R:3:pos:R:3",
            "H 0 0 0 0 0 0",
            "Properties",
            "occurs twice",
        ),
        (f"{LATTICE} Properties=species:S:1:pos:R:3", "H 0 0 0 7", "Properties", "has more values"),
        (
            f"{LATTICE} Properties=species:S:1:pos:R:3:q:R:1",
            "H 0 0 0",
            "Properties",
            "atom 1 has 4 values",
        ),
        (
            f"{LATTICE} Properties=species:S:1:pos:R:3:q:R:99999",
            "H 0 0 0",
            "Properties",
            "more than 1000 columns",
        ),
        (
            f"{LATTICE} Properties=species:S:1:Z:I:1:pos:R:3",
            "H 2 0 0 0",
            "Z",
            "atom 1 is H with atomic number 2",
        ),
        (f"{LATTICE} Properties=Z:I:1:pos:R:3", "0 0 0 0", "Z", "'0' is no atomic number"),
        (LATTICE, "H 0 abc 0", "pos", "atom 1: 'abc' is not a number"),
        (LATTICE, "H 0 1_0 0", "pos", "'1_0' is not a number"),
    ],
)
def test_what_is_wrong_with_a_frame_is_named(tmp_path, comment, atoms, field, reason):
    good = f"1\n{LATTICE} id=good\nH 0 0 0\n"
    first, problem, last = entries(
        tmp_path, f"{good}{len(atoms.splitlines())}\n{comment}\n{atoms}\n{good}"
    )
    assert (first.id, last.id) == ("good", "good")
    assert (problem.row, problem.field) == (2, field)
    assert reason in problem.reason and "(line 4)" in problem.reason and problem.advice


def test_atomic_numbers_instead_of_symbols(tmp_path):
    entry = one(tmp_path, f"{LATTICE} Properties=Z:I:1:tags:I:1:pos:R:3", "31 0 1 2 3\n34 1 4 5 6")
    assert entry.atomic_numbers.tolist() == [31, 34]
    np.testing.assert_array_equal(entry.positions, [[1, 2, 3], [4, 5, 6]])


def test_line_ends_of_other_systems(tmp_path):
    text = f"1\n{LATTICE} id=m1\nH 0 0 0\n1\n{LATTICE} id=m2\nH 0 0 0\n"
    for end in ("\r\n", "\r"):
        (tmp_path / "a.xyz").write_bytes(text.replace("\n", end).encode())
        assert [entry.id for entry in read_extxyz(tmp_path / "a.xyz").entries] == ["m1", "m2"]


def test_a_frame_of_a_million_lines_is_not_taken_apart(tmp_path):
    (problem,) = entries(tmp_path, f"1000000\n{LATTICE}\n" + "H 0 0 0\n" * 150_000)
    assert problem.field == "number of atoms" and "more than 100000 lines" in problem.reason


def test_ase_objects_come_through(tmp_path):
    """`Atoms.info` may hold dictionaries: written as JSON, they are no property."""
    atoms = Atoms("H", cell=[9, 9, 9], pbc=True, info={"settings": {"encut": 500}, "note": "x"})
    ase.io.write(tmp_path / "a.extxyz", atoms)
    (entry,) = read_extxyz(tmp_path / "a.extxyz").entries
    assert dict(entry.values) == {"note": "x"} and entry.not_taken == ("settings",)
