"""Geometry that several tests of this folder compare by."""

import itertools

import numpy as np

from vdw_jax.structures import layers


def environments(positions: np.ndarray, species, lattice: float) -> list:
    """Signed-orientation-free fingerprint: for each atom, sorted (species, distance) of all near images."""
    vectors = np.pad(layers.hexagonal_vectors(lattice), ((0, 0), (0, 1)))
    shifts = [n[0] * vectors[0] + n[1] * vectors[1] for n in itertools.product(range(-3, 4), repeat=2)]
    rows = []
    for i, here in enumerate(positions):
        near = []
        for j, there in enumerate(positions):
            for shift in shifts:
                distance = float(np.linalg.norm(there + shift - here))
                if 1e-6 < distance < 7.0:
                    near.append((int(species[j]), round(distance, 4)))
        rows.append((int(species[i]), tuple(sorted(near))))
    return sorted(rows)
