"""Samples on disk come back as they were, and are there whole or not at all."""

from __future__ import annotations

import csv
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from ase.io import read as ase_read
from pymatgen.core import Structure

from vdw_jax.design.saved import REQUEST_NAME
from vdw_jax.report import layout, writer
from vdw_jax.report.candidates import HandoverError, read_samples
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.handover import hand_over
from vdw_jax.report.writer import refuse_existing, write_samples, write_text_atomically
from vdw_jax.structures.table import read_table


def rows_of(crystals):
    asked = [{"formula": "GaInSSe", "energy_ev": -0.2} for _ in crystals]
    return sample_rows(crystals, asked, [{"energy_ev": np.float32(0.25)} for _ in crystals])


def entries(path):
    return sorted(item.name for item in path.iterdir())


def test_crystals_come_back(tmp_path, slab, make_slab, bulk):
    crystals = [slab, make_slab("z-last", gap=3.3), bulk]
    folder = write_samples(tmp_path / "deep" / "out", crystals, rows_of(crystals))
    assert entries(folder) == ["cif", "samples.csv", "samples.extxyz", "samples.parquet"]
    assert entries(tmp_path / "deep") == ["out"]

    images = ase_read(folder / "samples.extxyz", ":")
    assert [image.info["id"] for image in images] == [crystal.id for crystal in crystals]
    assert images[0].pbc.tolist() == [True, True, False] and images[2].pbc.all()
    for crystal, image in zip(crystals, images, strict=True):
        np.testing.assert_allclose(image.positions, crystal.centred_positions(), atol=1e-7)
        np.testing.assert_allclose(image.cell, crystal.cell, atol=1e-7)
        read = Structure.from_file(folder / "cif" / f"{crystal.id}.cif")
        written = crystal.to_pymatgen()
        np.testing.assert_allclose(read.lattice.parameters, written.lattice.parameters, atol=1e-9)
        for site in written:  # the parser has its own order
            apart = read.lattice.get_all_distances(site.frac_coords, read.frac_coords)[0]
            assert apart.min() < 1e-9
            assert read[int(apart.argmin())].specie == site.specie
        assert len(read) == len(written)
    assert images[0].info["asked_energy_ev"] == -0.2
    assert images[0].info["predicted_energy_ev"] == 0.25
    assert images[0].info["asked_formula"] == images[0].info["formula"] == "GaInSSe"


