"""Parsed files on disk, under a name that changes with everything that changes what is parsed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vdw_jax.structures.contents import require_file
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError, Problem
from vdw_jax.structures.files import write_whole

VERSION = 4
"""Raised with every change of what a reader makes of a file."""

_PARSERS = ("vdw_jax", "gemmi", "pymatgen", "numpy", "spglib")
"""Packages whose version is part of the name."""


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/vdw_jax`, or `~/.cache/vdw_jax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vdw_jax"


def content_hash(path: Path, settings: Sequence[Any]) -> str:
    """Of a file or of all files of a folder, of the settings, and of the versions of what parses
    them; 32 hex digits.

    Raises:
        DataError: a file cannot be read.
    """
    versions = {name: _version(name) for name in _PARSERS}
    digest = hashlib.sha256(json.dumps([VERSION, versions, os.fspath(path), *settings]).encode())
    try:
        files = (
            sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        )
        for file in files:
            require_file(file)
            digest.update(
                f"\0{file.name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape")
            )
            with open(file, "rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def from_cache(stored: Path) -> tuple[CrystalDataset, list[Problem]] | None:
    """What `to_cache` wrote; None where there is nothing, or something else than it wrote."""
    try:
        record = json.loads(stored.with_suffix(".json").read_text(encoding="utf-8"))
        problems = [Problem(**entry) for entry in record["problems"]]
        dataset = CrystalDataset.load(stored)
        if record["hash"] != _hash(dataset, record["problems"]):
            return None
        return dataset, problems
    except (OSError, ValueError, TypeError, KeyError):
        return None


def to_cache(stored: Path, dataset: CrystalDataset, problems: list[Problem]) -> None:
    """Writes both; a cache that cannot be written is done without."""
    listed = [asdict(problem) for problem in problems]
    record = json.dumps({"problems": listed, "hash": _hash(dataset, listed)}).encode()
    with contextlib.suppress(OSError):
        dataset.save(stored)
        write_whole(stored.with_suffix(".json"), lambda file: file.write(record))


def _hash(dataset: CrystalDataset, problems: list[dict[str, Any]]) -> str:
    return hashlib.sha256((dataset.content_hash() + json.dumps(problems)).encode()).hexdigest()
