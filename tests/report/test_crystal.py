"""Crystals leave for pymatgen and ASE as they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pymatgen.core import Composition

from vdw_jax.report.crystal import Crystal


def test_slabs_are_centred_and_keep_their_shape(slab):
    structure, atoms = slab.to_pymatgen(), slab.to_ase()
    assert atoms.pbc.tolist() == [True, True, False]
    np.testing.assert_allclose(structure.cart_coords, atoms.positions, atol=1e-9)
    np.testing.assert_allclose(np.diff(atoms.positions, axis=0), np.diff(slab.positions, axis=0), atol=1e-9)
    heights = atoms.positions[:, 2]
    assert heights.min() + heights.max() == pytest.approx(slab.cell[2, 2])
    assert heights.min() == pytest.approx(10.0)  # half of the vacuum
    assert slab.formula == "GaInSSe"
    assert structure.composition.reduced_composition == Composition(slab.formula)
    np.testing.assert_array_equal(structure.atomic_numbers, slab.atomic_numbers)


def test_bulk_is_left_where_it_is(bulk):
    assert bulk.to_ase().pbc.all() and not bulk.is_slab
    np.testing.assert_array_equal(bulk.to_ase().positions, bulk.positions)
    assert bulk.formula == "NaCl"


def test_crystals_are_frozen_copies(slab):
    numbers = slab.atomic_numbers.copy()
    crystal = Crystal("a", numbers, slab.positions, slab.cell)
    numbers[0] = 1
    assert crystal.atomic_numbers[0] == 16
    with pytest.raises(dataclasses.FrozenInstanceError):
        crystal.id = "b"


def test_shapes_must_fit(slab):
    with pytest.raises(ValueError, match="'odd'"):
        Crystal("odd", slab.atomic_numbers[:3], slab.positions, slab.cell)
    with pytest.raises(ValueError, match="'odd'"):
        Crystal("odd", slab.atomic_numbers, slab.positions, slab.cell[:2])


def test_formulas_read_as_people_write_them():
    def formula(*numbers):
        return Crystal("a", np.array(numbers), np.zeros((len(numbers), 3)), np.eye(3)).formula

    assert formula(*[34, 31, 16, 49, 34] * 2) == "GaInSSe2"
    assert formula(31, 16, 31, 16) == "GaS"
    assert formula(6) == "C"


def test_unknown_elements_have_no_formula(slab):
    assert Crystal("a", np.zeros(8), slab.positions, slab.cell).formula == "-"
    assert Crystal("a", np.zeros(0), np.zeros((0, 3)), slab.cell).formula == "-"
