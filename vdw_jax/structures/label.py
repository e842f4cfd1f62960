"""Relaxation and labels of a family: free layers once, then stacks block by block, then the data set of both."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from vdw_jax.structures.dataset import CrystalDataset, slab_dataset
from vdw_jax.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.layers import hexagonal_vectors, layer_name, make_layer
from vdw_jax.structures.potentials import Potential
from vdw_jax.structures.relax import Relaxed, relax
from vdw_jax.structures.stacking import VACUUM_ANGSTROM

LABEL = "formation_energy_ev"
"""E(bilayer) - E(layer 1) - E(layer 2), each layer relaxed alone; eV a cell."""

SECOND_GAP_ANGSTROM = 0.5
"""The second start is this much wider than the first."""

BOUND_GAP_ANGSTROM = (2.0, 5.0)

SYMMETRY_TOLERANCE_ANGSTROM = 0.01

OK, NOT_CONVERGED, OUT_OF_ORDER = "ok", "not converged", "layers out of order or apart"

Arrays = dict[str, np.ndarray]

LayerKey = tuple[tuple[int, ...], int]
"""Species bottom to top, and polarity: +1 or -1 for quintuples, 0 for quadruples."""


@dataclass(frozen=True)
class Convergence:
    """When a relaxation is done, and when it is given up."""

    largest_force: float  # eV/Angstrom
    max_steps: int

    @property
    def coarse(self) -> float:
        """Where the lower of two ends is chosen, and the path starts anew: where a soft gap has barely settled."""
        return 4.0 * self.largest_force


def layer_keys(data: CrystalDataset) -> tuple[list[LayerKey], list[LayerKey]]:
    """Bottom and top layer of each row."""
    found = []
    for side in ("bottom", "top"):
        names = data.metadata[f"{side}_layer"]
        polarity = data.metadata.get(f"{side}_polarity", np.zeros(len(data), int))
        species = [tuple(ATOMIC_NUMBERS[s] for s in re.findall("[A-Z][a-z]?", str(name))) for name in names]
        # Joined data sets hold -1 for what a family does not have; a quadruple has no polarity.
        found.append([(layer, int(p) * (len(layer) == 5)) for layer, p in zip(species, polarity, strict=True)])
    return found[0], found[1]


def canonical(key: LayerKey) -> LayerKey:
    """One of a layer and its flipped self, which have the same energy."""
    return min(key, (key[0][::-1], -key[1]))


def _layer_slabs(keys: list[LayerKey]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Free layers, padded to the largest: numbers, positions and cells."""
    width = max(len(species) for species, _ in keys)
    numbers, positions = np.zeros((len(keys), width), int), np.zeros((len(keys), width, 3))
    cell = np.zeros((len(keys), 3, 3))
    for row, (species, polarity) in enumerate(keys):
        layer = make_layer(species, polarity or 1)
        numbers[row, : len(species)], positions[row, : len(species)] = species, layer.positions
        cell[row, :2, :2] = hexagonal_vectors(layer.lattice_constant_angstrom)
        cell[row, 2, 2] = layer.thickness_angstrom + VACUUM_ANGSTROM
    return numbers, positions, cell


def relax_layers(potential: Potential, keys: list[LayerKey], done: Convergence) -> Arrays:
    """Layers alone: numbers, polarity, positions, cell, energy, largest_force, steps and layer_group.

    Raises:
        DataError: a layer does not relax; every label that needs it would be wrong.
    """
    numbers, positions, cell = _layer_slabs(keys)
    found = _settle(potential, numbers, _relax(potential, numbers, positions, cell, done), done)
    if not found.converged.all():
        wrong = [layer_name(np.array(keys[row][0])) for row in np.flatnonzero(~found.converged)]
        raise DataError(f"layers that do not relax: {', '.join(wrong)}")
    return {
        "numbers": numbers,
        "polarity": np.array([polarity for _, polarity in keys]),
        "positions": found.positions,
        "cell": found.cell,
        "energy": found.energy,
        "largest_force": found.largest_force,
        "steps": found.steps,
        "layer_group": layer_groups(numbers, found.positions, found.cell),
    }


def _relax(
    potential: Potential, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, done: Convergence
) -> Relaxed:
    return relax(potential, numbers, positions, cell, largest_force=done.coarse, max_steps=done.max_steps)


def _settle(potential: Potential, numbers: np.ndarray, coarse: Relaxed, done: Convergence) -> Relaxed:
    """The last few steps of what `_relax` ended with; steps are those of both."""
    found = relax(
        potential, numbers, coarse.positions, coarse.cell, largest_force=done.largest_force, max_steps=done.max_steps
    )
    return replace(found, steps=coarse.steps + found.steps)


