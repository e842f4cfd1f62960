"""Whether structures of one's own can be learned from: `python -m vdw_jax.structures.check PATH`.

Names every problem by file, row and field with what to do about it, and sums up what is left. PATH is any of the
files that `vdw_jax.structures.load` lists. Exit code 0: all good; 1: problems; 2: nothing that can be used.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter

import numpy as np

from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.load import PERIODICITIES, load_structures
from vdw_jax.types import SLAB


def summary(dataset: CrystalDataset) -> list[str]:
    """What a data set holds, in lines: kind, atoms a cell, elements, formulas, properties with their ranges."""
    atoms = sorted(Counter(dataset.num_atoms.tolist()).items())
    elements = [SYMBOLS[z - 1] for z in np.unique(dataset.atomic_numbers) if z > 0]
    formulas = Counter(dataset.formula(row) for row in range(len(dataset)))
    common = ", ".join(f"{formula} ({count})" for formula, count in formulas.most_common(5))
    counts = ", ".join(f"{size} ({count})" for size, count in atoms)
    lines = [
        f"kind        {_kind(dataset)}",
        f"atoms       a cell: {counts}",
        f"elements    {' '.join(elements)}",
        f"formulas    {len(formulas)} different, most often {common}",
    ]
    for name, values in dataset.scalars.items():
        lines.append(f"property    {name}: {_range(values)}")
    if not dataset.scalars:
        lines.append("property    none: there is nothing but formulas to ask for")
    if dataset.metadata:
        lines.append(f"other       {', '.join(dataset.metadata)}")
    return lines


def _kind(dataset: CrystalDataset) -> str:
    if dataset.periodicity != SLAB:
        return "crystals, periodic along a, b and c"
    height = dataset.slab_height
    return (
        f"slabs, {height.min():.1f} to {height.max():.1f} Angstrom high; c is the stacking axis, vacuum is dropped"
    )


def _range(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "no value"
    note = "; it never varies: no use as a condition" if known.min() == known.max() else ""
    return f"{len(known)} of {len(values)}, {known.min():.5g} to {known.max():.5g}{note}"


def train_command(dataset: CrystalDataset, path: str, periodicity: str, has_problems: bool) -> str:
    """How to learn from it; a property that varies is the condition."""
    names = [name for name, v in dataset.scalars.items() if np.nanmin(v, initial=0) != np.nanmax(v, initial=0)]
    settings = {"path": path, "scalars": names[0] if names else "", "max_atoms": dataset.num_atoms.max()}
    if periodicity != "auto":
        settings["periodicity"] = periodicity
    if has_problems:
        settings["skip_problems"] = True
    words = [shlex.quote(f"--config.data.{name}={value}") for name, value in settings.items()]
    return " ".join(["python train.py --config=configs/custom.py", *words, "--workdir=runs/mine"])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("path", help=".csv, .extxyz, .db, .json, .npz, .cif or a folder of .cif")
    parser.add_argument("--scalars", default="", help="only these properties, as a,b; every number by default")
    parser.add_argument("--max_atoms", type=int, default=20, help="most atoms a cell may have")
    parser.add_argument("--periodicity", choices=PERIODICITIES, default="auto", help="auto: what most of them are")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    given = parser.parse_args()
    names = [name.strip() for name in given.scalars.split(",") if name.strip()]
    try:
        dataset, problems = load_structures(
            given.path, names, max_atoms=given.max_atoms, periodicity=given.periodicity, on_error="skip",
            use_cache=False, quiet=given.quiet,
        )  # fmt: skip
    except DataError as error:
        print(f"check: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for problem in problems:
        print(problem)
    bad = len({(problem.file, problem.row) for problem in problems})
    print(f"\n{len(dataset)} structures of {given.path} can be used" + (f", {bad} can not" if bad else ""))
    if not len(dataset):
        raise SystemExit(2)
    print("\n".join(summary(dataset)))
    print("\nTo learn from them:\n" + train_command(dataset, given.path, given.periodicity, bool(problems)))
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
