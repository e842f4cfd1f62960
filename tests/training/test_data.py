"""What the config says about data is what training gets."""

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from configs import custom
from vdw_jax.structures.errors import DataError
from vdw_jax.training.loop import create_data, train


def salts(folder, count: int, **info):
    """Rock salts of growing size, with a property in all but the second."""
    made = [bulk("NaCl", "rocksalt", a=5.5 + 0.02 * place) for place in range(count)]
    for place, salt in enumerate(made):
        salt.info |= {"gap": 0.1 * place, "hardness": 2.0 + place} | info
    del made[1].info["gap"]
    write(folder / "salts.extxyz", made)
    config = custom.get_config()
    config.data.update(dict(path=str(folder / "salts.extxyz"), max_atoms=2))
    return config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_file_is_all_that_has_to_be_named(tmp_path):
    config = salts(tmp_path, 20)
    config.data.scalars = ("gap", "hardness")
    data, split = create_data(config)
    assert [len(split[part]) for part in ("train", "validation", "test")] == [12, 4, 4]
    assert list(data.scalars) == ["gap", "hardness"]
    assert np.isnan(data.scalars["gap"][1]) and data.scalars["hardness"][1] == 3.0


@pytest.mark.parametrize(
    "change,message",
    [
        (dict(path=""), "set data.path"),
        (dict(scalars=("colour",)), "no property 'colour'; there are gap, hardness"),
        (dict(scalars=("nothing",)), "nothing is unknown in all structures"),
        (dict(max_atoms=1), r"row 1: atoms: 2 atoms; at most 1 .*max_atoms=2.*\(problem 1 of 20; python -m"),
        (dict(periodicity="slab"), "row 1: cell: not a slab"),
    ],
)
def test_what_cannot_be_learned_from_is_said(tmp_path, change, message):
    config = salts(tmp_path, 20, nothing=np.nan)
    config.data.update(change)
    with pytest.raises(DataError, match=message):
        create_data(config)


def test_too_few_structures(tmp_path):
    with pytest.raises(DataError, match="6 structures are too few"):
        create_data(salts(tmp_path, 6))


def test_problems_stop_it_unless_they_are_to_be_skipped(tmp_path):
    config = salts(tmp_path, 20)
    with open(tmp_path / "salts.extxyz", "a") as file:
        file.write('1\nLattice="3 0 0 0 3 0 0 0 3" pbc="T T T"\nQq 0 0 0\n')
    with pytest.raises(DataError, match="row 21: species: atom 1: 'Qq' is no element"):
        create_data(config)
    config.data.skip_problems = True
    assert len(create_data(config)[0]) == 20


def test_conditions_as_the_command_line_gives_them(tmp_path):
    config = salts(tmp_path, 20)
    config.data.scalars = ("gap, colour",)
    with pytest.raises(DataError, match="no property 'colour'"):
        train(config, tmp_path / "run", quiet=True)
    assert config.data.scalars == ("gap, colour",)