def relax_block(potential: Potential, data: CrystalDataset, done: Convergence) -> Arrays:
    """Relaxed stacks of a few rows from two gaps, the lower kept, and the energy of their layers as they are in it."""
    numbers = data.atomic_numbers.astype(int)
    is_top = _is_top(data)
    starts = [data.positions.astype(float) + np.where(is_top, wider, 0.0)[..., None] * [0, 0, 1]
              for wider in (0.0, SECOND_GAP_ANGSTROM)]  # fmt: skip
    tries = [_relax(potential, numbers, start, data.cell, done) for start in starts]
    energy = np.stack([np.where(one.converged, one.energy, np.inf) for one in tries])
    start = energy.argmin(0)
    chosen = Relaxed(*(np.where(_like(start == 0, a), a, b) for a, b in zip(*map(_fields, tries), strict=True)))
    return _finished(potential, data, _settle(potential, numbers, chosen, done), start)


def _finished(potential: Potential, data: CrystalDataset, chosen: Relaxed, start: np.ndarray) -> Arrays:
    """What is stored of relaxed stacks."""
    numbers, is_top = data.atomic_numbers.astype(int), _is_top(data)
    gap = _gap(chosen.positions, is_top, numbers > 0)
    ordered = (np.diff(np.where(numbers > 0, chosen.positions[..., 2], np.inf), axis=1)[numbers[:, 1:] > 0] > 0)
    in_order = np.ones(len(data), bool)
    np.logical_and.at(in_order, np.nonzero(numbers[:, 1:] > 0)[0], ordered)
    in_order &= (gap > BOUND_GAP_ANGSTROM[0]) & (gap < BOUND_GAP_ANGSTROM[1])
    alone = [potential(*_only(numbers, chosen.positions, side & (numbers > 0)), chosen.cell).energy
             for side in (~is_top, is_top)]  # fmt: skip
    return {
        "positions": chosen.positions,
        "cell": chosen.cell,
        "energy": chosen.energy,
        "energy_of_layers": alone[0] + alone[1],
        "gap": gap,
        "largest_force": chosen.largest_force,
        "steps": chosen.steps,
        "start": start,
        "layer_group": layer_groups(numbers, chosen.positions, chosen.cell),
        "status": np.where(~chosen.converged, NOT_CONVERGED, np.where(in_order, OK, OUT_OF_ORDER)).astype("U80"),
    }


def _fields(found: Relaxed) -> list[np.ndarray]:
    return [found.positions, found.cell, found.energy, found.largest_force, found.steps, found.converged]


def _like(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *[1] * (values.ndim - 1))


def _is_top(data: CrystalDataset) -> np.ndarray:
    """Atoms of the top layer, padding too; [R, N]."""
    below = np.array([len(species) for species, _ in layer_keys(data)[0]])
    return np.arange(data.atomic_numbers.shape[1]) >= below[:, None]


def _gap(positions: np.ndarray, is_top: np.ndarray, real: np.ndarray) -> np.ndarray:
    z = positions[..., 2]
    return np.where(is_top & real, z, np.inf).min(1) - np.where(~is_top, z, -np.inf).max(1)


