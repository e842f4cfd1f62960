"""Names of properties on command lines: any name that a file has, and lists of them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Any

from vdw_jax.structures.errors import DataError

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITERALS = ("None", "True", "False")
"""What a config flag would take for a value of Python."""


def names_as_text(names: Iterable[str]) -> str:
    """Names as one value of a command line, which `resolve_names` reads again.

    Plain names are joined by commas, `gap,energy`; with any other name among them it is a JSON list, `["gap, PBE"]`.
    The shell needs the result quoted (`shlex.quote`).
    """
    names = list(names)
    if all(_PLAIN.fullmatch(name) and name not in _LITERALS for name in names):
        return ",".join(names)
    return json.dumps(names, ensure_ascii=False)


def resolve_names(given: Iterable[Any], known: Collection[str], where: str) -> list[str]:
    """Which properties are meant.

    Each of `given` is the name of a property as it is, or a JSON list of names, or names with commas between, tried
    in this order: a name that holds a comma is found before it is taken apart.

    Args:
        given: names or lists of names; numbers are read as the names they spell.
        known: the properties that the data have.
        where: file or data set, for the message.

    Raises:
        DataError: a name that the data do not have, or one that is given twice.
    """
    found: list[str] = []
    for value in given:
        found += _resolved(str(value), known, where)
    for name in found:
        if found.count(name) > 1:
            raise DataError(f"{where}: property {name!r} is named twice")
    return found


def _resolved(text: str, known: Collection[str], where: str) -> list[str]:
    if text in known:
        return [text]
    listed = _json_list(text)
    parts = listed if listed is not None else [part.strip() for part in text.split(",")]
    parts = [part for part in parts if part]
    for part in parts:
        if part not in known:
            tried = (
                "" if parts == [text] else f" (tried: {text!r} as a whole, then {_quoted(parts)})"
            )
            raise DataError(
                f"{where}: no property {part!r}{tried}; there are {_quoted(sorted(known)) or 'none'}"
            )
    return parts


def _quoted(names: Iterable[str]) -> str:
    """As in other messages, but a name that could be mistaken for several is in quotes."""
    return ", ".join(name if _PLAIN.fullmatch(name) else repr(name) for name in names)


def _json_list(text: str) -> list[str] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        values = json.loads(text)
    except ValueError:
        return None
    is_names = isinstance(values, list) and all(isinstance(value, str) for value in values)
    return values if is_names else None
