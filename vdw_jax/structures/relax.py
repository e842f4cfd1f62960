"""Relaxation of stacked layers: heights and in-plane lattice constant, many slabs at once.

Every atom of a stack at a high-symmetry registry lies on a threefold axis (layer group p3m1), so that the forces along
the plane vanish and the hexagonal cell only grows or shrinks: heights and ln a are all there is to relax. BFGS as in
ASE (`ase.optimize.BFGS` on a cell filter): the same metric, first Hessian and longest step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vdw_jax.structures.potentials import Potential

FIRST_CURVATURE = 70.0
LONGEST_STEP_ANGSTROM = 0.2

LARGEST_STRETCH = 2.0
"""Of the lattice constant while it relaxes, up or down. Beyond that the potential has lost the slab."""


@dataclass(frozen=True)
class Relaxed:
    """R relaxed slabs."""

    positions: np.ndarray  # [R, N, 3] Angstrom, mean height as given
    cell: np.ndarray  # [R, 3, 3] Angstrom; c as given
    energy: np.ndarray  # [R] eV a cell
    largest_force: np.ndarray  # [R] eV/Angstrom, over atoms (all directions) and cell
    steps: np.ndarray  # [R] int
    converged: np.ndarray  # [R] bool; never where energy or forces are not finite, or the cell left all bounds


def relax(
    potential: Potential,
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    *,
    largest_force: float = 0.002,
    max_steps: int = 200,
) -> Relaxed:
    """Relaxes R slabs.

    A slab whose energy or forces are not finite, or whose lattice constant doubles or halves, stays where that
    happened and is not converged; the others go on.

    Args:
      potential: see `vdw_jax.structures.potentials`.
      numbers: [R, N] atomic numbers, 0 on padding.
      positions: [R, N, 3] Angstrom.
      cell: [R, 3, 3] Angstrom, a and b in the plane, c along z.
      largest_force: eV/Angstrom, where a slab is done.
    """
    numbers, cell = np.asarray(numbers), np.asarray(cell, float)
    real = numbers > 0
    size = real.sum(1)
    heights = np.array(positions, float)[..., 2]
    fractions = np.array(positions, float)[..., :2] @ np.linalg.inv(cell[:, :2, :2])
    rows, width = numbers.shape
    # Heights, then ln a times what makes a step of it as long as in ASE's filter.
    length = math.sqrt(2.0) * size
    state = np.concatenate([heights, np.zeros((rows, 1))], 1)
    curvature = np.tile(FIRST_CURVATURE * np.eye(width + 1), (rows, 1, 1))
    last_state, last_slope = np.zeros_like(state), np.zeros_like(state)
    energy, worst, steps = np.zeros(rows), np.full(rows, np.inf), np.zeros(rows, int)
    lost = np.zeros(rows, bool)

    def place(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaled = cell[chosen].copy()
        scaled[:, :2, :2] *= np.exp(state[chosen, -1] / length[chosen])[:, None, None]
        flat = fractions[chosen] @ scaled[:, :2, :2]
        return np.concatenate([flat, state[chosen, :-1, None]], -1), scaled

    active = np.arange(rows)
    for step in range(max_steps + 1):
        placed, scaled = place(active)
        found = potential(numbers[active], placed, scaled)
        in_plane = found.virial[:, 0, 0] + found.virial[:, 1, 1]
        slope = np.concatenate([-found.forces[..., 2], (in_plane / length[active])[:, None]], 1)
        energy[active], steps[active] = found.energy, step
        cell_force = np.abs(found.virial[:, [0, 1, 0], [0, 1, 1]]).max(1) / size[active]
        worst[active] = np.maximum(np.linalg.norm(found.forces, axis=-1).max(1), cell_force)
        going = ~(worst[active] < largest_force)
        going &= np.isfinite(slope).all(1) & np.isfinite(worst[active]) & np.isfinite(found.energy)
        if step == max_steps or not going.any():
            break
        active, slope = active[going], slope[going]
        if step > 0:
            curvature[active] = _updated(curvature[active], state[active] - last_state[active],
                                         slope - last_slope[active])  # fmt: skip
        last_state[active], last_slope[active] = state[active], slope
        state[active] += _step(curvature[active], slope)
        bounded = np.abs(state[active, -1] / length[active]) < math.log(LARGEST_STRETCH)
        lost[active[~bounded]] = True
        active = active[bounded]
        if len(active) == 0:
            break
    placed, scaled = place(np.arange(rows))
    placed[~real] = 0.0
    converged = (worst < largest_force) & np.isfinite(energy) & ~lost
    return Relaxed(placed, scaled, energy, worst, steps, converged)


def _updated(curvature: np.ndarray, moved: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The BFGS update; left as it is where hardly anything moved, the first one again where it is not finite."""
    along = np.einsum("ri,ri->r", moved, change)
    bent = np.einsum("rij,rj->ri", curvature, moved)
    still = np.abs(moved).max(1) < 1e-7
    first = FIRST_CURVATURE * np.eye(curvature.shape[-1])
    safe = np.where(still, 1.0, along)
    own = np.where(still, 1.0, np.einsum("ri,ri->r", moved, bent))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        more = np.einsum("ri,rj->rij", change, change) / safe[:, None, None]
        more -= np.einsum("ri,rj->rij", bent, bent) / own[:, None, None]
    updated = curvature + np.where(still[:, None, None], 0.0, more)
    return np.where(np.isfinite(updated).all((1, 2))[:, None, None], updated, first)


def _step(curvature: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Newton's step with all curvatures taken as positive, shortened as a whole where it is too long."""
    values, vectors = np.linalg.eigh(curvature)
    step = -np.einsum("rij,rj->ri", vectors, np.einsum("rji,rj->ri", vectors, slope) / np.abs(values))
    lengths = np.abs(step) * np.append(np.ones(step.shape[1] - 1), 1 / math.sqrt(2.0))
    return step * np.minimum(1.0, LONGEST_STEP_ANGSTROM / np.maximum(lengths.max(1), 1e-30))[:, None]
