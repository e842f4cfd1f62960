"""Are layers recognised whatever they are made of? Rates on public data of two-dimensional materials.

    python -m studies.layer_recognition              # docs/layer_recognition.md and .json; 1 to 2 minutes of one core

The data (`../shared/data/2d`, see its README) hold slabs whose layers are known: a homobilayer lists the atoms of
its first layer, then those of the second, a monolayer is one layer. Without the data it says so and ends.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import gzip
import itertools
import json
import platform
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import ase
import numpy as np
import scipy
from ase.data import atomic_numbers as number_of
from numpy.typing import NDArray

from vdw_jax.metrics.contacts import find_contacts
from vdw_jax.metrics.layers import FIRM, FIRM_OF_SEVERAL, LOOSE, STEP, LayerStack, find_layers
from vdw_jax.structures.files import write_whole
from vdw_jax.structures.source import load_relaxed

DATA = Path(__file__).parents[2] / "shared" / "data" / "2d"
PAGE = Path("docs/layer_recognition.md")

BONDED = 1.2
"""Shortest contact of two layers over the sum of the covalent radii, below which they are called bonded."""

TARGETS = {"homobilayers": 0.97, "heterobilayers": 0.95, "monolayers": 0.01}
FILES = {
    "homobilayers": "bidb_homobilayers.extxyz.gz",
    "heterobilayers": "hetdb_twisted_heterobilayers.extxyz.gz",
    "monolayers": "c2db_monolayers.extxyz.gz",
}
SHIPPED = ("j2dh8", "iii_vi")
RANDOM_HALVES = 5


@dataclass(frozen=True)
class Row:
    """What was found for one structure."""

    id: str
    is_bilayer: bool
    num_layers: int
    kind: str
    """Why it is no bilayer, or what is odd; empty where nothing is."""
    shortest: float | None
    """Shortest contact of the two layers as the data name them, over the sum of the covalent radii."""
    reduced: float | None
    """The least reduced distance of those contacts: 0 for a bond, 1 for a van der Waals contact."""


def read_slabs(path: Path) -> Iterator[tuple[str, NDArray, NDArray, NDArray]]:
    """Id, atomic numbers [n], positions [n, 3] and cell [3, 3] (Angstrom) of each frame of a gzipped extended XYZ."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            header = shlex.split(next(file))
            fields = dict(word.split("=", 1) for word in header if "=" in word)
            atoms = [next(file).split() for _ in range(int(line))]
            numbers = np.array([number_of[atom[0]] for atom in atoms])
            positions = np.array([atom[1:4] for atom in atoms], dtype=float)
            cell = np.array(fields["Lattice"].split(), dtype=float).reshape(3, 3)
            yield fields["id"], numbers, positions, cell


def contact_of_halves(numbers: NDArray, positions: NDArray, cell: NDArray) -> tuple[float, float]:
    """Shortest contact of the first half of the atoms with the second: over the covalent radii, and reduced."""
    contacts = find_contacts(numbers, positions, cell)
    half = len(numbers) // 2
    across = contacts.select((contacts.first < half) != (contacts.second < half))
    if len(across.distances) == 0:
        return float("inf"), float("inf")
    return float((across.distances / across.covalent).min()), float(across.reduced.min())


def kind_of_failure(stack: LayerStack, reduced: float) -> str:
    """Why a homobilayer is not recognised as two layers."""
    if not all(layer.is_sheet for layer in stack.layers):
        return "pieces that are no sheets"
    if stack.num_layers > 2:
        return "more than two sheets"
    if stack.num_layers == 2:
        return "too far apart"
    if reduced <= FIRM:
        return "layers in contact like a bond"
    return "no step between the contacts within and across"


def row_of(name: str, identifier: str, numbers: NDArray, positions: NDArray, cell: NDArray) -> Row:
    """Looks at one structure of the data set `name`."""
    stack = find_layers(numbers, positions, cell)
    if name != "homobilayers":
        expected = stack.num_layers == 1 if name == "monolayers" else stack.is_bilayer
        kind = "" if expected else f"{stack.num_layers} layers"
        return Row(identifier, stack.is_bilayer, stack.num_layers, kind, None, None)
    shortest, reduced = contact_of_halves(numbers, positions, cell)
    kind = "" if stack.is_bilayer else kind_of_failure(stack, reduced)
    half = len(numbers) // 2
    if stack.is_bilayer and set(stack.layers[0].indices) not in (set(range(half)), set(range(half, 2 * half))):
        kind = "two sheets, but not the two layers"
    return Row(identifier, stack.is_bilayer, stack.num_layers, kind, shortest, reduced)


def look(name: str, every: int) -> list[Row]:
    """A row for each structure of a data set, or for every so many of them."""
    slabs = itertools.islice(read_slabs(DATA / FILES[name]), 0, None, every)
    return [row_of(name, *slab) for slab in slabs]


def look_at_shipped(family: str, every: int) -> list[Row]:
    """The same for the slabs that ship with the package; they are bilayers by construction."""
    data, _ = load_relaxed(family)
    rows = []
    for row in range(0, len(data), every):
        size = int(data.num_atoms[row])
        stack = find_layers(data.atomic_numbers[row, :size], data.positions[row, :size], data.cell[row])
        kind = "" if stack.is_bilayer else f"{stack.num_layers} layers"
        rows.append(Row(str(data.ids[row]), stack.is_bilayer, stack.num_layers, kind, None, None))
    return rows


def rate(rows: list[Row]) -> float:
    """Share of bilayers."""
    return float(np.mean([row.is_bilayer for row in rows]))


