"""Symmetry of a crystal as a CIF says it: operators, or a symbol or number of the space group.

A lost or misspelt operator moves atoms, or loses them, without a word. So operators have to form a group, fit the
cell, and be those of the space group that is named beside them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import gemmi
import numpy as np

from vdw_jax.structures.entries import StructureError

MOST_OPERATORS = 400
"""The cubic groups with centred cells have 192."""

SAME_SITE_ANGSTROM = 0.01
"""Images of one site that are closer than this are one atom, also where the file has many digits."""

_FARTHEST_SAME_SITE_ANGSTROM = 0.2
"""A file of two or three digits cannot stretch what counts as one place beyond this."""

_CLOSEST_IMAGES_ANGSTROM = 0.5
"""As close as two atoms never are (`soundness.CLOSEST_ANGSTROM`)."""

_METRIC_TOLERANCE = 0.02
"""Of a product of two lattice vectors, relative: 1 % of a length, 1 degree."""

_TERM = re.compile(r"([+-]?)(?:(\d+(?:\.\d*)?|\.\d+)(?:/(\d+))?|([xyz]))")
_EXTENSION = re.compile(r"\s*:?\s*([12HRSZ])$", re.IGNORECASE)
_ORIGIN_OF_ICSD = {"S": "1", "Z": "2"}


@dataclass(frozen=True, eq=False)
class Operators:
    """Rotations and translations, and what they are called in a message."""

    name: str
    rotations: np.ndarray  # [m, 3, 3] int, of columns of fractional coordinates
    translations: np.ndarray  # [m, 3] float64, fractional

    @property
    def is_identity(self) -> bool:
        """Nothing but x, y, z."""
        return len(self.rotations) == 1


def operators_of(texts: list[str]) -> Operators:
    """Operators written as "-y, x-y, z+1/2".

    Raises:
        StructureError: one of them is no operator, they are too many, or they form no group.
    """
    if len(texts) > MOST_OPERATORS:
        raise StructureError(f"{len(texts)} symmetry operators; no space group has more than 192")
    return _checked_group(tuple(texts))


@lru_cache(maxsize=256)
def _checked_group(texts: tuple[str, ...]) -> Operators:
    parsed = [_operator(text) for text in texts]
    # As whole numbers of a common fraction of the cell, products of operators can be compared exactly.
    unit = math.lcm(*(part.denominator for _, shift in parsed for part in shift))
    if unit > 1000:
        raise StructureError("symmetry operators with translations that are no simple fractions")
    rotations = np.array([rotation for rotation, _ in parsed])
    shifts = np.array([[int(part * unit) % unit for part in shift] for _, shift in parsed])
    codes = _codes(rotations, shifts, unit)
    if len(set(codes.tolist())) != len(texts):
        raise StructureError("a symmetry operator occurs twice")
    products = np.einsum("aij,bjk->abik", rotations, rotations)
    moved = (np.einsum("aij,bj->abi", rotations, shifts) + shifts[:, None]) % unit
    if not np.isin(_codes(products.reshape(-1, 3, 3), moved.reshape(-1, 3), unit), codes).all():
        count = f"{len(texts)} symmetry operators" if len(texts) > 1 else f"operator {texts[0]!r}"
        raise StructureError(f"the {count} form no group: one is lost or misspelt")
    return Operators("the operators", rotations, shifts / unit)


def _codes(rotations: np.ndarray, shifts: np.ndarray, unit: int) -> np.ndarray:
    """A whole number for each operator; [m, 3, 3], [m, 3] -> [m]."""
    clipped = (
        np.clip(rotations, -4, 4).reshape(-1, 9) + 4
    )  # products that leave -1..1 match no operator
    code = clipped @ 9 ** np.arange(9)
    return (code * unit**3 + shifts @ unit ** np.arange(3)).astype(
        object if unit > 500 else np.int64
    )


def _operator(text: str) -> tuple[list[list[int]], list[Fraction]]:
    rows: list[list[int]] = []
    shift: list[Fraction] = []
    parts = "".join(text.lower().split()).split(",")
    for part in parts:
        row, moved, place = [0, 0, 0], Fraction(0), 0
        while match := _TERM.match(part, place):
            sign, number, below, axis = match.groups()
            if place and not sign or below and not int(below):
                break
            factor = -1 if sign == "-" else 1
            if axis:
                row["xyz".index(axis)] += factor
            else:
                moved += factor * _simple(Fraction(number) / int(below or 1))
            place = match.end()
        if place != len(part) or not part:
            raise StructureError(f"{text!r} is no symmetry operator")
        rows.append(row)
        shift.append(moved)
    if len(rows) != 3 or abs(round(np.linalg.det(rows))) != 1 or np.abs(rows).max() > 1:
        raise StructureError(f"{text!r} is no symmetry operator")
    return rows, shift


def _simple(number: Fraction) -> Fraction:
    """1/3 for 0.333: the nearest simple fraction within half of the third digit."""
    near = number.limit_denominator(24)
    return near if abs(near - number) < Fraction(1, 2000) else number


IDENTITY = _checked_group(("x,y,z",))


def fits(operators: Operators, cell: np.ndarray) -> bool:
    """Whether the cell (rows a, b, c, [3, 3]) looks the same after every rotation."""
    metric = cell @ cell.T
    turned = np.einsum("mji,jk,mkl->mil", operators.rotations, metric, operators.rotations)
    lengths = np.sqrt(np.diag(metric))
    return bool(np.all(np.abs(turned - metric) <= _METRIC_TOLERANCE * np.outer(lengths, lengths)))


@lru_cache(maxsize=256)
def settings_of(symbol: str | None, hall: str | None, number: int | None) -> list[Operators]:
    """Every setting that the words of the file allow; several where origin or axes are not said.

    Raises:
        StructureError: a symbol or number that is none, or symbol and number of different groups.
    """
    if number is not None and not 1 <= number <= 230:
        raise StructureError(f"space group number {number} is none of 1..230")
    found = _by_symbol(symbol) if symbol else []
    if symbol and not found and not hall:
        raise StructureError(f"{symbol!r} is no space group symbol")
    if found and number is not None and number not in {group.number for group in found}:
        raise StructureError(f"space group {symbol!r} is number {found[0].number}, not {number}")
    if hall:
        try:
            return [_table_operators(f"Hall symbol {hall!r}", gemmi.symops_from_hall(hall))]
        except (RuntimeError, ValueError):
            raise StructureError(f"{hall!r} is no Hall symbol") from None
    if not found and number is not None:
        found = [group for group in gemmi.spacegroup_table() if group.number == number]
    return [_table_operators(f"space group {group.xhm()}", group.operations()) for group in found]


def numbers_of(symbol: str | None, number: int | None) -> set[int]:
    """Numbers of the space group that the words of the file allow; empty where they say nothing that is known."""
    found = {group.number for group in _by_symbol(symbol)} if symbol else set()
    return found | ({number} if number is not None else set())


@lru_cache(maxsize=256)
def _by_symbol(symbol: str) -> list[gemmi.SpaceGroup]:
    symbol = " ".join(symbol.replace("_", "").split())
    group, wanted = gemmi.find_spacegroup_by_name(symbol), ""
    extension = _EXTENSION.search(symbol)
    if extension and (group is None or group.hm.replace(" ", "") != symbol.replace(" ", "")):
        # R -3 m H and F d -3 m :2 end in a setting; R 3 2 does not.
        bare = gemmi.find_spacegroup_by_name(symbol[: extension.start()])
        if bare is not None and bare.ext.strip("\0 "):
            group, wanted = bare, extension[1].upper()
    if group is None:
        return []
    wanted = _ORIGIN_OF_ICSD.get(wanted, wanted)
    alike = [other for other in gemmi.spacegroup_table() if other.hm == group.hm]
    return [other for other in alike if wanted in ("", other.ext)]


def _table_operators(name: str, group: gemmi.GroupOps) -> Operators:
    operators = list(group)
    rotations = np.array([operator.rot for operator in operators]) // gemmi.Op.DEN
    translations = np.array([operator.tran for operator in operators]) / gemmi.Op.DEN
    return Operators(name, rotations, translations % 1.0)


def number_of(operators: Operators, cell: np.ndarray) -> int | None:
    """Number of the space group of the operators, in whatever setting; None where it cannot be told."""
    import spglib

    try:
        found = spglib.get_spacegroup_type_from_symmetry(
            operators.rotations, operators.translations, lattice=cell, symprec=1e-3
        )
    except (
        Exception
    ):  # spglib raises a kind of its own in new versions, and returns None in old ones
        return None
    return None if found is None else int(found.number)


def place_tolerance(digits: list[int], cell: np.ndarray) -> float:
    """How far apart images of one site may lie, Angstrom.

    Args:
        digits: most digits that the file writes after the point of x, y and z.
        cell: rows a, b, c, [3, 3], Angstrom.
    """
    last = 10.0 ** -np.array(digits, float)
    # The last digit may be cut, not rounded, and the image of a site takes the slips of two coordinates.
    slip = 2.0 * float((last * np.linalg.norm(cell, axis=1)).max())
    return min(max(SAME_SITE_ANGSTROM, slip), _FARTHEST_SAME_SITE_ANGSTROM)


def orbit(
    place: np.ndarray, operators: Operators, cell: np.ndarray, tolerance: float
) -> tuple[np.ndarray, int]:
    """Every image of a site, and how many operators leave it where it is.

    A site on a special position is put there exactly: written as 0.333, it becomes 1/3.

    Args:
        place: fractional coordinates, [3].
        operators: m of them, a group.
        cell: rows a, b, c, [3, 3], Angstrom.
        tolerance: images that are closer are one atom, Angstrom.

    Returns:
        Fractional coordinates [m / stay, 3], the site itself first, and `stay`.

    Raises:
        StructureError: some images are neither apart nor together.
    """
    if operators.is_identity:
        return place[None], 1
    for _ in range(2):
        images = operators.rotations @ place + operators.translations
        steps = images - place
        steps -= np.round(steps)
        stays = np.linalg.norm(steps @ cell, axis=1) < tolerance
        place = place + steps[stays].mean(0)
    images = operators.rotations @ place + operators.translations
    apart = images[:, None] - images[None]
    apart -= np.round(apart)
    distances = np.linalg.norm(apart @ cell, axis=-1)
    same = distances < tolerance
    first = same.argmax(1) == np.arange(len(images))
    stay = int(stays.sum())
    nearest = distances[~same].min(initial=np.inf)
    if int(first.sum()) * stay != len(images) or nearest < _CLOSEST_IMAGES_ANGSTROM:
        raise StructureError(
            f"its images are {nearest:.2g} Angstrom apart, neither one atom nor two: its place or an "
            "operator is wrong"
        )
    images = images[first]
    images[1:] %= 1.0
    return images, stay
