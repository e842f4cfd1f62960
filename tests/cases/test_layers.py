"""Bilayers that were no bilayers to the program, because of what they are made of."""

from __future__ import annotations

import json

import pytest

from vdw_jax.evaluate import cli


@pytest.mark.parametrize(
    ("number", "name"),
    [("26", "hydroxides.extxyz"), ("29", "tellurium.extxyz"), ("29", "elements.extxyz")],
)
def test_bilayers_of_any_elements_count(case, run, tmp_path, number, name):
    structures = case(number) / name
    options = ["--references=5", "--workers=1", "--quiet", f"--structures={structures}", f"--out={tmp_path}"]
    answer = run(cli.main, "generation", *options)
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert found["bilayer_rate"] == 1.0
