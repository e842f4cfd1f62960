"""Pytrees that cross room borders; every field states its shape and unit once.

Letters: `B` crystals in a batch, `N` padded atoms a crystal, `K` neighbour slots an atom,
`S` scalar conditions, `E` = `NUM_ELEMENTS`.
"""

from __future__ import annotations

import jax
from flax import struct

NUM_ELEMENTS = 100
"""Elements the model knows; index `i` of any element axis is atomic number `i + 1`."""

Periodicity = tuple[bool, bool, bool]
"""Which of the lattice vectors a, b, c are periods: `SLAB` or `BULK`."""

SLAB: Periodicity = (True, True, False)
BULK: Periodicity = (True, True, True)


@struct.dataclass
class CrystalBatch:
    """A padded batch of crystals, dense in atoms.

    A slab has its normal along z, its mean height at z = 0 and c = (0, 0, height + vacuum),
    which is no period and which nothing on the device reads.
    """

    atomic_numbers: jax.Array  # [B, N] int32, 0 on padding, real atoms first
    positions: jax.Array  # [B, N, 3] float32, Cartesian, Angstrom, 0 on padding
    cell: jax.Array  # [B, 3, 3] float32, rows a, b, c, Angstrom

    @property
    def atom_mask(self) -> jax.Array:
        """True on real atoms; [B, N] bool."""
        return self.atomic_numbers > 0

    @property
    def num_atoms(self) -> jax.Array:
        """Real atoms a crystal; [B] int32."""
        return self.atom_mask.sum(-1)


@struct.dataclass
class Neighbours:
    """The neighbours of every atom, in dense slots."""

    index: jax.Array  # [B, N, K] int32, the neighbour's place in its crystal; 0 in empty slots
    vector: jax.Array  # [B, N, K, 3] float32, neighbour minus atom, Angstrom; 0 in empty slots
    mask: jax.Array  # [B, N, K] bool, False in empty slots
    ratio: jax.Array  # [B, N, K] float32, how far out: 1 where a smooth envelope vanishes; anything in empty slots
    complete: jax.Array  # [B] bool, False where the cell needs more images than were searched


@struct.dataclass
class Conditions:
    """What is asked of (or known about) each crystal; an absent condition has mask False."""

    scalars: jax.Array  # [B, S] float32, standardised (`model.config.standardise`); anything where absent
    scalar_mask: jax.Array  # [B, S] bool
    composition: jax.Array  # [B, E] float32, atomic fractions; anything where absent
    composition_mask: jax.Array  # [B] bool
