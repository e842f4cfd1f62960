"""Slabs in cells that are periodic in three directions: finding the vacuum, and dropping it."""

from __future__ import annotations

import numpy as np

from vdw_jax.structures.stacking import VACUUM_ANGSTROM

SMALLEST_VACUUM_ANGSTROM = 7.0
"""Empty space along an axis, from atom to atom, that is taken for vacuum. Gaps of layered crystals have 2.5 to 4.5."""

SMALLEST_CUT_ANGSTROM = 2.5
"""A cell that is said to be a slab needs at least this gap along c to be cut at."""

TURNED = {"a": "[[0, 1, 0], [0, 0, 1], [1, 0, 0]]", "b": "[[0, 0, 1], [1, 0, 0], [0, 1, 0]]"}
"""Matrices for `ase.build.make_supercell` that make this axis c and keep the handedness."""


def spacings(cell: np.ndarray) -> np.ndarray:
    """Distance between neighbouring lattice planes along a, b and c; [3, 3] -> [3], Angstrom."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def empty_spaces(fractions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Widest empty space along each axis, between atoms or their images, normal to the other two.

    Args:
        fractions: fractional coordinates, [n, 3].
        cell: rows a, b, c, [3, 3], Angstrom.

    Returns:
        [3], Angstrom.
    """
    return _gaps(fractions).max(0) * spacings(cell)


def _gaps(fractions: np.ndarray) -> np.ndarray:
    """From each atom to the next above, around the period, in the order of their heights; [n, 3] -> [n, 3]."""
    ordered = np.sort(fractions % 1.0, axis=0)
    return (
        np.roll(ordered, -1, axis=0)
        - ordered
        + (np.arange(len(ordered)) == len(ordered) - 1)[:, None]
    )


def made_whole(fractions: np.ndarray) -> np.ndarray:
    """Moves atoms by periods along c so that the widest empty space lies outside them all; [n, 3] -> [n, 3]."""
    heights = fractions[:, 2] % 1.0
    ordered, gaps = np.sort(heights), _gaps(fractions)[:, 2]
    bottom = ordered[(gaps.argmax() + 1) % len(ordered)]
    whole = fractions.copy()
    whole[:, 2] = bottom + (heights - bottom) % 1.0
    return whole


def joined(fractions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Puts a slab together again that a program wrapped along c, though c is no period.

    Only where all atoms lie within one length of c, with vacuum among them that is wider than what is around them:
    the distance of two layers is never taken for a cut.

    Args:
        fractions: fractional coordinates, [n, 3].
        cell: rows a, b, c, [3, 3], Angstrom, c as the file has it.

    Returns:
        [n, 3], some of them moved by whole lengths of c.
    """
    heights = np.sort(fractions[:, 2])
    around = 1.0 - (heights[-1] - heights[0])
    inside = float(np.diff(heights).max(initial=0.0))
    is_cut = (
        around > 0 and inside > around and inside * spacings(cell)[2] >= SMALLEST_VACUUM_ANGSTROM
    )
    return made_whole(fractions) if is_cut else fractions


def reduced(cell: np.ndarray, axes: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """Short vectors of the same lattice, for cells that are long and narrow; others stay as they are.

    A vector only ever changes by whole numbers of other ones, so volume and handedness stay, and a x b where `axes`
    are a and b.

    Args:
        cell: rows a, b, c, [3, 3], Angstrom.
        axes: those that may change, by one another.
    """
    metric = cell @ cell.T
    lengths = np.diag(metric)
    if (np.abs(metric) <= 0.5 * np.minimum(lengths, lengths[:, None]) + np.diag(lengths)).all():
        sums = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1]]) @ cell
        if (np.square(sums).sum(1) >= lengths.max()).all():
            return cell  # most are: no need to search
    short = cell.copy()
    for _ in range(100):
        before = short.copy()
        for axis in axes:
            others = [other for other in axes if other != axis]
            for other in others:
                steps = round(float(short[axis] @ short[other] / (short[other] @ short[other])))
                _shorten(short, axis, short[axis] - steps * short[other])
            if len(others) == 2:  # three vectors may add up to a short one though no two do
                for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                    _shorten(short, axis, short[axis] + np.array(signs) @ short[others])
        if np.array_equal(before, short):
            break
    return short


def _shorten(cell: np.ndarray, axis: int, vector: np.ndarray) -> None:
    """By 2 % at least: angles of 60 and 120 degrees are as good as one another, and stay as written."""
    if vector @ vector < 0.96 * (cell[axis] @ cell[axis]):
        cell[axis] = vector


def height_above(positions: np.ndarray, cell: np.ndarray) -> float:
    """From the lowest atom to the highest along a x b; [n, 3], [3, 3] -> Angstrom."""
    normal = np.cross(cell[0], cell[1])
    return float(np.ptp(positions @ normal) / np.linalg.norm(normal))


def as_slab(positions: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns a slab so that a lies along x and its normal, a x b, along z; mean height 0, c = height and vacuum.

    Args:
        positions: of a whole slab, [n, 3], Cartesian, Angstrom.
        cell: rows a, b, c, [3, 3], Angstrom; c is not read.

    Returns:
        Positions and cell in the convention of `vdw_jax.types.CrystalBatch`.
    """
    a, b = cell[0], cell[1]
    normal = np.cross(a, b)
    x, z = a / np.linalg.norm(a), normal / np.linalg.norm(normal)
    axes = np.stack([x, np.cross(z, x), z], axis=1)
    turned, plane = positions @ axes, cell[:2] @ axes
    turned[:, 2] -= turned[:, 2].mean()
    plane[:, 2] = plane[0, 1] = 0.0
    height = turned[:, 2].max() - turned[:, 2].min()
    return turned, np.vstack([plane, [0.0, 0.0, height + VACUUM_ANGSTROM]])
