"""Crystals that the tests of the reports share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.ranking import add_ranks
from vdw_jax.types import BULK


def gas_on_inse(name: str = "gas-inse", gap: float = 3.1) -> Crystal:
    """GaS on InSe, mean height at z = 0, 20 Angstrom of vacuum."""
    a = 3.9
    heights = np.array([0.0, 1.1, 3.6, 4.7])
    z = np.concatenate([heights, heights + heights[-1] + gap])
    fractional = np.array([[2 / 3, 1 / 3], [1 / 3, 2 / 3], [1 / 3, 2 / 3], [2 / 3, 1 / 3]] * 2)
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, np.ptp(z) + 20.0]])
    positions = np.concatenate([fractional @ cell[:2, :2], (z - z.mean())[:, None]], axis=1)
    return Crystal(name, np.array([16, 31, 31, 16, 34, 49, 49, 34]), positions, cell)


def rocksalt(name: str = "nacl") -> Crystal:
    """NaCl, its primitive cell."""
    cell = 5.64 / 2 * (np.ones((3, 3)) - np.eye(3))
    return Crystal(name, np.array([11, 17]), np.array([[0, 0, 0], [2.82, 2.82, 2.82]]), cell, BULK)


@pytest.fixture
def slab() -> Crystal:
    return gas_on_inse()


@pytest.fixture
def bulk() -> Crystal:
    return rocksalt()


@pytest.fixture
def make_slab():
    return gas_on_inse


HOSTILE = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">&amp;\u2028"
"""What a text from data may never do to a page."""


def candidates(count: int) -> tuple[list[Crystal], list[dict[str, Any]]]:
    """Slabs that differ in their gap, with their rows; every tenth is not valid, the first has a hostile text."""
    crystals, rows = [], []
    for place in range(count):
        gap = 2.9 + 0.001 * place
        crystals.append(gas_on_inse(f"s{place:04d}", gap))
        rows.append({
            "id": f"s{place:04d}",
            "formula": "GaInSSe",
            "asked_formula": "GaInSSe",
            "asked_energy_ev": -0.1,
            "asked_gap_angstrom": 3.0,
            "predicted_energy_ev": -0.3 + 0.37 * (place * 7 % count) / count,
            "predicted_gap_angstrom": gap,
            "valid": place % 10 != 3,
            "bilayer": True,
            "gap_angstrom": gap,
            "spacegroup": "P3m1 (156)" if place else HOSTILE,
            "sequence": None,
        })  # fmt: skip
    return crystals, add_ranks(rows)
