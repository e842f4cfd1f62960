import numpy as np
import pytest

from vdw_jax.structures.dataset import CrystalDataset, concatenate
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.label import LABEL
from vdw_jax.structures.source import load_source
from vdw_jax.types import BULK, SLAB


def small(width: int = 3, prefix: str = "x", periodicity=SLAB, **scalars) -> CrystalDataset:
    numbers = np.zeros((2, width), np.int16)
    numbers[0, :2] = 31, 34
    numbers[1, :3] = 49, 34, 34
    positions = np.where(numbers[..., None] > 0, np.arange(2 * width * 3).reshape(2, width, 3) / 7, 0)
    return CrystalDataset(
        ids=np.array([f"{prefix}-0", f"{prefix}-1"]),
        atomic_numbers=numbers,
        positions=positions.astype(np.float32),
        cell=np.tile(10 * np.eye(3, dtype=np.float32), (2, 1, 1)),
        periodicity=periodicity,
        scalars={k: np.array(v, np.float32) for k, v in scalars.items()},
        metadata={"name": np.array(["a", prefix * 3]), "pair": np.array([1, 2], np.int32)},
    )


def test_save_and_load_give_the_same_data_set(tmp_path, j2dh8):
    chosen = j2dh8.select(np.arange(0, 19926, 400))
    chosen.save(tmp_path / "new" / "part.npz")
    loaded = CrystalDataset.load(tmp_path / "new" / "part.npz")
    assert loaded.content_hash() == chosen.content_hash()
    assert loaded.periodicity == SLAB
    for name in ("ids", "atomic_numbers", "positions", "cell"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(chosen, name))
    assert set(loaded.metadata) == set(chosen.metadata) and not loaded.scalars
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["part.npz"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken"])
def test_load_refuses_what_is_no_data_set(tmp_path, content):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npz"):
        CrystalDataset.load(path)


def test_hash_sees_every_part_and_not_string_widths():
    base = small(e=[1, 2])
    wider = CrystalDataset(**{**base.__dict__, "ids": base.ids.astype("<U40")})
    assert wider.content_hash() == base.content_hash()
    moved = base.positions.copy()
    moved[0, 0, 0] += 1e-3
    for change in (
        {"positions": moved},
        {"scalars": {"e": np.array([1, 3], np.float32)}},
        {"scalars": {"f": base.scalars["e"]}},
        {"metadata": {**base.metadata, "pair": np.array([1, 3], np.int32)}},
        {"periodicity": BULK},
    ):
        assert CrystalDataset(**{**base.__dict__, **change}).content_hash() != base.content_hash()


def test_concatenate_pads_and_fills():
    joined = concatenate([small(3, "x", e=[1, 2]), small(5, "yy", f=[3, np.nan])])
    assert joined.atomic_numbers.shape == (4, 5) and joined.positions.shape == (4, 5, 3)
    assert list(joined.num_atoms) == [2, 3, 2, 3]
    np.testing.assert_array_equal(joined.scalars["e"], [1, 2, np.nan, np.nan])
    np.testing.assert_array_equal(joined.scalars["f"], [np.nan, np.nan, 3, np.nan])
    assert joined.metadata["name"].tolist() == ["a", "xxx", "a", "yyyyyy"]
    assert (joined.atomic_numbers[:2, 3:] == 0).all()


def test_concatenate_refuses_mixtures():
    with pytest.raises(DataError, match="slabs and bulk"):
        concatenate([small(), small(prefix="y", periodicity=BULK)])
    with pytest.raises(DataError, match="'x-0' occurs 2 times"):
        concatenate([small(), small()])


def test_padding_before_atoms_is_refused():
    base = small()
    with pytest.raises(DataError, match="padding"):
        CrystalDataset(**{**base.__dict__, "atomic_numbers": base.atomic_numbers[:, ::-1].copy()})


def test_composition_formula_height_and_selection():
    data = small()
    assert data.composition().shape == (2, 100)
    assert data.composition()[1, 48] == pytest.approx(1 / 3)
    assert data.composition()[1, 33] == pytest.approx(2 / 3)
    np.testing.assert_allclose(data.composition().sum(-1), 1)
    assert [data.formula(0), data.formula(1)] == ["GaSe", "InSe2"]
    np.testing.assert_allclose(data.slab_height, [3 / 7, 6 / 7], rtol=1e-6)
    assert data.select([1]).ids.tolist() == ["x-1"]
    assert data.select(np.array([True, False])).ids.tolist() == ["x-0"]
    assert len(data.select([])) == 0


def test_to_pymatgen_keeps_cell_and_atoms(j2dh8, iii_vi):
    pytest.importorskip("pymatgen")
    for data, row in ((j2dh8, 4711), (iii_vi, 5999)):
        structure = data.to_pymatgen(row)
        n = data.num_atoms[row]
        assert [site.specie.Z for site in structure] == data.atomic_numbers[row, :n].tolist()
        np.testing.assert_allclose(structure.cart_coords, data.positions[row, :n], atol=1e-5)
        np.testing.assert_allclose(structure.lattice.matrix, data.cell[row], atol=1e-6)
        a, b, _, alpha, beta, gamma = structure.lattice.parameters
        assert (a, alpha, beta, gamma) == pytest.approx((b, 90, 90, 120), abs=1e-4)


def test_load_source_joins_families_and_promotes_metadata():
    names = (LABEL, "gap_angstrom")
    data = load_source("j2dh8+iii_vi", properties=names)
    assert len(data) == 29926 and tuple(data.scalars) == names
    assert data.atomic_numbers.shape[1] == 10
    mine, theirs = data.metadata["pair"][:19926], data.metadata["pair"][19926:]
    assert not set(mine.tolist()) & set(theirs.tolist())


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"name": "qm9"}, "unknown data set 'qm9'"),
        ({"name": "file"}, "set data.path"),
        ({"name": "iii_vi", "path": "none.csv"}, "none.csv: cannot be read"),
        ({"name": "iii_vi", "max_atoms": 9}, "10 atoms; max_atoms is 9"),
        ({"name": "iii_vi", "properties": ("colour",)}, "no property 'colour'"),
    ],
)
def test_load_source_errors(arguments, message):
    with pytest.raises(DataError, match=message):
        load_source(**arguments)
