"""POSCAR and CONTCAR: the same eight atoms in every form that VASP reads."""

import numpy as np
import pytest

from vdw_jax.structures.entries import StructureError
from vdw_jax.structures.load import load_structures
from vdw_jax.structures.poscar import parse_poscar

CELL = np.array([[3.7, 0, 0], [-1.85, 3.2043, 0], [0.2, 0.3, 9.0]])
FRACTIONS = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.95]])
NUMBERS = [31, 31, 34]


def rows(values, behind="") -> str:
    return "".join(" ".join(f"{x:.10f}" for x in row) + behind + "\n" for row in np.asarray(values))


def poscar(
    scale="1.0",
    cell=CELL,
    elements="Ga Se\n",
    counts="2 1",
    mode="Direct",
    atoms=FRACTIONS,
    title="made",
) -> str:
    return f"{title}\n{scale}\n{rows(cell)}{elements}{counts}\n{mode}\n{rows(atoms)}"


def check(text: str) -> None:
    numbers, positions, cell = parse_poscar(text)
    assert numbers.tolist() == NUMBERS
    np.testing.assert_allclose(cell, CELL, atol=1e-7)
    np.testing.assert_allclose(positions, FRACTIONS @ CELL, atol=1e-7)


VOLUME = abs(np.linalg.det(CELL))


@pytest.mark.parametrize(
    "text",
    [
        poscar(),
        poscar(mode="cartesian", atoms=FRACTIONS @ CELL),
        poscar(mode="Selective dynamics\nDirect").replace("00\nS", "00\nS"),
        poscar(mode="Selective dynamics\nKartesisch", atoms=FRACTIONS @ CELL),
        poscar(scale="3.7", cell=CELL / 3.7),
        poscar(scale="3.7", cell=CELL / 3.7, mode="C", atoms=FRACTIONS @ CELL / 3.7),
        poscar(scale=f"{-VOLUME:.12f}", cell=CELL / 3),
        poscar(scale=f"{-VOLUME:.12f}", cell=CELL / 3, mode="C", atoms=FRACTIONS @ CELL / 3),
        poscar(scale="2.0 3.0 4.0", cell=CELL / [2, 3, 4]),
        poscar(
            scale="2.0 3.0 4.0", cell=CELL / [2, 3, 4], mode="C", atoms=FRACTIONS @ CELL / [2, 3, 4]
        ),
        poscar(elements="", title="Ga Se"),
        poscar(elements="Ga_d Se/1a2b\n"),
        poscar() + "\n" + rows(np.zeros((3, 3))),
        poscar() + "\nLattice velocities and vectors\n1\n",
        poscar(elements="Ga Se ! what it is\n"),
        poscar(elements="Ga Ga Se\n", counts="1 1 1"),
    ],
)
def test_every_form_is_the_same_crystal(text):
    check(text)


def test_flags_of_selective_dynamics_are_passed_over():
    check(
        poscar(mode="Selective dynamics\nDirect").rstrip("\n").replace("\n0.", " F F T\n0.")
        + " T T T\n"
    )


@pytest.mark.parametrize(
    "text,words",
    [
        (
            poscar(elements=""),
            "the first line has 1 names for 2 numbers of atoms; there is no line of elements",
        ),
        (poscar(elements="", title="GaSe by hand"), "3 names for 2"),
        (poscar(elements="", title="two Se"), "unknown element 'two'"),
        (poscar(elements="OH Se\n"), "line 6: unknown element 'OH'"),
        (poscar(elements="Ga\n"), "line 6 has 1 names for 2"),
        (poscar(counts="2 2"), "line 12 is empty or missing"),
        (poscar(counts="1 1"), "line 11: a position more than the 2 atoms"),
        (poscar(counts="2 x"), "no numbers of atoms"),
        (poscar(counts="2 -1"), "no numbers of atoms"),
        (poscar(counts="2 99999999"), "line 7: 100000001 atoms; at most 20000"),
        (poscar(mode="fractional"), "neither Direct nor Cartesian"),
        (poscar(scale="0"), "line 2"),
        (poscar(scale="1 2"), "line 2: 2 scale factors"),
        (poscar(scale="1 -2 1"), "have to be positive"),
        (poscar(scale="one"), "line 2: 'one' is no number"),
        (poscar(scale="-100", cell=np.zeros((3, 3))), "span no cell"),
        (
            poscar().replace("0.4000000000 0.5000000000", "0.4000000000"),
            "line 10: 2 numbers; 3 are needed",
        ),
        (poscar().replace("0.4000000000", "nan"), "line 10: 'nan' is no number"),
        ("", "line 2 is empty"),
    ],
)
def test_what_is_wrong_is_named(text, words):
    with pytest.raises(StructureError, match="line") as caught:
        parse_poscar(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "name", ["POSCAR", "CONTCAR.relaxed", "POSCAR_1", "a.vasp", "a.poscar", "a.VASP"]
)
def test_files_by_name(tmp_path, name):
    (tmp_path / name).write_text(poscar())
    for path in (tmp_path / name, tmp_path):
        data, problems = load_structures(path, use_cache=False)
        assert problems == [] and data.num_atoms.tolist() == [3]
        assert data.ids.tolist() == [name if "." not in name or name.startswith("C") else "a"]


def test_no_atoms_are_named(tmp_path):
    (tmp_path / "a.vasp").write_text(poscar(counts="0 0", atoms=[]))
    _, problems = load_structures(tmp_path / "a.vasp", on_error="skip", use_cache=False)
    assert [problem.reason for problem in problems] == ["no atoms"]


def test_a_folder_with_a_table_of_properties(tmp_path):
    for name in ("m1.vasp", "m2.vasp", "POSCAR"):
        (tmp_path / name).write_text(poscar())
    (tmp_path / "bad.vasp").write_text(poscar(counts="2 2"))
    (tmp_path / "properties.csv").write_text(
        "material_id,gap\nm1,1.5\nm2.vasp,2.5\nPOSCAR,3.5\nm9,1\n"
    )
    data, problems = load_structures(tmp_path, on_error="skip", use_cache=False)
    assert dict(zip(data.ids.tolist(), data.scalars["gap"].tolist(), strict=True)) == {
        "m1": 1.5,
        "m2": 2.5,
        "POSCAR": 3.5,
    }
    found = [(problem.file, problem.field) for problem in problems]
    assert found == [
        (str(tmp_path / "bad.vasp"), "poscar"),
        (str(tmp_path / "properties.csv"), "material_id"),
    ]
