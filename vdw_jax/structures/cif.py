"""CIF: one crystal, as the file says it, or the reason why it cannot be told.

gemmi reads the syntax and knows the space groups. What is built from them is compared with everything else that the
file says of its content: formula, formula units, multiplicities of the sites.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

import gemmi
import numpy as np

from vdw_jax.structures.cif_block import Block, has_sites, number_in
from vdw_jax.structures.cif_sites import MOST_ATOMS, Sites, sites_of
from vdw_jax.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from vdw_jax.structures.entries import ISOTOPES, StructureError, first_line
from vdw_jax.structures.symmetry import (
    IDENTITY,
    Operators,
    fits,
    number_of,
    numbers_of,
    operators_of,
    orbit,
    place_tolerance,
    settings_of,
)

CIF_ADVICE = "Write it again with pymatgen or ASE, fully occupied, one structure; or leave it out"

LONGEST_CIF = 20_000_000
"""Characters; a CIF of 20 atoms has two thousand."""

_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
_OPERATORS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_SYMBOLS = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m",
)
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_NOT_READ = {
    "magnetic symmetry": re.compile(r"_space_group_symop_magn"),
    "a modulated structure": re.compile(r"_cell_modulation_dimension|_space_group_ssg"),
}

_FORMULA = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?[\s,]*")


def cell_from_parameters(lengths: list[float], angles_degrees: list[float]) -> np.ndarray:
    """Cell in pymatgen's convention: c along z, a in the xz plane; rows a, b, c [3, 3], Angstrom.

    Raises:
        StructureError: no cell has these lengths (Angstrom) and angles.
    """
    values = [*lengths, *angles_degrees]
    if not all(math.isfinite(x) and x > 0 for x in values) or max(angles_degrees) >= 180:
        raise StructureError(f"no cell has lengths {lengths} and angles {angles_degrees}")
    a, b, c = lengths
    alpha, beta, gamma = (math.radians(x) for x in angles_degrees)
    cosine = (math.cos(alpha) * math.cos(beta) - math.cos(gamma)) / (
        math.sin(alpha) * math.sin(beta)
    )
    if not -1 < cosine < 1:
        raise StructureError(f"no cell has angles {angles_degrees}")
    gamma_star = math.acos(cosine)
    return np.array(
        [
            [a * math.sin(beta), 0.0, a * math.cos(beta)],
            [
                -b * math.sin(alpha) * math.cos(gamma_star),
                b * math.sin(alpha) * math.sin(gamma_star),
                b * math.cos(alpha),
            ],
            [0.0, 0.0, c],
        ]
    )


def parse_cif(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one crystal.

    Args:
        text: the CIF.

    Returns:
        Atomic numbers [N], fractional coordinates [N, 3], cell rows a, b, c [3, 3] in Angstrom. The sites stand in
        the order of the file, each before its images, with coordinates as written; D and T are H.

    Raises:
        StructureError: unreadable, several structures, partly occupied or disordered, no element from H to Fm, no
            cell, or a content that is not what the file says. Names the data block.
    """
    if len(text) > LONGEST_CIF:
        raise StructureError(f"not a readable CIF (longer than {LONGEST_CIF:,} characters)")
    try:
        document = gemmi.cif.read_string(text.lstrip("\ufeff"), check_level=0)
    except (ValueError, RuntimeError) as error:
        raise StructureError(f"not a readable CIF ({_where(first_line(error))})") from None
    blocks = [block for block in document if has_sites(block)]
    if not blocks:
        raise StructureError(
            "not a readable CIF (no block has atom sites with fractional coordinates)"
        )
    names = ", ".join(block.name.strip() for block in blocks[:5])
    if len(blocks) > 1:
        raise StructureError(f"{len(blocks)} structures in one CIF: blocks {names}")
    try:
        return _structure(Block(blocks[0]))
    except StructureError as error:
        raise StructureError(f"block {names!r}: {error}") from None


def _where(message: str) -> str:
    """gemmi's "string:2:5(12): parse error" in words."""
    return re.sub(r"^string:(\d+):\d+\(\d+\)", r"line \1", message).removeprefix("string:")