def halves(rows: list[Row], seed: int) -> list[tuple[float, float]]:
    """Rates of random halves, to see that no limit was chosen for single rows."""
    random = np.random.default_rng(seed)
    verdicts = np.array([row.is_bilayer for row in rows])
    found = []
    for _ in range(RANDOM_HALVES):
        order = random.permutation(len(verdicts))
        middle = len(order) // 2
        found.append((float(verdicts[order[:middle]].mean()), float(verdicts[order[middle:]].mean())))
    return found


def summary_of(rows: list[Row], seed: int) -> dict[str, object]:
    """What is written of one data set."""
    summary: dict[str, object] = {
        "structures": len(rows),
        "bilayer_rate": rate(rows),
        "halves": halves(rows, seed),
        "kinds": dict(collections.Counter(row.kind for row in rows if row.kind)),
        "not_as_expected": [asdict(row) for row in rows if row.kind],
    }
    with_contact = [row for row in rows if row.shortest is not None]
    if with_contact:
        bonded = [row for row in with_contact if row.shortest < BONDED]
        summary["bonded"] = [asdict(row) for row in bonded]
        apart = [row for row in with_contact if row.shortest >= BONDED]
        summary["bilayer_rate_of_not_bonded"] = rate(apart)
    return summary


def layer_of(identifier: str) -> str:
    """The layer that an id of a homobilayer begins with."""
    return "-".join(identifier.split("-")[:2])


def page(record: dict) -> str:
    """The Markdown page."""
    sets, versions = record["sets"], record["versions"]
    homobilayers = sets["homobilayers"]
    bonded = homobilayers["bonded"]
    as_two = sum(row["is_bilayer"] for row in bonded)
    apart = homobilayers["bilayer_rate_of_not_bonded"]
    lines = [
        "# Recognition of layers",
        "",
        "How `vdw_jax.metrics.layers.find_layers` does on slabs whose layers are known. Written by",
        f"`{record['command']}` on {record['date']},",
        f"with ASE {versions['ase']} and SciPy {versions['scipy']}.",
        "",
        "A layer is told by its bonds. Contacts are read on a scale from 0 (sum of the covalent radii,",
        "Cordero 2008) to 1 (sum of the van der Waals radii, Alvarez 2013).",
        f"Contacts above {LOOSE} hold nothing together. A sheet is split into several where the contacts",
        f"between those are above {FIRM} ({FIRM_OF_SEVERAL} for more than two layers)",
        f"and longer by {STEP} than the contacts that each of them needs to be a sheet.",
        "",
        "| data | structures | counted as bilayers | target | random halves |",
        "|---|---|---|---|---|",
        *(_table_row(name, found) for name, found in sets.items()),
        "",
        "## Homobilayers",
        "",
        f"In {len(bonded)} of them the shortest contact of the two layers is under {BONDED} times",
        f"the sum of the covalent radii: these layers are bonded. {len(bonded) - as_two} are found as one",
        f"sheet, {as_two} as two, because the bonds within their layers are clearly shorter still.",
        f"Of the others {apart:.2%} count as bilayers.",
        "",
        f"Bonded, by layer (number of stackings): {_counted(bonded)}",
        "",
        "Not as expected, by kind and layer (number of stackings):",
        "",
    ]
    for kind, count in sorted(homobilayers["kinds"].items(), key=lambda item: -item[1]):
        rows = [row for row in homobilayers["not_as_expected"] if row["kind"] == kind]
        lines.append(f"- {kind} ({count}): {_counted(rows)}")
    for name in ("heterobilayers", "monolayers", *SHIPPED):
        rows = sets[name]["not_as_expected"]
        if rows:
            names = ", ".join(f"{row['id']} ({row['num_layers']})" for row in rows)
            heading = f"## {name.capitalize() if name in FILES else f'Shipped data set {name}'}"
            lines += ["", heading, "", f"Another number of layers than expected: {names}."]
    return "\n".join(lines) + "\n"


def _table_row(name: str, found: dict) -> str:
    target = ""
    if name in TARGETS:
        target = f"{'under' if name == 'monolayers' else 'at least'} {TARGETS[name]:.0%}"
    ends = [value for pair in found["halves"] for value in pair]
    cells = [name, f"{found['structures']:,}", f"{found['bilayer_rate']:.2%}", target]
    cells.append(f"{min(ends):.2%} to {max(ends):.2%}")
    return f"| {' | '.join(cells)} |"


def _counted(rows: list[dict]) -> str:
    counts = collections.Counter(layer_of(row["id"]) for row in rows)
    return ", ".join(f"{layer} ({count})" for layer, count in counts.most_common())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; the JSON goes beside it")
    parser.add_argument("--every", type=int, default=1, help="look at every so many structures of each set")
    parser.add_argument("--seed", type=int, default=0, help="of the random halves")
    given = parser.parse_args()
    if not all((DATA / name).exists() for name in FILES.values()):
        print(f"no data in {DATA}; nothing was done")
        return
    rows = {name: look(name, given.every) for name in FILES}
    rows |= {family: look_at_shipped(family, given.every) for family in SHIPPED}
    record = {
        "command": shlex.join(["python", "-m", "studies.layer_recognition", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "ase": ase.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "limits": {"loose": LOOSE, "firm": FIRM, "firm_of_several": FIRM_OF_SEVERAL, "step": STEP},
        "sets": {name: summary_of(found, given.seed) for name, found in rows.items()},
    }
    for name, found in record["sets"].items():
        print(f"{name}: {found['bilayer_rate']:.2%} of {found['structures']} count as bilayers; {found['kinds']}")
    text = json.dumps(record, indent=1) + "\n"
    write_whole(given.out.with_suffix(".json"), lambda file: file.write(text.encode()))
    write_whole(given.out, lambda file: file.write(page(record).encode()))


if __name__ == "__main__":
    main()
