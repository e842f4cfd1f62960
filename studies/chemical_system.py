"""How far designed crystals are from their minimum: samples requests of every kind and relaxes what comes.

    python -m studies.chemical_system --samples=64 --requests=system

Needs the extra `relax`. 64 candidates take about 2 minutes to make and 10 to 20 to relax on one core. Writes
`results/chemical_system.json`: for each request the energy that SevenNet with D3 gains, eV a cell, how many candidates
are valid and hold exactly the elements that were asked for, with versions, seed, device and command. It replaces the
requests that it ran and keeps the others.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.designer import Design, Designer
from vdw_jax.report.relaxation import relax_crystal
from vdw_jax.structures.formula import parse_formula
from vdw_jax.structures.potentials import create_calculator
from vdw_jax.training.checkpoint import write_json_atomic
from vdw_jax.training.progress import Progress

OUT = Path(__file__).parents[1] / "results" / "chemical_system.json"

ENERGY = "formation_energy_ev"
LATTICE = "lattice_constant_angstrom"

REQUESTS: dict[str, dict[str, Any]] = {
    "system": {"chemical_system": "Ga-In-Se", "targets": {ENERGY: (-0.25, -0.15)}},
    "four_elements": {"chemical_system": "Ga-In-S-Se"},
    "formula": {"formula": "GaInSSe2"},
    "free_counts": {"formula": "GaInSSe2", "hold_counts": False},
    "energy": {"targets": {ENERGY: -0.2}},
    "range": {"targets": {ENERGY: (-0.3, -0.1)}},
    "two_targets": {"targets": {ENERGY: -0.2, LATTICE: 3.8}},
    "nothing": {},
}
"""Keyword arguments of `Designer.sample`, by the name of the request."""

PACKAGES = ("ase", "torch", "sevenn", "dftd3", "chgnet", "mace-torch")

LARGEST_FORCE_EV_PER_ANGSTROM = 0.01
LOW_GAIN_EV, MOST_GAIN_EV = 0.02, 0.1
"""What relaxation may gain, eV a cell: on average, and at most."""


def measure(request: dict[str, Any], designs: Sequence[Design], calculator: Any, quiet: bool) -> dict[str, Any]:
    """What is there, and what relaxation gains of it.

    Args:
      request: keyword arguments of `Designer.sample`.
      designs: what came.
      calculator: of ASE.
      quiet: shows no progress line.
    """
    gains, strains, problems = [], [], []
    with Progress(len(designs), "relaxing", quiet) as progress:
        for count, design in enumerate(designs, 1):
            _, told = relax_crystal(design.crystal, calculator, LARGEST_FORCE_EV_PER_ANGSTROM)
            if told["problem"] is None and told["converged"]:
                gains.append(told["energy_gained_ev"])
                strains.append(abs(told["strain"]))
            else:
                problems.append(f"{design.id}: {told['problem'] or 'not converged'}")
            progress.update(count)
    rows = [design.record for design in designs]
    found: dict[str, Any] = {
        "request": request,
        "candidates": len(designs),
        "valid": sum(bool(row["valid"]) for row in rows),
        "bilayers": sum(bool(row["bilayer"]) for row in rows),
        "problems": dict(Counter(row["problems"] for row in rows if not row["valid"])),
        "formulas": dict(Counter(row["formula"] for row in rows)),
        "not_relaxed": problems,
        "gained_ev": _spread(gains),
        "strain": _spread(strains),
    }
    if system := request.get("chemical_system"):
        wanted = set(parse_formula("".join(system.split("-"))))
        found["exactly_these_elements"] = sum(parse_formula(row["formula"]).keys() == wanted for row in rows)
    return found


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "largest": float(np.max(values)),
        "count": len(values),
    }


def _versions() -> dict[str, str]:
    """Of the packages that relax, those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def as_text(name: str, found: dict[str, Any]) -> str:
    """A line for the terminal."""
    count, gained = found["candidates"], found["gained_ev"]
    parts = [f"{found['valid']} of {count} valid, {found['bilayers']} bilayers"]
    if "exactly_these_elements" in found:
        parts.append(f"{found['exactly_these_elements']} of exactly the asked elements")
    if gained is not None:
        sound = gained["mean"] < LOW_GAIN_EV and gained["largest"] < MOST_GAIN_EV
        parts.append(
            f"relaxation gains {gained['mean']:.4f} eV a cell on average, {gained['largest']:.4f} at most "
            f"({'within' if sound else 'beyond'} {LOW_GAIN_EV} and {MOST_GAIN_EV})"
        )
        parts.append(f"strain {found['strain']['mean']:.4f} on average, {found['strain']['largest']:.4f} at most")
    if found["not_relaxed"]:
        parts.append(f"{len(found['not_relaxed'])} not relaxed")
    return f"{name}: {'; '.join(parts)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", metavar="N", type=int, default=64, help="candidates of each request")
    parser.add_argument("--requests", metavar="NAME,...", default="system", help=f"of {', '.join(REQUESTS)}, or all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--potential", default="sevennet", help="as for sample.py --relax")
    parser.add_argument("--out", metavar="FILE", type=Path, default=OUT)
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    given = parser.parse_args(arguments)
    names = list(REQUESTS) if given.requests == "all" else given.requests.split(",")
    if unknown := [name for name in names if name not in REQUESTS]:
        parser.error(f"no request {unknown[0]!r}; there are {', '.join(REQUESTS)}")
    calculator = create_calculator(given.potential)
    designer = Designer.from_pretrained()
    words = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "-m", "studies.chemical_system", *words])
    told = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    for name in names:
        started = time.monotonic()
        with Progress(given.samples, f"sampling {name}", given.quiet) as progress:
            designs = designer.sample(given.samples, seed=given.seed, on_progress=progress.update, **REQUESTS[name])
        found = measure(REQUESTS[name], designs, calculator, given.quiet)
        record = designs.request
        found |= {
            "seed": given.seed,
            "potential": given.potential,
            "largest_force_ev_per_angstrom": LARGEST_FORCE_EV_PER_ANGSTROM,
            "seconds": round(time.monotonic() - started),
            "device": record["device"],
            "versions": record["versions"] | _versions(),
            "weights_sha256": record["model"]["weights_sha256"],
            "command": command,
        }
        print(as_text(name, found))
        write_json_atomic(given.out, told := told | {name: found})


if __name__ == "__main__":
    main()
