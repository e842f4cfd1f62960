"""Structures of other generators: however a slab lies in its file it is the same slab, and pairs find each other."""

from __future__ import annotations

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.io.cif import CifWriter

from vdw_jax.evaluate.samples import SamplesError, asked_of, nothing, pair_up, read_asked, read_structures
from vdw_jax.metrics.stacking import same_registry
from vdw_jax.types import BULK, SLAB


def arrays(crystal):
    return crystal.atomic_numbers, crystal.positions, crystal.cell


@pytest.mark.parametrize("shift", [0.0, 9.0, -14.0])
def test_a_slab_cut_by_the_face_is_put_together(crystals, tmp_path, shift):
    """Moved along c and wrapped, turned in space, with a leaning c and less vacuum."""
    own = crystals[4]
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    cell = own.cell.copy()
    cell[2] += cell[0] - [0, 0, 6.0]
    fractions = (own.positions + [0.4, 1.0, shift]) @ np.linalg.inv(cell) % 1.0
    turned = Atoms(own.atomic_numbers, fractions @ cell @ turn, cell=cell @ turn, pbc=True)
    ase.io.write(tmp_path / "one.extxyz", turned)
    (found,) = read_structures(tmp_path / "one.extxyz", "auto").crystals
    heights = found.positions[:, 2] - found.positions[0, 2]
    np.testing.assert_allclose(heights, own.positions[:, 2] - own.positions[0, 2], atol=1e-6)
    assert found.cell[2] == pytest.approx([0, 0, np.ptp(own.positions[:, 2]) + 20.0])
    assert same_registry(arrays(own), arrays(found), tol=0.01)


def test_cifs_and_frames_hold_the_same(crystals, tmp_path):
    few = [replace(crystal, id=f"a{n}") for n, crystal in enumerate(crystals[:3])]
    (tmp_path / "cifs").mkdir()
    frames = []
    for crystal in few:
        CifWriter(crystal.to_pymatgen(), significant_figures=12).write_file(tmp_path / "cifs" / f"{crystal.id}.cif")
        atoms = crystal.to_ase()
        atoms.info = {"id": crystal.id, "asked_formula": "InSe", "asked_energy_ev": -0.1}
        frames.append(atoms)
    (tmp_path / "cifs" / "broken.cif").write_text("data_x\n_cell_length_a oops\n")
    ase.io.write(tmp_path / "all.extxyz", frames, format="extxyz")
    from_cifs = read_structures(tmp_path / "cifs", SLAB).crystals
    read = read_structures(tmp_path / "all.extxyz", SLAB)
    from_frames, columns = read.crystals, read.asked
    assert [crystal.id for crystal in from_cifs] == ["a0", "a1", "a2", "broken"]
    assert not from_cifs[3].is_finite
    for own, first, second in zip(few, from_cifs, from_frames, strict=False):
        for other in (first, second):
            assert same_registry(arrays(own), arrays(other), tol=0.01)
            assert np.ptp(other.positions[:, 2]) == pytest.approx(np.ptp(own.positions[:, 2]), abs=1e-6)
    assert asked_of(from_frames, columns, "x")[0] == {
        "kind": "energy and formula", "formula": "InSe", "energy_ev": -0.1,
    }  # fmt: skip
    with pytest.raises(SamplesError, match="no asked_formula"):
        asked_of(from_frames, [{}, {}, {}], "x")


def salt(**info) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.info |= info
    return atoms


def test_bulk_crystals_stay_as_they_are(tmp_path):
    ase.io.write(tmp_path / "salt.extxyz", [salt()], format="extxyz")
    read = read_structures(tmp_path / "salt.extxyz", "auto")
    assert read.periodicity == BULK
    np.testing.assert_array_equal(read.crystals[0].cell, 5.64 * np.eye(3))


