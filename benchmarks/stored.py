"""Benchmarks in two halves: arrays made on an accelerator, one file a job, and scored elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

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
