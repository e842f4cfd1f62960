"""J2DH-8: all bilayers of III-VI quadruples X-M-M'-X' in their six high-symmetry stackings.

45 monolayers up to flipping, 81 oriented layers, 3,321 pairs up to flipping the stack, 19,926 cells. In the
81 pairs whose top is the flipped bottom, two of the three unrotated registries are one crystal seen from both
sides: the second is kept, so that the count is the paper's, and marked in `duplicate_of`.
"""

from __future__ import annotations

import itertools

import numpy as np

from vdw_jax.structures.dataset import CrystalDataset, slab_dataset
from vdw_jax.structures.elements import CHALCOGENS, METALS
from vdw_jax.structures.layers import layer_name
from vdw_jax.structures.splits import with_parts
from vdw_jax.structures.stacking import Bilayers, LayerRows, stack

NUM_MONOLAYERS = 45
NUM_ORIENTED = 81
NUM_PAIRS = 3321
NUM_STRUCTURES = 19926

STACKINGS: tuple[tuple[int, int], ...] = tuple((r, q) for q in (0, 60) for r in (0, 1, 2))
"""(registry, rotation in degrees) in the order of the rows of a pair."""

Stack = tuple[int, int, int, int]
"""Bottom layer, top layer (rows of a list of oriented layers), registry 0..2, rotation 0 or 60 degrees."""


def oriented_layers() -> np.ndarray:
    """The 81 oriented layers, bottom to top; [81, 4] int64 atomic numbers."""
    return np.array(list(itertools.product(CHALCOGENS, METALS, METALS, CHALCOGENS)))


def flip_table(species: np.ndarray) -> np.ndarray:
    """Row of each layer's flipped self in a list closed under reversal; [R, n] -> [R]."""
    rows = {tuple(layer): row for row, layer in enumerate(species.tolist())}
    return np.array([rows[tuple(reversed(layer))] for layer in species.tolist()])


def monolayers() -> np.ndarray:
    """Rows of `oriented_layers` that stand for the 45 monolayers up to flipping; [45] int64."""
    flipped = flip_table(oriented_layers())
    return np.flatnonzero(np.arange(len(flipped)) <= flipped)


def oriented_pairs() -> np.ndarray:
    """The 3,321 (bottom, top) up to the flip (a, b) = (flip b, flip a); [3321, 2]."""
    flipped = flip_table(oriented_layers())
    every = itertools.product(range(len(flipped)), repeat=2)
    return np.array([(a, b) for a, b in every if (a, b) <= (flipped[b], flipped[a])])


def flip_stack(stack_row: Stack, flipped: np.ndarray) -> Stack:
    """The same bilayer seen from below.

    Flipping (C2 about y) keeps sites; moving the new bottom layer back to registry 0 turns r into -r when
    unrotated, and leaves r as it is when rotated (the turn back by 60 degrees negates once more).
    """
    bottom, top, registry, rotation = stack_row
    return int(flipped[top]), int(flipped[bottom]), registry if rotation else -registry % 3, rotation


def start_metadata(bilayers: Bilayers) -> dict[str, np.ndarray]:
    """What a start already has of what relaxation settles; float32."""
    values = {
        "gap_angstrom": bilayers.gap,
        "lattice_constant_angstrom": bilayers.lattice_constant,
        "mismatch": bilayers.mismatch,
    }
    return {name: v.astype(np.float32) for name, v in values.items()}


def build_j2dh8() -> CrystalDataset:
    """All 19,926 cells by rule, where relaxation starts, in a fixed order: row = 6 pair + place in `STACKINGS`.

    Returns:
        Slabs of 8 atoms without labels; metadata `bottom_layer`, `top_layer`, `registry` (0..2),
        `rotation_degrees` (0, 60), `pair`, `duplicate_of` (an id or ""), the parts of `splits.with_parts`, and
        `gap_angstrom`, `lattice_constant_angstrom`, `mismatch` as they are at the start.
    """
    species = oriented_layers()
    flipped = flip_table(species)
    pairs = oriented_pairs()
    assert len(monolayers()) == NUM_MONOLAYERS and len(species) == NUM_ORIENTED and len(pairs) == NUM_PAIRS
    rows: list[Stack] = [(int(a), int(b), r, q) for a, b in pairs for r, q in STACKINGS]
    assert len(rows) == NUM_STRUCTURES
    ids = [f"j2dh8-{row:05d}" for row in range(len(rows))]
    first: dict[Stack, int] = {}
    duplicate_of = []
    for row, stack_row in enumerate(rows):
        earlier = first.setdefault(min(stack_row, flip_stack(stack_row, flipped)), row)
        duplicate_of.append("" if earlier == row else ids[earlier])

    table = np.array(rows)
    bottom, top = species[table[:, 0]], species[table[:, 1]]
    none = np.zeros(len(rows), int)
    bilayers = stack(LayerRows(bottom, none), LayerRows(top, none), table[:, 2], table[:, 3] == 60)
    names = np.array([layer_name(layer) for layer in species])
    starts = slab_dataset(
        np.array(ids),
        bilayers.atomic_numbers,
        bilayers.positions,
        bilayers.cell,
        {},
        {
            "bottom_layer": names[table[:, 0]],
            "top_layer": names[table[:, 1]],
            "registry": table[:, 2].astype(np.int8),
            "rotation_degrees": table[:, 3].astype(np.int16),
            "pair": (np.arange(len(rows)) // len(STACKINGS)).astype(np.int32),
            "duplicate_of": np.array(duplicate_of),
            **start_metadata(bilayers),
        },
    )
    return with_parts(starts)
