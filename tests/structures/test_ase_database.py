"""ASE's databases: the same rows as ASE reads, without its code."""

from __future__ import annotations

import gzip
import sqlite3

import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.reading import open_reading


@pytest.fixture(params=["db", "json"])
def database(request, tmp_path):
    """Two rows: a slab with everything that ASE keeps, and a plain crystal."""
    path = tmp_path / f"a.{request.param}"
    with connect(path) as opened:
        slab = fcc111("Al", (1, 1, 3), vacuum=10)
        slab.set_constraint(FixAtoms([0]))
        slab.set_initial_magnetic_moments([1.0, 2.0, 3.0])
        forces = np.zeros((3, 3))
        slab.calc = SinglePointCalculator(
            slab, energy=-1.25, forces=forces, magmom=0.5, stress=np.arange(6.0)
        )
        data = {"gap": 0.7, "hull": 0.1, "bands": np.zeros((2, 3)), "note": "x", "nested": {"a": 1}}
        opened.write(slab, key_value_pairs={"uid": "m1", "hull": 0.2}, data=data)
        opened.write(bulk("NaCl", "rocksalt", a=5.64), uid="m2")
    return path


def test_rows(database):
    slab, salt = open_reading(database).entries
    with connect(database) as opened:
        for mine, row in zip((slab, salt), (opened.get(1), opened.get(2)), strict=True):
            theirs = row.toatoms()
            np.testing.assert_array_equal(mine.atomic_numbers, theirs.numbers)
            np.testing.assert_array_equal(mine.positions, theirs.positions)
            np.testing.assert_array_equal(mine.cell, theirs.cell.array)
            assert mine.periodicity == tuple(theirs.pbc)
    assert (slab.id, salt.id) == ("m1", "m2")
    assert dict(slab.values) == {
        "hull": 0.2,
        "data.hull": 0.1,
        "energy": -1.25,
        "free_energy": -1.25,
        "magmom": 0.5,
        "gap": 0.7,
        "note": "x",
    }
    assert set(slab.not_taken) == {"bands", "nested"} and dict(salt.values) == {}


def test_packed_and_in_capitals(database, tmp_path):
    packed = tmp_path / f"B{database.suffix.upper()}.GZ"
    packed.write_bytes(gzip.compress(database.read_bytes()))
    assert [entry.id for entry in open_reading(packed).entries] == ["m1", "m2"]


def test_a_bad_row_costs_itself_only(tmp_path):
    path = tmp_path / "a.db"
    with connect(path) as opened:
        for place in range(4):
            opened.write(bulk("NaCl", "rocksalt", a=5.64), uid=f"m{place}")
    with sqlite3.connect(path) as opened:
        opened.execute("UPDATE systems SET positions = x'00' WHERE id = 2")
        opened.execute("UPDATE systems SET key_value_pairs = '{' WHERE id = 3")
    first, second, third, fourth = open_reading(path).entries
    assert (first.id, fourth.id) == ("m0", "m3")
    assert (second.row, third.row) == (2, 3) and "positions is no array" in second.reason


@pytest.mark.parametrize(
    "statement,message",
    [
        ("CREATE TABLE other (id)", "it has no table 'systems'"),
        ("CREATE TABLE systems (id INTEGER PRIMARY KEY)", "no column 'numbers'"),
        (
            "CREATE VIEW systems AS SELECT 1 AS id, 2 AS numbers, 3 AS positions",
            "it has no table 'systems'",
        ),
    ],
)
def test_other_databases(tmp_path, statement, message):
    with sqlite3.connect(tmp_path / "a.db") as opened:
        opened.execute(statement)
    with pytest.raises(DataError, match=message):
        open_reading(tmp_path / "a.db")


def test_reading_writes_nothing(database):
    before = {path.name: path.read_bytes() for path in database.parent.iterdir()}
    list(open_reading(database).entries)
    assert {path.name: path.read_bytes() for path in database.parent.iterdir()} == before
