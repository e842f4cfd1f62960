"""CIF: a small, fast reader for the P1 files that pymatgen writes; anything else goes to pymatgen's own parser."""

from __future__ import annotations

import math
import shlex

import numpy as np

from vdw_jax.structures.elements import ATOMIC_NUMBERS
from vdw_jax.structures.entries import StructureError, arrays_of, first_line

_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
_FRACTIONS = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")


class _Unusual(Exception):
    """Not a CIF for the fast reader."""


def cell_from_parameters(lengths: list[float], angles_degrees: list[float]) -> np.ndarray:
    """Cell in pymatgen's convention: c along z, a in the xz plane; rows a, b, c [3, 3], Angstrom.

    Raises:
        StructureError: no cell has these lengths (Angstrom) and angles.
    """
    if not all(math.isfinite(x) and x > 0 for x in [*lengths, *angles_degrees]) or max(angles_degrees) >= 180:
        raise StructureError(f"no cell has lengths {lengths} and angles {angles_degrees}")
    a, b, c = lengths
    alpha, beta, gamma = (math.radians(x) for x in angles_degrees)
    cosine = (math.cos(alpha) * math.cos(beta) - math.cos(gamma)) / (math.sin(alpha) * math.sin(beta))
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


def _values(text: str) -> tuple[dict[str, str], list[tuple[list[str], list[list[str]]]]]:
    """Single values by key, and loops as (keys, rows)."""
    single: dict[str, str] = {}
    loops: list[tuple[list[str], list[list[str]]]] = []
    in_loop = False
    blocks = 0
    for line in map(str.strip, text.splitlines()):
        if not line or line[0] == "#":
            continue
        if line[0] == ";":
            raise _Unusual
        if line.lower().startswith("data_"):
            blocks += 1
            in_loop = False
        elif line.lower() == "loop_":
            loops.append(([], []))
            in_loop = True
        elif line[0] == "_":
            if in_loop and not loops[-1][1]:
                loops[-1][0].append(line)
                continue
            in_loop = False
            key, *rest = line.split(None, 1)
            if not rest:
                raise _Unusual
            single[key] = rest[0].strip("'\"")
        elif in_loop:
            loops[-1][1].append(shlex.split(line) if "'" in line or '"' in line else line.split())
        else:
            raise _Unusual
    if blocks != 1:
        raise _Unusual
    return single, loops


def _fast(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    single, loops = _values(text)
    sites: dict[str, list[str]] = {}
    operations: list[str] = []
    for keys, rows in loops:
        if any(len(row) != len(keys) for row in rows):
            raise _Unusual
        columns = dict(zip(keys, (list(column) for column in zip(*rows, strict=True)), strict=True))
        if "_atom_site_fract_x" in columns:
            sites = columns
        for key in ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz"):
            operations += columns.get(key, [])
    if [op.replace(" ", "").lower() for op in operations] != ["x,y,z"]:
        raise _Unusual
    if any(float(value) != 1 for value in sites.get("_atom_site_occupancy", [])):
        raise StructureError("a site is partly occupied")
    numbers = np.array([ATOMIC_NUMBERS[name] for name in sites["_atom_site_type_symbol"]])
    fractions = np.array([[float(value) for value in sites[key]] for key in _FRACTIONS]).T
    cell = cell_from_parameters([float(single[k]) for k in _LENGTHS], [float(single[k]) for k in _ANGLES])
    return numbers, fractions, cell


def _slow(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import warnings

    from pymatgen.io.cif import CifParser

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structures = CifParser.from_str(text).parse_structures(primitive=False)
    except Exception as error:  # pymatgen raises many kinds; each becomes a named problem of its row
        raise StructureError(f"not a readable CIF ({first_line(error)})") from error
    if len(structures) > 1:
        raise StructureError(f"{len(structures)} structures in one CIF")
    return arrays_of(structures[0])


def parse_cif(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one crystal.

    Args:
        text: the CIF.

    Returns:
        Atomic numbers [N], fractional coordinates as written [N, 3], cell rows a, b, c [3, 3] in Angstrom.

    Raises:
        StructureError: unreadable, several structures, partly occupied, an element past Fm, or no cell.
    """
    try:
        return _fast(text)
    except StructureError:
        raise
    except (_Unusual, KeyError, IndexError, ValueError):
        return _slow(text)


CIF_ADVICE = "Write it again with pymatgen or ASE, fully occupied, one structure; or leave it out"
