import csv
import gzip
import warnings

import numpy as np
import pytest
from pymatgen.io.cif import CifParser

from vdw_jax.structures import load
from vdw_jax.structures.cif import cell_from_parameters, parse_cif
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.load import load_structures
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
    data, problems = load_structures(path, cache_dir=tmp_path / "cache")
    assert problems == [] and data.ids.tolist() == ["m1", "m2"] and data.periodicity == BULK
    np.testing.assert_array_equal(data.scalars["energy"], [1.5, np.nan])
    assert data.metadata["note"].tolist() == ["x", "y"]
    fractions = data.positions[0] @ np.linalg.inv(data.cell[0])
    np.testing.assert_allclose(fractions, [[0.1, 0.8, 0.3], [0.5, 0.5, 0.5]], atol=1e-6)


def test_cell_and_atoms_are_pymatgens():
    reference = CifParser.from_str(cif()).parse_structures(primitive=False)[0]
    numbers, fractions, cell = parse_cif(cif())
    np.testing.assert_allclose(cell, reference.lattice.matrix, atol=1e-6)
    assert numbers.tolist() == [site.specie.Z for site in reference]
    apart = fractions - reference.frac_coords
    np.testing.assert_allclose(apart, np.round(apart), atol=1e-6)


def test_a_cif_with_symmetry():
    text = cif(a="4.00000000").replace("  1  'x, y, z'\n", "  1  'x, y, z'\n  2  '-x, -y, -z'\n")
    text = text.replace("'P 1'", "'P -1'").replace("Tables_number   1", "Tables_number   2")
    text = text.replace("'Ga1 Se1'", "'Ga2 Se1'").replace("Ga0  1", "Ga0  2")
    numbers, _, _ = parse_cif(text)
    assert sorted(numbers.tolist()) == [31, 31, 34]


@pytest.mark.parametrize(
    "row,field,reason",
    [
        (("m2", "abc", "x", cif()), "energy", "'abc' is not a number"),
        (("m2", "InF", "x", cif()), "energy", "not a number"),
        (("m2", "1e99", "x", cif()), "energy", "not a number"),
        (("m2", "1", "x", "no cif at all"), "cif", "not a readable CIF"),
        (("m2", "1", "x", cif(occupancy="0.5")), "cif", "site Ga0 is partly occupied (0.5)"),
        (("m2", "1", "x", cif(first="Qq")), "cif", "unknown element 'Qq'"),
        (("m2", "1", "x", cif(a="-1.0")), "cif", "no cell"),
        (("m2", "1", "x", cif().replace("110.0", "179.0")), "cif", "no cell"),
        (("m2", "1", "x", cif(a="1e30")), "cif", "span no cell"),
        (("m2", "1", "x", cif(a="600.0")), "cif", "Angstrom; the limit is 500"),
        (("m2", "1", "x", cif(a="0.03")), "cif", "lattice planes 0.0"),
        (("m2", "1", "x", cif(x="5e9")), "cif", "periods away"),
        (("m2", "1", "x", cif(x="nan")), "cif", "no number"),
        (("m1", "1", "x", cif()), "material_id", "'m1' occurs before, in row 1"),
        (("", "1", "x", cif()), "material_id", "empty"),
        (("m2", "1", "x,y", cif()), "row", "5 cells under 4 columns"),
        (("m2", "1", "x", cif(x="0.1").replace("0.1  0.50000000  0.5", "0.1 0.8 0.3")), "cif", "one place"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(tmp_path, row, field, reason):
    good = ("m1", "1.0", "x", cif())
    path = write(tmp_path / "bad.csv", [good, row, ("m3", "2.0", "x", cif()), ("m4", "2.0", "x", cif())])
    with pytest.raises(DataError, match=rf"bad\.csv: row 2: {field}: "):
        load_structures(path, cache_dir=tmp_path / "cache")
    for _ in range(2):  # parsed, then cached
        data, problems = load_structures(path, on_error="skip", cache_dir=tmp_path / "cache")
        assert data.ids.tolist() == ["m1", "m3", "m4"]
        assert [(p.row, p.field) for p in problems] == [(2, field)]
        assert reason in problems[0].reason and "bad.csv" in str(problems[0])
    with pytest.raises(DataError, match="row 2"):  # the cache does not hide problems
        load_structures(path, cache_dir=tmp_path / "cache")


def test_too_many_atoms_is_a_problem(tmp_path):
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif())])
    data, problems = load_structures(path, max_atoms=1, on_error="skip", cache_dir=tmp_path)
    assert len(data) == 0 and "2 atoms; at most 1" in problems[0].reason


