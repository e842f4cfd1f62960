"""Crystals drawn as balls and sticks with matplotlib, for paper."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import patches
from matplotlib.axes import Axes
from numpy.typing import NDArray

from vdw_jax.report.crystal import Crystal

BOND_FACTOR = 1.2
"""Atoms this times the sum of their covalent radii apart, or nearer, get a stick between them."""

BALL = 0.42
"""Of the covalent radius."""

EDGE = 0.05
"""Of a period: atoms that little outside the cell are not moved to its other side."""


def draw_balls(axis: Axes, crystal: Crystal, view: str, styles: dict[str, dict[str, Any]]) -> None:
    """One crystal as balls and sticks, in Angstrom, with its cell.

    Args:
        axis: what to draw on.
        crystal: finite.
        view: "top", along the normal, or "side", along a.
        styles: of its elements, from `page.element_styles`.
    """
    positions, numbers, elements = _supercell(crystal)
    heading = crystal.cell[0] / np.linalg.norm(crystal.cell[0])
    normal = np.cross(crystal.cell[0], crystal.cell[1])
    normal = normal / np.linalg.norm(normal)
    across = np.cross(normal, heading)
    right, up, depth = (heading, across, normal) if view == "top" else (across, normal, heading)
    frame = np.stack([right, up, depth], 1)
    points = positions @ frame
    order = np.argsort(np.argsort(points[:, 2], kind="stable"))
    radius = np.array([styles[str(number)]["radius"] for number in elements])
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    bonded = np.argwhere(np.triu(distance < BOND_FACTOR * (radius[:, None] + radius), 1))
    for first, second in bonded:
        axis.plot(*points[[first, second], :2].T, color="#666666", linewidth=1.3, solid_capstyle="round",
                  zorder=2 + min(order[first], order[second]) / len(points))  # fmt: skip
    for place, element in enumerate(elements):
        axis.add_patch(patches.Circle(
            points[place, :2], BALL * radius[place], facecolor=styles[str(element)]["colour"], edgecolor="#333333",
            linewidth=0.5, zorder=2 + (order[place] + 0.5) / len(points),
        ))  # fmt: skip
    corner = crystal.cell[:2].sum(0)  # the middle one of three cells
    if view == "top":
        a, b = crystal.cell[:2]
        outline = (np.array([corner, corner + a, corner + a + b, corner + b]) @ frame)[:, :2]
    else:
        low, high = points[:, 1].min() - 1.2, points[:, 1].max() + 1.2
        left = (corner @ frame)[0]
        step = (crystal.cell[1] @ frame)[0]
        outline = np.array([[left, low], [left + step, low], [left + step, high], [left, high]])
    axis.add_patch(patches.Polygon(outline, fill=False, edgecolor="black", linewidth=1.1, linestyle="--", zorder=4))
    margin = 1.0
    everything = np.concatenate([points[:, :2], outline])
    axis.set_xlim(everything[:, 0].min() - margin, everything[:, 0].max() + margin)
    axis.set_ylim(everything[:, 1].min() - margin, everything[:, 1].max() + margin)
    axis.set_aspect("equal")
    axis.axis("off")


def _supercell(crystal: Crystal, times: int = 3) -> tuple[NDArray, NDArray, NDArray]:
    """Positions [k, 3], index of the atom [k] and atomic numbers [k] of `times` by `times` cells along a and b."""
    shifts = np.array([[i, j] for i in range(times) for j in range(times)]) @ crystal.cell[:2]
    fractions = crystal.positions @ np.linalg.inv(crystal.cell)
    # In the plane the origin is free: the lowest atom takes it.
    inside = (fractions - fractions[crystal.positions[:, 2].argmin()])[:, :2]
    fractions[:, :2] = (inside + EDGE) % 1.0 - EDGE
    positions = (shifts[:, None] + fractions @ crystal.cell).reshape(-1, 3)
    index = np.tile(np.arange(len(crystal.atomic_numbers)), len(shifts))
    return positions, index, crystal.atomic_numbers[index]
