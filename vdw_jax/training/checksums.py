"""Checksums of a checkpoint: of its files, looked at before they are read, and of what is restored from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vdw_jax.training.devices import in_any_process

CHECKSUMS = "__checksums__"
"""Name of the leaf that holds those of the others; steps from before have none."""

FILES_NAME = "files.json"
"""Beside the steps: sha256 of every file of each."""


def sums_of_files(directory: Path, steps: Sequence[int], new: int) -> dict[str, dict[str, str]]:
    """sha256 by step and path: of the new step, and what was written of the others that are still there."""
    sums = _recorded(directory)
    kept = {str(step): sums[str(step)] for step in steps if str(step) in sums}
    return kept | {str(new): _of_step(directory / str(new))}


def check_files(directory: Path, step: int) -> None:
    """That the files of a step are those that were written, where that is on record.

    It is only for a clear message, and none of the tracebacks that readers print on damaged files: `compare` decides.

    Raises:
      ValueError: one is missing, damaged or new; names it.
    """
    expected = _recorded(directory).get(str(step))
    if not isinstance(expected, dict):
        return
    found = _of_step(directory / str(step))
    wrong = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    if wrong:
        raise ValueError(f"checksums differ of the files {some(wrong)}")


def _recorded(directory: Path) -> dict[str, Any]:
    try:
        sums = json.loads((directory / FILES_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return sums if isinstance(sums, dict) else {}


def _of_step(folder: Path) -> dict[str, str]:
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                sums[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def checksums(leaves: Mapping[str, Any], step: int, figure: float | None) -> np.ndarray:
    """sha256 of the whole (step, validation figure, names), then of each leaf by its name in order; [n + 1, 32] uint8.

    Every process computes all of them, from arrays that are split over processes too.
    """
    names = sorted(leaves)
    rows = [hashlib.sha256(json.dumps([step, figure, names]).encode()).digest()]
    for name in names:
        values = _on_host(leaves[name])
        digest = hashlib.sha256(f"{name}|{values.dtype}|{values.shape}|".encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(values).tobytes())
        rows.append(digest.digest())
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)


def _on_host(leaf: Any) -> np.ndarray:
    is_split = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True) if is_split else leaf)


def compare(found: np.ndarray, expected: np.ndarray, names: list[str]) -> None:
    wrong = [name for name, is_same in zip(["", *names], (found == expected).all(-1), strict=True) if not is_same]
    if in_any_process(bool(wrong)):
        parts = [name or "the step, its validation figure or the names" for name in wrong]
        raise ValueError(f"checksums differ: {some(parts)}" if wrong else "checksums differ in another process")


def some(names: Any, most: int = 4) -> str:
    """The first few of several names, in words."""
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
