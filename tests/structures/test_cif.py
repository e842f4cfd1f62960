"""A CIF is read as what it says, or refused; the values are those of the crystals that are written here."""

import gzip

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from vdw_jax.structures.cif import parse_cif
from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.entries import StructureError
from vdw_jax.structures.load import load_structures

HEXAGONAL = (3.16, 3.16, 12.29, 90, 90, 120)
MOS2_SITES = ("Mo1 Mo 0.3333 0.6667 0.25", "S1 S 0.3333 0.6667 0.621")
_P63MMC = (
    "x,y,z -y,x-y,z -x+y,-x,z -x,-y,z+1/2 y,-x+y,z+1/2 x-y,x,z+1/2 y,x,-z x-y,-y,-z -x,-x+y,-z -y,-x,-z+1/2 "
    "-x+y,y,-z+1/2 x,x-y,-z+1/2 -x,-y,-z y,-x+y,-z x-y,x,-z x,y,-z+1/2 -y,x-y,-z+1/2 -x+y,-x,-z+1/2 -y,-x,z "
    "-x+y,y,z x,x-y,z y,x,z+1/2 x-y,-y,z+1/2 -x,-x+y,z+1/2"
)
P63MMC = _P63MMC.split()
CUBIC = (4.157, 4.157, 4.157, 90, 90, 90)
LAB6_SITES = ("La1 La 0 0 0", "B1 B 0.1975 0.5 0.5")


def cif(
    cell, sites, *lines, columns="label type_symbol fract_x fract_y fract_z", operators=(), name="x"
) -> str:
    """One block; `lines` are data names with values."""
    text = [f"data_{name}", *lines]
    keys = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    text += [f"_cell_{key} {value}" for key, value in zip(keys, cell, strict=True)]
    if operators:
        text += [
            "loop_",
            "_symmetry_equiv_pos_as_xyz",
            *(f"'{operator}'" for operator in operators),
        ]
    text += ["loop_", *(f"_atom_site_{column}" for column in columns.split()), *sites]
    return "\n".join(text) + "\n"


def mos2(*lines, sites=MOS2_SITES, operators=P63MMC) -> str:
    return cif(HEXAGONAL, sites, *lines, operators=operators)


def counts(text: str) -> dict[str, int]:
    numbers, fractions, _ = parse_cif(text)
    assert fractions.shape == (len(numbers), 3)
    return {SYMBOLS[z - 1]: int((numbers == z).sum()) for z in np.unique(numbers)}


