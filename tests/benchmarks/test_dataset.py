"""The data card's leak check: its filter by heights lets every match through, and the check finds a planted copy."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.dataset import close_in_height, leaks
from vdw_jax.metrics.matching import TIGHT_STOL, Tolerances
from vdw_jax.structures.dataset import CrystalDataset, concatenate
from vdw_jax.structures.source import load_relaxed

DATA, _ = load_relaxed("j2dh8")


def disturbed(row: int, copies: int, spread: float) -> np.ndarray:
    """Positions of a structure, turned over in half of the copies, moved as a whole and atom by atom."""
    random = np.random.default_rng(row)
    found = np.tile(DATA.positions[row].astype(float), (copies, 1, 1))
    found[::2, :, 1:] *= -1.0
    found[..., 2] += random.uniform(-2, 2, (copies, 1))
    return found + random.normal(scale=spread, size=found.shape)


@pytest.mark.parametrize("spread", [0.05, 0.25, 0.4])
def test_what_matches_is_close_in_height(spread):
    row, copies = 12_345, 8
    positions = np.concatenate([disturbed(row, copies, spread), DATA.positions[[row]]]).astype(np.float32)
    data = CrystalDataset(
        ids=np.arange(copies + 1).astype(str), atomic_numbers=np.tile(DATA.atomic_numbers[row], (copies + 1, 1)),
        positions=positions, cell=np.tile(DATA.cell[row], (copies + 1, 1, 1)), periodicity=DATA.periodicity,
    )  # fmt: skip
    near = close_in_height(data, copies, np.arange(copies), TIGHT_STOL)
    matcher, own = Tolerances(stol=TIGHT_STOL).matcher(), data.to_pymatgen(copies)
    matched = np.array([matcher.fit(own, data.to_pymatgen(other)) for other in range(copies)])
    assert not (matched & ~near).any()
    assert matched.all() if spread == 0.05 else not matched.all()


def test_a_planted_copy_is_found():
    """A few rows, with a test structure put into the training part under another name."""
    rows = np.flatnonzero(np.isin(DATA.metadata["pair"], [40, 41, 900]))
    few = DATA.select(rows)
    assert leaks(few, "pair", TIGHT_STOL, None, 1) == []
    parts = np.where(np.arange(len(few)) < 6, "test", "train")
    few = replace(few, metadata=few.metadata | {"part_by_pair": parts})
    copy = few.select(np.array([2]))
    copy = replace(copy, ids=np.array(["copy"]), metadata=copy.metadata | {"part_by_pair": np.array(["train"])})
    found = leaks(concatenate([few, copy]), "pair", TIGHT_STOL, None, 1)
    assert [match[:2] for match in found] == [(few.ids[2], "copy")]
