"""Numbers, texts and marks for what is unknown, as they stand beside the structures of a file."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
"""A number beyond this is no property; labels are float64, but what is learned from them is
float32.
"""

ABSENT = frozenset({"", "-", "--", "?", "na", "NA", "n/a", "N/A", "#N/A"})
"""Marks for a missing value, as pandas, Excel and hand-written tables have them; beside them ..."""

_ABSENT_WORDS = frozenset({"nan", "none", "null"})
"""... these, in small or capital letters. "Na" is sodium."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_LONGEST_NUMBER = 400  # characters


def is_absent(value: float | str | None) -> bool:
    """Whether a value says nothing."""
    if isinstance(value, str):
        text = value.strip()
        return text in ABSENT or text.lower() in _ABSENT_WORDS
    return value is None or math.isnan(value)


def as_number(value: float | str | None) -> float | None:
    """A finite number that float32 can hold too, NaN for an absent one; None for a text."""
    if value is None or is_absent(value):
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
            return None
        value = float(text)
    return float(value) if abs(value) <= LARGEST else None


def numeric_names(rows: Iterable[Mapping[str, float | str]]) -> list[str]:
    """Properties of which more than half of the values that say something are numbers, in the order
    of the file.
    """
    said: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for values in rows:
        for name, value in values.items():
            if not is_absent(value):
                said[name] += 1
                numbers[name] += as_number(value) is not None
            elif name not in said:
                said[name] = 0  # keeps the order
    return [name for name in said if 2 * numbers[name] > said[name]]


_IDENTIFIERS = re.compile(
    r"(id|ids|uid|uuid|idx|index|row|rank|serial|no|nr|num|number|.*[_ .-](id|ids|uid|idx|index)"
    r"|(icsd|cod|mp|mpid|jid|oqmd|pubchem)([_ .-].*)?)",
    re.IGNORECASE,
)
_OF_THE_STRUCTURE = re.compile(
    r"([abc]([_ ](a|ang|angstrom))?|alpha|beta|gamma|n_?atoms|num_?atoms|num_?sites|n_?sites|n_?elements|n_?species"
    r"|volume|density|nperiodic_dimensions|space_?group([_ .]?(number|no|nr|num))?|sg|z)",
    re.IGNORECASE,
)
_UNNAMED = re.compile(r"(column_\d+|unnamed: \d+|unnamed_\d+)", re.IGNORECASE)


def no_target(name: str, values: np.ndarray) -> str | None:
    """Why a property is not proposed as what to design for; None for one that is.

    Args:
        name: of the property.
        values: [n], NaN where unknown, in the order of the file.
    """
    known = values[np.isfinite(values)]
    if _UNNAMED.fullmatch(name.strip()) or not name.strip():
        return "its column has no name"
    if _IDENTIFIERS.fullmatch(name.strip()):
        return "it names the structures"
    if len(known) == 0:
        return "no value is known"
    if known.min() == known.max():
        return "it never varies"
    if len(known) > 2 and known.min() in (0, 1) and (np.diff(np.sort(known)) == 1).all():
        return "it counts the rows"
    if _OF_THE_STRUCTURE.fullmatch(name.strip()):
        return "it repeats what the structure says"
    return None


def targets(scalars: Mapping[str, np.ndarray]) -> tuple[list[str], dict[str, str]]:
    """Names of the properties to propose, and of the others the reason why not."""
    reasons = {name: no_target(name, values) for name, values in scalars.items()}
    proposed = [name for name, reason in reasons.items() if reason is None]
    return proposed, {name: reason for name, reason in reasons.items() if reason is not None}


def shortest_digits(values: Sequence[float] | np.ndarray, least: int = 5) -> int:
    """Significant digits that show the range of some numbers to a hundredth of it."""
    low, high = float(np.min(values)), float(np.max(values))
    if low == high:
        return least
    size = max(abs(low), abs(high))
    return int(np.clip(math.ceil(math.log10(size / (high - low))) + 3, least, 17))
