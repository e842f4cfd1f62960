"""Bilayer cells from two layers by rule, where relaxation starts: common lattice constant and gap.

The lattice constant is the mean of the two layers'. The gap minimises a Lennard-Jones energy, in eV a cell,
E = w sum_ij D_ij [(x_ij / r)^12 - 2 (x_ij / r)^6], geometric means for unlike pairs (Universal Force Field,
Rappe et al. 1992), over every atom i of one layer's cell and every periodic image of every atom j of the other.

The lattice sum over images depends only on h / a and on whether the two sites coincide, so two small tables
(direct sum to 20 a, the rest as an integral) replace any cutoff.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdw_jax.structures import elements, layers

WELL_DEPTH_SCALE = 0.8
"""w, on every UFF well depth: brings the lowest energies to those of relaxed cells. UFF distances are unscaled."""

VACUUM_ANGSTROM = 20.0
"""Added to the slab's height for the length of c; nothing reads it but exported files."""

GAP_SEARCH_ANGSTROM = (1.6, 5.6)

_T_RANGE = (0.2, 12.0)
_T_POINTS = 4000
_SUM_RADIUS = 20.0


@dataclass(frozen=True)
class LayerRows:
    """R layers with one number of atoms n, 4 or 5."""

    species: np.ndarray  # [R, n] int, atomic numbers bottom to top
    polarity: np.ndarray  # [R] int, 0 for quadruples; quintuples +1 with the tetrahedral M below, -1 above

    def __len__(self) -> int:
        return len(self.species)


@dataclass(frozen=True)
class Bilayers:
    """R bilayer cells with one number of atoms N."""

    atomic_numbers: np.ndarray  # [R, N] int, bottom layer first, bottom to top
    positions: np.ndarray  # [R, N, 3] float64, Angstrom, mean height 0
    cell: np.ndarray  # [R, 3, 3] float64, Angstrom
    lattice_constant: np.ndarray  # [R] Angstrom
    gap: np.ndarray  # [R] Angstrom, height between the facing atoms
    mismatch: np.ndarray  # [R] |a1 - a2| / a
    interlayer_energy: np.ndarray  # [R] eV a cell


def _lattice_sums(power: int, same_site: bool, t: np.ndarray) -> np.ndarray:
    """sum_R (|R + d|^2 + t^2)^-power over a hexagonal lattice of constant 1; [T] -> [T]."""
    steps = np.arange(-30, 31)
    cells = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    offset = np.zeros(2) if same_site else np.array([1.0, 2.0]) / 3.0
    squared = (((cells + offset) @ layers.hexagonal_vectors(1.0)) ** 2).sum(-1)
    squared, counts = np.unique(np.round(squared[squared < _SUM_RADIUS**2], 9), return_counts=True)
    direct = np.zeros_like(t)
    for value, count in zip(squared, counts, strict=True):
        direct += count * (value + t**2) ** -power
    area = np.sqrt(3.0) / 2.0
    tail = np.pi / area / (power - 1) * (_SUM_RADIUS**2 + t**2) ** (1 - power)
    return direct + tail


class _SumTable:
    """log of the lattice sum over log t, tabulated for both kinds of site pair."""

    def __init__(self, power: int):
        self._log_t = np.linspace(np.log(_T_RANGE[0]), np.log(_T_RANGE[1]), _T_POINTS)
        self._log_sums = [np.log(_lattice_sums(power, same, np.exp(self._log_t))) for same in (True, False)]

    def __call__(self, log_t: np.ndarray, same_site: np.ndarray) -> np.ndarray:
        out = np.empty_like(log_t)
        for mask, values in zip((same_site, ~same_site), self._log_sums, strict=True):
            out[mask] = np.exp(np.interp(log_t[mask], self._log_t, values))
        return out


_tables: dict[int, _SumTable] = {}


def _table(power: int) -> _SumTable:
    if power not in _tables:
        _tables[power] = _SumTable(power)
    return _tables[power]


def _element_table(values: dict[str, float]) -> np.ndarray:
    table = np.full(elements.NUM_ELEMENTS + 1, np.nan)
    for name, value in values.items():
        table[elements.ATOMIC_NUMBERS[name]] = value
    return table


_DISTANCE = _element_table(elements.UFF_DISTANCE_ANGSTROM)
_DEPTH = _element_table(elements.UFF_WELL_DEPTH_KCAL_PER_MOL) * elements.EV_PER_KCAL_PER_MOL


@dataclass(frozen=True)
class _Interlayer:
    """Everything the interlayer energy needs besides the gap; P = pairs of one bottom and one top atom."""

    reach: np.ndarray  # [R, P] Angstrom, height between the two atoms at gap 0
    same_site: np.ndarray  # [R, P] bool
    six: np.ndarray  # [R, P] eV, coefficient of the a^-6 lattice sum
    twelve: np.ndarray  # [R, P] eV, coefficient of the a^-12 lattice sum
    lattice: np.ndarray  # [R] Angstrom

    def energy(self, gap: np.ndarray) -> np.ndarray:
        """Interlayer energy; [R] Angstrom -> [R] eV a cell."""
        log_t = np.log((self.reach + gap[:, None]) / self.lattice[:, None])
        twelve = self.twelve * _table(6)(log_t, self.same_site)
        return (twelve - 2.0 * self.six * _table(3)(log_t, self.same_site)).sum(-1)

    def slope(self, gap: np.ndarray) -> np.ndarray:
        """Derivative of the energy with the gap, times a positive factor of each row; [R]."""
        height = self.reach + gap[:, None]
        log_t = np.log(height / self.lattice[:, None])
        twelve = self.twelve * _table(7)(log_t, self.same_site)
        return (-12.0 * height * (twelve - self.six * _table(4)(log_t, self.same_site))).sum(-1)


