"""The data card's leak check finds a planted copy."""

from dataclasses import replace

import numpy as np

from benchmarks.dataset import leaks
from vdw_jax.metrics.matching import TIGHT_STOL
from vdw_jax.structures.dataset import concatenate
from vdw_jax.structures.source import load_relaxed

DATA, _ = load_relaxed("j2dh8")


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
