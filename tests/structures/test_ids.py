"""Ids that name files never leave their folder, on any file system."""

from __future__ import annotations

import pytest

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.ids import LONGEST_ID, check_ids, id_problem

GOOD = [
    "s0000", "GaS_InSe-0.twisted", "12345", "mp-149", "_x", "a..b", "x" * LONGEST_ID, "T", "nan", "console", "com10x",
]  # fmt: skip
BAD = [
    "", ".", "..", "../up", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "x" * 300, "CON", "nul", "Aux.txt", "com1",
    "LPT9.cif", "a:b", "dot.", "space ", " space", ".hidden", "-rf", "a b", "a*", "gаs", "ＧａＳ", "é", "a\u200bb",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_names_of_files_are_ids(name):
    assert id_problem(name) is None


@pytest.mark.parametrize("name", BAD)
def test_all_else_is_refused_in_one_line(name):
    problem = id_problem(name)
    assert problem is not None and "\n" not in problem and len(problem) < 350
    with pytest.raises(DataError, match="^here: id "):
        check_ids(["s0", name], "here")


def test_the_id_is_named():
    assert "'../up'" in str(id_problem("../up"))
    assert "300 characters" in str(id_problem("x" * 300))


def test_upper_and_lower_case_are_one_file():
    with pytest.raises(DataError, match="id 'gas' occurs twice, the other time as 'GaS'"):
        check_ids(["GaS", "InSe", "gas"])
    with pytest.raises(DataError, match="id 'GaS' occurs twice "):
        check_ids(["GaS", "GaS"])
    check_ids(["GaS", "InSe"])
