"""Texts in CSV files that spreadsheets must not take for formulas, as OWASP advises (CSV injection)."""

from __future__ import annotations

import re
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def harmless(value: Any) -> Any:
    """A cell as it is written: a text that a spreadsheet would run gets `'` in front; all else is as it is.

    Numbers stay numbers, `-0.25` as a text too. A text that begins with `'=` gets one more `'`, so that `restored`
    gives every text back.
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _is_number(value):
        return value
    return f"'{value}"


def restored(text: str) -> str:
    """The text that `harmless` wrote."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()  # a tab in front is none of the number's
