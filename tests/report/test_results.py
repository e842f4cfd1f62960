"""The page of results holds what was measured and what to compare it with."""

from __future__ import annotations

import pytest

from vdw_jax.report.results import results_markdown

SECTION = {
    "title": "Reconstruction",
    "device": "one GPU",
    "seed": 7,
    "command": "python evaluate.py --seed 7",
    "date": "2025-01-01",
    "measures": {"match_rate": 0.5, "rmse": 0.03, "struct_valid": 1.0, "steps": None},
}


def test_figures_stand_beside_the_papers():
    page = results_markdown({"title": "Results", "sections": [SECTION]})
    lines = page.splitlines()
    assert "| what | ours | paper (its own data) | chance (blind stacking) |" in lines
    assert "| match rate (stol 0.5) | 50.00 % | 25.35 % | - |" in lines
    expected = "| RMSE of the matches | 0.0300 | 0.1842 | 0.182 on relaxed cells, 0.174 on ideal cells |"
    assert expected in lines
    assert "| validity, structure | 100.00 % | 100 % | - |" in lines
    assert "| steps | not measured | - | - |" in lines
    assert "Device: one GPU. Seed: 7. Date: 2025-01-01." in lines
    assert SECTION["command"] in lines and page.endswith("\n")


def test_a_figure_says_what_it_is_of():
    measures = {"GaInSSe2: bilayer_rate": 0.25, "different formulas": 12, "made up: thing": 0.5}
    page = results_markdown(SECTION | {"measures": measures})
    assert "| GaInSSe2: bilayers (two layers) | 25.00 % | - | - |" in page
    assert "| different formulas | 12 | - | - |" in page
    assert "| made up: thing | 0.5000 | - | - |" in page


def test_intervals_stand_in_brackets():
    page = results_markdown(SECTION | {"intervals": {"match_rate": (0.4, 0.6), "rmse": (None, None)}})
    assert "| match rate (stol 0.5) | 50.00 % (40.00 % to 60.00 %) | 25.35 % | - |" in page
    assert "| RMSE of the matches | 0.0300 | " in page


def test_a_section_may_stand_alone():
    assert "## Reconstruction" in results_markdown(SECTION)


@pytest.mark.parametrize("key", ["device", "seed", "command", "date", "measures"])
def test_no_figure_without_its_origin(key):
    section = {name: value for name, value in SECTION.items() if name != key}
    with pytest.raises(ValueError, match=key):
        results_markdown({"sections": [section]})


@pytest.mark.parametrize(
    ("measures", "message"), [({"match_rate": 25.35}, "share"), ({"rmse": "0.1"}, "number")]
)
def test_impossible_figures_raise(measures, message):
    with pytest.raises(ValueError, match=message):
        results_markdown(SECTION | {"measures": measures})


def test_no_match_is_undefined():
    assert "| undefined |" in results_markdown(SECTION | {"measures": {"rmse": float("nan")}})