def _interlayer(
    bottom: LayerRows, top: LayerRows, sites: tuple[np.ndarray, np.ndarray],
    heights: tuple[np.ndarray, np.ndarray], lattice: np.ndarray,
) -> _Interlayer:  # fmt: skip
    rows = len(lattice)

    def pairs(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = (rows, lower.shape[1], upper.shape[1])
        return (
            np.broadcast_to(lower[:, :, None], shape).reshape(rows, -1),
            np.broadcast_to(upper[:, None, :], shape).reshape(rows, -1),
        )

    first, second = pairs(bottom.species, top.species)
    below, above = pairs(heights[0][:, -1:] - heights[0], heights[1])
    first_site, second_site = pairs(*sites)
    ratio = _DISTANCE[first] * _DISTANCE[second] / lattice[:, None] ** 2  # (x_ij / a)^2
    depth = WELL_DEPTH_SCALE * np.sqrt(_DEPTH[first] * _DEPTH[second])
    return _Interlayer(below + above, first_site == second_site, depth * ratio**3, depth * ratio**6, lattice)


def _best_gap(interlayer: _Interlayer, tolerance_angstrom: float = 1e-5) -> np.ndarray:
    """Gap of lowest interlayer energy: a scan, then bisection of the slope; [R] Angstrom."""
    step = 0.1
    grid = np.arange(GAP_SEARCH_ANGSTROM[0], GAP_SEARCH_ANGSTROM[1] + step / 2, step)
    rows = len(interlayer.lattice)
    energies = np.stack([interlayer.energy(np.full(rows, gap)) for gap in grid])
    best = energies.argmin(0)
    if ((best == 0) | (best == len(grid) - 1)).any():
        raise ValueError(f"no interlayer energy minimum inside {GAP_SEARCH_ANGSTROM} Angstrom")
    low, high = grid[best - 1], grid[best + 1]
    while (high - low).max() > tolerance_angstrom:
        middle = (low + high) / 2.0
        rising = interlayer.slope(middle) > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return (low + high) / 2.0


def stack(bottom: LayerRows, top: LayerRows, registry: np.ndarray, rotated: np.ndarray) -> Bilayers:
    """Lay `top` on `bottom`: turned by 60 degrees where `rotated`, then shifted by `registry` (1/3, 2/3).

    Args:
        bottom: R layers with n1 atoms.
        top: R layers with n2 atoms.
        registry: 0, 1 or 2; [R].
        rotated: bool; [R].

    Returns:
        R cells of N = n1 + n2 atoms, at the best common lattice constant and gap of the surrogate potential.

    Raises:
        ValueError: rows differ in number, a layer cannot be held at the common lattice constant, or no gap
            binds.
    """
    if not len(bottom) == len(top) == len(registry) == len(rotated):
        raise ValueError("bottom, top, registry and rotated need one row for each bilayer")
    free_bottom = layers.free_lattice_constant(bottom.species)
    free_top = layers.free_lattice_constant(top.species)
    lattice = (free_bottom + free_top) / 2.0
    heights = (
        layers.layer_heights(bottom.species, bottom.polarity, lattice),
        layers.layer_heights(top.species, top.polarity, lattice),
    )
    turn = np.where(np.asarray(rotated, bool), -1, 1)[:, None]
    bottom_sites = layers.layer_sites(bottom.species.shape[1], bottom.polarity).astype(int)
    top_sites = layers.layer_sites(top.species.shape[1], top.polarity).astype(int)
    sites = (bottom_sites, (turn * top_sites + np.asarray(registry)[:, None]) % 3)
    interlayer = _interlayer(bottom, top, sites, heights, lattice)
    gap = _best_gap(interlayer)

    z = np.concatenate([heights[0], heights[0][:, -1:] + gap[:, None] + heights[1]], -1)
    z -= z.mean(-1, keepdims=True)
    fractions = layers.site_fractions(np.concatenate(sites, -1))
    in_plane = lattice[:, None, None] * (fractions @ layers.hexagonal_vectors(1.0))
    cell = np.zeros((len(lattice), 3, 3))
    cell[:, :2, :2] = lattice[:, None, None] * layers.hexagonal_vectors(1.0)
    cell[:, 2, 2] = z.max(-1) - z.min(-1) + VACUUM_ANGSTROM
    return Bilayers(
        atomic_numbers=np.concatenate([bottom.species, top.species], -1),
        positions=np.concatenate([in_plane, z[..., None]], -1),
        cell=cell,
        lattice_constant=lattice,
        gap=gap,
        mismatch=np.abs(free_bottom - free_top) / lattice,
        interlayer_energy=interlayer.energy(gap),
    )