def test_the_cache_is_used_and_follows_content_and_arguments(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif())])
    first, _ = load_structures(path, cache_dir=tmp_path / "cache")
    calls = []
    read = load.load_file
    monkeypatch.setattr(load, "load_file", lambda *a, **named: calls.append(1) or read(*a, **named))
    assert load_structures(path, cache_dir=tmp_path / "cache")[0].content_hash() == first.content_hash()
    assert not calls
    load_structures(path, max_atoms=5, cache_dir=tmp_path / "cache")
    assert len(calls) == 1
    write(path, [("m1", "2", "x", cif())])
    assert load_structures(path, cache_dir=tmp_path / "cache")[0].scalars["energy"][0] == 2
    assert len(calls) == 2
    for stored in (tmp_path / "cache").glob("*.npz"):
        stored.write_bytes(b"torn")
    assert len(load_structures(path, cache_dir=tmp_path / "cache")[0]) == 1


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_a_damaged_cache_is_read_again(tmp_path, suffix):
    path = write(tmp_path / "a.csv", [("m1", "1.5", "x", cif()), ("m2", "abc", "y", cif()), ("m3", "2", "y", cif())])
    first, problems = load_structures(path, on_error="skip", cache_dir=tmp_path / "cache")
    (stored,) = (tmp_path / "cache").glob(f"*.{suffix}")
    content = stored.read_bytes()
    for place in range(0, len(content), max(len(content) // 40, 1)):
        damaged = bytearray(content)
        damaged[place] ^= 0x01
        stored.write_bytes(bytes(damaged))
        again, named = load_structures(path, on_error="skip", cache_dir=tmp_path / "cache")
        assert (again.content_hash(), named) == (first.content_hash(), problems)
        stored.write_bytes(content)


def test_energies_of_all_electron_programs_keep_their_differences(tmp_path):
    energies = [f"{-123456.789 + 0.0007 * row:.4f}" for row in range(4)]
    rows = [(f"m{row}", energy, "x", cif()) for row, energy in enumerate(energies)]
    path = write(tmp_path / "a.csv", rows)
    for _ in range(2):  # read, then cached
        data, _ = load_structures(path, cache_dir=tmp_path / "cache")
        assert data.scalars["energy"].dtype == np.float64
        assert [f"{value:.4f}" for value in data.scalars["energy"]] == energies
    data.save(tmp_path / "saved.npz")
    again = load_source("file", path=tmp_path / "saved.npz", properties=["energy"])
    np.testing.assert_array_equal(again.scalars["energy"], data.scalars["energy"])


@pytest.mark.parametrize(
    "content,message",
    [
        (b"", "empty"),
        (b"material_id,x\nm1,2\n", "no column 'cif'"),
        (b"cif,x\n1,2\n", "no column 'material_id'"),
        (b"a,a,cif\n", "'a' occurs more than once"),
        (b"\x1f\x8bnot gzip", "cannot be unpacked"),
        (gzip.compress(b"material_id,cif\n" * 999, mtime=0)[:-12], "cannot be unpacked"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"\x80\x81,cif\n1,2\n", r"no column 'material_id' among '\\x80\\x81', cif"),
        (b"\x00\x01,cif\n1,2\n", "no text"),
    ],
    ids=["empty", "no cif", "no id", "twice", "no gzip", "torn gzip", "wide text", "other text", "no text"],
)
def test_unusable_files(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.csv.*{message}"):
        load_structures(path, cache_dir=tmp_path)


def test_missing_file_and_property(tmp_path):
    with pytest.raises(DataError, match="none.csv: cannot be read"):
        load_structures(tmp_path / "none.csv")
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif())])
    with pytest.raises(DataError, match="no property 'gap'; there are energy, note"):
        load_structures(path, properties=["gap"], cache_dir=tmp_path)


