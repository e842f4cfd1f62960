"""What can be said about a crystal by looking at it, as a row of a table."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import spglib
from pymatgen.core import Element

from vdw_jax.metrics.layer_validity import crystal_problems, lattice_constant_angstrom, layer_problems
from vdw_jax.metrics.layers import find_layers, layer_names, species_sequence
from vdw_jax.metrics.stacking import stacking_signature
from vdw_jax.metrics.validity import check_validity, min_distance
from vdw_jax.report.crystal import Crystal

UNKNOWN = "-"
"""Stands where a text cannot be given."""

SYMPREC_ANGSTROM = 0.1


def describe(
    crystal: Crystal,
    symprec_angstrom: float = SYMPREC_ANGSTROM,
    *,
    layer_ranges: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything the table of samples says about one crystal. Never raises, however odd the crystal.

    Keys: `formula`, `atoms`, `valid` (no `problems`), `problems` (`layer_validity.layer_problems`, of bulk
    `crystal_problems`; `-` for none), `structure_valid` and `composition_valid` (CDVAE's tests),
    `min_distance_angstrom`, `lattice_constant_angstrom` (of a slab: root of a x b over root of sin 120 degrees),
    `thickness_angstrom` (of a slab: its highest atom over its lowest), `layers`, `gap_angstrom` (of the facing planes;
    the smallest where there are several), `bilayer`, `layer_names`, `spacegroup` (spglib, of a slab with its vacuum),
    `layer_group` (spglib, of a slab), `sequence` (species along z, the same for the flip), `stacking`
    (`stacking.stacking_signature`).

    What does not apply (layers of bulk) or cannot be computed is None where a number or a verdict is
    expected and `-` where a text is.

    Args:
      crystal: any.
      symprec_angstrom: tolerance of the space group.
      layer_ranges: what the training data have, as `layer_validity.layer_ranges` makes it: another number of layers, or
        one that is thicker or farther away, is a problem. Without it any number of layers is none.
    """
    problems = _problems(crystal, layer_ranges or None)
    validity = check_validity(crystal.atomic_numbers, crystal.positions, crystal.cell, crystal.periodicity)
    row: dict[str, Any] = {
        "formula": crystal.formula,
        "atoms": len(crystal.atomic_numbers),
        "valid": not problems,
        "problems": "; ".join(problems) or UNKNOWN,
        "structure_valid": validity.structure,
        "composition_valid": validity.composition,
        "min_distance_angstrom": None,
        "lattice_constant_angstrom": None,
        "thickness_angstrom": None,
        "layers": None,
        "gap_angstrom": None,
        "bilayer": None,
        "layer_names": UNKNOWN,
        "spacegroup": spacegroup(crystal, symprec_angstrom),
        "layer_group": layer_group(crystal, symprec_angstrom),
        "sequence": UNKNOWN,
        "stacking": UNKNOWN,
    }
    # Each of these may fail by itself: ugly crystals are what a table of samples has to show.
    with contextlib.suppress(Exception):
        shortest = min_distance(crystal.positions, crystal.cell, crystal.periodicity)
        row["min_distance_angstrom"] = shortest if np.isfinite(shortest) else None
    if not crystal.is_slab or not crystal.is_finite or len(crystal.atomic_numbers) == 0:
        return row
    with contextlib.suppress(Exception):
        row.update(_describe_layers(crystal))
    with contextlib.suppress(Exception):
        sequence = species_sequence(crystal.atomic_numbers, crystal.positions)
        row["sequence"] = "-".join(Element.from_Z(number).symbol for number in sequence)
    with contextlib.suppress(Exception):
        slab = (crystal.atomic_numbers, crystal.positions, crystal.cell)
        row["stacking"] = stacking_signature(slab) or UNKNOWN
    return row


