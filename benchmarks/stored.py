"""Benchmarks in two halves: arrays made on an accelerator, one file a job, and scored elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.structures.arrays import read_arrays


def is_there(path: Path, setting: dict[str, Any], title: str) -> bool:
    """Whether the file of a job is there already; it says so.

    Raises:
      SystemExit: it is, and was made with other settings.
    """
    if not path.exists():
        return False
    record, _ = read_arrays(path)
    if {key: record.get(key) for key in setting} != setting:
        raise SystemExit(f"{path} was made with other settings; choose another --out")
    print(f"{title}: there already", file=sys.stderr)
    return True


def stored_in(folder: str) -> list[Path]:
    """The files of a folder, by name.

    Raises:
      SystemExit: there are none.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise SystemExit(f"{folder} holds no arrays; `generate` writes them")
    return paths


def _thinned(arrays: dict[str, np.ndarray], count: int | None) -> dict[str, np.ndarray]:
    """The same with `count` of the reconstructions, evenly spread; all if None or if there are fewer."""
    number = len(arrays["truth/cell"])
    rows = np.linspace(0, number - 1, number if count is None else min(count, number)).round().astype(int)
    return {name: values if name.startswith("free/") else values[rows] for name, values in arrays.items()}


def scored(
    folder: str, score: Callable[[dict[str, np.ndarray]], dict[str, Any]], reconstructions: int | None
) -> list[dict[str, Any]]:
    """The records of a folder, by name of their files, each with what `score` says of its arrays.

    Args:
      reconstructions: how many of each file are scored; all if None.
    """
    paths, records = stored_in(folder), []
    for number, path in enumerate(paths, 1):
        record, arrays = read_arrays(path)
        print(f"{path.name} ({number} of {len(paths)})", file=sys.stderr)
        arrays = _thinned(arrays, reconstructions)
        records.append(record | {"reconstructions": len(arrays["truth/cell"])} | score(arrays))
    return records


def how_made(records: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown that end a page: devices, versions, dates and commands."""

    def different(key: str) -> list[str]:
        return sorted({record[key] for record in records})

    facts = f"Device: {', '.join(different('device'))}; jax {', '.join(different('jax'))}"
    return [f"{facts}; date {', '.join(different('date'))}.", "", "```", *different("command"), "```", ""]


def add_scoring(
    parts: Any, run: Callable[[argparse.Namespace], None], makes: str, files: str
) -> argparse.ArgumentParser:
    """The command for CPU cores, `score`: what it makes, and which files hold it."""
    command = parts.add_parser("score", help=f"on CPU cores: {makes}")
    command.add_argument("arrays", help="folder that `generate` wrote")
    command.add_argument("--out", default="docs", help=f"folder of {files}")
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--reconstructions", type=int, help="score so many of each file; all by default")
    command.set_defaults(run=run)
    return command
