"""What `check` says of a file: problems, a summary, and how to learn from what can be used."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from typing import Any

import numpy as np

from vdw_jax.metrics.layers import find_layers
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.load import Loaded, too_large
from vdw_jax.structures.names import names_as_text
from vdw_jax.structures.values import shortest_digits, targets
from vdw_jax.types import SLAB


def report(loaded: Loaded, given: argparse.Namespace) -> list[str]:
    """All lines.

    Args:
        loaded: the file.
        given: `path`, `max_atoms`, `periodicity` and `each` of the command line.
    """
    dataset, problems = loaded.dataset, loaded.problems
    lines = [str(problem) for problem in problems if given.each or not problem.num_atoms]
    large = too_large(problems, given.max_atoms, "--max_atoms")
    if large:
        lines.append(large if given.each else f"{large}. --each lists them")
    bad = len({(problem.file, problem.row) for problem in problems})
    usable = f"{len(dataset)} structures of {given.path} can be used"
    lines += ["", usable + (f", {bad} can not" if bad else "")]
    lines += [f"note        {note}" for note in loaded.notes]
    if not len(dataset):
        return lines
    lines += summary(dataset)
    left_out = f" (this leaves out {bad} of {bad + len(dataset)} structures)" if bad else ""
    command = train_command(dataset, given.path, given.periodicity, bool(problems))
    return [*lines, "", f"To learn from them{left_out}:", command]


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
    proposed, reasons = targets(dataset.scalars)
    for name, reason in reasons.items():
        lines.append(f"note        {name} is not proposed to train on: {reason}")
    if reasons and not proposed:
        lines.append("note        no property is left: there is nothing but formulas to ask for")
    return lines


def _kind(dataset: CrystalDataset) -> str:
    if dataset.periodicity != SLAB:
        return "crystals, periodic along a, b and c"
    height = dataset.slab_height
    heights = f"{height.min():.1f} to {height.max():.1f}"
    return f"slabs, {heights} Angstrom high; c is the stacking axis, vacuum is dropped"


def _range(values: np.ndarray) -> str:
    known = values[np.isfinite(values)].astype(float)
    if not len(known):
        return "no value"
    digits = shortest_digits(known)
    return f"{len(known)} of {len(values)}, {known.min():.{digits}g} to {known.max():.{digits}g}"


def train_command(dataset: CrystalDataset, path: str, periodicity: str, has_problems: bool) -> str:
    """How to learn from it; the first property that says something is the condition."""
    proposed, _ = targets(dataset.scalars)
    settings: dict[str, Any] = {
        "data.path": path,
        "data.scalars": names_as_text(proposed[:1]),
        "data.max_atoms": dataset.num_atoms.max(),
    }
    if periodicity != "auto":
        settings["data.periodicity"] = periodicity
    if has_problems:
        settings["data.skip_problems"] = True
    settings |= settings_that_fit(dataset)
    words = [shlex.quote(f"--config.{name}={value}") for name, value in settings.items()]
    return " ".join(["python train.py --config=configs/custom.py", *words, "--workdir=runs/mine"])


def settings_that_fit(dataset: CrystalDataset) -> dict[str, Any]:
    """Settings of the training, beside those of configs/custom.py, with which it fits in the memory of this machine."""
    del dataset
    return {}


def as_json(loaded: Loaded) -> dict[str, list[dict[str, Any]]]:
    """Structures that can be used, and everything that is wrong with the others."""
    dataset = loaded.dataset
    structures = [
        {
            "id": str(dataset.ids[row]),
            "formula": dataset.formula(row),
            "num_atoms": int(dataset.num_atoms[row]),
            "periodicity": "slab" if dataset.periodicity == SLAB else "bulk",
            "layers": num_layers(dataset, row),
        }
        for row in range(len(dataset))
    ]
    problems = [
        {
            "file": problem.file,
            "row": problem.row,
            "field": problem.field,
            "message": problem.message,
        }
        for problem in loaded.problems
    ]
    return {"structures": structures, "problems": problems}


def num_layers(dataset: CrystalDataset, row: int) -> int | None:
    """Bonded sheets of a slab; None for a crystal, or where bonds cannot be searched for."""
    if dataset.periodicity != SLAB:
        return None
    real = dataset.atomic_numbers[row] > 0
    positions, cell = dataset.positions[row][real].astype(float), dataset.cell[row].astype(float)
    try:
        stack = find_layers(dataset.atomic_numbers[row][real], positions, cell)
    except ValueError:
        return None
    return sum(layer.is_sheet for layer in stack.layers)
