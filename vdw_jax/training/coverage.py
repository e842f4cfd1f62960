"""What a model covers, as `model.json` records it under `coverage`.

    python -m vdw_jax.training.coverage DIR

writes it into an export that was made before there was one; the weights stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.families import Family, families_of
from vdw_jax.structures.formula import parse_formula
from vdw_jax.structures.source import load_configured
from vdw_jax.structures.splits import split_dataset
from vdw_jax.training.checkpoint import write_json_atomic
from vdw_jax.training.facts import OWN_KEY, own_sha256, read_facts
from vdw_jax.types import SLAB

VERSION = 1
MOST_NAMED = 12
"""Elements that a sentence names; of more it gives the number."""


def coverage_record(facts: Mapping[str, Any], train_part: CrystalDataset | None = None) -> dict[str, Any]:
    """What a model covers, as JSON: docs/report.md describes the keys.

    Args:
      facts: the rest of `model.json`: `model`, `elements`, `atom_counts`, `formulas`, `scalar_range`.
      train_part: what it learned from; None leaves `layers` empty.
    """
    elements, atom_counts = facts["elements"], facts["atom_counts"]
    is_slab = tuple(facts["model"].get("periodicity", SLAB)) == SLAB
    formulas = [parse_formula(formula) for formula in facts["formulas"]]
    families = families_of(formulas, elements, atom_counts) if is_slab else ()
    symbols = [SYMBOLS[number - 1] for number in elements]
    return {
        "version": VERSION,
        "summary": _summary(families, symbols, atom_counts),
        "periodicity": "slab" if is_slab else "bulk",
        "elements": symbols,
        "atom_counts": list(atom_counts),
        "families": [family.to_dict() for family in families],
        "compositions": [] if families else list(facts["formulas"]),
        "scalar_range": {name: list(ends) for name, ends in facts["scalar_range"].items()},
        "layers": _layers(train_part),
    }


def _layers(train_part: CrystalDataset | None) -> dict[str, Any]:
    from vdw_jax.metrics.layer_validity import layer_ranges  # crystal libraries, which training does not need

    return {} if train_part is None else layer_ranges(train_part)


def _summary(families: Sequence[Family], symbols: Sequence[str], atom_counts: Sequence[int]) -> str:
    """Which materials, in a part of a sentence."""
    if families:
        (family,) = families
        sites = (", ".join(SYMBOLS[number - 1] for number in numbers) for numbers in family.sites.values())
        what = f"{family.name} of {' with '.join(sites)}"
    elif len(symbols) <= MOST_NAMED:
        what = f"structures of {', '.join(symbols)}"
    else:
        what = f"structures of {len(symbols)} elements"
    return f"{what}; {as_list(atom_counts)} atoms a cell"


def as_list(numbers: Sequence[int]) -> str:
    """`8, 9 or 10`; runs of more than three as `2 to 20`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts: list[str] = []
    for run in runs:
        parts += [f"{run[0]} to {run[-1]}"] if len(run) > 3 else map(str, run)
    return " or ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    parser = argparse.ArgumentParser(description="Writes what a model covers into its model.json.")
    parser.add_argument("directory", metavar="DIR", help="an export of train.py")
    path = Path(parser.parse_args(arguments).directory) / "model.json"
    try:
        facts = read_facts(path)
        told = facts["config"]["data"]
        data = load_configured(told)
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise SystemExit(f"{path}: {error}") from None
    if data.content_hash() != facts["data_hash"]:
        raise SystemExit(f"{path}: the data set is not the one that this model learned from")
    train_part = data.select(split_dataset(data, told["split_seed"], by=told["split"])["train"])
    record = coverage_record(facts, train_part)
    content = facts | {"coverage": record}
    if content.pop(OWN_KEY, None) is not None:
        content[OWN_KEY] = own_sha256(content)
    write_json_atomic(path, content)
    print(f"{path}: covers {record['summary']}")


if __name__ == "__main__":
    main()