def _structure(block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    for what, pattern in _NOT_READ.items():
        if any(pattern.match(name) for name in block.names()):
            raise StructureError(f"{what} is not read")
    lengths = [number_in(block.one(name), name) for name in _LENGTHS]
    cell = cell_from_parameters(lengths, [number_in(block.one(name), name) for name in _ANGLES])
    sites = sites_of(block)
    said = _Content.of(block)
    crystals = []
    reasons = []
    try:
        choices = _choices(block, cell)
    except StructureError as error:
        raise StructureError(f"{error}{said.beside(sites.numbers)}") from None
    for operators in choices:
        try:
            crystals.append(_filled(sites, operators, cell, said))
        except StructureError as error:
            reasons.append(error)
    if not crystals:
        raise reasons[0]
    if any(not _same_atoms(crystals[0], other, cell) for other in crystals[1:]):
        names = ", ".join(operators.name for operators in choices)
        raise StructureError(f"there are no operators, and the setting is not told: {names}")
    if choices == [IDENTITY]:
        _check_lost_symmetry(block, sites, cell, said)
    return *crystals[0], cell


@dataclass(frozen=True)
class _Content:
    """What the file says that the cell holds."""

    formula: dict[str, float]  # atoms by symbol; empty where nothing is said
    units: float | None  # of the formula in the cell

    @classmethod
    def of(cls, block: Block) -> _Content:
        text = block.one("_chemical_formula_sum")
        units = block.one("_cell_formula_units_z")
        formula: dict[str, float] = defaultdict(float)
        place = 0
        while text and place < len(text):
            match = _FORMULA.match(text, place)
            if match is None or match[1] not in ATOMIC_NUMBERS | ISOTOPES:
                raise StructureError(f"_chemical_formula_sum {text!r} is no formula")
            formula["H" if match[1] in ISOTOPES else match[1]] += float(match[2] or 1)
            place = match.end()
        number = None if units is None else number_in(units, "_cell_formula_units_Z")
        return cls({name: count for name, count in formula.items() if count}, number or None)

    def check(self, numbers: np.ndarray) -> None:
        """Raises StructureError if the atoms in the cell are others."""
        if not self.formula:
            return
        found = _counts(numbers)
        total = sum(found.values()) / sum(self.formula.values())
        units = self.units or total
        if _alike(found, self.formula, units):
            return
        # pymatgen writes the content of the whole cell as the formula, and beside it the units in this cell.
        whole = all(count == int(count) for count in self.formula.values())
        if (
            whole
            and self.units == math.gcd(*map(int, self.formula.values()))
            and _alike(found, self.formula, 1)
        ):
            return
        raise StructureError(
            f"the cell holds {_written(found)}, but the formula says {self}: symmetry operators or atoms are "
            "missing or wrong"
        )

    def __str__(self) -> str:
        return _written(self.formula) + (f", Z = {self.units:g}" if self.units else "")

    def beside(self, numbers: np.ndarray) -> str:
        """What a message adds where the symmetry of these sites cannot be told."""
        if not self.formula:
            return ""
        return (
            f" (without it, the cell holds {_written(_counts(numbers))}; the formula says {self})"
        )


def _counts(numbers: np.ndarray) -> dict[str, float]:
    return {
        SYMBOLS[number - 1]: float(count) for number, count in Counter(numbers.tolist()).items()
    }


def _alike(found: dict[str, float], formula: dict[str, float], units: float) -> bool:
    return found.keys() == formula.keys() and all(
        abs(found[name] - units * count) <= 0.005 * found[name] for name, count in formula.items()
    )


def _written(counts: dict[str, float]) -> str:
    return " ".join(
        f"{name}{count:g}" if count != 1 else name for name, count in sorted(counts.items())
    )


def _choices(block: Block, cell: np.ndarray) -> list[Operators]:
    """The symmetry that the file says; several where its words leave a choice.

    Raises:
        StructureError: operators that are none, that do not fit the cell, or are not those of the space group.
    """
    symbol, hall = block.one(*_SYMBOLS), block.one(*_HALL)
    number = _group_number(block)
    lists = [block.column(name) for name in _OPERATORS]
    lists = [texts for texts in lists if any(texts)]
    if not lists:
        if not (symbol or hall or number):
            return [IDENTITY]
        settings = settings_of(symbol, hall, number)
        fitting = [operators for operators in settings if fits(operators, cell)]
        if not fitting:
            raise StructureError(f"the cell has not the symmetry of {settings[0].name}")
        return [IDENTITY] if all(operators.is_identity for operators in fitting) else fitting
    if (
        None in lists[0]
        or len(lists) > 1
        and sorted(map(str, lists[0])) != sorted(map(str, lists[1]))
    ):
        raise StructureError("the symmetry operators are not all given, or given twice and differ")
    operators = operators_of([str(text) for text in lists[0]])
    if operators.is_identity:
        return [IDENTITY]
    if not fits(operators, cell):
        raise StructureError("the cell has not the symmetry of the operators")
    said = numbers_of(symbol, number)
    found = number_of(operators, cell) if said else None
    if len(said) > 1 or found is not None and found not in said:
        told = " and ".join(map(str, sorted(said)))
        raise StructureError(
            f"the operators are those of space group {found}, but the file says number {told}"
        )
    return [operators]


def _group_number(block: Block) -> int | None:
    texts = [text for name in _NUMBERS if (text := block.one(name)) is not None]
    found = {number_in(text, "the number of the space group") for text in texts}
    if not found:
        return None
    number = found.pop()
    if found or not 1 <= number <= 230 or number != int(number):
        raise StructureError(f"space group number {' and '.join(texts)} is none of 1..230")
    return int(number)


def _filled(
    sites: Sites, operators: Operators, cell: np.ndarray, said: _Content
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [N] and fractions [N, 3] of all atoms, which have to be those that the file says."""
    if len(sites.labels) * len(operators.rotations) > MOST_ATOMS * 4:
        raise StructureError(
            f"{len(sites.labels)} sites and {len(operators.rotations)} operators are too many"
        )
    if operators.is_identity:
        # The order of site symmetry, 1, is the multiplicity here: nothing to choose between.
        orbits, stays = list(sites.fractions[:, None]), [1] * len(sites.labels)
    else:
        tolerance = place_tolerance(sites.digits, cell)
        orbits, stays = [], []
        for label, place in zip(sites.labels, sites.fractions, strict=True):
            try:
                images, stay = orbit(place, operators, cell, tolerance)
            except StructureError as error:
                raise StructureError(f"site {label}: {error}") from None
            orbits.append(images)
            stays.append(stay)
    _check_multiplicities(sites, [len(images) for images in orbits], stays)
    numbers = np.repeat(sites.numbers, [len(images) for images in orbits])
    said.check(numbers)
    return numbers, np.concatenate(orbits) if orbits else np.zeros((0, 3))


def _check_multiplicities(sites: Sites, found: list[int], stays: list[int]) -> None:
    """Older SHELXL wrote the order of the site symmetry under this name; that is right if it is so for every site."""
    told = [
        (label, said, count, stay)
        for label, said, count, stay in zip(
            sites.labels, sites.multiplicities, found, stays, strict=True
        )
        if said is not None
    ]
    if all(said == stay for _, said, _, stay in told):
        return
    for label, said, count, _ in told:
        if said != count:
            raise StructureError(
                f"site {label} has {count} images, but its multiplicity is {said:g}"
            )


def _same_atoms(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], cell: np.ndarray
) -> bool:
    """Whether two crystals in one cell have the same atoms at the same places, in any order."""
    if sorted(first[0].tolist()) != sorted(second[0].tolist()):
        return False
    apart = first[1][:, None] - second[1][None]
    apart -= np.round(apart)
    near = np.linalg.norm(apart @ cell, axis=-1) < 0.1
    near &= first[0][:, None] == second[0][None]
    return bool((near.sum(0) == 1).all() and (near.sum(1) == 1).all())


def _check_lost_symmetry(block: Block, sites: Sites, cell: np.ndarray, said: _Content) -> None:
    """Where every atom is listed, a space group beside it is only a note; else its operators are lost.

    Raises:
        StructureError: neither formula and Z nor the group itself shows that every atom is there.
    """
    symbol, number = block.one(*_SYMBOLS), _group_number(block)
    if numbers_of(symbol, number) <= {1} and (symbol is None or numbers_of(symbol, None)):
        return
    if said.formula and said.units:
        return
    told = repr(symbol) if symbol else f"number {number}"
    lost = StructureError(
        f"the file says space group {told}, but its operators are missing, and no formula with Z shows "
        "that all atoms are there"
    )
    try:
        settings = settings_of(symbol, block.one(*_HALL), number)
    except StructureError:
        raise lost from None
    plain = (sites.numbers, sites.fractions)
    for operators in settings:
        if fits(operators, cell):
            images = np.concatenate(
                [
                    place @ operators.rotations.transpose(0, 2, 1) + operators.translations
                    for place in sites.fractions
                ]
            )
            if _closed(plain, images, np.repeat(sites.numbers, len(operators.rotations)), cell):
                return
    raise lost


def _closed(
    plain: tuple[np.ndarray, np.ndarray], images: np.ndarray, numbers: np.ndarray, cell: np.ndarray
) -> bool:
    """Whether every image of an atom is one of the atoms."""
    if len(images) * len(plain[0]) > 4_000_000:
        return False
    apart = images[:, None] - plain[1][None]
    apart -= np.round(apart)
    near = np.linalg.norm(apart @ cell, axis=-1) < 0.1
    return bool((near & (numbers[:, None] == plain[0][None])).any(1).all())
