"""Data sets by name: what training asks for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from vdw_jax.structures.dataset import CrystalDataset, concatenate, with_properties
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.files import SHIPPED

SOURCES = ("j2dh8", "iii_vi", "j2dh8+iii_vi", "file")


def load_relaxed(family: str) -> tuple[CrystalDataset, dict[str, Any]]:
    """A shipped data set ("j2dh8", "iii_vi", or the free "layers") and how it was made.

    Raises:
        DataError: no such family.
    """
    path = SHIPPED / f"{family}.json"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.npz")))
        raise DataError(f"no relaxed data set {family!r}; there are {known}")
    return CrystalDataset.load(SHIPPED / f"{family}.npz"), json.loads(path.read_text(encoding="utf-8"))


def load_source(
    name: str,
    *,
    path: str | os.PathLike[str] | None = None,
    properties: Sequence[str] = (),
    max_atoms: int = 20,
    periodicity: str = "auto",
    skip_problems: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = True,
) -> CrystalDataset:
    """Load a data set.

    Args:
        name: "j2dh8", "iii_vi" or "j2dh8+iii_vi" (relaxed and labelled); not read where there is a path, "file" if
            there has to be one.
        path: a file or folder of one's own, as in `load.load_structures`.
        properties: scalars to keep; empty keeps all of them. docs/dataset.md lists those of the families.
        max_atoms: most atoms a crystal may have.
        periodicity: of a file; "slab", "bulk" or "auto".
        skip_problems: leave out what is wrong in a file instead of stopping at it.
        cache_dir: where parsed files are kept.
        quiet: no progress line.

    Raises:
        DataError: an unknown name or property, no path, a structure that cannot be used, or a crystal that is too
            large.
    """
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}; choose one of {', '.join(SOURCES)}")
    if path is not None:
        from vdw_jax.structures.load import load_structures  # crystal libraries, which the families do not need

        on_error = "skip" if skip_problems else "raise"
        dataset, _ = load_structures(
            path, properties, max_atoms=max_atoms, periodicity=periodicity, on_error=on_error, cache_dir=cache_dir,
            quiet=quiet,
        )  # fmt: skip
        return dataset
    if name == "file":
        raise DataError("no file is named: set data.path, as in --config.data.path=my.csv")
    parts = [load_relaxed(family)[0] for family in name.split("+")]
    dataset = parts[0] if len(parts) == 1 else concatenate(parts)
    largest = int(dataset.num_atoms.max())
    if largest > max_atoms:
        raise DataError(f"data set {name!r} has crystals of {largest} atoms; max_atoms is {max_atoms}")
    return with_properties(dataset, properties) if properties else dataset


def load_configured(told: Mapping[str, Any], *, quiet: bool = True) -> CrystalDataset:
    """The data set of the section `data` of a config: `source`, `scalars`, `max_atoms`, and what there is of the rest.

    Raises:
        DataError: as `load_source`.
    """
    return load_source(
        told["source"], path=told.get("path") or None, properties=tuple(told["scalars"]), max_atoms=told["max_atoms"],
        periodicity=told.get("periodicity", "auto"), skip_problems=told.get("skip_problems", False), quiet=quiet,
    )  # fmt: skip
