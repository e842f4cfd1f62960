"""Potentials that relax and label slabs, many at once: SevenNet-0 with D3 on any device, or any ASE calculator.

Needs the packages of the extra `relax`. A potential is called with padded arrays and answers with an
`Evaluation`; slabs are periodic in a and b alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.structures.errors import DataError
from vdw_jax.types import SLAB

D3_ZERO_PBE = {"s6": 1.0, "s8": 0.722, "s9": 0.0, "rs6": 1.217, "rs8": 1.0, "alp": 14.0}
"""DFT-D3, zero damping, for PBE (Grimme et al., J. Chem. Phys. 132, 154104, 2010), pairs only: VASP's IVDW=11."""

D3_CUTOFF_BOHR = 60.0
COORDINATION_CUTOFF_BOHR = 40.0
BOHR_ANGSTROM = 0.52917726
HARTREE_EV = 27.21138505

NAMES = ("sevennet", "chgnet", "mace")

CHOICE = "sevennet (with D3), chgnet, mace, or package.module:function that makes an ASE calculator; +d3 behind adds D3"
"""How the command lines put it."""


@dataclass(frozen=True)
class Evaluation:
    """Energies of R slabs and their derivatives."""

    energy: np.ndarray  # [R] eV a cell
    forces: np.ndarray  # [R, N, 3] eV/Angstrom, 0 on padding
    virial: np.ndarray  # [R, 3, 3] eV, dE/d(strain)


Potential = Callable[[np.ndarray, np.ndarray, np.ndarray], Evaluation]
"""(atomic numbers [R, N], 0 on padding; positions [R, N, 3]; cells [R, 3, 3]; Angstrom) -> `Evaluation`."""


def create_potential(name: str, device: str = "cpu") -> tuple[Potential, dict[str, str]]:
    """A potential by name, and where it comes from: package, version, hash of its weights, settings.

    Args:
      name: "sevennet" (SevenNet-0 and D3(zero), all slabs at once), "chgnet", or "package.module:function", a
        function without arguments that makes an ASE calculator with forces and stress.
      device: of torch; "cpu", "cuda" or "auto".

    Raises:
      DataError: no such potential, or its packages are not installed.
    """
    if name == "sevennet":
        with _needs_packages(name):
            found = SevenNetD3(_device(device))
            return found, found.provenance
    calculator = create_calculator(name, device)
    provenance = _versions("chgnet", "torch", "ase") if name == "chgnet" else {"calculator": name} | _versions("ase")
    return AsePotential(calculator), provenance


def create_calculator(name: str, device: str = "cpu") -> Any:
    """The ASE calculator of a potential, for crystals of any periodicity; names and errors as `create_potential`.

    "mace" (MACE-MP, without D3; fetches its weights at the first use) is known here alone.
    What `module:function` names is imported and called: such a name is to come from the user, never from a file.
    `+d3` behind a name adds dispersion: DFT-D3 of pairs with zero damping, for PBE. `sevennet` has it already.
    """
    plain = name.removesuffix("+d3")
    if plain != name:
        with _needs_packages(name):
            from ase.calculators.mixing import SumCalculator

            dispersion: Any = importlib.import_module("dftd3.ase")
        parts = [create_calculator(plain, device), dispersion.DFTD3(damping="d3zero", params_tweaks=D3_ZERO_PBE)]
        return SumCalculator(parts)
    with _needs_packages(name):
        if name == "sevennet":
            from ase.calculators.mixing import SumCalculator

            net: Any = importlib.import_module("sevenn.calculator")
            d3: Any = importlib.import_module("dftd3.ase")
            parts = [
                net.SevenNetCalculator("7net-0", device=_device(device)),
                d3.DFTD3(damping="d3zero", params_tweaks=D3_ZERO_PBE),
            ]
            return SumCalculator(parts)
        if name == "chgnet":
            module: Any = importlib.import_module("chgnet.model.dynamics")
            return module.CHGNetCalculator(use_device=_device(device))
        if name == "mace":
            foundation: Any = importlib.import_module("mace.calculators")
            try:
                return foundation.mace_mp(device=_device(device), default_dtype="float64")
            except (OSError, RuntimeError) as error:  # its weights are fetched at the first use
                raise DataError(f"potential {name!r} cannot be made: {error}") from None
    package, colon, function = name.partition(":")
    if not colon:
        raise DataError(f"unknown potential {name!r}; choose {', '.join(NAMES)}, or package.module:function")
    try:
        return getattr(importlib.import_module(package), function)()
    except Exception as error:  # the function is the user's own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"potential {name!r} cannot be made: {reason}") from None