def _problems(crystal: Crystal, layer_ranges: Mapping[str, Any] | None) -> tuple[str, ...]:
    structure = crystal.atomic_numbers, crystal.positions, crystal.cell
    if not crystal.is_slab:
        return crystal_problems(*structure, crystal.periodicity)
    num_layers = int(layer_ranges["num_layers"][0]) if layer_ranges else None
    return layer_problems(*structure, num_layers=num_layers, ranges=layer_ranges or None)


def _describe_layers(crystal: Crystal) -> dict[str, Any]:
    stack = find_layers(crystal.atomic_numbers, crystal.positions, crystal.cell)
    return {
        "lattice_constant_angstrom": lattice_constant_angstrom(crystal.cell),
        "thickness_angstrom": float(np.ptp(crystal.positions[:, 2])),
        "layers": stack.num_layers,
        "gap_angstrom": min(stack.gaps_angstrom) if stack.gaps_angstrom else None,
        "bilayer": stack.is_bilayer,
        "layer_names": layer_names(crystal.atomic_numbers, crystal.positions, stack),
    }


def spacegroup(crystal: Crystal, symprec_angstrom: float = SYMPREC_ANGSTROM) -> str:
    """International symbol and number, `P3m1 (156)`; `-` where spglib finds none.

    A slab is taken with its vacuum as periodic in c, so its group is the three-dimensional one.

    Args:
      crystal: any.
      symprec_angstrom: tolerance of spglib.
    """
    return _group(crystal, lambda cell: spglib.get_symmetry_dataset(cell, symprec=symprec_angstrom))


def layer_group(crystal: Crystal, symprec_angstrom: float = SYMPREC_ANGSTROM) -> str:
    """Symbol and number of a slab's layer group, `p3m1 (69)`; `-` for bulk, and where spglib finds none."""
    if not crystal.is_slab:
        return UNKNOWN
    return _group(crystal, lambda cell: spglib.get_layergroup(cell, 2, symprec_angstrom))


def _group(crystal: Crystal, find: Callable[[Any], Any]) -> str:
    """Symbol and number of what spglib finds for a cell; `-` where it finds nothing."""
    if not crystal.is_finite or len(crystal.atomic_numbers) == 0:
        return UNKNOWN
    try:
        fractional = np.linalg.solve(crystal.cell.T, crystal.centred_positions().T).T
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = find((crystal.cell.tolist(), fractional.tolist(), crystal.atomic_numbers.tolist()))
    except Exception:  # singular cells, overlapping atoms: spglib has no common error
        return UNKNOWN
    return f"{found.international} ({found.number})" if found is not None else UNKNOWN


def sample_rows(
    crystals: Sequence[Crystal],
    asked: Sequence[Mapping[str, Any]] | None = None,
    predicted: Sequence[Mapping[str, Any]] | None = None,
    *,
    layer_ranges: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The rows that `writer.write_samples` takes: what was asked, what is predicted, and what is there.

    Args:
      crystals: the samples.
      asked: for each, what was asked of it, as `{"formula": "GaInSSe2"}`; columns `asked_formula`, ...
      predicted: for each, what the model's property head says; columns `predicted_...`.
      layer_ranges: as for `describe`.

    Raises:
      ValueError: the lists differ in length.
    """
    nothing: list[Mapping[str, Any]] = [{} for _ in crystals]
    asked = nothing if asked is None else asked
    predicted = nothing if predicted is None else predicted
    if not len(crystals) == len(asked) == len(predicted):
        raise ValueError(f"{len(crystals)} crystals, {len(asked)} asked, {len(predicted)} predicted")
    rows = []
    for crystal, wish, guess in zip(crystals, asked, predicted, strict=True):
        described = describe(crystal, layer_ranges=layer_ranges)
        row: dict[str, Any] = {"id": crystal.id, "formula": described.pop("formula")}
        row |= {f"asked_{key}": value for key, value in wish.items()}
        row |= {f"predicted_{key}": value for key, value in guess.items()}
        rows.append(row | described)
    return rows
