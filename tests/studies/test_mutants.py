"""The study of mutants: the list, what a test run came to, resuming, and the page."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest

from studies import mutant_list, mutants
from studies.mutant_list import Mutant, mutant_of, program_of, read_list
from studies.mutant_tests import Outcome, Stopped, outcome_of

FILE = "vdw_jax/metrics/matching.py"
SOURCE = "def f(x):\n    return x + 1\n\n\ndef g(x):\n    return x + 1\n"
SECOND = SOURCE[:-2] + "2\n"


def test_a_mutant_is_the_lines_that_differ_at_their_place():
    mutant = mutant_of(FILE, "core/NumberReplacer", 2, SOURCE, SECOND)
    assert (mutant.line, mutant.before, mutant.after) == (
        6,
        ("    return x + 1",),
        ("    return x + 2",),
    )
    assert mutant.applied(SOURCE) == SECOND
    moved = "# A line more.\n" + SOURCE
    assert mutant.applied(moved) == "# A line more.\n" + SECOND
    with pytest.raises(ValueError, match="the file has changed"):
        mutant.applied("def f(x):\n    return x + 1\n")


def test_added_and_removed_lines_are_mutants_too():
    without = SOURCE.replace("    return x + 1\n\n\n", "    pass\n")
    for old, new in ((SOURCE, without), (without, SOURCE)):
        assert mutant_of(FILE, "op", 0, old, new).applied(old) == new


def test_annotations_are_no_part_of_the_program():
    assert program_of("a: int = 1\ndef f(x: int) -> int: ...") == program_of(
        "a: str = 1\ndef f(x): ..."
    )
    assert program_of("a: int = 1") != program_of("a: int = 2")
    assert program_of("a = = 1") is None


def test_the_list_names_each_mutant_once():
    facts, listed = read_list()
    by_hand = [mutant for mutant in listed if mutant.operator == mutant_list.BY_HAND]
    assert listed[: len(by_hand)] == by_hand and len(by_hand) == 8
    assert facts["seed"] == 0 and len(listed) == 308
    assert len({mutant.key for mutant in listed}) == 308
    assert {mutant.file for mutant in listed} <= mutant_list.TESTS.keys()
    for tests in mutant_list.TESTS.values():
        assert all((mutant_list.ROOT / test).exists() for test in tests)


@pytest.mark.parametrize(
    "status, text, outcome, test",
    [
        (0, "3 passed", "survived", ""),
        (
            1,
            "..F\nFAILED tests/a.py::test_b - assert 1 == 2\n1 failed",
            "killed",
            "tests/a.py::test_b",
        ),
        (2, "ERROR tests/a.py - NameError\n1 error", "killed", "tests/a.py"),
        (-11, "", "killed", "signal 11"),
        (5, "no tests ran", "error", "no tests ran"),
        (4, "ERROR: file or directory not found", "error", "ERROR: file or directory not found"),
    ],
)
def test_what_a_test_run_came_to(status, text, outcome, test):
    assert outcome_of(status, text, 1.5) == Outcome(outcome, 1.5, test)


MUTANTS = [
    Mutant(FILE, "core/NumberReplacer", n, n, ("a = 1",), (f"a = {n}",), 0) for n in range(2, 6)
]
OUTCOMES = dict(zip(MUTANTS, ("killed", "survived", "timeout", "survived"), strict=True))


@pytest.fixture
def tried(monkeypatch):
    """A study whose test runs are made up; the mutants that were tried, in order."""
    done: list[str] = []

    def copy(target: Path) -> None:
        (target / FILE).parent.mkdir(parents=True)
        (target / FILE).write_text("a = 1\n")

    def run_tests(tree: Path, tests, limit_s, stop) -> Outcome:
        source = (tree / FILE).read_text()
        mutant = next(m for m in MUTANTS if source == m.after[0] + "\n")
        done.append(mutant.after[0])
        return Outcome(OUTCOMES[mutant], 2.0, "")

    monkeypatch.setattr(
        mutants, "read_list", lambda: ({"cosmic_ray": "8", "seed": 0, "of": 9}, MUTANTS)
    )
    monkeypatch.setattr(mutants, "copy_tree", copy)
    monkeypatch.setattr(mutants, "check_baseline", lambda *_: {FILE: 1.0})
    monkeypatch.setattr(mutants, "run_tests", run_tests)
    return done


def run(out: Path, again: tuple[str, ...] = (), first: int | None = None) -> int:
    return mutants.run(out, workers=1, minutes=1.0, again=again, first=first)


def test_a_second_run_goes_on_where_the_first_ended(tried, tmp_path):
    assert run(tmp_path, first=2) == 0
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "cut sh')
    assert run(tmp_path) == 0
    assert tried == ["a = 2", "a = 3", "a = 4", "a = 5"]
    assert len(mutants.read_results(tmp_path / "results.jsonl")) == 4
    assert run(tmp_path, again=("survived",)) == 0
    assert tried[4:] == ["a = 3", "a = 5"]


def test_a_signal_ends_it_and_leaves_the_mutant_for_later(tried, tmp_path, monkeypatch):
    made_up = mutants.run_tests

    def stopped(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        assert arguments[-1].wait(10)
        raise Stopped

    monkeypatch.setattr(mutants, "run_tests", stopped)
    handler = signal.getsignal(signal.SIGTERM)
    assert run(tmp_path) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not mutants.read_results(tmp_path / "results.jsonl")
    monkeypatch.setattr(mutants, "run_tests", made_up)
    assert run(tmp_path) == 0 and len(tried) == 4


def test_lines_that_are_gone_are_an_error_of_that_mutant_alone(tried, tmp_path, monkeypatch):
    gone = dataclasses.replace(MUTANTS[0], before=("b = 1",))
    monkeypatch.setattr(mutants, "read_list", lambda: ({}, [gone, MUTANTS[1]]))
    assert run(tmp_path) == 0
    results = mutants.read_results(tmp_path / "results.jsonl")
    assert results[gone.key]["outcome"] == "error" and "has changed" in results[gone.key]["test"]
    assert results[MUTANTS[1].key]["outcome"] == "survived"


def test_the_page_takes_out_what_changes_nothing(tried, tmp_path):
    run(tmp_path)
    results = mutants.read_results(tmp_path / "results.jsonl")
    reasons = {mutant_list.equivalence_key(MUTANTS[1]): "nothing reads it"}
    page = mutants.page({"cosmic_ray": "8", "seed": 0, "of": 9}, 4, MUTANTS, results, reasons)
    assert "**2 of 3 killed (66.7 %)**, 1 of them by the time limit. 1 survive; 1 more" in page
    survivors, equivalent = page.split("## Survivors")[1].split("## Change nothing")
    assert "+a = 5" in survivors and "+a = 3" in equivalent and "nothing reads it" in equivalent


def test_the_page_says_which_test_noticed_a_known_fault():
    known = dataclasses.replace(MUTANTS[0], operator=mutant_list.BY_HAND)
    row = {
        "outcome": "killed",
        "test": "tests/a.py::test_b",
        "seconds": 1.0,
        "python": "3.12",
        "jax": "0.11",
    }
    rows = {known.key: row, MUTANTS[1].key: row}
    page = mutants.page({"cosmic_ray": "8", "seed": 0, "of": 9}, 1, [known, MUTANTS[1]], rows, {})
    assert "**1 of 1 killed" in page
    assert "by hand`: killed by `tests/a.py::test_b`" in page


def test_reasons_belong_to_mutants_of_the_list():
    rows = json.loads((mutant_list.ROOT / mutant_list.EQUIVALENT).read_text())
    listed = {mutant_list.equivalence_key(mutant) for mutant in read_list()[1]}
    assert all(
        (row["file"], row["operator"], row["before"], row["after"]) in listed for row in rows
    )
    assert all(row["reason"] for row in rows)