def _only(numbers: np.ndarray, positions: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chosen atoms first, the rest as padding."""
    order = np.argsort(~chosen, axis=1, kind="stable")
    kept = np.take_along_axis(np.where(chosen, numbers, 0), order, 1)
    return kept, np.take_along_axis(np.where(chosen[..., None], positions, 0.0), order[..., None], 1)


def layer_groups(numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Layer group of each slab (1 to 80) by spglib, 0 where it finds none; [R, N], [R, N, 3], [R, 3, 3] -> [R]."""
    import spglib

    found = np.zeros(len(cell), np.int16)
    for row, row_cell in enumerate(cell):
        real = numbers[row] > 0
        fractions = positions[row][real] @ np.linalg.inv(row_cell)
        group = spglib.get_layergroup((row_cell, fractions, numbers[row][real]), 2, SYMMETRY_TOLERANCE_ANGSTROM)
        found[row] = 0 if group is None else group.number
    return found


def relax_block_safely(potential: Potential, data: CrystalDataset, done: Convergence) -> Arrays:
    """`relax_block`; where it fails, half by half, and a row that fails alone keeps its start and says why."""
    try:
        return relax_block(potential, data, done)
    except Exception as error:  # potentials have no common error
        if len(data) > 1:
            halves = np.array_split(np.arange(len(data)), 2)
            parts = [relax_block_safely(potential, data.select(rows), done) for rows in halves]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        nan = np.full(1, np.nan)
        return {
            "positions": data.positions.astype(float), "cell": data.cell.astype(float), "energy": nan,
            "energy_of_layers": nan, "gap": nan, "largest_force": nan, "steps": np.zeros(1, int),
            "start": np.zeros(1, int), "layer_group": np.zeros(1, np.int16),
            "status": np.array([f"failed: {error}".splitlines()[0][:80]], "U80"),
        }  # fmt: skip


def stack_dataset(
    data: CrystalDataset, layers: Arrays, blocks: list[Arrays], references: dict[str, float] | None
) -> CrystalDataset:
    """Relaxed stacks with their labels; labels are NaN where the status is not "ok".

    Args:
        data: the rows as they were before, all of them.
        layers: what `relax_layers` gave for their layers.
        blocks: what `relax_block` gave, in order.
        references: energy an atom of each element, eV; without them there is no `formation_energy_per_atom_ev`.
    """
    found = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    table = {
        (tuple(int(z) for z in species if z), int(polarity)): (energy, cell[0, 0])
        for species, polarity, energy, cell in zip(
            layers["numbers"], layers["polarity"], layers["energy"], layers["cell"], strict=True
        )
    }
    bottom, top = (np.array([table[canonical(key)] for key in side]) for side in layer_keys(data))
    is_ok = found["status"] == OK
    constant = found["cell"][:, 0, 0]
    area = np.sqrt(3) / 2 * constant**2
    labels = {
        LABEL: found["energy"] - bottom[:, 0] - top[:, 0],
        "binding_energy_ev_per_a2": (found["energy"] - found["energy_of_layers"]) / area,
        "lattice_constant_angstrom": constant,
        "gap_angstrom": found["gap"],
        "mismatch": np.abs(bottom[:, 1] - top[:, 1]) / constant,
    } | _against_elements(data.atomic_numbers, found["energy"], references)
    kept = {name: v for name, v in data.metadata.items() if name not in labels}
    return _centred(
        data.ids, data.atomic_numbers, found,
        {name: np.where(is_ok, values, np.nan) for name, values in labels.items()},
        kept | {"status": found["status"], "relaxation_start": found["start"].astype(np.int8)},
    )  # fmt: skip


def layer_dataset(layers: Arrays, references: dict[str, float] | None) -> CrystalDataset:
    """Free layers as a data set of their own; arguments as for `stack_dataset`."""
    numbers = layers["numbers"]
    names = np.array([layer_name(row[row > 0]) for row in numbers])
    scalars = {"lattice_constant_angstrom": layers["cell"][:, 0, 0]}
    scalars |= _against_elements(numbers, layers["energy"], references)
    metadata = {"layer": names, "polarity": layers["polarity"].astype(np.int8)}
    ids = np.array([f"layer-{row:03d}" for row in range(len(numbers))])
    return _centred(ids, numbers, layers, scalars, metadata)


def _against_elements(numbers: np.ndarray, energy: np.ndarray, references: dict[str, float] | None) -> Arrays:
    if references is None:
        return {}
    table = np.array([0.0] + [references.get(symbol, np.nan) for symbol in SYMBOLS])
    elements = table[numbers.astype(int)].sum(-1)
    return {"formation_energy_per_atom_ev": (energy - elements) / (numbers > 0).sum(-1)}


def _centred(ids: np.ndarray, numbers: np.ndarray, found: Arrays, scalars: Arrays, metadata: Arrays) -> CrystalDataset:
    """Slabs at mean height 0 in a cell of their height and vacuum."""
    real = (numbers > 0)[..., None]
    mean = (found["positions"][..., 2:] * real).sum(1, keepdims=True) / real.sum(1, keepdims=True)
    positions = np.where(real, found["positions"] - mean * np.array([0.0, 0.0, 1.0]), 0.0)
    metadata = metadata | {
        "energy_ev": found["energy"],
        "layer_group": found["layer_group"],
        "largest_force_ev_per_angstrom": found["largest_force"].astype(np.float32),
        "relaxation_steps": found["steps"].astype(np.int16),
    }
    data = slab_dataset(ids, numbers, positions, found["cell"], scalars, metadata)
    cell = data.cell.copy()
    cell[:, 2, 2] = data.slab_height + VACUUM_ANGSTROM
    return replace(data, cell=cell)
