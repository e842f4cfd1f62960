"""Ids that become names of files and folders: one rule for everything that is written under an id."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vdw_jax.structures.errors import DataError

LONGEST_ID = 200
"""Characters. File systems take 255 bytes, and files have endings such as `.relaxed.xyz`."""

RULE = (
    "an id names files: letters a to z, digits, `_`, `.` and `-`, first a letter, a digit or `_`, "
    f"last no `.`, at most {LONGEST_ID} characters"
)

_ID = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_LONGEST_SHOWN = 60


def id_problem(name: str) -> str | None:
    """Why a text cannot be an id, in one line; None where it can.

    Letters are those of ASCII alone: a look-alike of another alphabet would be a second file of the same name.
    """
    shown = shown_id(name)
    if len(name) > LONGEST_ID:
        return f"id {shown} has {len(name)} characters; {RULE}"
    if not _ID.fullmatch(name):
        return f"id {shown} cannot be the name of a file; {RULE}"
    if _DEVICES.fullmatch(name):
        return f"id {shown} is the name of a device on Windows; give another one"
    return None


def check_ids(names: Iterable[str], where: str = "") -> None:
    """The check that is made before anything is written under ids.

    Args:
      names: the ids.
      where: file or folder that they come from, for the message.

    Raises:
      DataError: an id that cannot name a file, or two that differ at most by upper and lower case, which some file
        systems do not tell apart; one line that names the id.
    """
    origin = f"{where}: " if where else ""
    seen: dict[str, str] = {}
    for name in names:
        if (problem := id_problem(name)) is not None:
            raise DataError(origin + problem)
        same = seen.get(name.lower())
        seen[name.lower()] = name
        if same is not None:
            differ = "" if same == name else f", the other time as {shown_id(same)}"
            raise DataError(
                f"{origin}id {shown_id(name)} occurs twice{differ} (upper and lower case are not told apart)"
            )


def shown_id(name: str) -> str:
    """An id in quotes, on one line, shortened where it is long."""
    short = name if len(name) <= _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + "..."
    return repr(short)
