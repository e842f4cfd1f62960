"""Sizes and choices of an EquiformerV2, hashable so that it can be a static argument."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from vdw_jax.equivariant.grid import SphereGrid
from vdw_jax.equivariant.irreps import EdgeOrder


@dataclasses.dataclass(frozen=True)
class EquiformerConfig:
    """Defaults are the paper's network, except for `reflections` and `adaptive_envelope`, which it lacks."""

    num_layers: int = 8
    channels: int = 128
    attention_channels: int = 64
    num_heads: int = 8
    alpha_channels: int = 64
    value_channels: int = 16
    ffn_channels: int = 128
    lmax: int = 4
    mmax: int = 2
    edge_channels: int = 128
    num_basis: int = 600
    cutoff_angstrom: float = 7.0
    alpha_dropout: float = 0.1
    drop_path: float = 0.1
    edge_activation: str = "s2"  # "s2" or "gate"
    ffn_activation: str = "mlp"  # "mlp" or "product", on the grid
    edge_grid: SphereGrid = SphereGrid(7, 9)
    node_grid: SphereGrid = SphereGrid(7, 13)
    reflections: bool = True  # commute with mirror planes as well as rotations
    adaptive_envelope: bool = True  # edges fade out before the first neighbour left out
    condition_every_layer: bool = True
    average_degree: float = 20.0
    compute_dtype: str = "float32"
    kernels: bool = False  # messages and the S2 activation by Pallas kernels where they run: on one GPU
    remat: bool = False  # keep nothing of a layer for its gradient but its input
    unroll: bool = False  # layers compiled one by one, not as a loop: compiles longer, copies less in training

    def __post_init__(self) -> None:
        if self.edge_activation not in ("s2", "gate"):
            raise ValueError(f"edge_activation is 's2' or 'gate', not {self.edge_activation!r}")
        if self.ffn_activation not in ("mlp", "product"):
            raise ValueError(f"ffn_activation is 'mlp' or 'product', not {self.ffn_activation!r}")

    @property
    def order(self) -> EdgeOrder:
        """Coefficients that live on edges."""
        return EdgeOrder(self.lmax, self.mmax)

    @property
    def radial_hidden(self) -> tuple[int, int]:
        """Hidden widths of every radial function."""
        return (self.edge_channels, self.edge_channels)

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of features and matrix products; parameters, norms, softmax and rotations are float32."""
        return jnp.dtype(self.compute_dtype)
