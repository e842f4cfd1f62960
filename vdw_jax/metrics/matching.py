"""How many structures are reconstructed, and how closely.

The measure is CDVAE's (Xie et al., ICLR 2022, section 5.1), which the paper takes over: pymatgen's
StructureMatcher with site tolerance 0.5, angle tolerance 10 degrees and length tolerance 0.3. It does
not tell the stackings of a bilayer apart (all six match each other, at an RMSE of about 0.2), so each
pair is also matched at site tolerance 0.1, where no two relaxed stackings match; `stacking.same_registry`
is the direct test. Distances are normalised by (volume / atoms)^(1/3): slabs must be compared with the
same vacuum, and more vacuum makes every RMSE smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from vdw_jax.metrics.parallel import parallel_map
from vdw_jax.metrics.validity import check_structure


@dataclass(frozen=True)
class Tolerances:
    """What counts as a match."""

    stol: float = 0.5
    """Root mean square displacement over (volume / atoms)^(1/3), no unit."""
    angle_tol: float = 10.0
    """Degrees."""
    ltol: float = 0.3
    """Relative length of lattice vectors."""

    def matcher(self) -> StructureMatcher:
        """pymatgen's matcher with these tolerances, its other settings as they come."""
        return StructureMatcher(ltol=self.ltol, stol=self.stol, angle_tol=self.angle_tol)


PAPER = Tolerances()
"""The tolerances of CDVAE and of the paper."""

TIGHT_STOL = 0.1
"""Site tolerance at which no two relaxed stackings of a bilayer match."""


@dataclass(frozen=True)
class PairMatch:
    """One true structure against its prediction."""

    index: int
    rmse: float | None
    """`get_rms_dist`, no unit; None where the two do not match."""
    tight: bool
    """They also match at the tight site tolerance."""
    reason: str
    """'match', 'missing', 'invalid', 'composition', 'no match', or 'error: ...'."""

    @property
    def matched(self) -> bool:
        """The two structures match at the tolerances asked for."""
        return self.rmse is not None


@dataclass(frozen=True)
class MatchResult:
    """Match rate and RMSE over a list of pairs, with the table they come from."""

    pairs: tuple[PairMatch, ...]
    tolerances: Tolerances
    tight_stol: float | None

    @property
    def match_rate(self) -> float:
        """Share of all pairs that match; NaN without pairs."""
        return float(np.mean([pair.matched for pair in self.pairs])) if self.pairs else float("nan")

    @property
    def tight_match_rate(self) -> float:
        """Share of all pairs that match at the tight site tolerance; NaN without pairs or tolerance."""
        if not self.pairs or self.tight_stol is None:
            return float("nan")
        return float(np.mean([pair.tight for pair in self.pairs]))

    @property
    def rmse(self) -> float:
        """Mean over the matches of `get_rms_dist`; NaN without a match."""
        distances = [pair.rmse for pair in self.pairs if pair.rmse is not None]
        return float(np.mean(distances)) if distances else float("nan")


def match_pairs(
    truths: Sequence[Structure],
    predictions: Sequence[Structure | None],
    *,
    tolerances: Tolerances = PAPER,
    tight_stol: float | None = TIGHT_STOL,
    require_valid: bool = True,
    workers: int = 1,
    progress: bool = True,
) -> MatchResult:
    """Matches every prediction with its true structure.

    Args:
      truths: the true structures.
      predictions: as many predictions; None counts as a miss.
      tolerances: of the match; the paper's as a rule.
      tight_stol: site tolerance of the second, tight match; at most `tolerances.stol`. None leaves it out,
        which takes half the time.
      require_valid: an invalid prediction (`validity.check_structure`) is a miss, as in CDVAE.
      workers: processes, as in `parallel.parallel_map`.
      progress: shows a progress bar on stderr.

    Raises:
      ValueError: the lists differ in length, `tight_stol` is above `stol`, or no worker is asked for.
    """
    if len(truths) != len(predictions):
        raise ValueError(f"{len(truths)} true structures but {len(predictions)} predictions")
    if tight_stol is not None and tight_stol > tolerances.stol:
        raise ValueError(f"tight_stol {tight_stol} is wider than stol {tolerances.stol}")
    tasks = [
        _Task(index, truth, prediction, tolerances, tight_stol, require_valid)
        for index, (truth, prediction) in enumerate(zip(truths, predictions, strict=True))
    ]
    pairs = parallel_map(_match, tasks, workers=workers, description="matching", progress=progress)
    return MatchResult(tuple(pairs), tolerances, tight_stol)


@dataclass(frozen=True)
class _Task:
    index: int
    truth: Structure
    prediction: Structure | None
    tolerances: Tolerances
    tight_stol: float | None
    require_valid: bool


def _match(_: None, task: _Task) -> PairMatch:
    miss = PairMatch(task.index, rmse=None, tight=False, reason="no match")
    if task.prediction is None:
        return replace(miss, reason="missing")
    try:
        if task.require_valid and not check_structure(task.prediction).valid:
            return replace(miss, reason="invalid")
        if task.truth.composition.reduced_formula != task.prediction.composition.reduced_formula:
            return replace(miss, reason="composition")
        found = task.tolerances.matcher().get_rms_dist(task.prediction, task.truth)
        if found is None:
            return miss
        rmse = float(found[0])
        # The tight match searches fewer candidates, so it can only be tried where the wide one is close; where no atom
        # is further off than it allows, the wide match is one of them.
        tight = task.tight_stol is not None and float(found[1]) < task.tight_stol
        if task.tight_stol is not None and rmse < task.tight_stol and not tight:
            narrow = replace(task.tolerances, stol=task.tight_stol).matcher()
            tight = narrow.get_rms_dist(task.prediction, task.truth) is not None
        return PairMatch(task.index, rmse, tight, "match")
    except Exception as error:  # noqa: BLE001  pymatgen raises many kinds on ugly predictions: a miss, with its reason
        return replace(miss, reason=f"error: {type(error).__name__}: {error}")
