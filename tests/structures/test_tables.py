"""Tables beside structures: what is unknown, what is a number, and what is worth learning."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.load import load_file
from vdw_jax.structures.values import (
    as_number,
    is_absent,
    no_target,
    numeric_names,
    shortest_digits,
    targets,
)

CIF = Structure(Lattice.cubic(4.2), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(fmt="cif")


def folder(tmp_path, table: str, name: str = "properties.csv", files=("a", "b", "c")):
    for file in files:
        (tmp_path / f"{file}.cif").write_text(CIF)
    (tmp_path / name).write_text(table)
    return tmp_path


@pytest.mark.parametrize(
    "mark", ["", " ", "N/A", "n/a", "NA", "na", "-", "--", "?", "nan", "NaN", "None", "null"]
)
def test_marks_for_missing_values(tmp_path, mark):
    assert is_absent(mark) and np.isnan(as_number(mark))
    table = f"material_id,gap\na,{mark}\nb,{mark}\nc,1.5\n"
    loaded = load_file(folder(tmp_path, table))
    np.testing.assert_array_equal(loaded.dataset.scalars["gap"], [np.nan, np.nan, 1.5])
    assert loaded.problems == []


@pytest.mark.parametrize(
    "text", ["Na", "no", "x", "1.2.3", "1_0", "inf", "1e99", "0x10", "--1", "٣"]
)
def test_texts_are_neither_numbers_nor_marks(text):
    assert not is_absent(text) and as_number(text) is None


@pytest.mark.parametrize(
    "text,number", [("1", 1), (" -2.5e3 ", -2500), (".5", 0.5), ("+7.", 7), (3, 3)]
)
def test_numbers(text, number):
    assert as_number(text) == number


def test_a_column_is_numeric_by_most_of_what_it_says():
    rows = [
        {"a": "1", "b": "x", "c": ""},
        {"a": "?", "b": "1", "c": "NA"},
        {"a": "y", "b": "z"},
        {"a": "2"},
    ]
    assert numeric_names(rows) == ["a"]


@pytest.mark.parametrize(
    "name,values,reason",
    [
        ("gap", [1.0, 1.5, 1.2], None),
        ("charge", [0, 1, 0, 2], None),
        ("column_0", [0.5, 3.0], "no name"),
        ("Unnamed: 0", [0.5, 3.0], "no name"),
        ("number", [1000, 1001, 1002], "counts the rows"),
        ("number", [2, 0, 1, 3], "counts the rows"),
        ("icsd_id", [1034, 22, 8], "names the structures"),
        ("ID", [1034, 22, 8], "names the structures"),
        ("index", [1034, 22, 8], "names the structures"),
        ("gap", [2.0, np.nan, 2.0], "never varies"),
        ("gap", [np.nan, np.nan], "no value"),
        ("nsites", [4, 8, 4], "what the structure says"),
        ("a", [3.1, 3.2, 3.0], "what the structure says"),
        ("lattice_constant_angstrom", [3.1, 3.2, 3.0], None),
        ("bulk_modulus", [3.1, 3.2, 3.0], None),
    ],
)
def test_what_is_proposed_to_learn(name, values, reason):
    found = no_target(name, np.array(values, float))
    assert (found is None) if reason is None else reason in found
    assert targets({name: np.array(values, float)})[0] == ([name] if reason is None else [])


def test_digits_show_the_range():
    assert shortest_digits([1.0, 1.5]) == 5
    low, high = -123456.7890, -123456.7813
    digits = shortest_digits([low, high])
    assert float(f"{high:.{digits}g}") - float(f"{low:.{digits}g}") == pytest.approx(
        high - low, rel=0.02
    )
    assert shortest_digits([3.0, 3.0]) == 5


def test_cgcnn_tables_have_no_header(tmp_path):
    table = "a,1.0,x\nb,1.5,y\nc.cif,,z\n"
    loaded = load_file(folder(tmp_path, table, "id_prop.csv"))
    np.testing.assert_array_equal(loaded.dataset.scalars["property_1"], [1.0, 1.5, np.nan])
    assert loaded.dataset.metadata["property_2"].tolist() == ["x", "y", "z"]


def test_a_cgcnn_table_with_a_header_all_the_same(tmp_path):
    loaded = load_file(folder(tmp_path, "id,gap\na,1.0\nb,2.0\nc,3.5\n", "id_prop.csv"))
    np.testing.assert_array_equal(loaded.dataset.scalars["gap"], [1.0, 2.0, 3.5])


def test_a_table_that_is_not_read_is_said(tmp_path):
    folder(tmp_path, "a,1\n", "id_prop.csv")
    loaded = load_file(folder(tmp_path, "material_id,gap\na,1\n"))
    assert list(loaded.dataset.scalars) == ["gap"]
    assert any("id_prop.csv is not read" in note for note in loaded.notes)


@pytest.mark.parametrize("name", ["properties.csv", "id_prop.csv"])
@pytest.mark.parametrize(
    "table,message",
    [
        ("material_id,gap,gap\na,1,2\n", "'gap' occurs more than once"),
        ("material_id,gap\na,1\na,2\n", "row 2: material_id: 'a' occurs before"),
        ("material_id,gap\na,1\na.cif,2\n", "row 2: material_id: 'a' occurs before"),
        ("material_id,gap\n,1\n", "row 1: material_id: empty"),
        ("material_id,gap\na,1,2\n", "3 cells under 2 columns"),
    ],
)
def test_tables_that_are_refused(tmp_path, name, table, message):
    if name == "id_prop.csv" and "more than once" not in message:
        table = table.replace("material_id,gap\n", "b,0\n").replace("row 1", "row 2")
        message = message.replace("row 2", "row 3").replace("row 1", "row 2")
    with pytest.raises(DataError, match=message):
        load_file(folder(tmp_path, table, name))


def test_a_row_without_a_file_is_named(tmp_path):
    loaded = load_file(folder(tmp_path, "material_id,gap\na,1\nb,2\nc,3\nd,4\n"))
    (problem,) = loaded.problems
    assert (problem.row, problem.field) == (
        4,
        "material_id",
    ) and "no structure file 'd'" in problem.reason


def test_files_in_capitals_packed_and_beside_each_other(tmp_path):
    import gzip

    folder(tmp_path, "material_id,gap\na,1\nb.CIF,2\nc.cif.gz,3\n", files=("a",))
    (tmp_path / "b.CIF").write_text(CIF)
    (tmp_path / "c.cif.gz").write_bytes(gzip.compress(CIF.encode()))
    loaded = load_file(tmp_path)
    assert loaded.dataset.ids.tolist() == ["a", "b", "c"] and loaded.problems == []
    np.testing.assert_array_equal(loaded.dataset.scalars["gap"], [1, 2, 3])
    (tmp_path / "c.cif").write_text(CIF)
    again = load_file(tmp_path)
    assert len(again.dataset) == 3 and "'c' occurs before, in" in again.problems[0].reason


def test_a_folder_that_sample_py_wrote_holds_its_cifs_within(tmp_path):
    (tmp_path / "cif").mkdir()
    (tmp_path / "cif" / "s0.cif").write_text(CIF)
    assert load_file(tmp_path).dataset.ids.tolist() == ["s0"]
