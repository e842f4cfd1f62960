"""Tables line up."""

from __future__ import annotations

import numpy as np

from vdw_jax.report.table import text_table

ROWS = [
    {"id": "a", "energy": -0.25, "layers": 2, "valid": True},
    {"id": "longer", "energy": 10.0, "layers": None, "valid": np.bool_(False), "gap": np.float32(3.5)},
]


def test_columns_line_up():
    assert text_table(ROWS).splitlines() == [
        "id      energy  layers  valid    gap",
        "------  ------  ------  -----  -----",
        "a       -0.250       2  yes        -",
        "longer  10.000       -  no     3.500",
    ]


def test_columns_and_rows_can_be_chosen():
    assert text_table(ROWS, ["id", "energy"], max_rows=1, decimals=1).splitlines() == [
        "id  energy",
        "--  ------",
        "a     -0.2",
        "... and 1 more",
    ]


def test_nothing_to_show():
    assert text_table([]) == ""
    assert text_table([], ["id"]) == "id\n--"
    assert text_table([{"x": float("nan")}]).splitlines()[-1] == "-"
