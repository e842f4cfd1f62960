"""Extended XYZ, frame by frame: a number of atoms, a line of `key=value` pairs, and a line for each atom.

Read are `Lattice`, `pbc`, `Properties` (of these `species` or `Z`, and `pos`) and, as properties and notes of the
structure, pairs with a single number or text. This reader is our own because ASE's guesses: it makes "CO" cobalt, the
id "007" the number 7, and takes the last of two values of one key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.structures.contents import read_text
from vdw_jax.structures.entries import (
    ELEMENTS,
    ID_KEYS,
    Entry,
    Reading,
    id_among,
    plain_values,
)
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.values import as_number
from vdw_jax.types import NUM_ELEMENTS, Periodicity

_COMMENT = re.compile(r"^.*(?:lattice|properties)[ \t]*=.*$", re.IGNORECASE | re.MULTILINE)

LONGEST_LINE = 1_000_000
"""Characters; a comment of ASE with 100 values has some thousand."""

MOST_ATOMS = 100_000
"""Of one frame that is read at all; models take some hundred."""

MOST_COLUMNS = 1_000
"""For each atom; a descriptor vector may have some hundred numbers."""

_PIECE = re.compile(
    r"""
    "((?:[^"\\]|\\.)*)" | '((?:[^'\\]|\\.)*)' | \{((?:[^}\\]|\\.)*)\} | \[((?:[^\]\\]|\\.)*)\]  # quoted
    | (=) | (\s+) | \\(.) | ([^\s="'\[\{\\]+)                                                  # bare
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_FLAGS = {
    "T": True,
    "F": False,
    "true": True,
    "false": False,
    "True": True,
    "False": False,
    "TRUE": True,
    "FALSE": False,
}
_DEFAULT_COLUMNS = "species:S:1:pos:R:3"
_ADVICE = "Write it again with ASE, or correct it"


class _FrameError(Exception):
    """A field of a frame that cannot be used."""

    def __init__(self, field: str, reason: str, advice: str = _ADVICE):
        super().__init__(reason)
        self.field, self.reason, self.advice = field, reason, advice


@dataclass(frozen=True)
class _Columns:
    """Where in a line of an atom its element and its position stand."""

    total: int
    exact: bool  # no further value may follow
    symbol: int | None
    number: int | None
    position: int


def read_extxyz(path: Path) -> Reading:
    """Frames of an extended XYZ file.

    Raises:
        DataError: no frame in it.
    """
    text = read_text(path)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = _COMMENT.search(text)
    before = text[: found.start()] if found else text[:1000]
    if found is None or found.start() == 0 or before.strip().count("\n"):
        at = (
            f"line 1 is {text[:41].splitlines()[0][:40]!r}"
            if text.strip("\n")
            else "the file is empty"
        )
        raise DataError(
            f'{path}: not extended XYZ: {at}, not a number of atoms over a line with Lattice="..."'
        )
    return Reading(None, _parse_frames(path, text))


def _frames(text: str) -> Iterator[tuple[int, str]]:
    """Each frame with the number of its first line, from 1; a frame begins one line above its comment."""
    starts = (
        max(text.rfind("\n", 0, max(found.start() - 1, 0)) + 1, 0)
        for found in _COMMENT.finditer(text)
    )
    line, here = 1, next(starts)
    line += text.count("\n", 0, here)
    for following in starts:
        if following > here:
            yield line, text[here:following]
            line += text.count("\n", here, following)
            here = following
    yield line, text[here:]


def _parse_frames(path: Path, text: str) -> Iterator[Entry | Problem]:
    for row, (line, frame) in enumerate(_frames(text), start=1):
        name = f"{path.name.split('.')[0]}-{row}"
        values: dict[str, Any] = {}
        try:
            if frame.count("\n") > MOST_ATOMS + 2:
                raise _FrameError(
                    "number of atoms", f"more than {MOST_ATOMS} lines", "Leave the structure out"
                )
            lines = frame.rstrip().split("\n")
            values = _read_comment(lines[1]) if len(lines) > 1 else {}
            yield _read_frame(path, row, name, lines, values)
        except _FrameError as error:
            said, _ = id_among(_texts(values), name)
            reason = f"{error.reason} (line {line})"
            yield Problem(str(path), row, error.field, reason, error.advice, said)


def _read_frame(
    path: Path, row: int, otherwise: str, lines: list[str], values: dict[str, Any]
) -> Entry:
    said, found = lines[0].strip(), max(len(lines) - 2, 0)
    if said != str(found):
        reason = f"{found} lines of atoms under {said[:40]!r}"
        raise _FrameError(
            "number of atoms", reason, "Write the number of atoms, and a line for each"
        )
    if any("\0" in line for line in lines):
        raise _FrameError("text", "bytes that are no text", "Save the file as UTF-8")
    if any(len(line) > LONGEST_LINE for line in lines):
        raise _FrameError("text", f"a line of more than {LONGEST_LINE} characters", _ADVICE)
    cell = _read_lattice(values)
    periodicity = _read_periods(values)
    columns = _read_columns(values)
    numbers, positions = _read_atoms(lines[2:], columns)
    name, id_field = id_among(_texts(values), otherwise)
    beside = {
        key: value if key in ID_KEYS else _typed(value) for key, value in _others(values).items()
    }
    beside.pop(id_field, None)
    kept, others = plain_values(beside)
    return Entry(
        str(path),
        row,
        name,
        numbers,
        positions,
        cell,
        kept,
        periodicity,
        id_field=id_field,
        not_taken=others,
    )


def _read_comment(comment: str) -> dict[str, str | None]:
    """The pairs of a comment line; None for a key without a value.

    Raises:
        _FrameError: a quote that is not closed, or a key that occurs twice.
    """
    if len(comment) > LONGEST_LINE:
        raise _FrameError("comment", f"{len(comment)} characters; at most {LONGEST_LINE} are read")
    words = _words(comment)
    pairs: dict[str, str | None] = {}
    place = 0
    while place < len(words):
        key = words[place]
        place += 1
        if key is None:  # an = without a key
            continue
        value = None
        while place < len(words) and words[place] is None:  # a value may hold = itself
            place += 1
            following = words[place] if place < len(words) else None
            value = (following or "") if value is None else f"{value}={following or ''}"
            place += following is not None
        if key.lower() in _SPECIAL:
            key = _SPECIAL[key.lower()]
        if key in pairs:
            raise _FrameError(
                key[:40] or "key", f"the key {key[:40]!r} occurs twice", "Rename or remove one"
            )
        pairs[key] = value
    return pairs


_SPECIAL = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}


def _words(comment: str) -> list[str | None]:
    """Words without quotes and brackets; None for `=`."""
    words: list[str | None] = []
    inside = False  # a word that goes on
    place = 0
    while place < len(comment):
        piece = _PIECE.match(comment, place)
        if piece is None:
            raise _FrameError(
                "comment", f"a quote or bracket is not closed: {comment[place : place + 40]!r}"
            )
        place = piece.end()
        *quoted, equals, space, escaped, bare = piece.groups()
        if space is not None:
            inside = False
        elif equals is not None:
            words.append(None)
            inside = False
        else:
            said = next((_ESCAPE.sub(r"\1", part) for part in quoted if part is not None), None)
            text = said if said is not None else escaped if escaped is not None else bare
            if inside and words:
                words[-1] = f"{words[-1]}{text}"
            else:
                words.append(text)
            inside = True
    return words


def _read_lattice(values: dict[str, Any]) -> np.ndarray:
    given = values.get("Lattice")
    if given is None:
        raise _FrameError("Lattice", "no cell", "Write the lattice vectors, or leave molecules out")
    try:
        numbers = [_real(word) for word in given.replace(",", " ").split()[:10]]
    except ValueError as error:
        raise _FrameError(
            "Lattice", f"{error}", "Write nine numbers: a, b and c one after the other"
        ) from error
    if len(numbers) != 9:
        raise _FrameError(
            "Lattice", "not nine numbers", "Write nine numbers: a, b and c one after the other"
        )
    if not any(numbers):
        raise _FrameError("Lattice", "no cell", "Write the lattice vectors, or leave molecules out")
    return np.array(numbers).reshape(3, 3)


def _read_periods(values: dict[str, Any]) -> Periodicity:
    if "pbc" not in values:
        return (True, True, True)  # of a frame with a cell
    words = (values["pbc"] or "").replace(",", " ").split()[:4]
    flags = [_FLAGS.get(word, {"1": True, "0": False}.get(word)) for word in words]
    if len(flags) == 1:
        flags *= 3
    if len(flags) != 3 or None in flags:
        shown = (values["pbc"] or "")[:40]
        advice = 'Write pbc="T T F" for a slab, "T T T" for a crystal'
        raise _FrameError("pbc", f"{shown!r} are not three periods", advice)
    a, b, c = (bool(flag) for flag in flags)
    return (a, b, c)


def _read_columns(values: dict[str, Any]) -> _Columns:
    said = values.get("Properties")
    fields = (said or _DEFAULT_COLUMNS).split(":")
    places: dict[str, int] = {}
    total = 0
    for name, kind, width in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if kind not in ("R", "I", "S", "L") or not (
            width.isascii() and width.isdigit() and len(width) < 6
        ):
            raise _FrameError(
                "Properties", f"{f'{name}:{kind}:{width}'[:40]!r} is no name, kind and width"
            )
        name = {"symbols": "species", "numbers": "Z", "positions": "pos"}.get(name, name)
        if name in places:
            raise _FrameError(
                "Properties", f"the column {name[:40]!r} occurs twice", "Rename or remove one"
            )
        if (name, int(width)) in (("pos", 3), ("species", 1), ("Z", 1)) or name not in (
            "pos",
            "species",
            "Z",
        ):
            places[name] = total
        total += int(width)
        if total > MOST_COLUMNS:
            raise _FrameError("Properties", f"more than {MOST_COLUMNS} columns for each atom")
    if len(fields) % 3 or "pos" not in places or not {"species", "Z"} & places.keys():
        raise _FrameError(
            "Properties", f"{(said or '')[:60]!r} names no species and positions (pos:R:3)"
        )
    return _Columns(total, said is not None, places.get("species"), places.get("Z"), places["pos"])


def _read_atoms(lines: list[str], columns: _Columns) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers [n] and positions [n, 3], Angstrom; of each line only what is needed is kept."""
    numbers = np.zeros(len(lines), int)
    positions = np.zeros((len(lines), 3))
    for place, line in enumerate(lines):
        words = line.split(None, columns.total)
        if len(words) < columns.total or (columns.exact and len(words) > columns.total):
            found = f"{len(words)}" if len(words) <= columns.total else "more"
            reason = f"atom {place + 1} has {found} values; Properties says {columns.total}"
            raise _FrameError("Properties", reason)
        numbers[place] = _element(place, words, columns)
        try:
            positions[place] = [
                _real(word) for word in words[columns.position : columns.position + 3]
            ]
        except ValueError as error:
            reason = f"atom {place + 1}: {error}"
            raise _FrameError(
                "pos", reason, "Take the positions from the calculation again"
            ) from None
    return numbers, positions


def _element(place: int, words: list[str], columns: _Columns) -> int:
    named = None
    if columns.symbol is not None:
        named = ELEMENTS.get(words[columns.symbol])
        if named is None:
            reason = f"atom {place + 1}: {words[columns.symbol][:40]!r} is no element from H to Fm"
            raise _FrameError("species", reason, "Correct its symbol, or leave the structure out")
        if columns.number is None:
            return named
    assert columns.number is not None
    word = words[columns.number]
    if not (word.isascii() and word.isdigit() and 1 <= int(word[:9]) <= NUM_ELEMENTS):
        raise _FrameError(
            "Z", f"atom {place + 1}: {word[:40]!r} is no atomic number from 1 to {NUM_ELEMENTS}"
        )
    if named is not None and named != int(word):
        raise _FrameError(
            "Z", f"atom {place + 1} is {words[columns.symbol or 0]} with atomic number {word}"
        )
    return int(word)


def _real(word: str) -> float:
    """A number, which may be NaN or infinite; "1_0" is none, though Python reads it as 10."""
    try:
        if "_" in word:
            raise ValueError
        return float(word)
    except ValueError:
        raise ValueError(f"{word[:40]!r} is not a number") from None


def _others(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in _SPECIAL.values()}


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _typed(text: str | None) -> Any:
    """The value of a pair: a number, a flag, a text, or an array, which is no property."""
    if text is None:
        return True
    if text in _FLAGS:
        return _FLAGS[text]
    number = as_number(text)
    if number is not None and number == number:  # marks for missing values stay texts
        return number
    if text.startswith("_JSON "):
        try:
            return json.loads(text.removeprefix("_JSON "))
        except (ValueError, RecursionError):
            return text
    words = text.replace(",", " ").split()
    if len(words) > 1 and all(as_number(word) is not None or word in _FLAGS for word in words):
        return words
    return text
