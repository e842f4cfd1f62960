"""What this room raises when its input is at fault, and how it names what is wrong with one structure of a file."""

from __future__ import annotations

from dataclasses import dataclass


class DataError(ValueError):
    """A data file or data set cannot be used; the message names the file, the row and the field."""


class FormulaError(ValueError):
    """A chemical formula cannot be used; the message is one line that a person can act on."""


@dataclass(frozen=True)
class Problem:
    """Why one structure of a file cannot be used, and what to do about it."""

    file: str
    row: int  # 1 is the first structure, or the first row under a header; 0 where a file is one structure
    field: str
    reason: str
    advice: str
    id: str = ""  # of the structure, where it is known
    num_atoms: int = 0  # of a structure that has more atoms than are asked for, else 0

    @property
    def message(self) -> str:
        """What is wrong and what to do about it."""
        return f"{self.reason}. {self.advice}"

    def __str__(self) -> str:
        row = f" row {self.row}:" if self.row else ""
        return f"{self.file}:{row} {self.field}: {self.message}"
