"""Known cases of files that were read wrongly: tables, extended XYZ, JSON, ASE databases, and evaluate's reading."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest

from vdw_jax.commands import check
from vdw_jax.evaluate import cli as evaluate
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.load import load_file, read_crystals
from vdw_jax.types import BULK


def proposal(out: str) -> str:
    (scalars,) = (
        word for word in out.splitlines()[-1].split() if word.startswith("--config.data.scalars=")
    )
    return (
        scalars.partition("=")[2].partition("=")[2]
        if scalars.count("=") > 1
        else scalars.partition("=")[2]
    )


def score(run, tmp_path, part: str, *arguments) -> tuple[dict, str]:
    """The summary of an evaluation and what it said on stderr."""
    out = tmp_path / "out"
    answer = run(
        evaluate.main,
        part,
        "--workers=1",
        "--quiet",
        f"--out={out}",
        f"--cache={tmp_path / 'cache'}",
        *arguments,
    )
    assert answer.code == 0, answer
    return json.loads((out / "summary.json").read_text()), answer.err


def test_05_columns_that_count_are_not_proposed(case, run):
    answer = run(check.main, case("05") / "with_index.csv")
    assert answer.code == 0 and proposal(answer.out) == "gap"
    assert all(f"{name} is not proposed" in answer.out for name in ("column_0", "number", "natoms"))
    answer = run(check.main, case("05") / "no_property.csv")
    assert answer.code == 0 and proposal(answer.out) == "" and "nothing but formulas" in answer.out


def test_06_crystals_are_not_scored_as_slabs(case, run, tmp_path):
    folder = case("06")
    arguments = [f"--structures={folder / 'found.extxyz'}", f"--truth={folder / 'true.extxyz'}"]
    summary, _ = score(run, tmp_path, "reconstruction", *arguments)
    assert summary["match_rate"] == 0.0
    summary, _ = score(
        run, tmp_path, "reconstruction", *arguments, f"--data={folder / 'data.extxyz'}"
    )
    assert summary["match_rate"] == 0.0


def test_07_numbers_are_ids(case, run):
    path = case("07") / "numbers.extxyz"
    loaded = load_file(path)
    assert loaded.dataset.ids.tolist()[:3] == ["100", "101", "102"] and list(
        loaded.dataset.scalars
    ) == ["gap"]
    assert proposal(run(check.main, path).out) == "gap"


def test_09_a_column_twice_is_an_error(case, run):
    answer = run(check.main, case("09") / "folder")
    assert (
        answer.code == 2
        and "properties.csv: header: column 'gap' occurs more than once" in answer.err
    )


@pytest.mark.parametrize("name,known", [("few_na", 9), ("mostly_na", 3), ("other_marks", 6)])
def test_10_marks_for_missing_values(case, run, name, known):
    answer = run(check.main, case("10") / f"{name}.csv")
    assert answer.code == 0 and f"property    gap: {known} of 12, " in answer.out


def test_11_cgcnn_folders(case, run):
    answer = run(check.main, case("11") / "cgcnn")
    assert answer.code == 0 and "property_1: 12 of 12, 1 to 1.55" in answer.out


def test_12_one_way_of_reading(case, run):
    folder = case("12")
    for name, count in (
        ("generated", 4),
        ("only_capital", 2),
        ("bom.extxyz", 4),
        ("packed.extxyz.gz", 4),
    ):
        found = read_crystals(folder / name)
        assert (len(found.entries), found.problems) == (count, []), name
    found = read_crystals(folder / "one_bad_frame.extxyz")
    assert [row.id for row in found.rows] == ["g0", "g1", "g2", "g3"]
    assert [problem.row for problem in found.problems] == [2]
    assert run(check.main, folder / "one_bad_frame.extxyz").code == 1


def test_12_evaluate_counts_and_names_what_is_bad(case, run, tmp_path):
    path = case("12") / "one_bad_frame.extxyz"
    summary, err = score(run, tmp_path, "generation", "--references=5", f"--structures={path}")
    assert summary["struct_valid"] == 0.75 and err.count("it counts as invalid") == 1
    assert "one_bad_frame.extxyz: row 2: pos" in err


def test_13_labels_keep_their_differences(case, run):
    path = case("13") / "all_electron.extxyz"
    values = load_file(path).dataset.scalars["total_energy"]
    assert values.dtype == np.float64
    assert [f"{value:.4f}" for value in values[:3]] == [
        "-123456.7890",
        "-123456.7883",
        "-123456.7876",
    ]
    assert "-123456.789 to -123456.7813" in run(check.main, path).out


@pytest.mark.parametrize("name,count", [("rows.JSON", 4), ("rows.json.gz", 4), ("one.cif.gz", 1)])
def test_15_suffixes(case, run, name, count):
    answer = run(check.main, case("15") / name)
    assert answer.code == 0 and f"{count} structures of" in answer.out


@pytest.mark.parametrize(
    "name,first,scalar",
    [
        ("jarvis", "TEST-0", "optb88vdw_bandgap"),
        ("optimade", "b0", "_test_gap"),
        ("matbench", "mb-0", "exfoliation_en"),
        ("pandas_columns", "0", "gap"),
    ],
)
def test_18_json_of_other_databases(case, run, name, first, scalar):
    path = case("18") / f"{name}.json"
    loaded = load_file(path)
    assert (len(loaded.dataset), loaded.problems, loaded.dataset.ids[0]) == (12, [], first)
    assert np.isfinite(loaded.dataset.scalars[scalar]).all()
    assert proposal(run(check.main, path).out) == scalar


def test_20_nothing_that_a_file_names_is_imported(case, run, tmp_path, monkeypatch):
    folder = case("20")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    answer = run(check.main, folder / "site_property.json")
    assert (
        answer.code == 0 and "marker_module" not in sys.modules and list(tmp_path.iterdir()) == []
    )
    runpy.run_path(str(folder / "marker_module.py"))  # the marker does leave a file where it is run
    assert [path.name for path in tmp_path.iterdir()] == ["imported_by_reader.txt"]


def test_23_deuterium_in_every_format(case):
    folder = case("23")
    found = [
        load_file(folder / name)
        for name in ("deuterated.cif", "deuterated.extxyz", "tritium.extxyz")
    ]
    assert all(loaded.problems == [] for loaded in found)
    assert len({loaded.dataset.formula(0) for loaded in found}) == 1
    assert 1 in found[0].dataset.atomic_numbers


def test_25_skewed_cells_are_the_same_structures(case, run, tmp_path):
    folder = case("25")
    summaries = []
    for name in ("plain", "skewed"):
        arguments = [
            f"--structures={folder / name}.extxyz",
            f"--data={folder / 'plain.extxyz'}",
            "--references=5",
        ]
        summary, err = score(run, tmp_path, "generation", *arguments)
        assert "invalid" not in err
        summaries.append(
            [summary[key] for key in ("struct_valid", "novelty", "wdist_density", "cov_recall")]
        )
    np.testing.assert_allclose(summaries[0], summaries[1], atol=1e-4)


def test_27_poscars(case, run, tmp_path):
    found = read_crystals(case("27") / "relaxed")
    assert len(found.entries) == 5 and {len(entry.atomic_numbers) for entry in found.entries} == {8}
    summary, err = score(
        run, tmp_path, "generation", "--references=5", f"--structures={case('27') / 'relaxed'}"
    )
    assert summary["struct_valid"] == 1.0 and "invalid" not in err


@pytest.mark.parametrize("name", ["none_periodic", "b_not_periodic"])
def test_28_one_rule_for_periods(case, run, tmp_path, name):
    path = case("28") / f"{name}.extxyz"
    answer = run(check.main, path)
    assert answer.code == 2 and "row 1: pbc: periodic as" in answer.out
    summary, err = score(run, tmp_path, "generation", "--references=5", f"--structures={path}")
    assert summary["struct_valid"] == 0.0
    assert f"{name}.extxyz: row 1: pbc: periodic as" in err


def test_31_cells_that_are_too_large_are_one_line(case, run):
    answer = run(check.main, case("31") / "supercells.extxyz")
    assert answer.out.count("more than 20 atoms") == 1 and "are asked for" not in answer.out
    assert (
        "8 structures have more than 20 atoms, 128 at most" in answer.out
        and "128 takes all" in answer.out
    )
    assert "this leaves out 8 of 10 structures" in answer.out
    assert run(check.main, case("31") / "supercells.extxyz", "--max_atoms=128").code == 0


def test_32_c_of_a_slab_is_no_length(case):
    for name in ("c_600", "c_600_ttf"):
        found = read_crystals(case("32") / f"{name}.extxyz")
        assert (len(found.entries), found.problems) == (4, [])


def test_33_calculated_values_and_data(case, run):
    loaded = load_file(case("33") / "data.db")
    assert {"energy", "magmom", "gap"} <= loaded.dataset.scalars.keys()


def test_a_file_says_what_it_is_and_a_flag_may(case):
    path = case("06") / "true.extxyz"
    assert read_crystals(path).periodicity == BULK
    with pytest.raises(DataError, match="choose auto, slab, bulk"):
        read_crystals(path, periodicity="wire")
