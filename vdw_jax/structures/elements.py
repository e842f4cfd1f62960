"""Elements, and the few tabulated numbers that III-VI layers are built from.

Only numbers that someone measured or computed elsewhere stand here, each with its source. What this project
chose itself (stiffness, scale factors) stands in `layers` and `stacking`, beside the formula that uses it.
"""

from __future__ import annotations

from vdw_jax.types import NUM_ELEMENTS

_SYMBOL_TEXT = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb "
    "Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm"
)
SYMBOLS: tuple[str, ...] = tuple(_SYMBOL_TEXT.split())
"""H to Fm; `SYMBOLS[z - 1]` is the symbol of atomic number `z`."""

assert len(SYMBOLS) == NUM_ELEMENTS

ATOMIC_NUMBERS: dict[str, int] = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}
"""Atomic number of each symbol."""

METALS: tuple[int, ...] = tuple(ATOMIC_NUMBERS[s] for s in ("Al", "Ga", "In"))
"""Atomic numbers of M in the III-VI layers, in the order that enumeration uses."""

CHALCOGENS: tuple[int, ...] = tuple(ATOMIC_NUMBERS[s] for s in ("S", "Se", "Te"))
"""Atomic numbers of X in the III-VI layers, in the order that enumeration uses."""

LATTICE_CONSTANT_ANGSTROM: dict[tuple[str, str], float] = {
    ("Al", "S"): 3.589,
    ("Al", "Se"): 3.777,
    ("Al", "Te"): 4.120,
    ("Ga", "S"): 3.651,
    ("Ga", "Se"): 3.825,
    ("Ga", "Te"): 4.135,
    ("In", "S"): 3.917,
    ("In", "Se"): 4.077,
    ("In", "Te"): 4.372,
}
"""In-plane lattice constants of the nine free MX monolayers; this project's own GPAW/PBE calculations."""

METAL_CHALCOGEN_BOND_ANGSTROM: dict[tuple[str, str], float] = {
    ("Al", "S"): 2.32,
    ("Al", "Se"): 2.47,
    ("Al", "Te"): 2.69,
    ("Ga", "S"): 2.37,
    ("Ga", "Se"): 2.50,
    ("Ga", "Te"): 2.70,
    ("In", "S"): 2.56,
    ("In", "Se"): 2.69,
    ("In", "Te"): 2.89,
}
"""M-X bonds of the free MX monolayers, PBE, rounded to 0.01 Angstrom: Demirci, Avazli, Durgun and Cahangirov,
Phys. Rev. B 95, 115409 (2017); GaX and InX also Zolyomi et al., Phys. Rev. B 87, 195403 (2013) and 89, 205416
(2014). Transcribed without the papers at hand: trust to about 0.02 Angstrom; relaxation replaces them."""

METAL_METAL_BOND_ANGSTROM: dict[str, float] = {"Al": 2.58, "Ga": 2.47, "In": 2.82}
"""M-M bonds of the free MX monolayers, PBE, mean over X (spread 0.02 Angstrom); sources and caveat as for
`METAL_CHALCOGEN_BOND_ANGSTROM`. A mixed M-M' bond takes the mean of the two."""

UFF_DISTANCE_ANGSTROM: dict[str, float] = {
    "Al": 4.499,
    "Ga": 4.383,
    "In": 4.463,
    "S": 4.035,
    "Se": 4.205,
    "Te": 4.470,
}
"""Van der Waals distance x_i of the Universal Force Field, where a like pair's energy is lowest: Rappe,
Casewit, Colwell, Goddard and Skiff, J. Am. Chem. Soc. 114, 10024 (1992), Table 1 (Al3, Ga3+3, In3+3, S_3+2,
Se3+2, Te3+2)."""

UFF_WELL_DEPTH_KCAL_PER_MOL: dict[str, float] = {
    "Al": 0.505,
    "Ga": 0.415,
    "In": 0.599,
    "S": 0.274,
    "Se": 0.291,
    "Te": 0.398,
}
"""Well depth D_i of the Universal Force Field; source as for `UFF_DISTANCE_ANGSTROM`."""

EV_PER_KCAL_PER_MOL = 0.0433641
"""1 kcal/mol in eV (CODATA 2018: 4184 J / (N_A e))."""


def symbol(number: int) -> str:
    """Return the symbol of atomic number `number` (1 to 100).

    Raises:
        ValueError: the number is outside the table.
    """
    if not 1 <= number <= NUM_ELEMENTS:
        raise ValueError(f"atomic number {number} is outside 1..{NUM_ELEMENTS}")
    return SYMBOLS[number - 1]


def atomic_number(element: str) -> int:
    """Return the atomic number of the symbol `element` ("Ga", case-sensitive).

    Raises:
        ValueError: no element from H to Fm has this symbol.
    """
    if element not in ATOMIC_NUMBERS:
        raise ValueError(f"unknown element {element!r}: none of H..Fm")
    return ATOMIC_NUMBERS[element]
