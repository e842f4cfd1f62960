import pytest

from vdw_jax.structures.elements import ATOMIC_NUMBERS
from vdw_jax.structures.errors import FormulaError
from vdw_jax.structures.formula import fit_formula_units, formula_string, parse_formula


def counts(**symbols):
    return {ATOMIC_NUMBERS[name]: count for name, count in symbols.items()}


@pytest.mark.parametrize(
    "text,expected",
    [
        ("GaInSSe2", counts(Ga=1, In=1, S=1, Se=2)),
        ("Ga2(SSe)2", counts(Ga=2, S=2, Se=2)),
        ("Ca3(PO4)2", counts(Ca=3, P=2, O=8)),
        ("K4[Fe(CN)6]", counts(K=4, Fe=1, C=6, N=6)),
        ("SSeS", counts(S=2, Se=1)),
        (" Ga Se ", counts(Ga=1, Se=1)),
        ("CO", counts(C=1, O=1)),
        ("Co", counts(Co=1)),
        ("Al12", counts(Al=12)),
    ],
)
def test_formulas(text, expected):
    assert parse_formula(text) == expected


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "empty"),
        ("   ", "empty"),
        ("GaXx2", "unknown element 'Xx'"),
        ("Lr", "unknown element 'Lr'"),
        ("gase", "cannot read 'g' at character 1"),
        ("Ga0Se", "count of zero"),
        ("Ga-1Se", "negative count"),
        ("Ga0.5Se", "fractional count 0.5"),
        ("GaSe.5", "fractional count .5"),
        ("2GaSe", "count 2 follows no element"),
        ("Ga(Se", r"'\(' is never closed"),
        ("GaSe)2", r"'\)' closes nothing"),
        ("(Ga]", "closes nothing"),
        ("Ga()2", "nothing between brackets"),
        ("Ga+3", "cannot read"),
        ("Ga,Se", "cannot read ','"),
    ],
)
def test_bad_formulas_say_why_on_one_line(text, message):
    with pytest.raises(FormulaError, match=message) as error:
        parse_formula(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["GaInSSe2", "Al2Se3", "CsPbI3", "SrTiO3", "In4Se4", "Ga2InSSe", "CuGaTe2"])
def test_formula_string_is_pymatgens(text):
    core = pytest.importorskip("pymatgen.core")
    assert formula_string(parse_formula(text)) == core.Composition(text).reduced_formula


def test_formula_string_round_trip_and_errors():
    assert formula_string(parse_formula("Ga2In2S2Se4")) == "InGaSe2S"
    assert parse_formula(formula_string(counts(In=1, Ga=1, Se=2, S=1))) == counts(In=1, Ga=1, Se=2, S=1)
    for bad in ({}, {31: 0}, {0: 1}, {101: 1}):
        with pytest.raises(FormulaError):
            formula_string(bad)


@pytest.mark.parametrize(
    "text,allowed,maximum,expected",
    [
        ("GaInSSe2", {8, 9, 10}, 20, (2, True)),
        ("GaSe", {8, 9, 10}, 20, (4, True)),
        ("Ga2Se2", {8}, 20, (2, True)),
        ("GaInSSe", {8}, 8, (2, True)),
        ("GaInSSe2", {8}, 20, (1, False)),
        ("GaInSSe2", {10}, 9, (1, False)),
    ],
)
def test_formula_units(text, allowed, maximum, expected):
    assert fit_formula_units(parse_formula(text), allowed, maximum) == expected


def test_a_formula_too_large_is_refused():
    with pytest.raises(FormulaError, match="asks for 30 atoms; at most 20"):
        fit_formula_units(counts(Ga=10, Se=20), {8}, 20)
