"""CGCNN: a property from species and distances alone (Xie and Grossman, Phys. Rev. Lett. 120, 145301, 2018).

It shares no code with the network that designs, so that it can judge what that one makes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdw_jax.graphs.neighbours import find_neighbours
from vdw_jax.safe_ops import safe_divide, safe_norm
from vdw_jax.types import NUM_ELEMENTS, SLAB, CrystalBatch, Periodicity


@dataclasses.dataclass(frozen=True)
class CGCNNConfig:
    """Sizes, hashable. The published network has 12 neighbours; more of them reach across the gap of a bilayer."""

    label: str
    mean: float
    std: float
    periodicity: Periodicity = SLAB
    image_range: tuple[int, int, int] = (3, 3, 0)
    cutoff_angstrom: float = 8.0
    max_neighbours: int = 32
    spacing_angstrom: float = 0.2
    channels: int = 64
    num_layers: int = 3
    hidden: int = 128

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CGCNNConfig:
        """Inverse of `dataclasses.asdict`, also after a trip through JSON."""
        lists = {name: tuple(values[name]) for name in ("periodicity", "image_range")}
        return cls(**(values | lists))


class CGCNN(nn.Module):
    """v_i <- v_i + sum over k of sigmoid(W z_ik) softplus(U z_ik), z_ik = [v_i, v_k, distance] (Eq. 5 there).

    Layer norm stands where the publication has batch norm: a structure's value does not depend on its batch. The
    species are embedded by a learned table. An envelope brings each term to 0 where its neighbour would leave the list.
    """

    config: CGCNNConfig

    @nn.compact
    def __call__(self, batch: CrystalBatch) -> jax.Array:
        """Standardised property of each crystal; [B]."""
        config = self.config
        graph = find_neighbours(
            batch, periodicity=config.periodicity, cutoff_angstrom=config.cutoff_angstrom,
            max_neighbours=config.max_neighbours, image_range=config.image_range,
        )  # fmt: skip
        centres = jnp.arange(0.0, config.cutoff_angstrom + 1e-6, config.spacing_angstrom)
        distance = jnp.exp(-(((safe_norm(graph.vector)[..., None] - centres) / config.spacing_angstrom) ** 2))
        weight = jnp.where(graph.mask, 1.0 - jnp.clip(graph.ratio, 0.0, 1.0) ** 6, 0.0)[..., None]
        nodes = nn.Embed(NUM_ELEMENTS + 1, config.channels, name="species")(batch.atomic_numbers)
        for layer in range(config.num_layers):
            neighbours = jax.vmap(lambda values, index: values[index])(nodes, graph.index)
            own = jnp.broadcast_to(nodes[:, :, None], neighbours.shape)
            both = nn.Dense(2 * config.channels, name=f"edges_{layer}")(
                jnp.concatenate([own, neighbours, distance], axis=-1)
            )
            gate, core = jnp.split(nn.LayerNorm(name=f"edge_norm_{layer}")(both), 2, axis=-1)
            summed = jnp.sum(nn.sigmoid(gate) * nn.softplus(core) * weight, axis=2)
            nodes = nn.softplus(nodes + nn.LayerNorm(name=f"node_norm_{layer}")(summed))
        mask = batch.atom_mask[..., None]
        pooled = safe_divide(jnp.sum(nodes * mask, axis=1), jnp.sum(mask, axis=1).astype(nodes.dtype))
        hidden = nn.softplus(nn.Dense(config.hidden, name="hidden")(pooled))
        return nn.Dense(1, name="out")(hidden)[:, 0]