def test_cell_from_parameters_keeps_lengths_and_angles():
    cell = cell_from_parameters([3.0, 4.0, 5.0], [80.0, 95.0, 110.0])
    lengths = np.linalg.norm(cell, axis=1)
    np.testing.assert_allclose(lengths, [3, 4, 5])
    cosines = [cell[i] @ cell[j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), [80, 95, 110])


@pytest.mark.parametrize("ending", [b"", b"\n", b'm3,1,x,"data_'], ids=["cut in a CIF", "cut at its end", "cut later"])
def test_a_table_that_breaks_off_keeps_what_is_before(tmp_path, ending):
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif()), ("m2", "1", "x", cif())])
    content = path.read_bytes()
    path.write_bytes(content[:-300] if not ending else content + ending)
    data, problems = load_structures(path, on_error="skip", use_cache=False)
    if ending == b"\n":
        assert (len(data), problems) == (2, [])
    else:
        row = 3 if ending else 2
        assert data.ids.tolist() == ["m1", "m2"][: row - 1]
        assert [(p.row, p.field) for p in problems] == [(row, "row")] and "breaks off" in problems[0].reason


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-16", "utf-16-le"])
def test_text_in_other_encodings(tmp_path, encoding):
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif()), ("m2", "1", "Graphit über GaSe", cif())])
    path.write_bytes(path.read_bytes().decode().encode(encoding))
    data, problems = load_structures(path, on_error="skip", use_cache=False)
    assert (data.metadata["note"].tolist(), problems) == (["x", "Graphit über GaSe"], [])


def test_a_row_with_bytes_that_are_no_text_costs_itself_only(tmp_path):
    path = write(tmp_path / "a.csv", [("m1", "1", "x", cif()), ("m2", "1", "y\0", cif()), ("m3", "1", "z", cif())])
    data, problems = load_structures(path, on_error="skip", use_cache=False)
    assert data.ids.tolist() == ["m1", "m3"] and [(p.row, p.field) for p in problems] == [(2, "note")]


def test_every_problem_of_a_row_is_named(tmp_path):
    rows = [("m1", "1", "x", cif()), ("m1", "abc", "x", cif()), ("m3", "2", "x", cif()), ("m4", "2", "x", cif())]
    _, problems = load_structures(write(tmp_path / "a.csv", rows), on_error="skip", use_cache=False)
    assert [(p.row, p.field) for p in problems] == [(2, "material_id"), (2, "energy")]
    assert all(problem.advice for problem in problems)


@pytest.mark.parametrize(
    "name,scalars",
    [
        (
            "mp20_biternary_val.csv.gz",
            ["formation_energy_per_atom", "band_gap", "e_above_hull", "spacegroup.number"],
        ),
        ("perov5_val.csv.gz", ["heat_all", "heat_ref", "dir_gap"]),
    ],
)
def test_real_files_load_and_are_pymatgens(tmp_path, shared_csv, name, scalars):
    with gzip.open(shared_csv(name), "rt", newline="") as file:
        table = list(csv.reader(file))
    path = tmp_path / name
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows(table[:401])
    data, problems = load_structures(path, cache_dir=tmp_path)
    assert (len(data), problems, data.periodicity) == (400, [], BULK)
    assert list(data.scalars) == scalars
    assert all(np.isfinite(values).all() for values in data.scalars.values())
    again = load_source("file", path=path, properties=scalars[:1], cache_dir=tmp_path)
    assert again.ids.tolist() == data.ids.tolist() and list(again.scalars) == scalars[:1]
    column = table[0].index("cif")
    for row in range(0, 400, 40):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = CifParser.from_str(table[row + 1][column]).parse_structures(primitive=False)[0]
        mine = data.to_pymatgen(row)
        # The same lattice; long and narrow cells are reduced.
        steps = mine.lattice.matrix @ np.linalg.inv(reference.lattice.matrix)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
        assert abs(np.linalg.det(steps)) == pytest.approx(1, abs=1e-4)
        for site in reference:  # whose order is pymatgen's own
            near = mine.get_sites_in_sphere(site.coords, 0.01)
            assert [other.specie.Z for other in near] == [site.specie.Z]
        assert len(mine) == len(reference)
