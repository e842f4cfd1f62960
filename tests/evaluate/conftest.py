"""A small part of J2DH-8 as the reference, and slabs to be scored against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vdw_jax.evaluate.reference import Reference
from vdw_jax.evaluate.samples import from_dataset
from vdw_jax.evaluate.scoring import Settings
from vdw_jax.report.crystal import Crystal
from vdw_jax.structures.source import load_relaxed

PAIRS = (2057, 900)


@pytest.fixture(scope="session")
def reference() -> Reference:
    """Two pairs of layers, twelve structures: of each pair three stackings to train on and three to test."""
    data, _ = load_relaxed("j2dh8")
    data = data.select(np.flatnonzero(np.isin(data.metadata["pair"], PAIRS)))
    train = np.flatnonzero(np.arange(12) % 6 < 3)
    test = np.setdiff1d(np.arange(12), train)
    settings = {"source": "j2dh8", "path": "", "properties": [], "max_atoms": 10, "split": "structure", "split_seed": 0}
    return Reference(data, {"train": train, "validation": test[:0], "test": test}, settings, data.content_hash())


@pytest.fixture(scope="session")
def crystals(reference) -> list[Crystal]:
    """All twelve."""
    return from_dataset(reference.data)


@pytest.fixture
def settings(tmp_path) -> Settings:
    """One process, no progress, a cache of its own."""
    return Settings(progress=False, cache=tmp_path / "cache")


def moved(crystal: Crystal, spread: float, seed: int = 0, name: str | None = None) -> Crystal:
    """Every atom moved at random."""
    noise = np.random.default_rng(seed).normal(scale=spread, size=crystal.positions.shape)
    return replace(crystal, id=name or crystal.id, positions=crystal.positions + noise)


def changed(crystal: Crystal, old: int, new: int) -> Crystal:
    """One element exchanged for another."""
    return replace(crystal, atomic_numbers=np.where(crystal.atomic_numbers == old, new, crystal.atomic_numbers))


def layers_swapped(crystal: Crystal) -> Crystal:
    """The lower layer on top of the upper one, with the gap as it was."""
    positions = crystal.positions.copy()
    lower, upper = positions[:4, 2], positions[4:, 2]
    gap = upper.min() - lower.max()
    lower += upper.max() + gap - lower.min()
    return replace(crystal, positions=positions)