def refused(text: str) -> str:
    with pytest.raises(StructureError) as caught:
        parse_cif(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FORMULA, Z = "_chemical_formula_sum 'La1 B6'", "_cell_formula_units_Z 1"
PM3M = "_symmetry_space_group_name_H-M 'P m -3 m'"


@pytest.mark.parametrize(
    "lines", [(FORMULA, Z, PM3M), (FORMULA, PM3M), (PM3M,), ("_space_group_IT_number 221",)]
)
def test_symmetry_by_name_or_number_fills_the_cell(lines):
    assert counts(cif(CUBIC, LAB6_SITES, *lines)) == {"B": 6, "La": 1}


@pytest.mark.parametrize(
    "lines,operators,words",
    [
        ((FORMULA, Z, PM3M), ("x,y,z",), ("'x'", "holds B La", "B6 La, Z = 1")),
        ((FORMULA,), ("x,y,z",), ("holds B La", "B6 La")),
        ((FORMULA, Z), (), ("holds B La", "B6 La, Z = 1")),
        ((FORMULA, Z, PM3M.replace("-3", "3-")), (), ("'P m 3- m' is no space group", "B La", "B6 La")),
        ((FORMULA, Z, PM3M), ("x,y,z", "-x,-y,-z", "z, x; y"), ("'z, x; y' is no symmetry operator",)),
        ((FORMULA, Z), ("x,y,z", "z,x,y"), ("form no group",)),
        ((PM3M,), ("x,y,z",), ("'P m -3 m'", "operators are missing")),
        (("_symmetry_Int_Tables_number 221",), ("x,y,z",), ("number 221", "operators are missing")),
        (("_symmetry_Int_Tables_number 3",), ("x,y,z", "-x,-y,-z"), ("space group 2", "says number 3")),
        (("_symmetry_Int_Tables_number 231",), (), ("231 is none of 1..230",)),
        ((PM3M, "_symmetry_Int_Tables_number 225"), (), ("is number 221, not 225",)),
        (("_chemical_formula_sum 'La1 B6'", "_cell_formula_units_Z 2", PM3M), (), ("Z = 2",)),
        (("_chemical_formula_sum 'La1 (BX)6'", PM3M), (), ("is no formula",)),
        ((), ("x,y,z", "x,y,z"), ("occurs twice",)),
        ((), ("x,y,z", "y,-x,z", "-x,-y,z"), ("form no group",)),
        ((), ("x,y,z", "-x,-y,z+0.21"), ("form no group",)),
        ((), ("-x,-y,-z",), ("form no group",)),
        ((), ("x,y",), ("no symmetry operator",)),
        ((), ("x,y,x",), ("no symmetry operator",)),
        ((), ("2x,y,z",), ("no symmetry operator",)),
        ((), ["x,y,z"] * 100_000, ("100000 symmetry operators",)),
    ],
)
def test_lost_or_misspelt_symmetry_is_named(lines, operators, words):
    message = refused(cif(CUBIC, LAB6_SITES, *lines, operators=operators))
    for word in words:
        assert word in message


def test_all_atoms_listed_under_the_symbol_of_their_group_are_a_crystal():
    sites = ["La1 La 0 0 0"] + [f"B{i} B {x}" for i, x in enumerate(
        ("0.1975 0.5 0.5", "0.8025 0.5 0.5", "0.5 0.1975 0.5", "0.5 0.8025 0.5", "0.5 0.5 0.1975", "0.5 0.5 0.8025")
    )]
    assert counts(cif(CUBIC, sites, PM3M, operators=("x,y,z",))) == {"B": 6, "La": 1}
    assert counts(cif(CUBIC, sites, PM3M, FORMULA, Z, operators=("x,y,z",))) == {"B": 6, "La": 1}


@pytest.mark.parametrize(
    "thirds", ["0.3333 0.6667", "0.333 0.667", "0.333 0.666", "0.33333333 0.66666667", "0.33 0.67"]
)
def test_images_of_a_special_position_are_one_atom_which_stands_there_exactly(thirds):
    sites = [site.replace("0.3333 0.6667", thirds) for site in MOS2_SITES]
    assert counts(mos2(sites=sites)) == {"S": 4, "Mo": 2}
    _, fractions, _ = parse_cif(
        mos2("_chemical_formula_sum 'Mo S2'", "_cell_formula_units_Z 2", sites=sites)
    )
    np.testing.assert_allclose(fractions[0], [1 / 3, 2 / 3, 0.25], atol=1e-9)


def test_images_that_are_neither_apart_nor_together_are_refused():
    assert "site Mo1: its images are 0.0" in refused(
        mos2(sites=("Mo1 Mo 0.32000 0.66667 0.25",))
    )


@pytest.mark.parametrize(
    "said,wrong", [("2 4", False), ("12 6", False), ("2 2", True), ("1 1", True), ("? .", False)]
)
def test_multiplicities_are_compared(said, wrong):
    """2 and 4 images of a group of 24: 12 and 6 is the order of their symmetry, as older SHELXL wrote."""
    sites = [f"{site} {number}" for site, number in zip(MOS2_SITES, said.split(), strict=True)]
    columns = "label type_symbol fract_x fract_y fract_z symmetry_multiplicity"
    text = cif(HEXAGONAL, sites, columns=columns, operators=P63MMC)
    if wrong:
        assert "images, but its multiplicity is" in refused(text)
    else:
        assert counts(text) == {"S": 4, "Mo": 2}


RHOMBOHEDRAL = (9.84, 9.84, 9.84, 24.27, 24.27, 24.27)
BI2TE3 = (4.38, 4.38, 30.5, 90, 90, 120)
ON_HEXAGONAL = ("Bi1 Bi 0 0 0.4", "Te1 Te 0 0 0", "Te2 Te 0 0 0.2097")
ON_RHOMBOHEDRAL = ("Bi1 Bi 0.4 0.4 0.4", "Te1 Te 0 0 0", "Te2 Te 0.2097 0.2097 0.2097")


@pytest.mark.parametrize(
    "symbol,cell,sites,atoms",
    [
        ("R -3 m", BI2TE3, ON_HEXAGONAL, 15),
        ("R -3 m :H", BI2TE3, ON_HEXAGONAL, 15),
        ("R-3mH", BI2TE3, ON_HEXAGONAL, 15),
        ("R -3 m", RHOMBOHEDRAL, ON_RHOMBOHEDRAL, 5),
        ("R -3 m:R", RHOMBOHEDRAL, ON_RHOMBOHEDRAL, 5),
        ("R -3 m:R", BI2TE3, ON_HEXAGONAL, "cell has not the symmetry"),
        ("R -3 m:H", RHOMBOHEDRAL, ON_RHOMBOHEDRAL, "cell has not the symmetry"),
    ],
)
def test_rhombohedral_settings(symbol, cell, sites, atoms):
    text = cif(
        cell, sites, f"_symmetry_space_group_name_H-M '{symbol}'", "_chemical_formula_sum 'Bi2 Te3'"
    )
    if isinstance(atoms, str):
        assert atoms in refused(text)
    else:
        assert counts(text) == {"Te": atoms * 3 // 5, "Bi": atoms * 2 // 5}


def test_two_origins_are_told_apart_by_the_content_or_refused():
    silicon = (5.43, 5.43, 5.43, 90, 90, 90)
    name = "_space_group_name_H-M_alt 'F d -3 m'"
    first, second = ("Si1 Si 0 0 0",), ("Si1 Si 0.125 0.125 0.125",)
    diamond = ("_chemical_formula_sum Si", "_cell_formula_units_Z 8")
    assert counts(cif(silicon, first, name, *diamond)) == {"Si": 8}
    assert counts(cif(silicon, second, name, *diamond)) == {"Si": 8}
    assert "the setting is not told" in refused(cif(silicon, first, name))
    assert counts(cif(silicon, first, name.replace("m'", "m:1'"))) == {"Si": 8}
    assert counts(cif(silicon, first, name.replace("m'", "m Z'"))) == {"Si": 16}


COLUMNS = "label type_symbol fract_x fract_y fract_z "


@pytest.mark.parametrize(
    "column,good,bad",
    [
        ("occupancy", (".", "?", "1", "1.0(2)"), ("0.5", "0", "x", "1.1")),
        ("attached_hydrogens", (".", "?", "0"), ("1", "2")),
        ("disorder_group", (".", "?", "0"), ("1", "A")),
        ("calc_flag", (".", "d", "calc"), ("dum",)),
        ("B_iso_or_equiv", (".", "?", "0.5(1)"), ()),
    ],
)
def test_values_of_a_site(column, good, bad):
    def text(value):
        return cif(
            CUBIC,
            [f"Ga1 Ga 0 0 0 {value}", f"Se1 Se 0.5 0.5 0.5 {good[0]}"],
            columns=COLUMNS + column,
        )

    for value in good:
        assert counts(text(value)) == {"Ga": 1, "Se": 1}
    for value in bad:
        assert "site Ga1" in refused(text(value)) and "block 'x'" in refused(text(value))


@pytest.mark.parametrize(
    "value,right",
    [("4.157(2)", True), ("4.157e0", True), ("?", False), (".", False), ("4,1", False)],
)
def test_values_of_the_cell(value, right):
    text = cif((value, *CUBIC[1:]), LAB6_SITES)
    if right:
        np.testing.assert_allclose(parse_cif(text)[2][0], [4.157, 0, 0], atol=1e-9)
    else:
        assert "_cell_length_a" in refused(text)


@pytest.mark.parametrize("fraction", ["?", ".", "nan", "inf", "1/3", "0..1"])
def test_a_site_without_a_place_is_refused(fraction):
    assert "_atom_site_fract_x of site Ga1" in refused(
        cif(CUBIC, [f"Ga1 Ga {fraction} 0 0", "Se1 Se .5 .5 .5"])
    )


@pytest.mark.parametrize(
    "symbol", ["OH", "Va", "Du", "Cg", "X", "M", "Wat", "H2O", "Cn", "ga", "GA", "Qq", "CO3", "Lr"]
)
def test_what_is_no_element_is_never_read_as_one(symbol):
    message = refused(cif(CUBIC, [f"A1 {symbol} 0 0 0", "Se1 Se 0.5 0.5 0.5"]))
    assert "site A1" in message and repr(symbol) in message
    labels = "label fract_x fract_y fract_z"
    label = symbol if symbol[-1].isdigit() else symbol + "1"
    assert label in refused(cif(CUBIC, [f"{label} 0 0 0", "Se1 0.5 0.5 0.5"], columns=labels))


@pytest.mark.parametrize(
    "symbol,element",
    [("Ga", "Ga"), ("Ga3+", "Ga"), ("Ga+3", "Ga"), ("O2-", "O"), ("Fe2.5+", "Fe"), ("D", "H"), ("T", "H")],
)
def test_symbols_of_elements(symbol, element):
    assert counts(cif(CUBIC, [f"{symbol}_1 {symbol} 0 0 0"])) == {element: 1}
    for label in (symbol[0] + "1A", symbol[0] + "(2)", symbol[0] + "1'"):
        if symbol in ("O2-", "D", "T"):
            assert counts(
                cif(CUBIC, [f"{label} 0 0 0"], columns="label fract_x fract_y fract_z")
            ) == {element: 1}


def test_a_label_of_another_element_is_a_conflict_unless_the_formula_decides():
    assert "type In, but its label says Ga" in refused(cif(CUBIC, ["Ga1 In 0 0 0"]))
    assert counts(cif(CUBIC, ["Ga1 In 0 0 0"], "_chemical_formula_sum In")) == {"In": 1}
    assert "holds In, but the formula says Ga" in refused(
        cif(CUBIC, ["Ga1 In 0 0 0"], "_chemical_formula_sum Ga")
    )
    assert counts(cif(CUBIC, ["Cd1 C 0 0 0"])) == {"C": 1}  # a fourth carbon


def test_deuterium_is_hydrogen_in_sites_and_formula():
    sites = ["C1 C 0 0 0", "D1 D 0 0 0.3"]
    for formula in ("C D", "C1 H1", "C0.5 D0.5"):
        assert counts(cif(CUBIC, sites, f"_chemical_formula_sum '{formula}'")) == {"H": 1, "C": 1}


def test_missing_hydrogens_are_named():
    sites = ["Mg1 Mg 0 0 0", "O1 O 0.333333 0.666667 0.22", "O2 O 0.666667 0.333333 0.78"]
    message = refused(
        cif(HEXAGONAL, sites, "_chemical_formula_sum 'H2 Mg O2'", operators=("x,y,z",))
    )
    assert "holds Mg O2, but the formula says H2 Mg O2" in message


def test_names_in_any_case_and_with_dots():
    text = mos2("_chemical_formula_sum 'Mo S2'", "_cell_formula_units_Z 2")
    names = [word for word in text.split() if word.startswith("_")]
    capitals, dotted = text.replace("data_", "DATA_").replace("loop_", "LOOP_"), text
    for name in names:
        capitals = capitals.replace(name, name.upper())
    for first in ("_cell", "_atom_site"):
        dotted = dotted.replace(first + "_", first + ".")
    assert counts(capitals) == counts(dotted) == counts(text) == {"S": 4, "Mo": 2}


@pytest.mark.parametrize(
    "line,name",
    [
        ("_cell_length_a 3.2", "_cell_length_a"),
        ("_CELL.LENGTH_A 3.2", "_cell_length_a"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z", "_symmetry_equiv_pos_as_xyz"),
    ],
)
def test_a_name_that_occurs_twice_is_refused(line, name):
    assert f"the data name {name} occurs twice" in refused(mos2(line))


def test_a_column_that_occurs_twice_is_refused():
    text = cif(CUBIC, ["Ga1 Ga 0 0 0 0.1"], columns=COLUMNS + "fract_x")
    assert "the data name _atom_site_fract_x occurs twice" in refused(text)


def test_blocks_without_sites_are_passed_over_and_several_structures_refused():
    one = mos2()
    assert counts("data_global\n_journal_year 1998\n" + one) == {"S": 4, "Mo": 2}
    assert "2 structures in one CIF: blocks x, y" in refused(one + one.replace("data_x", "data_y"))


@pytest.mark.parametrize(
    "text,reason",
    [
        ("", "no block has atom sites"),
        ("hello", "line 1"),
        ("data_x\nloop_\n_a\n_b\n1 2 3\n", "line 2"),
        ("data_x\n_a 'b\n", "line 2"),
        (mos2("_cell_modulation_dimension 1"), "modulated"),
        (mos2("loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1"), "magnetic"),
    ],
)
def test_what_is_not_read_is_said(text, reason):
    assert reason in refused(text)


def test_what_pymatgen_writes_is_read_with_and_without_symmetry():
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    for symprec in (None, 0.01):
        assert counts(str(CifWriter(salt, symprec=symprec))) == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize("name", ["a.cif", "a.CIF", "a.cif.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_bytes_of_every_kind(tmp_path, name, encoding):
    content = ("# Å = Angstrom, é\r\n" + mos2().replace("\n", "\r\n")).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    for path in (tmp_path / name, tmp_path):
        data, problems = load_structures(path, use_cache=False)
        assert problems == [] and data.ids.tolist() == ["a"] and data.num_atoms.tolist() == [6]


def test_huge_loops_are_refused_within_memory(tmp_path):
    sites = ["H1 H 0 0 0"] * 200_000
    assert "200000 atom sites; at most" in refused(cif(CUBIC, sites))
    (tmp_path / "a.cif").write_bytes(b"#" * 20_000_001)
    _, problems = load_structures(tmp_path / "a.cif", on_error="skip", use_cache=False)
    assert "longer than 20,000,000 characters" in problems[0].reason
