"""III-VI layers as pure data: quadruples X-M-M'-X' and quintuples X-M-X'-M'-X''.

**Sites.** Every atom sits on one of the three high-symmetry sites of the hexagonal cell, a = (a, 0, 0) and
b = (-a/2, a sqrt(3)/2, 0). Site k in {0, 1, 2} (A, B, C) is the fractional point (k/3, 2k/3) mod 1, so that

* a shift by registry r, (r/3, 2r/3), adds r to every site (mod 3);
* a turn by 60 degrees about z equals, for layers with a threefold axis, a turn by 180: k -> -k, B and C swap;
* the flip is a C2 turn about the y axis, (x, y, z) -> (-x, y, -z). It takes fractional (f, g) to (g - f, g),
  which leaves each of the three sites in place, and turns the order of the atoms round. It is a proper
  rotation, so a flipped layer is the same layer seen from below. (C2 about x would swap B and C as well.)

**Heights.** A slanted M-X bond of length d spans a/sqrt(3) in the plane and sqrt(d^2 - a^2/3) in height; M-M,
and M to the middle X of a quintuple, are vertical. Under strain the in-plane stretch goes half into the bond
and half into its angle (`BOND_STRAIN_SHARE`): with the bond held fixed, a layer as small as AlS could not be
laid on one as large as InTe at all, since d < a/sqrt(3) there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vdw_jax.structures import elements

BOND_STRAIN_SHARE = 0.5
"""Share of the in-plane strain that a slanted bond takes: d = d0 (1 + share (a / a_MX - 1)). Chosen, not
fitted: between 0 (rigid bonds) and 1 (rigid angles); it cancels in unstrained MX layers."""

QUINTUPLE_LATTICE_FACTOR = 1.01
"""Lattice constant of a quintuple over the mean of its M-X combinations. Anchor: alpha-In2Se3, about 4.10
Angstrom in PBE (Ding et al., Nat. Commun. 8, 14956 (2017)), over InSe 4.077."""

TETRAHEDRAL_BASAL_FACTOR = 0.99
TETRAHEDRAL_VERTICAL_FACTOR = 0.96
OCTAHEDRAL_INNER_FACTOR = 1.07
OCTAHEDRAL_OUTER_FACTOR = 1.00
"""Bonds of a quintuple over the M-X bond of the MX monolayer. Chosen so that alpha-In2Se3 comes out with
about its PBE thickness, 6.7 to 6.8 Angstrom; four coordinated M bonds shorter than six coordinated M."""

QUADRUPLE_SITES = np.array([2, 1, 1, 2], np.int8)
QUINTUPLE_UP_SITES = np.array([0, 1, 1, 2, 0], np.int8)
QUINTUPLE_DOWN_SITES = QUINTUPLE_UP_SITES[::-1].copy()


def _pair_table(values: dict[tuple[str, str], float]) -> np.ndarray:
    table = np.full((elements.NUM_ELEMENTS + 1, elements.NUM_ELEMENTS + 1), np.nan)
    for (metal, chalcogen), value in values.items():
        i, j = elements.ATOMIC_NUMBERS[metal], elements.ATOMIC_NUMBERS[chalcogen]
        table[i, j] = table[j, i] = value
    return table


_LATTICE = _pair_table(elements.LATTICE_CONSTANT_ANGSTROM)
_BOND = _pair_table(elements.METAL_CHALCOGEN_BOND_ANGSTROM)
_METAL = np.full(elements.NUM_ELEMENTS + 1, np.nan)
for _name, _value in elements.METAL_METAL_BOND_ANGSTROM.items():
    _METAL[elements.ATOMIC_NUMBERS[_name]] = _value


@dataclass(frozen=True)
class Layer:
    """One layer, atoms from bottom to top, lowest atom at height 0."""

    species: tuple[int, ...]  # atomic numbers, bottom to top
    sites: tuple[int, ...]  # 0, 1, 2 for A, B, C
    heights_angstrom: tuple[float, ...]
    lattice_constant_angstrom: float

    @property
    def name(self) -> str:
        """Symbols from bottom to top, such as "SGaInSe"."""
        return layer_name(self.species)

    @property
    def thickness_angstrom(self) -> float:
        """Height of the top atom over the bottom atom."""
        return self.heights_angstrom[-1] - self.heights_angstrom[0]

    @property
    def fractional_sites(self) -> np.ndarray:
        """In-plane fractional coordinates; [n, 2] float64."""
        return site_fractions(np.array(self.sites))

    @property
    def positions(self) -> np.ndarray:
        """Cartesian positions, Angstrom; [n, 3] float64."""
        in_plane = self.fractional_sites @ hexagonal_vectors(self.lattice_constant_angstrom)
        return np.column_stack([in_plane, self.heights_angstrom])

    def flip(self) -> Layer:
        """Turn the layer over: C2 about y, which keeps the sites and reverses the order."""
        top = self.heights_angstrom[-1]
        heights = tuple(top - h for h in reversed(self.heights_angstrom))
        return replace(self, species=self.species[::-1], sites=self.sites[::-1], heights_angstrom=heights)

    def rotate(self) -> Layer:
        """Turn the layer by 60 degrees about z through site A: B and C swap."""
        return replace(self, sites=tuple(-s % 3 for s in self.sites))

    def shift(self, registry: int) -> Layer:
        """Move the layer in its plane by `registry` (0, 1, 2) times (1/3, 2/3)."""
        return replace(self, sites=tuple((s + registry) % 3 for s in self.sites))


def layer_name(species: tuple[int, ...] | np.ndarray) -> str:
    """Symbols of `species` (atomic numbers, bottom to top) in a row."""
    return "".join(elements.SYMBOLS[int(z) - 1] for z in species)


def hexagonal_vectors(lattice_constant_angstrom: float) -> np.ndarray:
    """In-plane lattice vectors a, b as rows, 120 degrees apart; [2, 2] Angstrom."""
    return lattice_constant_angstrom * np.array([[1.0, 0.0], [-0.5, np.sqrt(3.0) / 2.0]])


def site_fractions(sites: np.ndarray) -> np.ndarray:
    """Fractional points of sites; [...] int -> [..., 2] float64 in [0, 1)."""
    return np.stack([(sites % 3) / 3.0, (2 * sites % 3) / 3.0], axis=-1)


def layer_sites(num_atoms: int, polarity: np.ndarray) -> np.ndarray:
    """Sites of unrotated layers; polarity [R] -> [R, num_atoms] int8.

    Args:
        num_atoms: 4 (quadruple) or 5 (quintuple).
        polarity: +1 where the tetrahedral M of a quintuple is below, -1 where above; unread for quadruples.
    """
    if num_atoms == 4:
        return np.broadcast_to(QUADRUPLE_SITES, (len(polarity), 4))
    return np.where((np.asarray(polarity) < 0)[:, None], QUINTUPLE_DOWN_SITES, QUINTUPLE_UP_SITES)


def free_lattice_constant(species: np.ndarray) -> np.ndarray:
    """Lattice constant of free layers: the mean over all M-X combinations in the layer, Angstrom.

    Exactly the table for MX layers; quintuples times `QUINTUPLE_LATTICE_FACTOR`.

    Args:
        species: atomic numbers, bottom to top; [R, 4] or [R, 5].

    Returns:
        [R] float64.

    Raises:
        ValueError: an atom is not where this kind of layer has M or X.
    """
    species = np.atleast_2d(species)
    metals, chalcogens = ([1, 2], [0, 3]) if species.shape[1] == 4 else ([1, 3], [0, 2, 4])
    table = _LATTICE[species[:, metals][:, :, None], species[:, chalcogens][:, None, :]]
    if not (np.isin(species[:, metals], elements.METALS).all() and np.isfinite(table).all()):
        raise ValueError("layers are X-M-M-X or X-M-X-M-X with M in Al, Ga, In and X in S, Se, Te")
    mean = table.mean((1, 2))
    return mean if species.shape[1] == 4 else QUINTUPLE_LATTICE_FACTOR * mean


def _slanted(first: np.ndarray, second: np.ndarray, lattice: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Height that the slanted bond between two species spans; all [R]."""
    stretch = 1.0 + BOND_STRAIN_SHARE * (lattice / _LATTICE[first, second] - 1.0)
    squared = (factor * _BOND[first, second] * stretch) ** 2 - lattice**2 / 3.0
    if not (squared > 0).all():
        worst = int(np.argmin(squared))
        pair = f"{elements.symbol(int(first[worst]))}-{elements.symbol(int(second[worst]))}"
        raise ValueError(f"bond {pair} cannot span a / sqrt(3) at a = {lattice[worst]:.3f} Angstrom")
    return np.sqrt(squared)


