"""Chemical formulas: text to counts and back, and how many formula units fit a cell."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

from vdw_jax.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from vdw_jax.structures.errors import FormulaError

_TOKEN = re.compile(
    r"(?P<element>[A-Z][a-z]?)|(?P<open>[(\[])|(?P<close>[)\]])|(?P<number>\d+(?:\.\d+)?|\.\d+)"
)
_CLOSING = {"(": ")", "[": "]"}

_ELECTRONEGATIVE = (
    "H Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Cs Ba La Ce Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi"
)
_ELECTRONEGATIVITY = dict(
    zip(
        _ELECTRONEGATIVE.split(),
        (
            2.20, 0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 0.82,
            1.00, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.90, 1.65, 1.81, 2.01, 2.18, 2.55, 2.96,
            0.82, 0.95, 1.22, 1.33, 1.60, 2.16, 1.90, 2.20, 2.28, 2.20, 1.93, 1.69, 1.78, 1.96, 2.05, 2.10,
            2.66, 0.79, 0.89, 1.10, 1.12, 1.30, 1.50, 2.36, 1.90, 2.20, 2.20, 2.28, 2.54, 2.00, 1.62, 2.33,
            2.02,
        ),
        strict=True,
    )
)  # fmt: skip
"""Pauling electronegativities; elements that are not listed are ordered as if they had 1.2."""


def _take_count(text: str, position: int) -> tuple[int, int]:
    """Read the count that may follow at `position`: (count, next position)."""
    match = _TOKEN.match(text, position)
    if match is None or match.lastgroup != "number":
        return 1, position
    digits = match.group()
    if "." in digits:
        raise FormulaError(f"formula {text!r}: fractional count {digits}; counts are whole numbers")
    if int(digits) == 0:
        raise FormulaError(f"formula {text!r}: a count of zero")
    return int(digits), match.end()


def parse_formula(formula: str) -> dict[int, int]:
    """Count the atoms in a formula such as "GaInSSe2" or "Ga2(SSe)2"; spaces are ignored.

    Returns:
        Atoms of each element, by atomic number, in the order in which the formula names them.

    Raises:
        FormulaError: empty, an unknown element, a count that is zero, negative or fractional, brackets that
            do not match, or text that is no formula.
    """
    text = "".join(formula.split())
    if not text:
        raise FormulaError("the formula is empty")
    levels: list[Counter[int]] = [Counter()]
    brackets: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if re.match(r"[-\u2212]\d", text[position:]):
                raise FormulaError(f"formula {formula!r}: a negative count")
            raise FormulaError(
                f"formula {formula!r}: cannot read {text[position]!r} at character {position + 1}"
            )
        position = match.end()
        kind, token = match.lastgroup, match.group()
        if kind == "element":
            if token not in ATOMIC_NUMBERS:
                raise FormulaError(f"formula {formula!r}: unknown element {token!r}")
            count, position = _take_count(text, position)
            levels[-1][ATOMIC_NUMBERS[token]] += count
        elif kind == "open":
            levels.append(Counter())
            brackets.append(token)
        elif kind == "close":
            if not brackets or _CLOSING[brackets.pop()] != token:
                raise FormulaError(f"formula {formula!r}: {token!r} closes nothing")
            inner = levels.pop()
            if not inner:
                raise FormulaError(f"formula {formula!r}: nothing between brackets")
            count, position = _take_count(text, position)
            for number, atoms in inner.items():
                levels[-1][number] += atoms * count
        else:
            raise FormulaError(f"formula {formula!r}: count {token} follows no element")
    if brackets:
        raise FormulaError(f"formula {formula!r}: {brackets[-1]!r} is never closed")
    return dict(levels[0])


def formula_string(counts: Mapping[int, int]) -> str:
    """Write counts as a reduced formula, most electropositive element first: GaInSSe2 gives "InGaSe2S".

    Ties go by symbol. Same rule as pymatgen's reduced formula for what it does not treat specially
    (diatomic gases, polyanions).

    Raises:
        FormulaError: nothing to write, a count below 1, or an atomic number outside 1..100.
    """
    if not counts:
        raise FormulaError("the formula is empty")
    for number, count in counts.items():
        if not 1 <= number <= len(SYMBOLS):
            raise FormulaError(f"atomic number {number} is outside 1..{len(SYMBOLS)}")
        if count < 1:
            raise FormulaError(f"{SYMBOLS[number - 1]} has a count of {count}; counts are 1 or more")
    divisor = math.gcd(*counts.values())
    symbols = {SYMBOLS[number - 1]: count // divisor for number, count in counts.items()}
    ordered = sorted(symbols, key=lambda name: (_ELECTRONEGATIVITY.get(name, 1.2), name))
    return "".join(name + (str(symbols[name]) if symbols[name] > 1 else "") for name in ordered)


def fit_formula_units(
    counts: Mapping[int, int], allowed_atom_counts: set[int], max_atoms: int
) -> tuple[int, bool]:
    """Choose how many formula units to put in a cell.

    Args:
        counts: atoms of each element in the formula as asked.
        allowed_atom_counts: atoms a cell that the model has seen.
        max_atoms: most atoms a cell that the model can hold.

    Returns:
        (units, inside): the fewest units whose atoms are an allowed number, and True; or (1, False) when no
        number of units is allowed but one unit fits.

    Raises:
        FormulaError: one unit holds more than `max_atoms` atoms, or `counts` is empty.
    """
    size = sum(counts.values())
    if size < 1:
        raise FormulaError("the formula is empty")
    if size > max_atoms:
        raise FormulaError(f"{formula_string(counts)} asks for {size} atoms; at most {max_atoms} fit")
    for units in range(1, max_atoms // size + 1):
        if units * size in allowed_atom_counts:
            return units, True
    return 1, False
