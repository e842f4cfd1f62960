"""Marks of candidates outside what the model was trained for."""

from tests.report.conftest import candidates
from vdw_jax.report.samples import short_table
from vdw_jax.report.untrained import mark_untrained, untrained_reasons


def test_rows_without_a_reason_are_as_they_were():
    crystals, rows = candidates(3)
    assert mark_untrained(crystals, rows, "", [31]) == rows
    assert untrained_reasons(rows) == [] and "untrained" not in short_table(rows)


def test_elements_that_were_never_seen_leave_no_prediction_and_no_verdict():
    crystals, rows = candidates(3)
    rows = [row | {"predicted_energy_ev": 0.1, "valid": True} for row in rows]
    known = {int(number) for crystal in crystals for number in crystal.atomic_numbers}
    marked = mark_untrained(crystals, rows, "too thick", known)
    assert [row | {"untrained": "too thick"} for row in rows] == marked
    (number, *_) = crystals[1].atomic_numbers
    marked = mark_untrained(crystals, rows, "never seen", known - {int(number)})
    assert marked[1]["valid"] is None and "predicted_energy_ev" not in marked[1]
    assert untrained_reasons([*marked, *marked]) == ["never seen"]
    assert "untrained" in short_table(marked).splitlines()[0]
    assert list(marked[0])[:3] == ["id", "formula", "untrained"]
