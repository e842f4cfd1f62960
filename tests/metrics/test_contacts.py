"""Contacts are the pairs in reach, each once, at the length they are said to have."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vdw_jax.metrics.contacts import FAR, find_contacts
from vdw_jax.metrics.pieces import Pieces

NUMBERS = np.array([52, 31, 8, 1])
CELL = np.array([[4.1, 0, 0], [1.3, 3.6, 0], [0, 0, 3.0]])
POSITIONS = np.array([[0.2, 0.1, 0.0], [9.0, -5.0, 2.4], [1.0, 2.0, 4.1], [1.1, 2.2, 5.0]])
COVALENT = np.array([1.38, 1.22, 0.66, 0.31])  # Cordero 2008, Angstrom
VDW = np.array([1.99, 2.32, 1.50, 1.20])  # Alvarez 2013, Angstrom


def test_all_pairs_in_reach_are_found_once():
    found = find_contacts(NUMBERS, POSITIONS, CELL)
    reach = FAR * (VDW[:, None] + VDW)
    expected = []
    for i, j in itertools.product(range(4), repeat=2):
        for image in itertools.product(range(-12, 13), repeat=2):
            offset = POSITIONS[j] + np.array(image) @ CELL[:2] - POSITIONS[i]
            if 1e-9 < np.linalg.norm(offset) < reach[i, j]:
                expected.append(np.linalg.norm(offset))
    assert np.repeat(np.sort(found.distances), 2) == pytest.approx(np.sort(expected))
    ends = POSITIONS[found.second] + found.images @ CELL[:2] - POSITIONS[found.first]
    assert np.linalg.norm(ends, axis=1) == pytest.approx(found.distances)


def test_the_scale_runs_from_bonds_to_vdw_contacts():
    for length, expected in [(2.60, 0.0), (4.31, 1.0), (3.455, 0.5)]:
        positions = np.array([[0, 0, 0], [0, 0, length]])
        found = find_contacts(NUMBERS[:2], positions, np.diag([50.0, 50.0, 1.0]))
        assert found.reduced == pytest.approx([expected], abs=1e-6)


def test_pieces_count_their_directions():
    pieces = Pieces(3)
    assert pieces.join(0, 1, (0, 0)) and (pieces.count, pieces.sheets) == (2, 0)
    assert not pieces.join(1, 0, (0, 0))  # the same contact again
    assert pieces.join(0, 1, (1, 0)) and not pieces.is_sheet(pieces.root(0)[0])
    assert not pieces.join(1, 0, (2, 0))  # along the same direction
    assert pieces.join(2, 2, (1, 1)) and pieces.sheets == 0
    assert pieces.join(2, 1, (0, 3))  # two chains that cross make a sheet
    assert (pieces.count, pieces.sheets) == (1, 1)
    assert pieces.members() == {pieces.root(0)[0]: [0, 1, 2]}