@contextlib.contextmanager
def _needs_packages(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        extra = "mace" if getattr(error, "name", None) in ("mace", "mace.calculators") else "relax"
        raise DataError(
            f"potential {name!r} needs a package that is not installed ({error}): pip install -e '.[{extra}]'"
        ) from None


def _device(name: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _versions(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}


class AsePotential:
    """Any ASE calculator, one slab after the other."""

    def __init__(self, calculator: Any) -> None:
        self.calculator = calculator

    def __call__(self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """As `Potential`."""
        from ase import Atoms
        from ase.stress import voigt_6_to_full_3x3_stress

        energy, forces, virial = np.zeros(len(cell)), np.zeros(positions.shape), np.zeros(cell.shape)
        for row, row_cell in enumerate(cell):
            real = numbers[row] > 0
            # Amid the cell: some calculators (dftd3) wrap atoms along c as well, and would cut the slab in two.
            middle = [0.0, 0.0, row_cell[2, 2] / 2 - np.mean(positions[row][real][:, 2])]
            atoms = Atoms(numbers[row][real], positions[row][real] + middle, cell=row_cell, pbc=SLAB)
            atoms.calc = self.calculator
            energy[row] = atoms.get_potential_energy()
            forces[row][real] = atoms.get_forces()
            virial[row] = voigt_6_to_full_3x3_stress(atoms.get_stress(voigt=True)) * atoms.get_volume()
        return Evaluation(energy, forces, virial)


class SevenNetD3:
    """SevenNet-0 (11Jul2024) and D3(zero), for all slabs of a call at once.

    Args:
      device: of torch.
      chunk: slabs that are on the device at a time; 64 on a CPU and 1,024 elsewhere by default.
    """

    def __init__(self, device: str = "cpu", chunk: int | None = None) -> None:
        import sevenn
        import torch
        import torch_dftd
        from sevenn import _keys, util

        self._torch, self._keys, self.device = torch, _keys, device
        self.chunk = chunk or (64 if device == "cpu" else 1024)
        weights = Path(sevenn.__file__).parent / "pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth"
        checkpoint = util.load_checkpoint(str(weights))
        self._model = checkpoint.build_model().to(device).eval()
        self._model.set_is_batch_data(True)
        self._cutoff = float(checkpoint.config[_keys.CUTOFF])
        tables = Path(torch_dftd.__file__).parent / "nn/params/dftd3_params.npz"
        with np.load(tables) as stored:
            self._d3 = {name: torch.tensor(stored[name], dtype=torch.float64, device=device) for name in stored.files}
        self.provenance = {
            "potential": "SevenNet-0 (11Jul2024) + DFT-D3(zero, PBE, pairs only)",
            "sevennet_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "d3_tables_sha256": hashlib.sha256(tables.read_bytes()).hexdigest(),
        } | _versions("sevenn", "torch", "torch_dftd")

    def __call__(self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """As `Potential`."""
        parts = []
        for start in range(0, len(cell), self.chunk):
            rows = slice(start, start + self.chunk)
            parts.append(self._evaluate(numbers[rows], positions[rows], cell[rows]))
        return Evaluation(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _evaluate(self, numbers, positions, cell):
        torch = self._torch
        z = torch.tensor(np.asarray(numbers), dtype=torch.int64, device=self.device)
        x, h = (torch.tensor(np.asarray(v), dtype=torch.float64, device=self.device) for v in (positions, cell))
        answers = [part(z, x, h) for part in (self._sevennet, self._dispersion)]
        return tuple(sum(values).cpu().numpy() for values in zip(*answers, strict=True))

    def _vectors(self, x, h, cutoff: float):
        """Vectors from every atom to every image of every atom; [R, N, N, I, 3], and which are an atom itself."""
        torch = self._torch
        spacing = torch.linalg.det(h[:, :2, :2]).abs()[:, None] / torch.linalg.norm(h[:, :2, :2], dim=-1)
        reach = math.ceil(cutoff / float(spacing.detach().min())) + 1
        steps = torch.arange(-reach, reach + 1, device=self.device, dtype=torch.float64)
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        shifts = offsets @ h[:, :2]
        vectors = (x[:, None] - x[:, :, None])[:, :, :, None] + shifts[:, None, None]
        same = torch.eye(x.shape[1], dtype=torch.bool, device=self.device)[:, :, None] & (offsets == 0).all(-1)
        return vectors, same

    def _sevennet(self, z, x, h):
        torch, keys = self._torch, self._keys
        vectors, same = self._vectors(x, h, self._cutoff)
        real = z > 0
        near = (torch.linalg.norm(vectors, dim=-1) < self._cutoff) & ~same
        row, source, target, _ = torch.nonzero(near & (real[:, :, None] & real[:, None, :])[..., None], as_tuple=True)
        place = torch.cumsum(real.flatten(), 0).reshape(real.shape) - 1
        edges = vectors[near & (real[:, :, None] & real[:, None, :])[..., None]].to(torch.get_default_dtype())
        rows = torch.nonzero(real)[:, 0]
        data = {
            keys.ATOMIC_NUMBERS: z[real],
            keys.EDGE_VEC: edges,
            keys.EDGE_IDX: torch.stack([place[row, source], place[row, target]]),
            keys.BATCH: rows,
            keys.NUM_ATOMS: real.sum(1),
            keys.CELL_VOLUME: torch.ones(len(z), device=self.device, dtype=edges.dtype),
        }
        answer = self._model(data)
        forces = torch.zeros_like(x)
        forces[real] = answer[keys.PRED_FORCE].to(torch.float64)
        xx, yy, zz, xy, yz, zx = (-answer[keys.PRED_STRESS].to(torch.float64)).T
        virial = torch.stack([xx, xy, zx, xy, yy, yz, zx, yz, zz], -1).reshape(-1, 3, 3)
        return answer[keys.PRED_TOTAL_ENERGY].detach().to(torch.float64), forces.detach(), virial.detach()

    def _dispersion(self, z, x, h):
        torch = self._torch
        x = x.detach().requires_grad_(True)
        strain = torch.zeros(len(z), 3, 3, dtype=torch.float64, device=self.device, requires_grad=True)
        symmetric = (strain + strain.mT) / 2
        deformation = torch.eye(3, dtype=torch.float64, device=self.device) + symmetric
        energy = self._d3_energy(z, x @ deformation, h @ deformation)
        slope, virial = torch.autograd.grad(energy.sum(), (x, strain))
        return energy.detach(), -slope, virial

    def _d3_energy(self, z, x, h):
        """Pairwise D3 with zero damping, eV; the C6 of two atoms serves all their images."""
        torch, tables = self._torch, self._d3
        vectors, same = self._vectors(x, h, D3_CUTOFF_BOHR * BOHR_ANGSTROM)
        real = z > 0
        pair = (real[:, :, None] & real[:, None, :])[..., None] & ~same
        squared = (vectors**2).sum(-1) / BOHR_ANGSTROM**2
        squared = torch.where(pair, squared, 1.0)
        distance = torch.sqrt(squared)
        first, second = z[:, :, None].expand(-1, -1, z.shape[1]), z[:, None, :].expand(-1, z.shape[1], -1)

        covalent = (tables["rcov"][first] + tables["rcov"][second])[..., None]
        counted = pair & (distance < COORDINATION_CUTOFF_BOHR)
        coordination = torch.where(counted, torch.sigmoid(16.0 * (covalent / distance - 1.0)), 0.0).sum((2, 3))

        reference = tables["c6ab"][first, second].flatten(3, 4)  # [R, N, N, 25, (C6, CN of first, CN of second)]
        off = (reference[..., 1] - coordination[:, :, None, None]) ** 2
        off = off + (reference[..., 2] - coordination[:, None, :, None]) ** 2
        weight = torch.softmax(torch.where(reference[..., 0] > 0, -4.0 * off, -1e20), -1)
        c6 = (weight * reference[..., 0]).sum(-1)[..., None]
        c8 = 3.0 * c6 * (tables["r2r4"][first] * tables["r2r4"][second])[..., None]

        p, ratio = D3_ZERO_PBE, tables["r0ab"][first, second][..., None] / distance
        six = p["s6"] * c6 / squared**3 / (1.0 + 6.0 * (p["rs6"] * ratio) ** p["alp"])
        eight = p["s8"] * c8 / squared**4 / (1.0 + 6.0 * (p["rs8"] * ratio) ** (p["alp"] + 2.0))
        within = pair & (distance < D3_CUTOFF_BOHR)
        return -0.5 * HARTREE_EV * torch.where(within, six + eight, 0.0).sum((1, 2, 3))
