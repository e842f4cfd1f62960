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


# Where matching ends.


def salt(height: float) -> Structure:
    """One atom of sodium and one of chlorine `height` Angstrom above it, in a box of 3 x 3 x 20."""
    return Structure(Lattice(np.diag([3.0, 3.0, 20.0])), ["Na", "Cl"], [[0, 0, 0], [0, 0, height / 20]])


SALT_UNIT = (180 / 2) ** (1 / 3)
"""(volume / atoms)^(1/3), Angstrom."""


@pytest.mark.parametrize(
    "rmse, matched, tight",
    [(0.05, True, True), (0.09, True, True), (0.11, True, False), (0.47, True, False), (0.53, False, False)],
)
def test_the_published_tolerances_of_sites(rmse, matched, tight):
    """Half a displacement is left in each of two atoms: it matches below 0.5, tightly below 0.1."""
    moved = salt(2.5 + 2 * rmse * SALT_UNIT)
    pair = match([salt(2.5)], [moved], require_valid=False).pairs[0]
    assert (pair.matched, pair.tight) == (matched, tight)
    assert pair.reason == ("match" if matched else "no match")
    if matched:
        assert pair.rmse == pytest.approx(rmse, rel=1e-6)


def box(lengths, gamma: float = 90.0) -> Structure:
    """Two atoms in a box of three different lengths."""
    lattice = Lattice.from_parameters(*lengths, 90.0, 90.0, gamma)
    return Structure(lattice, ["Na", "Cl"], [[0, 0, 0], [0.3, 0.2, 0.4]])


@pytest.mark.parametrize("gamma, matched", [(99.0, True), (101.0, False)])
def test_the_published_tolerance_of_angles(gamma, matched):
    """10 degrees."""
    assert match([box((4, 5, 6.5))], [box((4, 5, 6.5), gamma)], require_valid=False).pairs[0].matched == matched


@pytest.mark.parametrize("stretch, matched", [(1.27, True), (1.33, False)])
def test_the_published_tolerance_of_lengths(stretch, matched):
    """30 %, at equal volume."""
    lengths = np.array([4.0, 9.0, 9.5])
    stretched = lengths * np.array([stretch, stretch**-0.5, stretch**-0.5])
    assert match([box(lengths)], [box(stretched)], require_valid=False).pairs[0].matched == matched


def test_the_rmse_is_a_mean_over_matches_not_their_largest():
    """Of eight atoms one is moved by 0.4: sqrt(1 / 8 - 1 / 64) of it are left, 7 / 8 in that atom itself."""
    corners = np.array([[x, y, z] for x in (0, 0.5) for y in (0.1, 0.45) for z in (0.05, 0.4)])
    symbols = ["Na", "Cl", "K", "Br", "Li", "F", "Rb", "I"]
    unit = (6 * 7 * 9 / 8) ** (1 / 3)

    def eight(moves) -> Structure:
        positions = corners * [6, 7, 9] + np.outer(moves, [0, 0, unit])
        return Structure(Lattice(np.diag([6.0, 7, 9])), symbols, positions, coords_are_cartesian=True)

    truth = eight(np.zeros(8))
    far = match([truth], [eight(0.4 * np.eye(8)[3])], require_valid=False).pairs[0]
    assert far.rmse == pytest.approx(0.4 * (1 / 8 - 1 / 64) ** 0.5, rel=1e-4)
    assert not far.tight  # the atom itself is 0.35 off
    # Six atoms 0.08 up and one 0.08 down: about their mean one is 0.13 off, but none is as seen from the one at rest.
    skewed = match([truth], [eight(0.08 * np.array([-1, 0, 1, 1, 1, 1, 1, 1]))], require_valid=False).pairs[0]
    assert skewed.rmse == pytest.approx(0.08 * (7 / 8 - 25 / 64) ** 0.5, rel=1e-4)
    assert skewed.tight
    wide = match([truth, truth], [truth, eight(0.4 * np.eye(8)[3])], require_valid=False)
    assert wide.rmse == pytest.approx(far.rmse / 2, rel=1e-4)
    assert (wide.match_rate, wide.tight_match_rate) == (1.0, 0.5)


def test_what_the_matcher_cannot_take_is_a_miss_with_its_reason():
    broken = salt(2.5)
    broken.translate_sites([1], [np.nan, 0, 0], to_unit_cell=False)
    pair = match([salt(2.5)], [broken], require_valid=False).pairs[0]
    assert not pair.matched and not pair.tight
    assert pair.reason.startswith("error: ValueError: ")


def test_the_same_formula_at_twice_the_size_matches():
    """The reduced formula is compared, and both cells are reduced."""
    assert match([salt(2.5)], [salt(2.5) * (2, 1, 1)], require_valid=False).match_rate == 1.0


def test_the_tight_tolerance_may_be_as_wide_as_the_other():
    truth = salt(2.5)
    same = match([truth], [truth], tolerances=Tolerances(stol=0.1), require_valid=False)
    assert same.tight_match_rate == 1.0


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
