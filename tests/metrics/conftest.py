"""Hand-built slabs that the tests of the metrics share."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from ase.data import atomic_numbers as number_of

REGISTRIES = ((0.0, 0.0), (1 / 3, 2 / 3), (2 / 3, 1 / 3))
STACKINGS = tuple(itertools.product(REGISTRIES, (False, True)))
"""Lateral shift of the upper layer, and whether it is turned by 60 degrees."""


@dataclass(frozen=True)
class Slab:
    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.numbers, self.positions, self.cell

    def shifted(self, shift: np.ndarray) -> Slab:
        return Slab(self.numbers, self.positions + shift, self.cell)

    def flipped(self) -> Slab:
        """Turned over by a twofold axis along x."""
        turn = np.diag([1.0, -1.0, -1.0])
        cell = self.cell @ turn
        cell[2, 2] = self.cell[2, 2]
        return Slab(self.numbers[::-1], self.positions[::-1] @ turn, cell)

    def rotated(self, degrees: float) -> Slab:
        """Turned about z together with its cell."""
        angle = np.radians(degrees)
        turn = np.array(
            [[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]]
        )
        return Slab(self.numbers, self.positions @ turn, self.cell @ turn)


def build_bilayer(
    lower: tuple[str, ...],
    upper: tuple[str, ...],
    stacking: tuple[tuple[float, float], bool] = (REGISTRIES[0], False),
    gap: float = 3.0,
    lattice_constant: float = 3.9,
) -> Slab:
    """Two X-M-M-X layers in their six stackings, built from fractional sites by hand."""
    cell = np.array(
        [
            [lattice_constant, 0, 0],
            [-lattice_constant / 2, lattice_constant * np.sqrt(3) / 2, 0],
            [0, 0, 40.0],
        ]
    )
    heights = np.array([0.0, 1.1, 3.6, 4.7])
    site_m, site_x = (1 / 3, 2 / 3), (2 / 3, 1 / 3)
    shift, turned = stacking
    below = np.array([site_x, site_m, site_m, site_x])
    above = np.array([site_m, site_x, site_x, site_m] if turned else [site_x, site_m, site_m, site_x])
    fractional = np.concatenate([below, above + np.array(shift)])
    positions = np.concatenate([fractional @ cell[:2, :2], np.zeros((8, 1))], axis=1)
    positions[:, 2] = np.concatenate([heights, heights + heights[-1] + gap])
    numbers = np.array([number_of[symbol] for symbol in (*lower, *upper)])
    return Slab(numbers, positions, cell)


@pytest.fixture
def bilayer():
    return build_bilayer


@pytest.fixture
def six_stackings():
    """The six stackings of SGaInSe on SeInGaTe."""
    layers = ("S", "Ga", "In", "Se"), ("Se", "In", "Ga", "Te")
    return [build_bilayer(*layers, stacking=stacking) for stacking in STACKINGS]
