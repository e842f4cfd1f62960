"""POSCAR and CONTCAR of VASP: one crystal a file."""

from __future__ import annotations

import math
import re

import numpy as np

from vdw_jax.structures.elements import ATOMIC_NUMBERS
from vdw_jax.structures.entries import ISOTOPES, StructureError

POSCAR_ADVICE = (
    "Write it again with ASE (ase.io.write('POSCAR', atoms, vasp5=True)), or leave it out"
)

_MOST_ATOMS = 20_000
_LONGEST = 20_000_000
"""Characters; positions and velocities of 20,000 atoms take three million."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")
_SYMBOL = re.compile(r"([A-Z][a-z]?)(?:_[A-Za-z0-9_.]*)?(?:/[0-9a-f]*)?")
"""Names of potentials, as in Ga_d and Se_sv, and the hashes that VASP 6 puts behind, belong to the element."""


def parse_poscar(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one crystal.

    Velocities and what else stands behind the positions are left out, as are the flags of selective dynamics.

    Args:
        text: of the file.

    Returns:
        Atomic numbers [N], Cartesian coordinates [N, 3] and cell rows a, b, c [3, 3], Angstrom.

    Raises:
        StructureError: no POSCAR, or one that does not say which elements it holds; names the line.
    """
    if len(text) > _LONGEST:
        raise StructureError(f"more than {_LONGEST:,} characters; line 1 begins with {text[:20]!r}")
    lines = text.split("\n")
    title = lines[0].split()
    scale = [_number(word, 2) for word in _words(lines, 1)]
    rows = [_numbers(lines, place, 3) for place in (2, 3, 4)]
    cell = _scaled(np.array(rows), scale)
    place = 5
    names = _words(lines, place)
    if names[0].isdecimal():  # VASP 4 has no line of elements; many programs write them first
        names, where = title, "the first line"
    else:
        place, where = place + 1, "line 6"
    counts = _counts(_words(lines, place), place + 1)
    if sum(counts) > _MOST_ATOMS:
        raise StructureError(
            f"line {place + 1}: {sum(counts)} atoms; at most {_MOST_ATOMS} are read"
        )
    numbers = _elements(
        names, counts, where, "" if place == 6 else "; there is no line of elements"
    )
    place += 1
    if _words(lines, place)[0][0] in "sS":
        place += 1
    mode = _words(lines, place)[0][0]
    place += 1
    rows_of_atoms = [_numbers(lines, place + atom, 3) for atom in range(sum(counts))]
    found = np.array(rows_of_atoms).reshape(-1, 3)
    if place + len(found) < len(lines):
        _check_end(lines[place + len(found)], place + len(found) + 1, sum(counts))
    if mode in "cCkK":
        factors = (
            [abs(factor) for factor in scale]
            if len(scale) == 3
            else _factor(np.array(rows), scale[0])
        )
        return numbers, found * factors, cell
    if mode not in "dD":
        raise StructureError(f"line {place}: neither Direct nor Cartesian")
    return numbers, found @ cell, cell


def _words(lines: list[str], place: int) -> list[str]:
    words = lines[place].split() if place < len(lines) else []
    if not words:
        raise StructureError(f"line {place + 1} is empty or missing")
    comment = next((i for i, word in enumerate(words) if word[0] in "!#" and i), len(words))
    return words[:comment]


def _number(word: str, line: int) -> float:
    if not _NUMBER.fullmatch(word):
        raise StructureError(f"line {line}: {word[:40]!r} is no number")
    return float(re.sub("[dD]", "e", word))


def _numbers(lines: list[str], place: int, count: int) -> list[float]:
    words = _words(lines, place)
    if len(words) < count:
        raise StructureError(f"line {place + 1}: {len(words)} numbers; {count} are needed")
    return [_number(word, place + 1) for word in words[:count]]


def _scaled(cell: np.ndarray, scale: list[float]) -> np.ndarray:
    if len(scale) == 3:  # one for x, y and z
        if min(scale) <= 0:
            raise StructureError("line 2: three scale factors have to be positive")
        return cell * scale
    if len(scale) != 1 or scale[0] == 0:
        raise StructureError(
            f"line 2: {len(scale)} scale factors; there is one, or three, and none is 0"
        )
    return cell * _factor(cell, scale[0])


def _factor(cell: np.ndarray, scale: float) -> float:
    """A negative scale is the volume of the cell, Angstrom^3."""
    if scale > 0:
        return scale
    volume = abs(float(np.linalg.det(cell)))
    if volume < 1e-12:
        raise StructureError("lines 3 to 5: the lattice vectors span no cell")
    return math.cbrt(-scale / volume)


def _counts(words: list[str], line: int) -> list[int]:
    if not all(word.isdecimal() and len(word) < 9 for word in words):
        raise StructureError(f"line {line}: {' '.join(words)[:40]!r} are no numbers of atoms")
    return [int(word) for word in words]


def _elements(names: list[str], counts: list[int], where: str, why: str) -> np.ndarray:
    if len(names) != len(counts):
        raise StructureError(
            f"{where} has {len(names)} names for {len(counts)} numbers of atoms{why}"
        )
    numbers = []
    for name, count in zip(names, counts, strict=True):
        match = _SYMBOL.fullmatch(name)
        number = (ATOMIC_NUMBERS | ISOTOPES).get(match[1]) if match else None
        if number is None:
            raise StructureError(f"{where}: unknown element {name[:40]!r}: none of H..Fm{why}")
        numbers += [number] * count
    return np.array(numbers, int)


def _check_end(line: str, number: int, count: int) -> None:
    """Behind the last atom stands nothing, an empty line, or the word that begins another part."""
    words = line.split()
    if len(words) >= 3 and all(_NUMBER.fullmatch(word) for word in words[:3]):
        raise StructureError(f"line {number}: a position more than the {count} atoms of the file")
