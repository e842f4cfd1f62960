"""Samples on disk come back as they were, and are there whole or not at all."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest
from ase.io import read as ase_read
from pymatgen.core import Structure

from vdw_jax.report import writer
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.writer import refuse_existing, write_samples, write_text_atomically


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


@pytest.mark.parametrize("name", ["001", "../up", "T", "nan", "", "a b", ".hidden", "a/b", "1e5"])
def test_ids_must_be_names(tmp_path, slab, name):
    crystal = Crystal(name, slab.atomic_numbers, slab.positions, slab.cell)
    with pytest.raises(ValueError, match="id"):
        write_samples(tmp_path / "out", [crystal], [{}])
    assert entries(tmp_path) == []


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
