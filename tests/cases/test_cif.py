"""Cases about CIF, POSCAR and cells."""

import numpy as np
import pytest

from vdw_jax.structures import check
from vdw_jax.structures.load import load_structures


def read(path):
    data, problems = load_structures(path, on_error="skip", use_cache=False)
    assert problems == []
    return data


@pytest.mark.parametrize("name", ["identity_only", "hm_misspelt", "operator_misspelt"])
def test_case_01_content_against_formula(case, run, name):
    answer = run(check.main, case("01") / f"{name}.cif")
    assert answer.code == 2
    assert f"{name}.cif" in answer.out and "'LaB6'" in answer.out
    assert "B La" in answer.out and "B6 La, Z = 1" in answer.out


@pytest.mark.parametrize(
    "name", ["occupancy_dot", "occupancy_question", "occupancy_all_question", "b_iso_question"]
)
def test_case_04_occupancy_unknown(case, name):
    assert read(case("04") / f"{name}.cif").num_atoms.tolist() == [8]


def test_case_08_slabs_across_the_edge(case):
    height = read(case("08") / "slabs.extxyz").slab_height.reshape(-1, 2)
    np.testing.assert_allclose(height[:, 1], height[:, 0], atol=1e-3)
    assert height.min() > 12 and height.max() < 13.5


def test_case_12_folders(case):
    assert len(read(case("12") / "generated")) == 4
    assert len(read(case("12") / "only_capital")) == 2


def test_case_15_packed_cif(case):
    assert len(read(case("15") / "one.cif.gz")) == 1


def test_case_23_deuterium(case):
    assert read(case("23") / "deuterated.cif").atomic_numbers.tolist() == [[6, 6, 1, 1]]


@pytest.mark.parametrize("name", ["four_digits", "three_digits", "three_digits_cut"])
def test_case_24_three_digits(case, name):
    assert read(case("24") / f"{name}.cif").num_atoms.tolist() == [6]


def test_case_25_skewed_cells(case):
    plain, skewed = (read(case("25") / f"{name}.extxyz") for name in ("plain", "skewed"))
    assert len(plain) == len(skewed) == 12
    np.testing.assert_allclose(skewed.cell, plain.cell, atol=1e-3)
    np.testing.assert_array_equal(skewed.atomic_numbers, plain.atomic_numbers)


def test_case_27_poscar(case):
    assert read(case("27") / "POSCAR").num_atoms.tolist() == [8]
    data = read(case("27") / "relaxed")
    assert data.num_atoms.tolist() == [8] * 5
    np.testing.assert_allclose(data.slab_height, data.slab_height[0], atol=1e-3)
    np.testing.assert_allclose(data.cell, data.cell[:1].repeat(5, 0), atol=1e-3)


@pytest.mark.parametrize("name", ["capitals", "dotted"])
def test_case_30_names(case, name):
    assert read(case("30") / f"{name}.cif").num_atoms.tolist() == [8]


@pytest.mark.parametrize("name", ["c_600", "c_600_ttf"])
def test_case_32_long_c(case, name):
    data = read(case("32") / f"{name}.extxyz")
    assert len(data) == 4 and data.slab_height.max() < 14


@pytest.mark.parametrize(
    "name,words",
    [
        ("symbol_oh", ("'x'", "OH1", "'OH'")),
        ("attached_hydrogens", ("'x'", "O1", "H")),
        ("hydrogens_left_out", ("'x'", "Mg O2", "H2 Mg O2")),
    ],
)
def test_case_35_hydroxyl(case, run, name, words):
    answer = run(check.main, case("35") / f"{name}.cif")
    assert answer.code == 2
    for word in words:
        assert word in answer.out


def test_case_35_all_hydrogens(case):
    assert read(case("35") / "full.cif").num_atoms.tolist() == [5]
