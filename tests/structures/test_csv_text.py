"""Texts of a table do nothing in a spreadsheet, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from vdw_jax.structures.csv_text import harmless, restored
from vdw_jax.structures.table import read_table

FORMULAS = [
    "=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http://x")', "'=1", "''@x", "-", "＝1", "\t-0.25",
]  # fmt: skip
PLAIN = ["GaInSSe2", "-0.25", "+1e5", "", "'quoted'", "a=b", "-inf", "x-y"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_no_longer_formulas(text):
    assert harmless(text) == "'" + text
    assert restored(harmless(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_all_else_stays(text):
    assert harmless(text) == text
    assert restored(text) == text


@pytest.mark.parametrize("value", [-0.25, -3, None, True])
def test_what_is_no_text_stays(value):
    assert harmless(value) is value


def test_our_reader_gives_the_text_back():
    header, rows = read_table(Path("t.csv"), "id,'=name,gap\ns0,'=1+1,-0.25\ns1,'quoted',+3\n")
    assert header == ["id", "=name", "gap"]
    assert [row.cells for row in rows] == [
        {"id": "s0", "=name": "=1+1", "gap": "-0.25"},
        {"id": "s1", "=name": "'quoted'", "gap": "+3"},
    ]