def test_a_crystal_is_never_a_slab(crystals, tmp_path, capsys):
    """Among slabs, by the data set, it counts as invalid; only a person can say that its gap is a vacuum."""
    ase.io.write(tmp_path / "mixed.extxyz", [salt(id="salt"), *(crystal.to_ase() for crystal in crystals[:4])])
    read = read_structures(tmp_path / "mixed.extxyz", SLAB)
    assert [crystal.id for crystal in read.crystals][0] == "salt"
    assert [len(crystal.atomic_numbers) for crystal in read.crystals] == [0, 8, 8, 8, 8]
    said = capsys.readouterr().err
    assert "mixed.extxyz: row 1: cell: not a slab" in said and said.count("counts as invalid") == 1
    read = read_structures(tmp_path / "mixed.extxyz", BULK)
    assert [len(crystal.atomic_numbers) for crystal in read.crystals] == [8, 0, 0, 0, 0]


def test_what_the_file_does_not_say_is_asked_for(crystals, tmp_path):
    some = [salt(), salt(), *(crystal.to_ase() for crystal in crystals[:2])]
    ase.io.write(tmp_path / "mixed.extxyz", some)
    with pytest.raises(SamplesError, match=r"mixed\.extxyz: 2 of 4 structures are slabs .* --periodicity=slab or"):
        read_structures(tmp_path / "mixed.extxyz", "auto")
    doubtful = salt()
    doubtful.cell[2, 2] += 3.5  # 6.3 Angstrom to the next image: more than between layers, less than a vacuum
    ase.io.write(tmp_path / "doubtful.extxyz", doubtful)
    with pytest.raises(SamplesError, match="5 to 7 Angstrom in 1 of 1 structures may be vacuum"):
        read_structures(tmp_path / "doubtful.extxyz", "auto")
    assert read_structures(tmp_path / "doubtful.extxyz", "slab").crystals[0].is_slab
    assert not read_structures(tmp_path / "doubtful.extxyz", "bulk").crystals[0].is_slab


def test_among_true_structures_all_have_to_be_usable(crystals, tmp_path):
    ase.io.write(tmp_path / "true.extxyz", [salt(id="salt"), *(crystal.to_ase() for crystal in crystals[:4])])
    with pytest.raises(SamplesError, match="row 1: cell: not a slab"):
        read_structures(tmp_path / "true.extxyz", SLAB, all_usable=True)


def test_pairs_by_id_by_order_and_not_at_all(crystals):
    truths = crystals[:3]
    found, how = pair_up(truths[:0:-1], truths)
    assert how == "id" and [crystal.id for crystal in found] == [truth.id for truth in truths]
    assert not found[0].is_finite and found[1] is truths[1]
    renamed = [replace(crystal, id=f"s{n}") for n, crystal in enumerate(truths)]
    found, how = pair_up(renamed, truths)
    assert how == "order" and [crystal.id for crystal in found] == [truth.id for truth in truths]
    with pytest.raises(SamplesError, match="2 structures against 3"):
        pair_up(renamed[:2], truths)
    with pytest.raises(SamplesError, match="no true one of the same id: s0"):
        pair_up([renamed[0], truths[1], truths[2]], truths)
    with pytest.raises(SamplesError, match="occurs twice"):
        pair_up([truths[0], truths[0]], truths)


def test_what_cannot_be_read_says_which_file(tmp_path):
    with pytest.raises(SamplesError, match=r"no \.cif or POSCAR file"):
        read_structures(tmp_path, SLAB)
    (tmp_path / "x.extxyz").write_text("not a number of atoms\n")
    with pytest.raises(SamplesError, match=r"x\.extxyz"):
        read_structures(tmp_path / "x.extxyz", SLAB)
    (tmp_path / "asked.csv").write_text("id,asked_formula\n,InSe\n")
    with pytest.raises(SamplesError, match=r"asked\.csv: row 1: id"):
        read_asked(tmp_path / "asked.csv")
    with pytest.raises(SamplesError, match="'low' is no number"):
        asked_of([nothing("a", SLAB)], [{"asked_energy_ev": "low"}], "asked.csv")