def layer_heights(species: np.ndarray, polarity: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Heights of the atoms of layers held at given lattice constants.

    Args:
        species: atomic numbers, bottom to top; [R, 4] or [R, 5].
        polarity: +1 or -1 for quintuples; [R], unread for quadruples.
        lattice: in-plane lattice constants, Angstrom; [R].

    Returns:
        [R, 4] or [R, 5] float64, Angstrom, lowest atom at 0.

    Raises:
        ValueError: a bond is too short for its lattice constant.
    """
    if species.shape[1] == 4:
        x1, m1, m2, x2 = species.T
        steps = [_slanted(x1, m1, lattice), (_METAL[m1] + _METAL[m2]) / 2.0, _slanted(m2, x2, lattice)]
        return np.concatenate([np.zeros((len(species), 1)), np.cumsum(np.stack(steps, -1), -1)], -1)
    down = np.asarray(polarity) < 0
    x1, m1, x2, m2, x3 = np.where(down[:, None], species[:, ::-1], species).T
    steps = [
        _slanted(x1, m1, lattice, TETRAHEDRAL_BASAL_FACTOR),
        TETRAHEDRAL_VERTICAL_FACTOR * _BOND[m1, x2],
        _slanted(x2, m2, lattice, OCTAHEDRAL_INNER_FACTOR),
        _slanted(m2, x3, lattice, OCTAHEDRAL_OUTER_FACTOR),
    ]
    up_heights = np.concatenate([np.zeros((len(species), 1)), np.cumsum(np.stack(steps, -1), -1)], -1)
    return np.where(down[:, None], (up_heights[:, -1:] - up_heights)[:, ::-1], up_heights)


def make_layer(
    species: tuple[int, ...], polarity: int = 1, lattice_constant_angstrom: float | None = None
) -> Layer:
    """Build one layer, free or held at a lattice constant.

    Args:
        species: 4 or 5 atomic numbers, bottom to top.
        polarity: for quintuples, +1 with the tetrahedral M below, -1 above.
        lattice_constant_angstrom: None for the free layer's own.

    Raises:
        ValueError: no such layer, or a bond too short for the lattice constant.
    """
    if len(species) not in (4, 5):
        raise ValueError(f"a layer has 4 or 5 atoms, not {len(species)}")
    rows, turns = np.array([species]), np.array([polarity])
    free = free_lattice_constant(rows)
    lattice = free if lattice_constant_angstrom is None else np.array([lattice_constant_angstrom])
    heights = layer_heights(rows, turns, lattice)[0]
    sites = layer_sites(len(species), turns)[0]
    return Layer(
        species=tuple(int(z) for z in species),
        sites=tuple(int(s) for s in sites),
        heights_angstrom=tuple(float(h) for h in heights),
        lattice_constant_angstrom=float(lattice[0]),
    )
