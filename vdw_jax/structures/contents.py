"""The bytes and the text of a file that may hold anything: read whole and within bounds, or refused in one line."""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import zlib
from pathlib import Path

from vdw_jax.structures.errors import DataError

MOST_BYTES = 256 * 2**20
"""Of one file, unpacked. Its bytes and its text take up to five times that, and a reader has 2 GiB of memory.
100,000 crystals of 20 atoms take 200 MB as CIF and 130 MB as extended XYZ."""

GZIP = b"\x1f\x8b"
"""How a gzipped file begins."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte-order marks, and what follows them."""


def bare_name(path: Path) -> str:
    """The name of a file in small letters and without `.gz`: its suffix says of which kind it is."""
    return path.name.lower().removesuffix(".gz")


def require_file(path: Path) -> None:
    """Refuses what is no regular file, before anything waits for a pipe to be written to.

    Raises:
        DataError: missing, or a folder, pipe or device.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read: {reason}") from error
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: a folder, not a file")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: neither a file nor a folder, but a pipe or a device")


def read_content(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """All bytes of a file, unpacked where it is gzipped, whatever its name says.

    Raises:
        DataError: missing, no regular file (a folder, pipe or device), more than `most_bytes`, or damaged gzip.
    """
    require_file(path)
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            opened = gzip.GzipFile(fileobj=file) if packed else file
            content = opened.read(most_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}. Take the file again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > most_bytes:
        size = f"{most_bytes / 2**20:.4g} MiB"
        raise DataError(
            f"{path}: more than {size}{' unpacked' if packed else ''}. Split it into smaller files"
        )
    return content


def as_text(path: Path, content: bytes) -> str:
    """The text of a file: UTF-8 or what its byte-order mark says, else Latin-1. It may hold NUL characters.

    Structures are written in ASCII in any case; what differs are names, notes and comments.

    Raises:
        DataError: the text is not what its byte-order mark says.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decoded(path, content[len(mark) :], encoding)
    if wide := _wide_encoding(content):
        return _decoded(path, content, wide)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_text(path: Path) -> str:
    """`as_text` of `read_content`.

    Raises:
        DataError: as both.
    """
    return as_text(path, read_content(path))


def _decoded(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        advice = "Save the file as UTF-8"
        raise DataError(
            f"{path}: its text is not {name}, as its first bytes say: {error}. {advice}"
        ) from error


def _wide_encoding(content: bytes) -> str | None:
    """UTF-16 without a byte-order mark: every other byte of a text in Latin letters is 0."""
    start = content[:200]
    if len(start) < 4:
        return None
    even, odd = start[::2].count(0), start[1::2].count(0)
    if odd > 0.8 * len(start[1::2]) and not even:
        return "utf-16-le"
    if even > 0.8 * len(start[::2]) and not odd:
        return "utf-16-be"
    return None
