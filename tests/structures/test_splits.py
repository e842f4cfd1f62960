from dataclasses import replace

import numpy as np
import pytest

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.splits import duplicate_groups, random_split, split_by_group, split_dataset


def check_partition(parts, n):
    assert list(parts) == ["train", "validation", "test"]
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(n))


def test_random_split_sizes_and_determinism():
    parts = random_split(19926, seed=7)
    check_partition(parts, 19926)
    assert [len(part) for part in parts.values()] == [11956, 3985, 3985]
    again, other = random_split(19926, seed=7), random_split(19926, seed=8)
    for name in parts:
        np.testing.assert_array_equal(parts[name], again[name])
    assert not np.array_equal(parts["test"], other["test"])


def test_the_stream_is_pinned():
    assert random_split(10, seed=0)["train"].tolist() == [1, 2, 4, 6, 8, 9]


def test_split_by_group_keeps_groups_whole():
    groups = np.random.RandomState(0).randint(0, 60, size=1000)
    parts = split_by_group(groups, seed=3)
    check_partition(parts, 1000)
    members = [set(groups[part].tolist()) for part in parts.values()]
    assert not members[0] & members[1] and not members[0] & members[2] and not members[1] & members[2]
    for part, share in zip(parts.values(), (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) / 1000 - share) < 0.04
    same = split_by_group(groups, seed=3)
    assert all(np.array_equal(parts[name], same[name]) for name in parts)


def test_zero_shares_give_empty_parts():
    parts = split_by_group(np.arange(50), seed=1, fractions=(1.0, 0.0, 0.0))
    assert [len(part) for part in parts.values()] == [50, 0, 0]


@pytest.mark.parametrize("by", ["structure", "pair"])
def test_split_dataset_keeps_duplicates_and_pairs_together(j2dh8, by):
    parts = split_dataset(j2dh8, seed=42, by=by)
    check_partition(parts, 19926)
    groups = duplicate_groups(j2dh8) if by == "structure" else j2dh8.metadata["pair"]
    members = [set(groups[part].tolist()) for part in parts.values()]
    assert sum(map(len, members)) == len(set(groups.tolist())) == (19845 if by == "structure" else 3321)
    assert abs(len(parts["train"]) - 11955) <= 6


@pytest.mark.parametrize("by", ["structure", "pair"])
def test_the_parts_of_a_family_are_fixed_and_those_of_other_data_follow_the_seed(j2dh8, by):
    bare = replace(j2dh8, metadata={k: v for k, v in j2dh8.metadata.items() if not k.startswith("part")})
    for data, is_fixed in ((j2dh8, True), (bare, False)):
        first, second = (split_dataset(data, seed, by)["test"] for seed in (1, 2))
        assert np.array_equal(first, second) == is_fixed
    np.testing.assert_array_equal(split_dataset(bare, 0, by)["test"], split_dataset(j2dh8, 7, by)["test"])


def test_a_failed_row_is_in_no_part(j2dh8):
    status = np.full(len(j2dh8), "ok", "<U20")
    status[[3, 400]] = "not converged"
    parts = split_dataset(replace(j2dh8, metadata=j2dh8.metadata | {"status": status}), 0)
    everything = np.concatenate(list(parts.values()))
    assert set(range(len(j2dh8))) - set(everything.tolist()) == {3, 400}


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (1.2, -0.2, 0.0), (0.5, 0.5)])
def test_bad_fractions(fractions):
    with pytest.raises(DataError, match="shares"):
        random_split(10, 0, fractions)


def test_unknown_way_of_splitting(j2dh8):
    with pytest.raises(DataError, match="'colour'"):
        split_dataset(j2dh8, 0, by="colour")