def test_the_table_has_every_column(tmp_path, slab, bulk):
    folder = write_samples(tmp_path / "out", [slab, bulk], rows_of([slab, bulk]))
    with open(folder / "samples.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["id"] for row in table] == ["gas-inse", "nacl"]
    assert list(table[0])[:2] == ["id", "formula"]
    wanted = {"asked_formula", "asked_energy_ev", "predicted_energy_ev", "valid", "layers", "gap_angstrom"}
    assert wanted | {"spacegroup", "sequence"} <= table[0].keys()
    assert table[0]["predicted_energy_ev"] == "0.25"
    assert float(table[0]["gap_angstrom"]) == pytest.approx(3.1)
    assert table[1]["layers"] == "" and table[1]["spacegroup"] == "Fm-3m (225)"


def test_content_is_never_lost_unasked(tmp_path, slab, make_slab):
    folder = tmp_path / "out"
    folder.mkdir()
    write_samples(folder, [slab], rows_of([slab]))  # an empty directory is no content
    before = (folder / "samples.csv").read_bytes()
    other = make_slab("other")
    with pytest.raises(FileExistsError, match="has content"):
        write_samples(folder, [other], rows_of([other]))
    assert (folder / "samples.csv").read_bytes() == before
    write_samples(folder, [other], rows_of([other]), overwrite=True, extra={"settings.json": "{}"})
    assert entries(folder / "cif") == ["other.cif"]  # nothing of the former is left
    assert entries(folder) == ["cif", "samples.csv", "samples.extxyz", "samples.parquet", "settings.json"]
    assert entries(tmp_path) == ["out"]


def test_only_samples_are_overwritten(tmp_path, slab):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="no earlier samples"):
        write_samples(tmp_path, [slab], rows_of([slab]), overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        refuse_existing(tmp_path / "thesis.tex", overwrite=True)
    assert entries(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_nothing_behind(tmp_path, slab, make_slab, monkeypatch, overwrite):
    folder = tmp_path / "out"
    if overwrite:
        write_samples(folder, [slab], rows_of([slab]))
    before = entries(tmp_path)

    def full_disk(*args, **kwargs):
        raise OSError("disk full")

    other = make_slab("other")
    monkeypatch.setattr(writer, "ase_write", full_disk)
    with pytest.raises(OSError, match="disk full"):
        write_samples(folder, [other], rows_of([other]), overwrite=overwrite)
    assert entries(tmp_path) == before
    if overwrite:
        assert entries(folder / "cif") == ["gas-inse.cif"]


def test_a_failing_swap_brings_the_former_back(tmp_path, slab, make_slab, monkeypatch):
    folder = write_samples(tmp_path / "out", [slab], rows_of([slab]))
    real, calls = os.replace, []

    def second_fails(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError("swap failed")
        real(source, target)

    monkeypatch.setattr(writer, "_exchange", lambda *paths: False)  # a system that cannot exchange folders
    monkeypatch.setattr(writer.os, "replace", second_fails)
    other = make_slab("other")
    with pytest.raises(OSError, match="swap failed"):
        write_samples(folder, [other], rows_of([other]), overwrite=True)
    assert entries(folder / "cif") == ["gas-inse.cif"] and entries(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "name", ["../up", "", "a b", ".hidden", "a/b", "/etc/x", "a\0b", "x" * 300, "CON", "a:b", "a."]
)
def test_ids_must_be_names(tmp_path, slab, name):
    crystal = Crystal(name, slab.atomic_numbers, slab.positions, slab.cell)
    with pytest.raises(ValueError, match="^id "):
        write_samples(tmp_path / "out", [crystal], [{}])
    assert entries(tmp_path) == []


@pytest.mark.parametrize("name", ["001", "12345", "T", "nan", "1e5"])
def test_ids_that_ase_reads_as_something_else_come_back(tmp_path, slab, name):
    crystal = Crystal(name, slab.atomic_numbers, slab.positions, slab.cell)
    (again,), (row,) = read_samples(write_samples(tmp_path / "out", [crystal], [{}]))
    assert again.id == row["id"] == name


def test_rows_must_fit_the_crystals(tmp_path, slab, bulk):
    with pytest.raises(ValueError, match="1 rows"):
        write_samples(tmp_path / "out", [slab, bulk], [{}])
    with pytest.raises(ValueError, match="row of 'nacl'"):
        write_samples(tmp_path / "out", [slab], [{"id": "nacl"}])
    with pytest.raises(ValueError, match="twice"):
        write_samples(tmp_path / "out", [slab, slab], [{}, {}])
    broken = Crystal("broken", slab.atomic_numbers, slab.positions * np.nan, slab.cell)
    with pytest.raises(ValueError, match="broken"):
        write_samples(tmp_path / "out", [slab, broken], [{}, {}])
    flat = Crystal("flat", slab.atomic_numbers, slab.positions, slab.cell * 0)
    with pytest.raises(ValueError, match="flat"):
        write_samples(tmp_path / "out", [flat], [{}])
    with pytest.raises(ValueError, match="further file"):
        write_samples(tmp_path / "out", [slab], [{}], extra={"../x": ""})
    assert entries(tmp_path) == []


def test_no_samples_make_an_empty_table(tmp_path):
    folder = write_samples(tmp_path / "out", [], [])
    assert (folder / "samples.csv").read_text() == "id,formula\n"
    assert entries(folder / "cif") == []


def test_text_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "RESULTS.md"
    write_text_atomically(path, "old")
    write_text_atomically(path, "new")
    assert path.read_text() == "new" and entries(tmp_path) == ["RESULTS.md"]

    def fails(*args):
        raise OSError("no")

    monkeypatch.setattr(writer.os, "replace", fails)
    with pytest.raises(OSError, match="no"):
        write_text_atomically(path, "newer")
    assert path.read_text() == "new" and entries(tmp_path) == ["RESULTS.md"]


def test_the_request_has_one_name():
    assert layout.REQUEST_NAME == REQUEST_NAME


@pytest.mark.parametrize("foreign", ["notes.txt", "plots/gap.png", "cif/mine.cif", "relaxed-x/notes.txt",
                                     "handover/vasp/gas-inse/OUTCAR", "handover/gpaw/gas-inse.relaxed.xyz",
                                     "handover/mine/x"])  # fmt: skip
def test_overwriting_deletes_nothing_that_somebody_else_wrote(tmp_path, slab, foreign):
    folder = write_samples(tmp_path / "out", [slab], rows_of([slab]))
    write_samples(folder / "relaxed-x", [slab], rows_of([slab]))
    hand_over(folder, ["poscar", "vasp", "gpaw", "db", "parquet"])
    (folder / foreign).parent.mkdir(exist_ok=True)
    (folder / foreign).write_text("mine")
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    with pytest.raises(FileExistsError) as refused:
        write_samples(folder, [slab], rows_of([slab]), overwrite=True)
    named = foreign if foreign.count("/") != 1 or foreign.split("/")[0] in ("cif", "relaxed-x") else "plots"
    named = {"handover/vasp/gas-inse/OUTCAR": "handover/vasp/gas-inse", "handover/mine/x": "handover/mine"}.get(
        foreign, named
    )
    assert named in str(refused.value) and "\n" not in str(refused.value)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    assert (folder / foreign).read_text() == "mine"


def test_overwriting_replaces_what_the_program_wrote_beside_the_samples(tmp_path, slab):
    folder = write_samples(tmp_path / "out", [slab], rows_of([slab]), extra={"request.json": "{}", "report.html": "x"})
    write_samples(folder / "relaxed-x", [slab], rows_of([slab]))
    hand_over(folder, ["poscar", "vasp", "gpaw", "db", "parquet"])
    write_samples(folder, [slab], rows_of([slab]), overwrite=True)
    assert entries(folder) == ["cif", "samples.csv", "samples.extxyz", "samples.parquet"]


def test_links_are_not_followed_into_deletion(tmp_path, slab, make_slab):
    folder = write_samples(tmp_path / "out", [slab], rows_of([slab]))
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(FileExistsError, match="is a link"):
        write_samples(tmp_path / "link", [make_slab("other")], [{}], overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    (folder / "handover").symlink_to(tmp_path / "mine")
    with pytest.raises(FileExistsError, match="handover"):
        write_samples(folder, [slab], rows_of([slab]), overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"
    assert entries(folder / "cif") == ["gas-inse.cif"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="exchanges folders in one step on Linux")
def test_there_is_no_moment_without_samples(tmp_path, slab, make_slab, monkeypatch):
    folder = write_samples(tmp_path / "out", [slab], rows_of([slab]))
    if not writer._exchange(tmp_path / "out", tmp_path / "out" / ".." / "out"):
        pytest.skip("this file system cannot exchange folders")

    def killed(*args, **settings):
        raise SystemExit("killed")

    other = make_slab("other")
    monkeypatch.setattr(writer.os, "replace", killed)  # the way that takes two steps
    write_samples(folder, [other], rows_of([other]), overwrite=True)
    assert entries(folder / "cif") == ["other.cif"] and entries(tmp_path) == ["out"]


def test_a_place_that_may_not_be_written_is_said_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        refuse_existing(tmp_path / "file" / "out")
    monkeypatch.setattr(writer.os, "access", lambda *args: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="no permission"):
        refuse_existing(tmp_path / "deep" / "out")


def test_texts_like_formulas_do_nothing_in_a_spreadsheet_and_come_back(tmp_path, slab):
    row = {"note": "=HYPERLINK(1)", "@cmd": "-1+2", "gap": -0.25, "other": "-0.5", "text": "\tx"}
    folder = write_samples(tmp_path / "out", [slab], [row])
    lines = (folder / "samples.csv").read_text()
    assert "'=HYPERLINK(1)" in lines and "'@cmd" in lines and "'-1+2" in lines and ",-0.25,-0.5," in lines
    header, rows = read_table(folder / "samples.csv", lines)
    (cells,) = [found.cells for found in rows]
    assert {key: cells[key] for key in row} == {**row, "gap": "-0.25"}
    assert read_samples(folder)[1][0]["note"] == "=HYPERLINK(1)"


@pytest.mark.parametrize(
    "name", ["asked_gap (eV)", "asked_a=b", "asked_x\ny", 'asked_"q"', "asked_[1, 2]", "asked_日本"]
)
@pytest.mark.parametrize("value", ["plain", "a=", "back\\slash", 'quo"te', "two\nlines", 1.5])
def test_extended_xyz_holds_any_name_and_text(tmp_path, slab, name, value):
    folder = write_samples(tmp_path / "out", [slab], [{name: value, "predicted_z": 2.5}])
    (image,) = ase_read(folder / "samples.extxyz", ":")
    shown = " ".join(value.split()) if isinstance(value, str) else value
    assert image.info["predicted_z"] == 2.5 and image.info["id"] == slab.id
    assert image.info[" ".join(name.replace("=", "_").split())] == shown


def test_columns_of_mixed_kinds_and_numbers_that_are_not_finite(tmp_path, slab, make_slab):
    rows = [{"a": 1, "b": float("nan"), "c": 2**70}, {"a": "x", "b": float("inf"), "c": None}]
    found = read_samples(write_samples(tmp_path / "out", [slab, make_slab("other")], rows))[1]
    assert [row["a"] for row in found] == ["1", "x"]
    assert np.isnan(found[0]["b"]) and found[1]["b"] == float("inf")
    assert [row["c"] for row in found] == [str(2**70), None]


def test_damaged_samples_are_named_in_one_line(tmp_path, slab):
    folder = write_samples(tmp_path / "out", [slab], rows_of([slab]))
    whole = (folder / "samples.parquet").read_bytes()
    (folder / "samples.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HandoverError, match="samples.parquet cannot be read") as damaged:
        read_samples(folder)
    assert "\n" not in str(damaged.value)
    (folder / "samples.parquet").write_bytes(whole)
    text = (folder / "samples.extxyz").read_text()
    (folder / "samples.extxyz").write_text(text.replace("Ga ", "Gx ", 1))
    with pytest.raises(HandoverError, match="samples.extxyz cannot be read"):
        read_samples(folder)
    position = text.splitlines()[2].split()[1]
    (folder / "samples.extxyz").write_text(text.replace(position, "nan" + " " * (len(position) - 3), 1))
    with pytest.raises(HandoverError, match="'gas-inse': a number is not finite"):
        read_samples(folder)


def test_tables_without_end_are_not_read(tmp_path, slab):
    folder = write_samples(tmp_path / "out", [slab], rows_of([slab]))
    table = pa.table({"id": pa.nulls(2_000_000, pa.string()), "formula": pa.nulls(2_000_000, pa.string())})
    pyarrow.parquet.write_table(table, folder / "samples.parquet")
    with pytest.raises(HandoverError, match="has 2000000 rows; 500000 are read at most"):
        read_samples(folder)
