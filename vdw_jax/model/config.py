"""Choices of a `CDVAE`, hashable; everything a checkpoint needs to be read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.structures.spread import mean_and_spread
from vdw_jax.types import SLAB, Periodicity


@dataclasses.dataclass(frozen=True)
class ScalarCondition:
    """A scalar that may be asked for: its name, and mean and spread over the training part, in its unit.

    Networks see standardised values only: `standardise`. Both ways are taken in double precision, on the host: energies
    of all-electron codes are -1e5 eV and differ by meV, which float32 does not resolve.
    """

    name: str
    mean: float
    std: float

    @classmethod
    def of(cls, name: str, values: np.ndarray) -> ScalarCondition:
        """From the values of the training part, NaN where absent."""
        return cls(name, *mean_and_spread(values))


class Scale(Protocol):
    """Mean and spread of a label over the training part, in its unit."""

    @property
    def mean(self) -> float: ...  # noqa: D102

    @property
    def std(self) -> float: ...  # noqa: D102


def standardise(values: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """(value - mean) / std for [..., S] values in their units, NaN where absent; [..., S] float32."""
    mean, std = _mean_and_std(scales)
    return ((np.asarray(values, np.float64) - mean) / std).astype(np.float32)


def in_units(values: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """Inverse of `standardise`; [..., S] float64."""
    mean, std = _mean_and_std(scales)
    return np.asarray(values, np.float64) * std + mean


def _mean_and_std(scales: Sequence[Scale]) -> tuple[np.ndarray, np.ndarray]:
    mean, std = ([getattr(scale, part) for scale in scales] for part in ("mean", "std"))
    return np.array(mean, np.float64), np.array(std, np.float64)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices; defaults are the paper's."""

    encoder: EquiformerConfig = EquiformerConfig()
    denoiser: EquiformerConfig = EquiformerConfig()
    scalars: tuple[ScalarCondition, ...] = ()
    lattice_mean: tuple[float, ...] = (0.0,) * 6
    lattice_std: tuple[float, ...] = (1.0,) * 6
    periodicity: Periodicity = SLAB
    max_atoms: int = 20
    graph: str = "nearest"  # or "pairs": see vdw_jax.graphs.neighbours
    max_neighbours: int = 20  # of "nearest"
    image_range: tuple[int, int, int] = (3, 3, 3)
    latent_dim: int = 256
    hidden_dim: int = 256
    lmf_rank: int = 4
    num_basis: int = 50
    formula_dim: int = 128
    noise_conditioned: bool = True
    species_noise_conditioned: bool = False
    stack_head: bool = False  # of slabs: what is where from side to side, for the denoiser: vdw_jax.model.stack
    sigma_data_in_plane: float = 1.0
    sigma_data_normal: float = 4.0

    def __post_init__(self) -> None:
        if self.graph not in ("nearest", "pairs"):
            raise ValueError(f"model.cdvae.graph is 'nearest' or 'pairs', not {self.graph!r}")

    @property
    def has_stack(self) -> bool:
        """Whether there is a stack head; bulk crystals have no order of heights."""
        return self.stack_head and self.periodicity == SLAB

    def with_images(self, image_range: tuple[int, int, int]) -> ModelConfig:
        """The same model, searching more images for neighbours."""
        return dataclasses.replace(self, image_range=image_range)

    def for_sampling(self, on_cpu: bool) -> ModelConfig:
        """The same model as it runs fastest without gradients: layers in a loop, and float32 on a CPU.

        Layers that are written out compile longer and save time only where gradients are taken; CPUs have no fast
        products of bfloat16.
        """
        changes: dict[str, Any] = {"unroll": False} | ({"compute_dtype": "float32"} if on_cpu else {})
        encoder, denoiser = (dataclasses.replace(part, **changes) for part in (self.encoder, self.denoiser))
        return dataclasses.replace(self, encoder=encoder, denoiser=denoiser)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Inverse of `to_dict`, also after a trip through JSON."""
        values = dict(values)
        for part in ("encoder", "denoiser"):
            network = dict(values[part])
            for grid in ("edge_grid", "node_grid"):
                network[grid] = SphereGrid(**network[grid])
            values[part] = EquiformerConfig(**network)
        values["scalars"] = tuple(ScalarCondition(**scalar) for scalar in values["scalars"])
        for name in ("lattice_mean", "lattice_std", "periodicity", "image_range"):
            values[name] = tuple(values[name])
        return cls(**values)
