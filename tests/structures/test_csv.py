import gzip

import numpy as np
import pytest

from vdw_jax.structures import csv_reader
from vdw_jax.structures.cif import cell_from_parameters, parse_cif
from vdw_jax.structures.csv_reader import read_csv
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.source import load_source
from vdw_jax.types import BULK

CIF = """# generated using pymatgen
data_GaSe
_symmetry_space_group_name_H-M   'P 1'
_cell_length_a   {a}
_cell_length_b   4.00000000
_cell_length_c   5.00000000
_cell_angle_alpha   80.00000000
_cell_angle_beta   95.00000000
_cell_angle_gamma   110.00000000
_symmetry_Int_Tables_number   1
_chemical_formula_sum   'Ga1 Se1'
loop_
 _symmetry_equiv_pos_site_id
 _symmetry_equiv_pos_as_xyz
  1  'x, y, z'
loop_
 _atom_site_type_symbol
 _atom_site_label
 _atom_site_symmetry_multiplicity
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 _atom_site_occupancy
  {first}  Ga0  1  0.10000000  -0.20000000  1.30000000  {occupancy}
  Se  Se1  1  {x}  0.50000000  0.50000000  1
"""


def cif(a="3.00000000", first="Ga", occupancy="1", x="0.50000000") -> str:
    return CIF.format(a=a, first=first, occupancy=occupancy, x=x)


def write(path, rows, header="material_id,energy,note,cif"):
    text = header + "\n" + "".join(f'{name},{energy},{note},"{body}"\n' for name, energy, note, body in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_good_rows(tmp_path, name):
    path = write(tmp_path / name, [("m1", "1.5", "x", cif()), ("m2", "", "y", cif(a="3.10000000"))])
    data, problems = read_csv(path, cache_dir=tmp_path / "cache")
    assert problems == [] and data.ids.tolist() == ["m1", "m2"] and data.periodicity == BULK
    np.testing.assert_array_equal(data.scalars["energy"], np.array([1.5, np.nan], np.float32))
    assert data.metadata["note"].tolist() == ["x", "y"]
    fractions = data.positions[0] @ np.linalg.inv(data.cell[0])
    np.testing.assert_allclose(fractions, [[0.1, 0.8, 0.3], [0.5, 0.5, 0.5]], atol=1e-6)


def test_cell_and_atoms_are_pymatgens():
    cif_room = pytest.importorskip("pymatgen.io.cif")
    reference = cif_room.CifParser.from_str(cif()).parse_structures(primitive=False)[0]
    numbers, fractions, cell = parse_cif(cif())
    np.testing.assert_allclose(cell, reference.lattice.matrix, atol=1e-6)
    assert numbers.tolist() == [site.specie.Z for site in reference]
    np.testing.assert_allclose(fractions, reference.frac_coords % 1, atol=1e-6)


def test_a_cif_with_symmetry_goes_to_pymatgen():
    pytest.importorskip("pymatgen")
    text = cif(a="4.00000000").replace("  1  'x, y, z'\n", "  1  'x, y, z'\n  2  '-x, -y, -z'\n")
    numbers, _, _ = parse_cif(text)
    assert sorted(numbers.tolist()) == [31, 31, 34]


@pytest.mark.parametrize(
    "row,field,reason",
    [
        (("m2", "abc", "x", cif()), "energy", "'abc' is not a number"),
        (("m2", "InF", "x", cif()), "energy", "not a number"),
        (("m2", "1e99", "x", cif()), "energy", "not a number"),
        (("m2", "1", "x", "no cif at all"), "cif", "not a readable CIF"),
        (("m2", "1", "x", cif(occupancy="0.5")), "cif", "partly occupied"),
        (("m2", "1", "x", cif(first="Qq")), "cif", "unknown element 'Qq'"),
        (("m2", "1", "x", cif(a="-1.0")), "cif", "no cell"),
        (("m2", "1", "x", cif().replace("110.0", "179.0")), "cif", "no cell"),
        (("m1", "1", "x", cif()), "material_id", "'m1' occurs before"),
        (("", "1", "x", cif()), "material_id", "empty"),
        (("m2", "1", "x,y", cif()), "row", "5 cells under 4 columns"),
        (("m2", "1", "x", cif(x="0.1").replace("0.1  0.50000000  0.5", "0.1 0.8 0.3")), "cif", "one place"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(tmp_path, row, field, reason):
    good = ("m1", "1.0", "x", cif())
    path = write(tmp_path / "bad.csv", [good, row, ("m3", "2.0", "x", cif()), ("m4", "2.0", "x", cif())])
    with pytest.raises(DataError, match=rf"bad\.csv: row 2: {field}: "):
        read_csv(path, cache_dir=tmp_path / "cache")
    for _ in range(2):  # parsed, then cached
        data, problems = read_csv(path, on_error="skip", cache_dir=tmp_path / "cache")
        assert data.ids.tolist() == ["m1", "m3", "m4"]
        assert [(p.row, p.field) for p in problems] == [(2, field)]
        assert reason in problems[0].reason and "bad.csv" in str(problems[0])
    with pytest.raises(DataError, match="row 2"):  # the cache does not hide problems
        read_csv(path, cache_dir=tmp_path / "cache")


def test_too_many_atoms_is_a_problem(tmp_path):
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif())])
    data, problems = read_csv(path, max_atoms=1, on_error="skip", cache_dir=tmp_path)
    assert len(data) == 0 and "2 atoms; at most 1" in problems[0].reason


def test_the_cache_is_used_and_follows_content_and_arguments(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif())])
    first, _ = read_csv(path, cache_dir=tmp_path / "cache")
    calls = []
    parse = csv_reader._parse
    monkeypatch.setattr(csv_reader, "_parse", lambda *a: calls.append(1) or parse(*a))
    assert read_csv(path, cache_dir=tmp_path / "cache")[0].content_hash() == first.content_hash()
    assert not calls
    read_csv(path, max_atoms=5, cache_dir=tmp_path / "cache")
    assert len(calls) == 1
    write(path, [("m1", "2", "x", cif())])
    assert read_csv(path, cache_dir=tmp_path / "cache")[0].scalars["energy"][0] == 2
    assert len(calls) == 2
    for stored in (tmp_path / "cache").glob("*.npz"):
        stored.write_bytes(b"torn")
    assert len(read_csv(path, cache_dir=tmp_path / "cache")[0]) == 1


