"""Train, validation and test parts; the same seed gives the same parts on every machine.

`numpy.random.RandomState` is used on purpose: its stream is frozen for good, that of `Generator` is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError

PARTS = ("train", "validation", "test")


def _check(fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, float)
    if shares.shape != (3,) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise DataError(f"split fractions {tuple(fractions)} are not three shares that add up to 1")
    return shares


def random_split(n: int, seed: int, fractions: Sequence[float] = (0.6, 0.2, 0.2)) -> dict[str, np.ndarray]:
    """Split rows 0..n-1 at random.

    Args:
        n: number of rows.
        seed: 0 to 2^32 - 1.
        fractions: shares of train, validation and test; they add up to 1.

    Returns:
        Sorted int64 row numbers under "train", "validation" and "test"; every row once.

    Raises:
        DataError: shares that do not add up to 1.
    """
    ends = np.round(np.cumsum(_check(fractions)) * n).astype(int)
    order = np.random.RandomState(seed).permutation(n)
    return {name: np.sort(part) for name, part in zip(PARTS, np.split(order, ends[:2]), strict=True)}


def split_by_group(
    groups: np.ndarray | Sequence[int] | Sequence[str],
    seed: int,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
) -> dict[str, np.ndarray]:
    """Split rows so that no group has rows in two parts.

    Groups are taken in random order and fill train, then validation, then test; a part ends with the group
    that reaches its share, so sizes are exact to one group.

    Args:
        groups: the group of each row; [n].
        seed: 0 to 2^32 - 1.
        fractions: shares of the rows; they add up to 1.

    Returns:
        As `random_split`.

    Raises:
        DataError: shares that do not add up to 1.
    """
    shares = _check(fractions)
    _, member, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = np.random.RandomState(seed).permutation(len(sizes))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2.0
    ends = np.cumsum(shares)[:2] * len(member)
    part_of_group = np.empty(len(sizes), int)
    part_of_group[order] = np.searchsorted(ends, middle, side="left")
    part = part_of_group[member]
    return {name: np.flatnonzero(part == index) for index, name in enumerate(PARTS)}


def duplicate_groups(dataset: CrystalDataset) -> np.ndarray:
    """One name for each set of rows that are the same crystal by symmetry; [M] str.

    Reads metadata `duplicate_of` (the id of the row repeated, or ""); without it every row is its own.
    """
    if "duplicate_of" not in dataset.metadata:
        return dataset.ids
    original = dataset.metadata["duplicate_of"]
    return np.where(original == "", dataset.ids, original)


FIXED_SEED = 0
"""Of the parts that are stored with a family."""

COLUMNS = {"structure": "part", "pair": "part_by_pair"}
"""Metadata that holds the part of each row, for both ways of splitting."""


def with_parts(dataset: CrystalDataset) -> CrystalDataset:
    """The data set with the part of each row in both splits, 6:2:2 and fixed, as metadata."""
    columns = {}
    for by, column in COLUMNS.items():
        names = np.empty(len(dataset), "<U10")
        for name, rows in _draw(dataset, FIXED_SEED, (0.6, 0.2, 0.2), by).items():
            names[rows] = name
        columns[column] = names
    return replace(dataset, metadata=dataset.metadata | columns)


def split_dataset(dataset: CrystalDataset, seed: int, by: str = "structure") -> dict[str, np.ndarray]:
    """Train, validation and test rows, 6:2:2: those stored with the data set, or drawn at random.

    Symmetry duplicates are kept together. Rows whose relaxation failed (metadata `status`) are in no part.

    Args:
        dataset: what to split.
        seed: of the draw, for data sets that store no parts.
        by: "structure", or "pair": no pair of layers in two parts, the honest test of generalisation.

    Raises:
        DataError: `by` is neither, or the data set names no pairs.
    """
    stored = dataset.metadata.get(COLUMNS.get(by, ""))
    if stored is None:
        return _draw(dataset, seed, (0.6, 0.2, 0.2), by)
    usable = dataset.metadata.get("status", np.full(len(dataset), "ok")) == "ok"
    return {name: np.flatnonzero((stored == name) & usable) for name in PARTS}


def _draw(dataset: CrystalDataset, seed: int, fractions: Sequence[float], by: str) -> dict[str, np.ndarray]:
    if by == "structure":
        return split_by_group(duplicate_groups(dataset), seed, fractions)
    if by == "pair" and "pair" in dataset.metadata:
        return split_by_group(dataset.metadata["pair"], seed, fractions)
    raise DataError(f"cannot split by {by!r}: choose 'structure', or 'pair' for data sets of bilayers")
