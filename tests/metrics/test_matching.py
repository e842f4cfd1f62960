"""Matching measures known displacements and misses what is wrong."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from vdw_jax.metrics.matching import Tolerances, match_pairs

MP20 = Path(__file__).parents[3] / "shared" / "data" / "mp20_biternary_val.csv.gz"


def structure(slab) -> Structure:
    return Structure(Lattice(slab.cell), slab.numbers, slab.positions, coords_are_cartesian=True)


def match(truths, predictions, **options):
    return match_pairs(truths, predictions, progress=False, **options)


def test_a_copy_matches_at_zero(six_stackings):
    truths = [structure(slab) for slab in six_stackings]
    result = match(truths, truths)
    assert result.match_rate == result.tight_match_rate == 1.0
    assert result.rmse == pytest.approx(0, abs=1e-6)
    wide = match(truths, truths, tight_stol=None)
    assert wide.match_rate == 1.0 and np.isnan(wide.tight_match_rate)


def test_known_displacement_is_measured(six_stackings):
    slab = six_stackings[0]
    pushed = slab.positions.copy()
    pushed[3, 2] += 0.3
    result = match([structure(slab)], [structure(type(slab)(slab.numbers, pushed, slab.cell))])
    # one of 8 atoms moved: after the common translation, over (volume / atoms)^(1/3)
    expected = 0.3 * np.sqrt(1 / 8 - 1 / 64) / (np.linalg.det(slab.cell) / 8) ** (1 / 3)
    assert result.rmse == pytest.approx(expected, rel=1e-3)
    assert result.tight_match_rate == 1.0


def test_the_papers_matcher_does_not_tell_stackings_apart(six_stackings):
    truths = [structure(slab) for slab in six_stackings]
    result = match([truths[0]] * 5, truths[1:])
    assert result.match_rate == 1.0
    assert result.tight_match_rate == 0.0
    assert 0.1 < result.rmse < 0.4


def test_misses_say_why(six_stackings):
    slab = six_stackings[0]
    truth = structure(slab)
    other = slab.numbers.copy()
    other[0] = 34
    close = slab.positions.copy()
    close[1] = close[0] + [0, 0, 0.3]
    noble = np.where(slab.numbers == 52, 10, slab.numbers)  # SMACT knows no charges for neon
    stretched = slab.cell * [[1], [3], [1]]
    predictions = [
        None,
        structure(type(slab)(slab.numbers, close, slab.cell)),
        structure(type(slab)(noble, slab.positions, slab.cell)),
        structure(type(slab)(other, slab.positions, slab.cell)),
        structure(type(slab)(slab.numbers, slab.positions, stretched)),
        truth,
    ]
    result = match([truth] * 6, predictions)
    assert [pair.reason for pair in result.pairs] == [
        "missing", "invalid", "invalid", "composition", "no match", "match",
    ]  # fmt: skip
    assert result.match_rate == pytest.approx(1 / 6)
    assert [pair.index for pair in result.pairs] == list(range(6))


def test_swapped_species_do_not_match_tightly(six_stackings):
    slab = six_stackings[0]
    swapped = slab.numbers[[0, 2, 1, 3, 4, 5, 6, 7]]  # Ga and In of one layer exchanged
    result = match([structure(slab)], [structure(type(slab)(swapped, slab.positions, slab.cell))])
    assert result.tight_match_rate == 0.0


def test_validity_is_asked_for_only_when_wanted():
    lattice = Lattice.cubic(5.0)
    gas = Structure(lattice, ["Na", "Cl", "Cl"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])
    assert match([gas], [gas]).match_rate == 0.0
    assert match([gas], [gas], require_valid=False).match_rate == 1.0


def test_workers_change_nothing(six_stackings):
    truths = [structure(slab) for slab in six_stackings] * 4
    predictions = truths[1:] + truths[:1]
    assert match(truths, predictions, workers=2).pairs == match(truths, predictions).pairs


def test_nothing_is_not_a_number(six_stackings):
    assert np.isnan(match([], []).match_rate) and np.isnan(match([], []).rmse)
    assert np.isnan(match([structure(six_stackings[0])], [None]).rmse)


def test_bad_arguments_raise(six_stackings):
    truth = structure(six_stackings[0])
    with pytest.raises(ValueError, match="predictions"):
        match([truth], [])
    with pytest.raises(ValueError, match="workers"):
        match([truth], [truth], workers=0)
    with pytest.raises(ValueError, match="stol"):
        match([truth], [truth], tolerances=Tolerances(stol=0.05))


@pytest.fixture(scope="module")
def mp20() -> list[Structure]:
    if not MP20.exists():
        pytest.skip("the MP-20 file is not beside the repository")
    with gzip.open(MP20, "rt") as file:
        rows = [row for _, row in zip(range(20), csv.DictReader(file), strict=False)]
    # The matcher reduces both cells; one whose perturbed copy does not reduce alike would be a miss.
    return [Structure.from_str(row["cif"], fmt="cif").get_primitive_structure() for row in rows]


def test_perturbed_bulk_crystals_match(mp20):
    generator = np.random.default_rng(0)
    step = 0.1  # Angstrom, every atom, in a random direction
    predictions, expected = [], []
    for crystal in mp20:
        moves = generator.normal(size=(len(crystal), 3))
        moves *= step / np.linalg.norm(moves, axis=1, keepdims=True)
        moved = Structure(
            crystal.lattice, crystal.species, crystal.cart_coords + moves, coords_are_cartesian=True
        )
        predictions.append(moved)
        left = moves - moves.mean(0)
        expected.append(np.sqrt((left**2).sum(-1).mean()) / (crystal.volume / len(crystal)) ** (1 / 3))
    result = match(mp20, predictions, require_valid=False)
    assert result.match_rate == 1.0
    for pair, bound in zip(result.pairs, expected, strict=True):
        assert pair.rmse is not None and pair.rmse <= bound * 1.05 + 1e-6
    assert result.rmse == pytest.approx(np.mean(expected), rel=0.1)


def test_different_bulk_crystals_do_not_match(mp20):
    assert match(mp20, mp20[1:] + mp20[:1], require_valid=False).match_rate == 0.0