@pytest.mark.parametrize(
    "content,message",
    [
        (b"", "empty"),
        (b"material_id,x\nm1,2\n", "no column 'cif'"),
        (b"cif,x\n1,2\n", "no column 'material_id'"),
        (b"a,a,cif\n", "'a' occurs more than once"),
        (b"\x1f\x8bnot gzip", "not a CSV file"),
        (gzip.compress(b"material_id,cif\n" * 999, mtime=0)[:-12], "not a CSV file"),
        (b"\xff\xfe\x00", "not a CSV file"),
    ],
    ids=["empty", "no cif", "no id", "twice", "no gzip", "torn gzip", "no text"],
)
def test_unusable_files(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.csv.*{message}"):
        read_csv(path, cache_dir=tmp_path)


def test_missing_file_and_property(tmp_path):
    with pytest.raises(DataError, match="none.csv: cannot be read"):
        read_csv(tmp_path / "none.csv")
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif())])
    with pytest.raises(DataError, match="no column 'gap' among material_id, energy"):
        read_csv(path, properties=["gap"], cache_dir=tmp_path)


def test_cell_from_parameters_keeps_lengths_and_angles():
    cell = cell_from_parameters([3.0, 4.0, 5.0], [80.0, 95.0, 110.0])
    lengths = np.linalg.norm(cell, axis=1)
    np.testing.assert_allclose(lengths, [3, 4, 5])
    cosines = [cell[i] @ cell[j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), [80, 95, 110])


@pytest.mark.parametrize(
    "name,rows,scalars",
    [
        (
            "mp20_biternary_val.csv.gz",
            7140,
            ["formation_energy_per_atom", "band_gap", "e_above_hull", "spacegroup.number"],
        ),
        ("perov5_val.csv.gz", 3787, ["heat_all", "heat_ref", "dir_gap"]),
    ],
)
def test_real_files_load_whole(tmp_path, shared_csv, name, rows, scalars):
    path = shared_csv(name)
    data, problems = read_csv(path, cache_dir=tmp_path)
    assert (len(data), len(problems)) == (rows, 0)
    assert list(data.scalars) == scalars
    assert all(np.isfinite(values).all() for values in data.scalars.values())
    assert (
        load_source("csv", path=path, properties=scalars[:1], cache_dir=tmp_path).ids.tolist()
        == data.ids.tolist()
    )


def test_real_rows_are_pymatgens(tmp_path, shared_csv):
    import csv
    import warnings

    cif_room = pytest.importorskip("pymatgen.io.cif")
    path = shared_csv("mp20_biternary_val.csv.gz")
    data, _ = read_csv(path, cache_dir=tmp_path)
    with gzip.open(path, "rt", newline="") as file:
        table = list(csv.DictReader(file))
    for row in range(0, len(table), 400):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = cif_room.CifParser.from_str(table[row]["cif"]).parse_structures(primitive=False)[0]
        mine = data.to_pymatgen(row)
        np.testing.assert_allclose(mine.lattice.matrix, reference.lattice.matrix, atol=1e-4)
        assert [s.specie.Z for s in mine] == [s.specie.Z for s in reference]
        apart = mine.frac_coords - reference.frac_coords
        np.testing.assert_allclose(apart - np.round(apart), 0, atol=2e-4)
